"""Stage `export`: turns a student into files for phones, boards and servers, and measures what they answer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.deployed.formats import FILES, Format
from pipeline.deployed.metadata import Metadata
from pipeline.exports import calibration_images, onnx, quality, temperature
from pipeline.exports.choice import best_of
from pipeline.exports.graph import Graph
from pipeline.exports.writing import write_all
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image, Index, apart, fingerprint_of, read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize, preprocessing
from pipeline.images.unchanged import Unchanged
from pipeline.inference.forward import all_logits
from pipeline.measures.best_epoch import SelectBy
from pipeline.models import keras_files
from pipeline.models.records import read_record
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError
from pipeline.runtime.publish import publish

COARSE = (
    "litert_int8 gives probabilities in steps of 1/256, which no temperature calibrates well; for calibrated "
    "probabilities set export.softmax: false"
)


def run(
    *,
    index: Path,
    students: Mapping[str, Path],
    history: Path,
    select_by: SelectBy | None,
    formats: Sequence[Format],
    softmax: bool,
    calibration_count: int,
    max_accuracy_drop: float,
    batch_size: int,
    all_validated: bool = True,
    resize: Resize = DEFAULT_RESIZE,
    output: Path,
    report: Path,
) -> None:
    """Writes a folder with a file for each format, and a JSON file with what each of them answers.

    Args:
        index: `data/index.csv`.
        students: the `.keras` files of the students that may be exported, by their names.
        history: the folder of their training curves.
        select_by: the measure that chose their best epochs and chooses among the students; None: there is one.
        formats: which files are written.
        softmax: whether the files give probabilities in place of logits.
        calibration_count: how many training images set the ranges of an int8 file.
        max_accuracy_drop: by how much a file may be less accurate than the student on the test images, from 0 to 1.
        batch_size: images in one forward pass.
        all_validated: whether the students were validated on all validation images.
        resize: how images are resized.
        output: the folder to write.
        report: the JSON file to write.

    Raises:
        MissingError: a file is missing, or a package that a format needs.
        DamagedError: a file cannot be read.
        MismatchError: the student does not belong to this data set.
        UnusableError: the student's answers are not finite, it cannot be converted to a format, or a file answers worse
            than allowed.
    """
    if "onnx" in formats:
        onnx.refuse_without_packages()
    data = read_index(index)
    name, why = best_of(history, list(students), select_by) if select_by else (*students, "named in export.students")
    model = keras_files.load_classifier(students[name], data.class_names)
    if all_validated:
        _refuse_other_images(students[name], data)
    shape = tuple(model.input_shape[1:])
    val_labels, labels = (np.array(data.labels(data.split(part))) for part in ("val", "test"))
    class_names, dataset = data.class_names, data.fingerprint()
    to_calibrate = apart(calibration_images.chosen(data, calibration_count)) if "litert_int8" in formats else []
    parts = [apart(data.split(part)) for part in ("val", "test")]
    del data  # millions of training images would lie beside the logits until the end
    validated, tested = (_images(images, shape, resize) for images in parts)
    of_keras = _logits(model, tested, batch_size, f"{name}, test images")
    val_logits = _logits(model, validated, batch_size, f"{name}, validation images")
    fitted, note = temperature.fitted(val_logits, val_labels)
    metadata = Metadata(
        student=name,
        sha256=sha256_file(students[name]),
        class_names=tuple(class_names),
        preprocessing=preprocessing(shape, resize),
        output="probabilities" if softmax else "logits",
        precision="float32",
        temperature=fitted,
    )
    settings = {
        "calibration_images": calibration_count,
        "formats": [*formats],
        "max_accuracy_drop": max_accuracy_drop,
        "softmax": softmax,
    }
    document = _about(metadata, why, note, len(labels), {"dataset": dataset, "export": settings}) | {
        "keras": {"bytes": students[name].stat().st_size, **quality.quality(of_keras, labels, fitted)}
    }
    with publish(output) as folder:
        folder.mkdir()
        pixels = _to_calibrate(to_calibrate, shape, resize) if to_calibrate else None
        write_all(formats, folder, Graph(model, metadata.output), metadata, pixels)
        document["files"] = {
            FILES[kind]: quality.of_file(folder / FILES[kind], tested, labels, of_keras, batch_size) for kind in formats
        }
        tested.refuse_changed()
        quality.refuse_large_drop(document, max_accuracy_drop)
        _write_json(document, folder / "export.json")
    with publish(report) as partial:
        _write_json(document, partial)
    print(f"{name} ({why}):\n\n{quality.table(document)}\n")
    print(f"wrote {output} and {report}")
    for remark in filter(None, [note, COARSE if softmax and "litert_int8" in formats else None]):
        print(f"note: {remark}")


def _about(
    metadata: Metadata, why: str, note: str | None, test_images: int, made_from: Mapping[str, Any]
) -> dict[str, Any]:
    """What the report says of a student, before its numbers."""
    return {
        "student": metadata.student,
        "sha256": metadata.sha256,
        "chosen": why,
        "test_images": test_images,
        "temperature": metadata.temperature,
        "temperature_note": note,
        "made_from": made_from,
        "class_names": [*metadata.class_names],
    }


def _logits(model: Any, images: DecodedImages, batch_size: int, title: str) -> npt.NDArray[np.float32]:
    logits = all_logits(model, images, batch_size, title)
    images.refuse_changed()
    quality.refuse_not_finite(logits, title, "Train it again, with a smaller learning rate.")
    return logits


def _images(images: list[Image], shape: tuple[int, ...], resize: Resize) -> DecodedImages:
    unchanged = Unchanged(images)
    return DecodedImages([image.path for image in images], shape, resize, keep=True, unchanged=unchanged)


def _to_calibrate(images: list[Image], shape: tuple[int, ...], resize: Resize) -> npt.NDArray[np.uint8]:
    """The pixels for the ranges of an int8 file."""
    unchanged = Unchanged(images)
    pixels = calibration_images.pixels(images, shape, resize)
    unchanged.refuse_changed()
    return pixels


def _refuse_other_images(file: Path, data: Index) -> None:
    """Compares the validation images in the record of a student with those of the index."""
    validation = (read_record(file) or {}).get("validation")
    if validation is not None and validation["images"] != fingerprint_of(data.split("val")):
        raise MismatchError(
            f"{file} was trained with other validation images than those of the index, so its temperature and its "
            "accuracy would be those of images that it may have seen. Train it on this data set with `dvc repro`."
        )


def _write_json(document: Mapping[str, Any], file: Path) -> None:
    file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
