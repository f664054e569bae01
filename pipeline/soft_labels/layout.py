"""The two formats of soft-label files: which stage makes each, and the datasets that it holds."""

import math

import h5py
import numpy as np

from pipeline.images.augmentation import Augmentation
from pipeline.images.views import Views
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import Column, FormatName

LOGITS_FORMAT: FormatName = "teacher-logits"
TARGETS_FORMAT: FormatName = "soft-targets"
MAKERS: dict[FormatName, str] = {LOGITS_FORMAT: "precompute", TARGETS_FORMAT: "soften"}
"""The stage that makes files of each format."""


def columns_of_split(views: Views, count: int, row_columns: logit_storage.RowColumns) -> dict[str, Column]:
    """The datasets of a split that both formats hold, without `id` and the labels."""
    columns: dict[str, Column] = {"image_sha256": ((count,), h5py.string_dtype("utf-8", 64))}
    for name, (shape, dtype) in (transform_columns(views.augmentation) | row_columns).items():
        columns[name] = ((views.count, count, *shape), dtype)
    return columns


def transform_columns(augmentation: Augmentation) -> logit_storage.RowColumns:
    """The columns of the transforms, by their shape and dtype for one row; those that are never used are not stored."""
    columns: logit_storage.RowColumns = {"affine": ((6,), "float16")}
    if augmentation.recolors:
        columns["color"] = ((6,), "float16")
    if augmentation.operations is not None:
        columns["operation"] = ((augmentation.operations.count,), "uint8")
        columns["strength"] = ((augmentation.operations.count,), "float16")
    if augmentation.erasing is not None:
        columns["erased"] = ((4,), "float16")
    if augmentation.mixes:
        columns["partner"] = ((), "int32")
        columns["lambda"] = ((), "float16")
    if augmentation.cutmix is not None:
        columns["box"] = ((4,), "float16")
    return columns


def bytes_of_split(
    format_name: FormatName, views: Views, count: int, classes: int, id_bytes: int, storage: logit_storage.Storage
) -> int:
    """The bytes of `all_columns`."""
    columns = all_columns(format_name, views, count, classes, id_bytes, storage)
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in columns.values())


def all_columns(
    format_name: FormatName, views: Views, count: int, classes: int, id_bytes: int, storage: logit_storage.Storage
) -> dict[str, Column]:
    """The datasets of a split of `count` images; `id_bytes` is the length of the longest id."""
    columns = columns_of_split(views, count, columns_of_row(format_name, storage, classes))
    columns["id"] = ((count,), h5py.string_dtype("utf-8", id_bytes))
    if format_name == TARGETS_FORMAT and isinstance(storage, logit_storage.Dense):
        columns["hard"] = ((count, classes), "uint8")
    else:  # a one-hot row of C numbers would be longer than the k that top-k storage keeps
        columns["label"] = ((count,), "int32")
    return columns


def columns_of_row(format_name: FormatName, storage: logit_storage.Storage, classes: int) -> logit_storage.RowColumns:
    """The columns of logits or of soft labels, by their shape and dtype for one row."""
    return storage.columns(classes) if format_name == LOGITS_FORMAT else storage.soft_columns(classes)
