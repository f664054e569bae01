"""Stage `model_card`: writes what a stranger must know of the student before using it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.deployed.metadata import FORMAT as EXPORTED
from pipeline.deployed.metadata import VERSION as EXPORTED_VERSION
from pipeline.evaluation.comparison import cautions_on, read_metrics, tables
from pipeline.evaluation.complete_metrics import refuse_incomplete
from pipeline.evaluation.current_exports import Now, of_each_student
from pipeline.evaluation.curves import read_curves
from pipeline.evaluation.description import read_description
from pipeline.evaluation.export_tables import read_shipped
from pipeline.evaluation.exports import Export
from pipeline.evaluation.made_from import refuse_other_files, refuse_other_teacher, refuse_others
from pipeline.evaluation.names import TEACHER, Group
from pipeline.evaluation.quality_tables import INTERVALS
from pipeline.images.index import Index, read_index
from pipeline.images.resize import Resize, preprocessing
from pipeline.measures.best_epoch import SelectBy
from pipeline.report import card
from pipeline.report.card_metadata import as_head, metadata
from pipeline.report.sources import provenance, teacher_name
from pipeline.report.verdict import chosen_student, own_accuracy, verdict
from pipeline.runtime.publish import publish
from pipeline.soft_labels.hdf5 import VERSION
from pipeline.soft_labels.identity import Expected, refuse_other
from pipeline.soft_labels.reading import Provenance, open_logits

SETTINGS = ("distill", "student")
"""The sections of params.yaml that the card shows."""


def run(
    *,
    index: Path,
    metrics: Path,
    history: Path,
    teacher: Path,
    logits: Path,
    students: Sequence[Group],
    exported: Mapping[str, Any],
    exports: Path,
    files: Path,
    speeds: Path,
    student_file: Callable[[Group, int], Path],
    statements: Mapping[str, str | None],
    input_shape: Sequence[int],
    resize: Resize,
    params: Mapping[str, Any],
    trained_from: Sequence[Path] = (),
    select_by: SelectBy = "accuracy",
    output: Path,
) -> None:
    """Writes the card of the exported students; without exports, of those that are best on the validation images.

    Args:
        index: `data/index.csv`.
        metrics: `metrics.json`.
        history: the folder of training curves.
        teacher: the teacher's description.
        logits: `teacher_logits.h5`, which names the teacher.
        students: the groups of students of params.yaml.
        exported: the section `export` of params.yaml.
        exports: the folder of the exports' numbers.
        files: the folder of the exported files, for the card's example.
        speeds: `export_speed.json`.
        student_file: from the group and seed of a student or baseline to its Keras file, which need not be here.
        statements: the section `card` of params.yaml.
        input_shape: (height, width, channels) of the student, in pixels.
        resize: how images are resized.
        params: the sections of params.yaml on which results depend.
        trained_from: the files of `student.model`.
        select_by: what chose the best epoch of each student.
        output: the Markdown file to write.

    Raises:
        MissingError: a file is missing.
        DamagedError: a file cannot be read.
        MismatchError: a file belongs to another data set, teacher or params.yaml.
    """
    document, data, description = read_metrics(metrics), read_index(index), read_description(teacher)
    refuse_others(metrics, document, params, data.fingerprint())
    refuse_other_teacher(metrics, document, description.sha256)
    refuse_other_files(metrics, document, trained_from)
    with open_logits(logits) as file:
        refuse_other(file, data, Expected(teacher_sha256=description.sha256))
        origin = file.provenance
    models = document["models"]
    refuse_incomplete(metrics, models, students)
    shipped = read_shipped(exports, speeds, Now(document, exported, data.fingerprint(), student_file))
    of_students = of_each_student(shipped.exports)
    curves = read_curves(
        history, {group: [group.model(seed) for seed in models[group.key]["seeds"]] for group in students}
    )
    best = chosen_student(models, curves, select_by)
    shown = tables(metrics, INTERVALS)
    of_models = {export.student: export.keras for export in of_students} or {best.key: _means(models[best.key])}
    data_set, subject = card.file_name(params["split"]["data"]) or "data", _subject(shipped.exports, best)
    text = card.filled_card(
        title=_title(of_students, best),
        classes=data.class_names,
        is_student=subject.role == "student",
        own=[own_accuracy(export) for export in of_students],
        verdict=_verdict(document, subject),
        seeds=len(models[subject.key]["seeds"]),
        missing=card.missing(statements),
        medical=statements["domain"] == "medical",
        stated=card.stated(statements),
        exports=shipped.exports,
        example=_example(files, shipped.exports),
        input_and_output=card.input_and_output(preprocessing(input_shape, resize)),
        counts=card.table(card.counts_of(data)),
        teacher=_teacher(models[TEACHER.key], origin),
        settings=card.settings({name: params[name] for name in SETTINGS}),
        quality=[card.table(table) for table in (*shown.quality, shown.costs, *shown.votes)],
        cautions=cautions_on(metrics),
        calibration=card.calibration(of_students),
        shipped=[card.table(table) for table in shipped.tables],
        remarks=shipped.remarks,
        provenance=_provenance(origin, data, data_set, params, of_students),
    )
    is_distilled = not of_students or any(export.group.role == "student" for export in of_students)
    head = metadata(statements, data_set, of_models, shipped.exports, is_distilled=is_distilled)
    with publish(output) as partial:
        partial.write_text(f"{as_head(head)}\n{text}", encoding="utf-8")
    print(f"wrote {output}")


def _title(exports: Sequence[Export], best: Group) -> str:
    names = [export.words for export in exports] or [best.words]
    return f"{names[0][:1].upper()}{'; '.join(names)[1:]}"


def _subject(exports: Sequence[Export], best: Group) -> Group:
    """The students of which the verdict is: the best, unless students of another kind were exported first."""
    return next((export.group for export in exports), best)


def _verdict(document: Mapping[str, Any], subject: Group) -> str:
    """The report's sentence; of a baseline, which learned from no teacher, there is none."""
    if subject.role != "student":
        return ""
    labelled = document.get("training_images", {}).get("labelled")
    return verdict(document["models"], subject, document["test_images"], labelled)


def _means(report: Mapping[str, Any]) -> dict[str, float]:
    return {name: value["mean"] for name, value in report["quality"].items()}


def _example(files: Path, exports: Sequence[Export]) -> Markup:
    """A file to label images with: a LiteRT file, else one for ONNX Runtime; empty if there is none."""
    named = [files / export.item / name for export in exports for name in export.files]
    by_ending = [file for ending in (".tflite", ".onnx") for file in named if file.suffix == ending]
    return Markup(next((file.as_posix() for file in by_ending), ""))  # noqa: S704 - params.yaml allows students alone


def _teacher(report: Mapping[str, Any], origin: Provenance) -> str:
    size = f", with {report['parameters']['total']:,} parameters" if "parameters" in report else ""
    return (
        f"{teacher_name(origin)}{size}; its accuracy on the test images is {report['quality']['accuracy']['mean']:.3f}"
    )


def _provenance(
    origin: Provenance, data: Index, data_set: str, params: Mapping[str, Any], exports: Sequence[Export]
) -> list[tuple[str, str]]:
    return [
        ("Data set", f"{data_set} (layout {params['split']['layout']})"),
        *provenance(origin, data),
        *((f"SHA-256 of the Keras file of {export.words}", export.sha256) for export in exports),
        ("Format of the soft labels", f"version {VERSION}"),
        *([("Format of the exported files", f"{EXPORTED}, version {EXPORTED_VERSION}")] if exports else []),
    ]
