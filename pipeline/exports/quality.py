"""What the exported files answer, each in its own runtime, and how far that is from the student's own answers."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.deployed.answers import SMALLEST, as_logits
from pipeline.deployed.files import Exported, open_exported
from pipeline.deployed.metadata import Metadata
from pipeline.deployed.seal import unsealed_folder
from pipeline.evaluation import metrics
from pipeline.evaluation.metrics import Floats, Ints
from pipeline.evaluation.text_table import aligned
from pipeline.exports.graph import PIXELS
from pipeline.images.decoded_images import DecodedImages
from pipeline.measures.slabs import in_slabs
from pipeline.measures.unequal_classes import area_under_roc_curve
from pipeline.runtime.errors import UnusableError
from pipeline.runtime.progress import Progress

Report = dict[str, Any]

LEAST_OF_8_BITS = 1 / 512
"""LiteRT gives probabilities of 8 bits in steps of 1/256, and half a step stands for 0."""


class SavedModelFolder:
    """A SavedModel that is ready to answer, as `files.Exported`.

    Args:
        folder: the SavedModel.

    Raises:
        MissingError, DamagedError, UnusableError, MismatchError: as `unsealed_folder`.
    """

    def __init__(self, folder: Path) -> None:
        self.metadata: Metadata = unsealed_folder(folder)
        self._loaded = tf.saved_model.load(str(folder))  # kept: the signature does not keep its weights alive

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, C) logits of (N, height, width, channels) pixels; see `files.Exported`."""
        answers = self._loaded.signatures["serving_default"](**{PIXELS: tf.constant(pixels)})
        return as_logits(answers[self.metadata.output].numpy(), self.metadata.output, SMALLEST)


def opened(path: Path) -> Exported:
    """An exported file or SavedModel that is ready to answer."""
    return SavedModelFolder(path) if path.is_dir() else open_exported(path)


def answers(exported: Exported, images: DecodedImages, batch_size: int, title: str) -> npt.NDArray[np.float32]:
    """The logits of all images in order, (N, C), up to a constant of each image."""
    blocks = []
    with Progress(title, len(images), "images") as progress:
        for pixels in _batches(images, batch_size):
            blocks.append(exported.logits(pixels))
            progress.advance(len(pixels))
    return np.concatenate(blocks)


def _batches(images: DecodedImages, batch_size: int) -> Iterator[npt.NDArray[np.uint8]]:
    for pixels in images.batches(batch_size).as_numpy_iterator():
        yield pixels.astype(np.uint8)


def quality(logits: Floats, labels: Ints, temperature: float) -> Report:
    """Accuracy, AUC, NLL, Brier and ECE; "calibrated" has the last three of softmax(logits / temperature).

    A number that is not defined, such as the AUC of one class, is left out.

    Args:
        logits: (N, C), finite.
        labels: (N,) class indices.
        temperature: above 0.
    """
    report = _defined({"accuracy": metrics.accuracy, "auc": area_under_roc_curve}, logits, labels)
    report |= _defined(OF_PROBABILITIES, logits, labels)
    report["calibrated"] = _defined(OF_PROBABILITIES, np.asarray(logits, np.float64) / temperature, labels)
    return report


OF_PROBABILITIES = {
    "nll": metrics.negative_log_likelihood,
    "brier": metrics.brier_score,
    "ece": metrics.expected_calibration_error,
}


def _defined(measures: Mapping[str, Any], logits: Floats, labels: Ints) -> Report:
    values = {name: float(measure(logits, labels)) for name, measure in measures.items()}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def of_file(path: Path, images: DecodedImages, labels: Ints, of_keras: Floats, batch_size: int) -> Report:
    """What `results/exports/<student>.json` has of a file.

    Args:
        path: the file or SavedModel.
        images: the N test images.
        labels: (N,) class indices.
        of_keras: (N, C), the student's own logits.
        batch_size: images in one forward pass.

    Raises:
        UnusableError: the file answers with infinite numbers or none at all.
    """
    exported = opened(path)
    logits = answers(exported, images, batch_size, path.name)
    refuse_not_finite(logits, path.name, "Leave its format out of export.formats.")
    about = {"precision": exported.metadata.precision, "bytes": size(path), "digest": exported.metadata.digest}
    measured = quality(logits, labels, exported.metadata.temperature)
    return about | measured | closeness(logits, of_keras, exported.metadata)


def closeness(logits: Floats, of_keras: Floats, metadata: Metadata) -> Report:
    """How often a file chooses the class that the student chooses, and the largest difference of a logit.

    Where the file answers with probabilities, their logarithms are compared. Smaller ones than the file can give count
    on both sides as the smallest.
    """
    least = math.log(LEAST_OF_8_BITS if metadata.precision == "int8" else SMALLEST)

    def compared(*both: Floats) -> Floats:
        if metadata.output == "probabilities":
            both = tuple(np.maximum(metrics.log_softmax(each), least) for each in both)
        mine, of_keras = both
        same = np.argmax(mine, axis=1) == np.argmax(of_keras, axis=1)
        return np.stack([same, np.max(np.abs(mine - of_keras), axis=1)], axis=1)

    same, differences = in_slabs(compared, logits, of_keras).T
    return {"agreement": float(np.mean(same, dtype=np.float64)), "largest_logit_difference": float(np.max(differences))}


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files)


def refuse_not_finite(logits: Floats, name: str, remedy: str) -> None:
    """Checks that all logits are numbers.

    Args:
        logits: (N, C).
        name: what gave them.
        remedy: what to do otherwise, as a sentence.

    Raises:
        UnusableError: one of them is infinite or no number.
    """
    if wrong := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise UnusableError(f"{name}: the logits of {wrong} of {len(logits)} images are not finite. {remedy}")


def refuse_large_drop(report: Report, most: float) -> None:
    """Compares the accuracy of each file with that of the Keras student.

    Args:
        report: what `results/exports/<student>.json` will hold.
        most: the largest drop that is taken.

    Raises:
        UnusableError: a file is less accurate by more; the message has the numbers of all.
    """
    of_keras = report["keras"]["accuracy"]
    worse = [name for name, of_file in report["files"].items() if of_keras - of_file["accuracy"] > most + 1e-9]
    if worse:
        raise UnusableError(
            f"{', '.join(worse)}: the accuracy on the {report['test_images']:,} test images is lower than the "
            f"student's by more than export.max_accuracy_drop, {most:g}:\n\n{table(report)}\n\nNothing was exported. "
            "Leave the format out of export.formats, set a larger max_accuracy_drop, or, for int8, use more "
            "calibration_images."
        )


def table(report: Report) -> str:
    """The numbers of the Keras student and of all files, as lines of text."""
    compared = "log-probability" if report["made_from"]["export"]["softmax"] else "logit"
    header = ["file", "bytes", "accuracy", "agreement", f"largest {compared} difference"]
    of_student = [f"{report['student']}.keras", *_size_and_accuracy(report["keras"]), "", ""]
    rows = [
        [name, *_size_and_accuracy(found), f"{found['agreement']:.4f}", f"{found['largest_logit_difference']:.2g}"]
        for name, found in report["files"].items()
    ]
    return "\n".join(aligned([header, of_student, *rows], str.rjust))


def _size_and_accuracy(report: Report) -> list[str]:
    return [f"{report['bytes']:,}", f"{report['accuracy']:.4f}"]
