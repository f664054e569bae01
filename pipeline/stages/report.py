"""Stage `report`: everything that came out, on one page that needs nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.evaluation.cautions import cautions, model_name
from pipeline.evaluation.comparison import INTERVALS, read_metrics, tables
from pipeline.evaluation.curves import read_curves
from pipeline.evaluation.description import read_description
from pipeline.evaluation.made_from import refuse_other_teacher, refuse_others
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.speed import read_speed
from pipeline.evaluation.temperatures import STUDENT
from pipeline.images.index import Image, Index, read_index, refuse_changed
from pipeline.report.captions import Drawings
from pipeline.report.hardest_images import Telling, data_uris, most_surely_wrong, most_unlike_teacher
from pipeline.report.page import as_yaml, filled, with_speed
from pipeline.report.sample_grid import draw_samples
from pipeline.report.softening_picture import draw_softening
from pipeline.report.sources import about, provenance, versions
from pipeline.report.verdict import chosen_student, verdict
from pipeline.report.view_grid import draw_views
from pipeline.runtime.errors import MismatchError
from pipeline.runtime.publish import publish
from pipeline.soft_labels.identity import Expected, refuse_other
from pipeline.soft_labels.reading import open_logits
from pipeline.soft_labels.softness import doubt_about

MOST_IMAGES = 6
"""Of each kind of telling image."""

LADDER = (1.0, 5.0, 10.0, 20.0, 35.0, 50.0)
"""Temperatures that show how softening works, where the students have only a few of their own."""


def run(
    *,
    index: Path,
    metrics: Path,
    plots: Path,
    predictions: Path,
    history: Path,
    teacher: Path,
    logits: Path,
    temperatures: Sequence[str],
    speeds: Path,
    params: Mapping[str, Any],
    output: Path,
    pictures: Path,
) -> None:
    """Writes the page and the pictures.

    Args:
        index: `data/index.csv`.
        metrics: `metrics.json`.
        plots: the folder of tables behind the plots.
        predictions: the folder of what each model says of each test image.
        history: the folder of training curves.
        teacher: the teacher's description.
        logits: `teacher_logits.h5`.
        temperatures: of the students, as written in params.yaml.
        speeds: `speed.json`.
        params: the sections of params.yaml, which are shown.
        output: the HTML file to write.
        pictures: the folder in which to write samples.png, views.png and soft_labels.png.

    Raises:
        PipelineError: a file is missing, damaged, or belongs to another data set.
    """
    document = read_metrics(metrics)
    models, data, described = document["models"], read_index(index), read_description(teacher)
    refuse_others(metrics, document, params, data.fingerprint())
    refuse_other_teacher(metrics, document, described.sha256)
    _refuse_other_temperatures(metrics, models, temperatures)
    names = {group: [f"{group}_seed{seed}" for seed in report.get("seeds", [])] for group, report in models.items()}
    names["teacher"] = ["teacher"]
    curves = read_curves(history, names)
    student = chosen_student(models, curves)
    groups = {"teacher": "teacher", "student": student, "baseline": "baseline"}
    first = names[student][0]
    said = {role: [read_predictions(predictions, name) for name in names[group]] for role, group in groups.items()}
    _refuse_other_images(predictions, said, data)
    inputs = [index, logits, metrics]
    unlike = most_unlike_teacher(said["student"][0], said["teacher"][0], MOST_IMAGES)
    wrong = most_surely_wrong(said["student"][0], said["teacher"][0], MOST_IMAGES)
    with open_logits(logits) as file:
        refuse_other(file, data, Expected(teacher_sha256=described.sha256))
        made, warning = file.provenance, doubt_about(file, max(map(float, temperatures)))
    speed = read_speed(speeds)
    drawn = Drawings(models, curves, groups, {role: names[group] for role, group in groups.items()}, plots)
    quality, costs, *votes = tables(metrics, INTERVALS)
    page = filled(
        data_set=params["split"]["data"],
        about=about(params, data, made, inputs),
        verdict=verdict(models, student, document["test_images"]),
        notes=[*([] if warning is None else [f"Warning: {warning}"]), *cautions(models)],
        student=model_name(student),
        seed=first.rpartition("seed")[2],
        several_temperatures=len(temperatures) > 1,
        quality=quality,
        costs=with_speed(costs, speed),
        speed=speed,
        temperatures=drawn.temperatures(),
        training=drawn.training(),
        roc=drawn.roc(data.class_names),
        confusion=[drawn.confusion(role, said[role], data.class_names) for role in ("teacher", "student", "baseline")],
        reliability=drawn.reliability(),
        votes=votes,
        unlike=_with_pictures(unlike, data),
        wrong=_with_pictures(wrong, data),
        provenance=provenance(made, data, inputs),
        versions=versions(),
        params=as_yaml(params),
    )
    with publish(output) as partial:
        partial.write_text(page, encoding="utf-8")
    draw_samples(data, pictures / "samples.png")
    draw_views(logits, data, pictures / "views.png")
    draw_softening(logits, data, _shown_temperatures(temperatures), pictures / "soft_labels.png")
    print(f"wrote {output} and {pictures}")


def _refuse_other_temperatures(metrics: Path, models: Mapping[str, Any], temperatures: Sequence[str]) -> None:
    if {group for group in models if group.startswith(STUDENT)} != {f"{STUDENT}{t}" for t in temperatures}:
        raise MismatchError(
            f"{metrics} compares {', '.join(models)}, and params.yaml has T = {', '.join(temperatures)}. "
            "Bring it up to date with `dvc repro evaluate`."
        )


def _refuse_other_images(predictions: Path, said: Mapping[str, Sequence[pd.DataFrame]], data: Index) -> None:
    ids = sorted(image.id for image in data.split("test"))
    if any(sorted(table["id"]) != ids for tables in said.values() for table in tables):
        raise MismatchError(
            f"{predictions} is of other test images than the index. Bring it up to date with `dvc repro evaluate`."
        )


def _with_pictures(found: Sequence[Telling], data: Index) -> list[tuple[Telling, str]]:
    image_of: dict[str, Image] = {image.id: image for image in data.split("test")}
    images = [image_of[telling.id] for telling in found]
    refuse_changed(images)
    return list(zip(found, data_uris([image.path for image in images]), strict=True))


def _shown_temperatures(students: Iterable[str]) -> list[float]:
    own = {1.0, *map(float, students)}
    return sorted(own if len(own) >= len(LADDER) else own | set(LADDER))
