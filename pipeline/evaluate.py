"""Stage `evaluate`: teacher, students and baselines on the test images."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import model_files
from pipeline.artifacts import forget_finished, publish
from pipeline.describe_teacher import cost, read_description
from pipeline.figures import save
from pipeline.identity import Expected, refuse_other, rows_of
from pipeline.images import Images
from pipeline.index import Index, read_index, refuse_changed
from pipeline.inference import all_logits
from pipeline.metrics import Floats, Ints, over_seeds, summarise
from pipeline.plot_tables import write_plots
from pipeline.soft_labels import open_logits
from pipeline.softening_picture import draw_softening
from pipeline.temperature_curves import temperature_figure
from pipeline.training_curves import read_curves, training_figure
from pipeline.view_grid import draw_views
from pipeline.votes import Votes, report_over_seeds, vote_report, votes_on

Report = dict[str, Any]

LADDER = (1.0, 5.0, 10.0, 20.0, 35.0, 50.0)
"""Temperatures that show how softening works, where the students have only a few of their own."""


def run(
    *,
    index: Path,
    teacher: Path,
    logits: Path,
    students: Mapping[str, Mapping[int, Path]],
    baselines: Mapping[int, Path],
    history: Path,
    batch_size: int,
    output: Path,
    plots: Path,
    pictures: Path,
) -> None:
    """Writes `metrics.json`, the tables behind the plots, and pictures.

    The teacher's logits come from the soft-label file, what it costs from its description; its model is not needed.

    Args:
        index: `data/index.csv`.
        teacher: the teacher's description, `models/teacher.json`.
        logits: `teacher_logits.h5`.
        students: for each temperature, as written in params.yaml, the `.keras` file of each seed.
        baselines: the `.keras` file of each seed.
        history: the folder of training curves, `teacher.csv` and for each other model `<group>_seed<seed>.csv`.
        batch_size: images in one forward pass.
        output: the JSON file to write.
        plots: the folder to write, with a folder of CSV files for each kind of plot.
        pictures: the folder in which to write views.png, soft_labels.png, temperature.png and training.png.

    Raises:
        PipelineError: a file is missing or does not belong to this data set.
    """
    data = read_index(index)
    groups = {"baseline": baselines} | {f"student_T{t}": files for t, files in students.items()}
    names = {group: [f"{group}_seed{seed}" for seed in files] for group, files in groups.items()}
    curves = read_curves(history, {"teacher": ["teacher"]} | names)
    test = data.split("test")
    refuse_changed(test)
    labels = np.array(data.labels(test))
    described = read_description(teacher)
    scores = {"teacher": _teacher_logits(data, described.sha256, logits)}
    costs = {"teacher": described.cost}
    with_pixels = _PixelCache([image.path for image in test], batch_size)
    for group, files in groups.items():
        for name, file in zip(names[group], files.values(), strict=True):
            model = model_files.load_classifier(file, data.class_names)
            scores[name] = with_pixels.logits(model, name)
        costs[group] = cost(model, file)
    judge = _Judge(labels, scores["teacher"], votes_on(test, labels, len(data.class_names)))
    reports = {"teacher": judge.teacher([*students]) | costs["teacher"]}
    for group, files in groups.items():
        by_seed = {str(seed): scores[name] for seed, name in zip(files, names[group], strict=True)}
        own = [t for t in students if group == f"student_T{t}"]
        reports[group] = judge.group(by_seed, own) | costs[group]
    for temperature in students:
        _add_gain(reports[f"student_T{temperature}"], reports["baseline"])
    _write_json({"test_images": len(test), "models": reports}, output)
    write_plots(plots, scores, labels, data.class_names, reports, curves)
    draw_views(logits, data, pictures / "views.png")
    draw_softening(logits, data, _shown_temperatures(students), pictures / "soft_labels.png")
    save(temperature_figure(reports), pictures / "temperature.png")
    save(training_figure(curves), pictures / "training.png")
    forget_finished(*(file for files in groups.values() for file in files.values()))
    print(f"wrote {output}, {plots} and {pictures}")


def _shown_temperatures(students: Iterable[str]) -> list[float]:
    own = {1.0, *map(float, students)}
    return sorted(own if len(own) >= len(LADDER) else own | set(LADDER))


class _Judge:
    """Turns logits on the test images into the reports of `metrics.json`."""

    def __init__(self, labels: Ints, of_teacher: Floats, votes: Votes | None) -> None:
        self.labels, self.of_teacher, self.votes = labels, of_teacher, votes

    def teacher(self, temperatures: Sequence[str]) -> Report:
        report: Report = {"quality": summarise(self.of_teacher, self.labels, self.of_teacher)}
        if self.votes:
            report["votes"] = vote_report(self.of_teacher, self.votes, temperatures)
        return report

    def group(self, by_seed: Mapping[str, Floats], temperatures: Sequence[str]) -> Report:
        seeds = {seed: summarise(logits, self.labels, self.of_teacher) for seed, logits in by_seed.items()}
        report: Report = {"quality": over_seeds(seeds), "seeds": seeds}
        if self.votes:
            of_seeds = {seed: vote_report(logits, self.votes, temperatures) for seed, logits in by_seed.items()}
            report["votes"] = report_over_seeds(of_seeds)
        return report


class _PixelCache:
    """Runs models over the test images, which are decoded once for each input size."""

    def __init__(self, paths: list[str], batch_size: int) -> None:
        self.paths, self.batch_size = paths, batch_size
        self.images: dict[tuple[int, ...], Images] = {}

    def logits(self, model: Any, title: str) -> Floats:
        shape = model.input_shape[1:]
        if shape not in self.images:
            self.images[shape] = Images(self.paths, shape, keep=True)
        return all_logits(model, self.images[shape], self.batch_size, title)


def _teacher_logits(data: Index, teacher_sha256: str, path: Path) -> Floats:
    """The teacher's logits of the untouched test images, joined by id: (N, C)."""
    test = data.split("test")
    with open_logits(path) as file:
        refuse_other(file, data, Expected(teacher_sha256=teacher_sha256))
        rows = rows_of(file, "test", [image.id for image in test])
        return np.asarray(file.storage.logits(file.columns("test", 0), file.classes)[rows])


def _add_gain(student: Report, baseline: Report) -> None:
    """Student less baseline, seed by seed."""
    pairs = {
        seed: {name: value - baseline["seeds"][seed][name] for name, value in quality.items()}
        for seed, quality in student["seeds"].items()
    }
    student["gain"] = over_seeds(pairs)


def _write_json(document: Report, output: Path) -> None:
    with publish(output) as partial, partial.open("x", encoding="utf-8") as file:
        json.dump(document, file, indent=2, allow_nan=False)
        file.write("\n")
