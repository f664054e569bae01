"""Stage `evaluate`: compares teacher, students and baselines on the test images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.curves import best_epochs, read_curves
from pipeline.evaluation.description import read_description
from pipeline.evaluation.dvc_plots import write_plots
from pipeline.evaluation.kept_logits import Renamed, kept_logits
from pipeline.evaluation.made_from import made_from
from pipeline.evaluation.metrics import Floats
from pipeline.evaluation.model_reports import model_reports
from pipeline.evaluation.names import BASELINE, TEACHER, Group
from pipeline.evaluation.predictions import write_predictions
from pipeline.evaluation.votes import votes_on
from pipeline.images.changed_while_read import named_if_changed
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image, Index, apart, read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.unchanged import Unchanged
from pipeline.inference.cost import cost
from pipeline.inference.forward import all_logits
from pipeline.measures.best_epoch import SelectBy
from pipeline.models import keras_files
from pipeline.models.records import read_record
from pipeline.runtime.publish import publish
from pipeline.runtime.workspace import forget_finished, work_folder
from pipeline.soft_labels.identity import Expected, refuse_other, rows_of
from pipeline.soft_labels.reading import SoftLabelFile, open_logits


def run(
    *,
    index: Path,
    teacher: Path,
    logits: Path,
    students: Mapping[Group, Mapping[int, Path]],
    baselines: Mapping[int, Path],
    history: Path,
    batch_size: int,
    params: Mapping[str, Any],
    resize: Resize = DEFAULT_RESIZE,
    select_by: SelectBy = "accuracy",
    teachers_select_by: Sequence[SelectBy] = ("accuracy",),
    output: Path,
    plots: Path,
    predictions: Path,
) -> None:
    """Writes `metrics.json`, the tables of the plots, and the predictions of each model for each test image.

    The teacher's model is not needed: its logits come from the soft-label file, its costs from its description.

    Args:
        index: `data/index.csv`.
        teacher: the teacher's description, `models/teacher.json`.
        logits: `teacher_logits.h5`.
        students: the `.keras` file of each seed, for each group.
        baselines: the `.keras` file of each seed.
        history: the folder of training curves: `teacher.csv`, and `<group>_seed<seed>.csv` for each other model.
        batch_size: images in one forward pass.
        params: the sections of params.yaml on which results depend; `metrics.json` keeps them.
        resize: how images are resized.
        select_by: what chose the best epoch of students and baselines.
        teachers_select_by: what chose that of the teacher, or of each member of an ensemble.
        output: the JSON file to write.
        plots: the folder to write, with a folder of CSV files for each kind of plot.
        predictions: the folder to write, with a CSV file for each model.

    Raises:
        MissingError: a file is missing.
        DamagedError: a file cannot be read.
        MismatchError: a file does not belong to this data set.
    """
    data = read_index(index)
    groups = {BASELINE: baselines, **students}
    names = {group: [group.model(seed) for seed in files] for group, files in groups.items()}
    curves = read_curves(history, {TEACHER: [TEACHER.key]} | names)
    test, class_names = apart(data.split("test")), data.class_names
    unchanged = Unchanged(test)
    labels = np.array(data.labels(test))
    description = read_description(teacher)
    dataset, unlabelled = data.fingerprint(), _unlabelled(data)
    with kept_logits(work_folder()) as scores:
        with open_logits(logits) as of_teacher:
            refuse_other(of_teacher, data, Expected(teacher_sha256=description.sha256, resize=resize))
            del data  # millions of training images would lie beside the logits until the end
            scores.keep(TEACHER.key, _untouched_logits(of_teacher, test))
        costs = {TEACHER: description.cost}
        cache = _PixelCache(test, unchanged, batch_size, resize)
        for group, files in groups.items():
            for name, file in zip(names[group], files.values(), strict=True):
                model = keras_files.load_classifier(file, class_names)
                scores.keep(name, cache.logits(model, name))
            costs[group] = cost(model, file)
        by_seed = {
            group: Renamed(scores, dict(zip(files, names[group], strict=True))) for group, files in groups.items()
        }
        votes = votes_on(test, labels, len(class_names))
        reports = model_reports(scores[TEACHER.key], by_seed, labels, class_names, votes)
        rules = {TEACHER.key: teachers_select_by[0]} | {
            TEACHER.member(number): rule for number, rule in enumerate(teachers_select_by)
        }
        best = {group: best_epochs(group, curves, rules, select_by) for group in [TEACHER, *groups]}
        models = {group.key: reports[group] | best[group] | costs[group] for group in [TEACHER, *groups]}
        trained_from = {
            sha256 for files in groups.values() for file in files.values() for sha256 in _trained_from(file)
        }
        origin = made_from(dataset, description.sha256, params, trained_from)
        _write_json({"made_from": origin, "test_images": len(test), **unlabelled, "models": models}, output)
        write_plots(plots, scores, labels, class_names, models, curves)
        write_predictions(predictions, [image.id for image in test], labels, class_names, scores)
    forget_finished(*(file for files in groups.values() for file in files.values()))
    print(f"wrote {output}, {plots} and {predictions}")


def _trained_from(model: Path) -> list[str]:
    """SHA-256 of the files that decided what a model was before its training."""
    return list((read_record(model) or {}).get("files", []))


def _unlabelled(data: Index) -> dict[str, dict[str, int]]:
    """The numbers of training images with and without a label; empty if all have one."""
    labelled = len(data.labelled("train"))
    unlabelled = len(data.split("train")) - labelled
    return {"training_images": {"labelled": labelled, "unlabelled": unlabelled}} if unlabelled else {}


class _PixelCache:
    """Runs models on the test images. Decodes these once for each input size."""

    def __init__(self, test: Sequence[Image], unchanged: Unchanged, batch_size: int, resize: Resize) -> None:
        self.test, self.unchanged, self.batch_size, self.resize = test, unchanged, batch_size, resize
        self.images: dict[tuple[int, ...], DecodedImages] = {}

    def logits(self, model: Any, title: str) -> Floats:
        shape = model.input_shape[1:]
        with named_if_changed(self.test):
            if shape not in self.images:
                paths = [image.path for image in self.test]
                self.images[shape] = DecodedImages(paths, shape, self.resize, keep=True, unchanged=self.unchanged)
            logits = all_logits(model, self.images[shape], self.batch_size, title)
        self.images[shape].refuse_changed()
        return logits


def _untouched_logits(file: SoftLabelFile, test: Sequence[Image]) -> Floats:
    """The teacher's logits of the untouched test images, in the order of the index: (N, C)."""
    rows = rows_of(file, "test", [image.id for image in test])
    return np.asarray(file.storage.logits(file.columns("test", 0), file.classes)[rows])


def _write_json(document: Mapping[str, Any], output: Path) -> None:
    with publish(output) as partial, partial.open("x", encoding="utf-8") as file:
        json.dump(document, file, indent=2, allow_nan=False)
        file.write("\n")
