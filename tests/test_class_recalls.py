"""The recall of each class, and the report's table of it."""

import numpy as np
import pytest

from pipeline.evaluation.class_recalls import class_recalls
from pipeline.evaluation.names import BASELINE, TEACHER
from pipeline.report.recall_table import MOST_CLASSES, recall_table

LABELS = np.repeat([0, 1, 3], [4, 2, 1])
NAMES = ["ant", "bee", "cow", "dog"]


def by_choice(chosen):
    return np.eye(4)[chosen]


@pytest.fixture
def entries():
    """Of two seeds; ant: 3 and 4 of 4, bee: 1 and 1 of 2, cow has no image, dog: 0 of 1."""
    seeds = [by_choice([0, 0, 0, 2, 1, 0, 2]), by_choice([0, 0, 0, 0, 0, 1, 1])]
    return class_recalls(seeds, LABELS, NAMES)


def test_each_class_has_its_images_and_mean_over_seeds(entries):
    assert [(entry["class"], entry["images"]) for entry in entries] == [("ant", 4), ("bee", 2), ("cow", 0), ("dog", 1)]
    assert [entry.get("mean") for entry in entries] == [0.875, 0.5, None, 0.0]
    assert entries[0]["std"] == pytest.approx(0.25 / 2**0.5)


def test_a_class_without_images_has_no_recall(entries):
    assert entries[2] == {"class": "cow", "images": 0}


def test_the_interval_of_a_single_image_is_wilsons(entries):
    """Of none of one: 0 and z^2 / (1 + z^2)."""
    assert entries[3]["interval"] == pytest.approx([0, 3.841459 / 4.841459], abs=1e-6)


def rows_of(table):
    return [[row.name, *map(str, row.cells)] for row in table.rows]


def test_the_table_has_a_column_for_each_group(entries):
    of_teacher = class_recalls([by_choice(LABELS)], LABELS, NAMES)
    table = recall_table({"teacher": {"recall": of_teacher}, "baseline": {"recall": entries}}, [TEACHER, BASELINE])
    assert table.header == ["class", "test images", "teacher", "baseline"]
    first, _, third, last = rows_of(table)
    low, high = entries[0]["interval"]
    assert first[:2] == ["ant", "4"]
    assert first[2].startswith("1.000 (0.")
    assert first[3] == f"0.875 ({low:.3f} to {high:.3f})"
    assert third == ["cow", "0", "", ""]
    assert last[3].startswith("0.000 (0.000 to 0.79")
    assert "each class" in table.title


def test_of_many_classes_the_worst_are_shown_in_their_order():
    """Class k of 30 has recall k / 30 but the last one 0: the table leaves out the ten best."""
    names = [f"class {k}" for k in range(30)]
    recall = [{"class": name, "images": 30, "mean": k / 30, "interval": [0, 1]} for k, name in enumerate(names)]
    recall[29]["mean"] = 0.0
    table = recall_table({"teacher": {"recall": recall}}, [TEACHER])
    assert [row.name for row in table.rows] == [*names[: MOST_CLASSES - 1], "class 29"]
    assert f"{MOST_CLASSES} classes with the lowest recall of the teacher" in table.title
