"""Writing the two soft-label files, some thousand rows at a time. Imports no TensorFlow."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from pipeline.images.index import NO_LABEL, SPLITS, Index, SplitName
from pipeline.images.transforms import FIELD_OF
from pipeline.images.views import Views
from pipeline.runtime.progress import Progress
from pipeline.runtime.publish import refuse_full_disk
from pipeline.runtime.tried_files import note_as_ours
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import (
    CLASS_NAMES,
    create,
    empty_dataset,
    full_disk_as_os_error,
    new_file,
    sealed_sha256,
    strings,
    write_dataset,
)
from pipeline.soft_labels.layout import (
    LOGITS_FORMAT,
    TARGETS_FORMAT,
    bytes_of_split,
    columns_of_split,
    transform_columns,
)
from pipeline.soft_labels.reading import Provenance, Rows, SoftLabelFile, open_logits, read_structure, slabs
from pipeline.soft_labels.softness import doubt_about

OVERHEAD_BYTES = 2**16
"""More than HDF5's own structures take."""


def rows_of_index(data: Index) -> dict[SplitName, Rows]:
    """The images of each split as a soft-label file stores them."""
    return {split: rows_of_split(data, split) for split in SPLITS}


def rows_of_split(data: Index, split: SplitName) -> Rows:
    """The images of one split as a soft-label file stores them."""
    images = data.split(split)
    return Rows([image.id for image in images], data.labels(images), [image.sha256 for image in images])


def create_logits(path: Path, provenance: Provenance, rows: Mapping[SplitName, Rows]) -> None:
    """Writes a `teacher_logits.h5` with everything but the logits, unsealed.

    Args:
        path: the file to create.
        provenance: what it is made from.
        rows: the images of each split.
    """
    views, storage = Views.from_json(provenance.views), logit_storage.of(provenance.storage)
    classes = len(provenance.class_names)
    size = 0
    for split, images in rows.items():
        id_bytes = max(len(image_id.encode()) for image_id in images.ids)
        size += bytes_of_split(LOGITS_FORMAT, views.of_split(split), len(images.ids), classes, id_bytes, storage)
    refuse_full_disk(path, size + OVERHEAD_BYTES)
    with full_disk_as_os_error(path), new_file(path, LOGITS_FORMAT) as file:
        attributes = asdict(provenance)
        write_dataset(file, CLASS_NAMES, strings(attributes.pop("class_names")))
        for name, value in attributes.items():
            if name == "preprocessing" or isinstance(value, dict):
                file.attrs[name] = json.dumps(value, sort_keys=True)
            elif value is not None:  # an attribute that says nothing is left out, so other files keep their bytes
                file.attrs[name] = value
        for split, images in rows.items():
            _write_images(file.create_group(split), images, views.of_split(split), storage.columns(classes))


def _write_images(group: h5py.Group, images: Rows, views: Views, row_columns: logit_storage.RowColumns) -> None:
    """Creates all datasets of a split of the logits file; those of the logits stay unwritten."""
    count = len(images.ids)
    id_bytes = max(1, *(len(image_id.encode()) for image_id in images.ids))
    _write_texts(empty_dataset(group, "id", ((count,), h5py.string_dtype("utf-8", id_bytes))), images.ids)
    write_dataset(group, "label", np.asarray(images.labels, np.int32))
    for name, column in columns_of_split(views, count, row_columns).items():
        empty_dataset(group, name, column)
    _write_texts(group["image_sha256"], images.image_sha256)
    labelled, names = np.asarray(images.labels) != NO_LABEL, transform_columns(views.augmentation)
    for view in range(views.count):
        transforms = views.sample(images.ids, view, labelled)
        for name in names:
            group[name][view] = getattr(transforms, FIELD_OF[name])


def _write_texts(dataset: h5py.Dataset, texts: Sequence[str]) -> None:
    """Writes N texts, some thousand at a time: HDF5 fills up shorter ones with zeros."""
    for rows in slabs(len(texts)):
        dataset[rows] = strings(texts[rows])


def soften_file(logits_path: Path, targets_path: Path, temperature: float) -> None:
    """Writes `soft_targets_T<T>.h5` from `teacher_logits.h5`, and warns if the soft labels are not soft.

    Raises:
        MissingError: there is no logits file.
        DamagedError: it is of another format, or damaged.
    """
    with open_logits(logits_path) as source:
        if doubt := doubt_about(source, temperature):
            print(f"warning: {targets_path}: {doubt}", file=sys.stderr)
        refuse_full_disk(targets_path, sum(_bytes_of_targets(source, split) for split in SPLITS) + OVERHEAD_BYTES)
        with create(targets_path, TARGETS_FORMAT) as target:
            _soften(source, target, temperature)
    note_as_ours(read_structure, sealed_sha256(targets_path))


def _bytes_of_targets(source: SoftLabelFile, split: SplitName) -> int:
    id_bytes = source.file[split]["id"].dtype.itemsize
    views, count = source.views(split), source.count(split)
    return bytes_of_split(TARGETS_FORMAT, views, count, source.classes, id_bytes, source.storage)


def _soften(source: SoftLabelFile, target: h5py.File, temperature: float) -> None:
    for name, value in source.file.attrs.items():
        if name not in ("format", "version"):
            target.attrs[name] = value
    target.attrs["temperature"] = float(temperature)
    target.attrs["logits"] = source.sha256
    write_dataset(target, CLASS_NAMES, source.file[CLASS_NAMES][:])
    for split in SPLITS:
        _soften_split(source, split, target.create_group(split), temperature)


def _soften_split(source: SoftLabelFile, split: SplitName, group: h5py.Group, temperature: float) -> None:
    storage, classes, count = source.storage, source.classes, source.count(split)
    for name in ["id", "image_sha256", *transform_columns(source.views(split).augmentation)]:
        write_dataset(group, name, source.file[split][name][...])
    labels = source.labels(split)
    if isinstance(storage, logit_storage.Dense):
        hard = empty_dataset(group, "hard", ((count, classes), "uint8"))
        for rows in slabs(count):
            hard[rows] = labels[rows][:, None] == np.arange(classes)
    else:
        write_dataset(group, "label", labels.astype(np.int32))
    views = source.views(split).count
    for name, (shape, dtype) in storage.soft_columns(classes).items():
        empty_dataset(group, name, ((views, count, *shape), dtype))
    with Progress(f"soften {split}", views * count, "rows", short_is_silent=True) as progress:
        for view in range(views):
            for rows in slabs(count):
                soft = storage.soften(source.columns(split, view, rows), temperature, classes)
                for name, values in soft.items():
                    group[name][view, rows] = values
                progress.advance(rows.stop - rows.start)
