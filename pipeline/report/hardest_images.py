"""The test images to look at: where the student departs from its teacher, and where it is sure and wrong."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.images.decoding import read_original
from pipeline.report.style import Pixels

LARGEST_SIDE = 192
"""Pixels of a picture in the page."""
LOSSLESS_SIDE = 64
"""Pictures up to this size are kept as PNG."""


@dataclass(frozen=True)
class Telling:
    """A test image, and what teacher and student answered.

    Attributes:
        id: of the image.
        actual: the class of its label.
        teacher: the class that the teacher chose, and the probability that it gave that class, 0 to 1.
        student: the same for the student.
    """

    id: str
    actual: str
    teacher: tuple[str, float]
    student: tuple[str, float]


def most_unlike_teacher(student: pd.DataFrame, teacher: pd.DataFrame, count: int) -> list[Telling]:
    """The images with the largest KL(teacher || student), the largest first.

    Args:
        student: its `predictions.prediction_table`.
        teacher: the teacher's, of the same images.
        count: how many at most.
    """
    return _telling(_both(student, teacher).sort_values(["teacher_kl", "id"], ascending=[False, True]), count)


def most_surely_wrong(student: pd.DataFrame, teacher: pd.DataFrame, count: int) -> list[Telling]:
    """The images on which the student is wrong with the greatest confidence, the greatest first.

    Args:
        student: its `predictions.prediction_table`.
        teacher: the teacher's, of the same images.
        count: how many at most.
    """
    both = _both(student, teacher)
    wrong = both[both["predicted"] != both["actual"]]
    return _telling(wrong.sort_values(["confidence", "id"], ascending=[False, True]), count)


def _both(student: pd.DataFrame, teacher: pd.DataFrame) -> pd.DataFrame:
    of_teacher = teacher[["id", "predicted", "confidence"]]
    return student.merge(of_teacher, on="id", suffixes=("", "_of_teacher"), validate="one_to_one")


def _telling(rows: pd.DataFrame, count: int) -> list[Telling]:
    return [
        Telling(
            row["id"],
            row["actual"],
            (row["predicted_of_teacher"], float(row["confidence_of_teacher"])),
            (row["predicted"], float(row["confidence"])),
        )
        for _, row in rows.head(count).iterrows()
    ]


def data_uris(paths: Sequence[str | Path]) -> list[str]:
    """Image files as data URIs, which a page can hold; large images are made smaller."""
    return [_data_uri(read_original(path)) for path in paths]


def _data_uri(pixels: Pixels) -> str:
    longest = max(pixels.shape[:2])
    if longest > LARGEST_SIDE:
        height, width = (max(1, round(side * LARGEST_SIDE / longest)) for side in pixels.shape[:2])
        smaller = tf.image.resize(pixels, (height, width), antialias=True)
        pixels = np.asarray(tf.cast(tf.clip_by_value(tf.round(smaller), 0.0, 255.0), tf.uint8))
    if longest <= LOSSLESS_SIDE:
        kind, content = "png", tf.io.encode_png(pixels)
    else:
        kind, content = "jpeg", tf.io.encode_jpeg(pixels, quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(content.numpy()).decode()}"
