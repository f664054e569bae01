"""Command `inspect`: tables of what a soft-label file contains."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.text_table import aligned
from pipeline.images.index import NO_LABEL, SPLITS
from pipeline.runtime.errors import DamagedError
from pipeline.soft_labels.hdf5 import VERSION
from pipeline.soft_labels.layout import LOGITS_FORMAT
from pipeline.soft_labels.reading import SoftLabelFile, open_soft_labels
from pipeline.soft_labels.softness import doubt_about
from pipeline.tools.row_statistics import Statistics, all_soft_labels, impossible_rows
from pipeline.tools.verify import in_words


def describe(path: Path, largest_temperature: float = 1.0) -> str:
    """Describes a file of either format: its origin, its datasets, statistics of each class, and perhaps a warning.

    Args:
        path: the file.
        largest_temperature: the largest T at which logits will be softened.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is damaged, or has rows that are impossible.
    """
    with open_soft_labels(path) as file:
        temperature = 1.0 if file.temperature is None else file.temperature
        return "\n".join(
            [
                f"{path}: {file.format}, version {VERSION}, {path.stat().st_size:,} bytes",
                "",
                *aligned([["made from", ""], *map(list, provenance_in_words(file))], str.ljust),
                "",
                *aligned([["dataset", "shape", "dtype", "bytes"], *_datasets(file)], str.rjust),
                "",
                *aligned([["split", "class", "images", "right", "confidence", "entropy"], *_classes(file)], str.rjust),
                "",
                f"Over all views, at temperature {temperature:g}. Right: the largest is the labelled class's"
                f"{', where a view is not mixed' if file.views('train').augmentation.mixes else ''}. "
                "Confidence: the largest probability. Entropy in nats.",
                *(["", f"warning: {doubt}"] if (doubt := doubt_about(file, largest_temperature)) else []),
            ]
        )


def provenance_in_words(file: SoftLabelFile) -> Iterator[tuple[str, str]]:
    """What a file was made from: the name and the value of each thing."""
    origin, views = file.provenance, file.provenance.views
    settings = [name if value is True else f"{name} {value}" for name, value in views["augmentation"].items()]
    ranges = ", ".join(settings) or "untouched"
    yield "sha256", file.sha256
    yield "classes", ", ".join(origin.class_names)
    yield "teacher", f"{in_words(origin)}, file {origin.teacher_sha256[:12]}"
    yield "data set", origin.dataset[:12]
    seen = "not known" if origin.preprocessing is None else ""
    yield "preprocessing", seen or ", ".join(f"{name} {value}" for name, value in _flat(origin.preprocessing or {}))
    yield "batch size", str(origin.batch_size)
    if origin.precision is not None:
        yield "precision", origin.precision
    yield "views", f"{views['count']} of each training image, seed {views['seed']}: {ranges}"
    yield "storage", ", ".join(f"{name} {value}" for name, value in sorted(origin.storage.items(), reverse=True))
    if file.format != LOGITS_FORMAT:
        yield "temperature", f"{file.temperature:g}"
        yield "logits", str(file.logits_sha256)


def _flat(described: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in described.items():
        yield from value.items() if isinstance(value, dict) else [(name, value)]


def _datasets(file: SoftLabelFile) -> Iterator[list[str]]:
    for split in SPLITS:
        for dataset in file.file[split].values():
            dtype = f"text of {dataset.dtype.itemsize}" if dataset.dtype.kind == "S" else str(dataset.dtype)
            yield [dataset.name[1:], " x ".join(map(str, dataset.shape)), dtype, f"{dataset.nbytes:,}"]


def _classes(file: SoftLabelFile) -> Iterator[list[str]]:
    for split in SPLITS:
        labels = file.labels(split)
        impossible = impossible_rows(file, split)
        if impossible:
            raise DamagedError(f"{file.path} cannot be described: in {split}, {'; '.join(impossible)}. {file.remedy}")
        names = {**dict(enumerate(file.provenance.class_names)), NO_LABEL: "(no label)"}
        by_class = {number: Statistics() for number in names}
        for rows, soft_labels, of_rows in all_soft_labels(file, split):
            for number in np.unique(labels[rows]).tolist():
                chosen = labels[rows] == number
                by_class[number].add(soft_labels[chosen], of_rows[chosen])
        for number, statistics in by_class.items():
            if statistics.rows:
                images = statistics.rows // file.views(split).count
                right = f"{statistics.right / statistics.labelled:.4f}" if statistics.labelled else ""
                means = (f"{value / statistics.rows:.4f}" for value in (statistics.confidence, statistics.entropy))
                yield [split, names[number], f"{images:,}", right, *means]
