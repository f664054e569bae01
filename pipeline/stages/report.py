"""Stage `report`: writes all results on one page that needs no other file, and pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.evaluation.cautions import about_unlabelled, cautions
from pipeline.evaluation.comparison import read_metrics, tables
from pipeline.evaluation.complete_metrics import refuse_incomplete
from pipeline.evaluation.current_exports import Now
from pipeline.evaluation.curves import read_curves
from pipeline.evaluation.description import read_description
from pipeline.evaluation.export_tables import read_shipped
from pipeline.evaluation.made_from import refuse_other_files, refuse_other_teacher, refuse_others
from pipeline.evaluation.names import BASELINE, TEACHER, Group, Role
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.quality_tables import INTERVALS
from pipeline.evaluation.speed import read_speed
from pipeline.evaluation.temperatures import students_of
from pipeline.images.index import Image, Index, read_index
from pipeline.images.unchanged import Unchanged
from pipeline.measures.best_epoch import SelectBy
from pipeline.report.captions import CaptionedFigures
from pipeline.report.hardest_images import EmbeddedPicture, HardImage, embedded, most_surely_wrong, most_unlike_teacher
from pipeline.report.page import as_yaml, filled
from pipeline.report.recall_table import recall_table
from pipeline.report.sample_grid import draw_samples
from pipeline.report.softening_picture import draw_softening
from pipeline.report.sources import about, provenance, versions
from pipeline.report.verdict import chosen_student, verdict
from pipeline.report.view_grid import draw_views
from pipeline.runtime.errors import MismatchError
from pipeline.runtime.publish import publish
from pipeline.runtime.temperatures import softened_at
from pipeline.soft_labels.identity import Expected, refuse_other
from pipeline.soft_labels.reading import open_logits
from pipeline.soft_labels.softness import doubt_about

MOST_IMAGES = 6
"""How many images the page shows of those where student and teacher differ most, and of the student's mistakes."""

LADDER = (1.0, 5.0, 10.0, 20.0, 35.0, 50.0)
"""Temperatures that show the effect of softening. They are added if the students have fewer."""


def run(
    *,
    index: Path,
    metrics: Path,
    plots: Path,
    predictions: Path,
    history: Path,
    teacher: Path,
    logits: Path,
    students: Sequence[Group],
    speeds: Path,
    exported: Mapping[str, Any],
    exports: Path,
    export_speeds: Path,
    student_file: Callable[[Group, int], Path],
    params: Mapping[str, Any],
    files: Sequence[Path] = (),
    select_by: SelectBy = "accuracy",
    output: Path,
    pictures: Path,
) -> None:
    """Writes the page and the pictures.

    Args:
        index: `data/index.csv`.
        metrics: `metrics.json`.
        plots: the folder of tables behind the plots.
        predictions: the folder of each model's predictions for the test images.
        history: the folder of training curves.
        teacher: the teacher's description.
        logits: `teacher_logits.h5`.
        students: the groups of students of params.yaml.
        speeds: `speed.json`.
        exported: the section `export` of params.yaml.
        exports: the folder of the exports' numbers.
        export_speeds: `export_speed.json`.
        student_file: from the group and seed of a student or baseline to its Keras file, which need not be here.
        params: the sections of params.yaml to show.
        files: the files of `student.model`.
        select_by: what chose the best epoch of each student.
        output: the HTML file to write.
        pictures: the folder in which to write samples.png, views.png and soft_labels.png.

    Raises:
        MissingError: a file is missing.
        DamagedError: a file cannot be read.
        MismatchError: a file belongs to another data set, teacher or params.yaml.
    """
    temperatures = [softened_at(group.temperature) for group in students]
    document = read_metrics(metrics)
    models, data, description = document["models"], read_index(index), read_description(teacher)
    refuse_others(metrics, document, params, data.fingerprint())
    refuse_other_teacher(metrics, document, description.sha256)
    refuse_other_files(metrics, document, files)
    _refuse_other_students(metrics, models, students)
    refuse_incomplete(metrics, models, students)
    trained = {group: [group.model(seed) for seed in models[group.key]["seeds"]] for group in students}
    trained |= {BASELINE: [BASELINE.model(seed) for seed in models[BASELINE.key]["seeds"]], TEACHER: [TEACHER.key]}
    curves = read_curves(history, trained)
    student = chosen_student(models, curves, select_by)
    groups: dict[Role, Group] = {group.role: group for group in (TEACHER, student, BASELINE)}
    answers = {role: [read_predictions(predictions, name) for name in trained[group]] for role, group in groups.items()}
    _refuse_other_images(predictions, answers, data)
    unlike = most_unlike_teacher(answers["student"][0], answers["teacher"][0], MOST_IMAGES)
    wrong = most_surely_wrong(answers["student"][0], answers["teacher"][0], MOST_IMAGES)
    with open_logits(logits) as file:
        refuse_other(file, data, Expected(teacher_sha256=description.sha256))
        origin, warning = file.provenance, doubt_about(file, max(temperatures))
    speed = read_speed(speeds)
    figures = CaptionedFigures(models, curves, groups, {role: trained[group] for role, group in groups.items()}, plots)
    shown = tables(metrics, INTERVALS, speed)
    page = filled(
        data_set=params["split"]["data"],
        about=about(params, data, origin, speed),
        verdict=verdict(models, student, document["test_images"], document.get("training_images", {}).get("labelled")),
        notes=[
            *([] if warning is None else [f"Warning: {warning}"]),
            *about_unlabelled(document),
            *cautions(models),
        ],
        student=student,
        seed=next(iter(models[student.key]["seeds"])),
        several_students=len(students) > 1,
        quality=shown.quality,
        costs=shown.costs,
        shipped=read_shipped(exports, export_speeds, Now(document, exported, data.fingerprint(), student_file)),
        speed=speed,
        temperatures=figures.temperatures(),
        training=figures.training(),
        roc=figures.roc(data.class_names),
        confusion=[figures.confusion(role, answers[role], data.class_names) for role in groups],
        reliability=figures.reliability(),
        recalls=recall_table(models, [groups[role] for role in ("teacher", "baseline", "student")]),
        votes=shown.votes,
        unlike=_with_pictures(unlike, data),
        wrong=_with_pictures(wrong, data),
        provenance=provenance(origin, data),
        versions=versions(),
        params=as_yaml(params),
    )
    with publish(output) as partial:
        partial.write_text(page, encoding="utf-8")
    draw_samples(data, pictures / "samples.png")
    draw_views(logits, data, pictures / "views.png")
    draw_softening(logits, data, _shown_temperatures(temperatures), pictures / "soft_labels.png")
    print(f"wrote {output} and {pictures}")


def _refuse_other_students(metrics: Path, models: Mapping[str, Any], students: Sequence[Group]) -> None:
    if students_of(models).keys() != set(students):
        keys = ", ".join(group.key for group in students)
        raise MismatchError(
            f"{metrics} compares {', '.join(models)}, but params.yaml has {keys}. "
            "Bring it up to date with `dvc repro evaluate`."
        )


def _refuse_other_images(predictions: Path, answers: Mapping[Role, Sequence[pd.DataFrame]], data: Index) -> None:
    ids = sorted(image.id for image in data.split("test"))
    known = set(data.class_names)
    all_tables = [table for tables in answers.values() for table in tables]
    if any(sorted(table["id"]) != ids or not {*table["actual"], *table["predicted"]} <= known for table in all_tables):
        raise MismatchError(
            f"{predictions} is of other test images than the index. Bring it up to date with `dvc repro evaluate`."
        )


def _with_pictures(answers: Sequence[HardImage], data: Index) -> list[tuple[HardImage, EmbeddedPicture]]:
    image_of: dict[str, Image] = {image.id: image for image in data.split("test")}
    images = [image_of[answer.id] for answer in answers]
    unchanged = Unchanged(images)
    pictures = [(answer, embedded(image.path)) for answer, image in zip(answers, images, strict=True)]
    unchanged.refuse_changed()
    return pictures


def _shown_temperatures(of_students: Iterable[float]) -> list[float]:
    own = {1.0, *of_students}
    return sorted(own if len(own) >= len(LADDER) else own | set(LADDER))
