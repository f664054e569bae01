"""The test images that are hardest for the student: it differs most from its teacher, or is sure and wrong."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.images.image_files import read_original

LARGEST_SIDE = 192
"""Pixels; larger pictures are made smaller for the page."""
LOSSLESS_SIDE = 64
"""Pictures up to this size become PNG, since JPEG would blur their few pixels; larger ones become JPEG."""


@dataclass(frozen=True)
class HardImage:
    """A test image, with the answers of teacher and student.

    Attributes:
        id: the image's id.
        actual: the name of the labelled class.
        teacher: the name of the class that the teacher chose, and its probability, 0 to 1.
        student: the same for the student.
    """

    id: str
    actual: str
    teacher: tuple[str, float]
    student: tuple[str, float]


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture that a page can hold.

    Attributes:
        uri: its content as a data URI.
        is_small: whether its pixels are few enough to be shown as squares.
    """

    uri: str
    is_small: bool


def most_unlike_teacher(student: pd.DataFrame, teacher: pd.DataFrame, count: int) -> list[HardImage]:
    """The images with the largest KL(teacher || student), the largest first.

    Args:
        student: the student's `predictions.prediction_table`.
        teacher: the teacher's, for the same images.
        count: the largest number of images.
    """
    # The id decides between equals, so that the page is always the same.
    return _hard_images(_both(student, teacher).sort_values(["teacher_kl", "id"], ascending=[False, True]), count)


def most_surely_wrong(student: pd.DataFrame, teacher: pd.DataFrame, count: int) -> list[HardImage]:
    """The images on which the student is wrong with the greatest confidence, the greatest first.

    Args:
        student: the student's `predictions.prediction_table`.
        teacher: the teacher's, for the same images.
        count: the largest number of images.
    """
    both = _both(student, teacher)
    wrong = both[both["predicted"] != both["actual"]]
    return _hard_images(wrong.sort_values(["confidence", "id"], ascending=[False, True]), count)


def _both(student: pd.DataFrame, teacher: pd.DataFrame) -> pd.DataFrame:
    """The student's table, with the teacher's answer to the same image beside it."""
    of_teacher = teacher[["id", "predicted", "confidence"]]
    return student.merge(of_teacher, on="id", suffixes=("", "_of_teacher"), validate="one_to_one")


def _hard_images(rows: pd.DataFrame, count: int) -> list[HardImage]:
    return [
        HardImage(
            row["id"],
            row["actual"],
            (row["predicted_of_teacher"], float(row["confidence_of_teacher"])),
            (row["predicted"], float(row["confidence"])),
        )
        for _, row in rows.head(count).iterrows()
    ]


def embedded(path: str | Path) -> EmbeddedPicture:
    """An image file as a picture that a page can hold."""
    pixels = read_original(path)
    longest = max(pixels.shape[:2])
    if longest > LARGEST_SIDE:
        height, width = (max(1, round(side * LARGEST_SIDE / longest)) for side in pixels.shape[:2])
        smaller = tf.image.resize(pixels, (height, width), antialias=True)
        pixels = np.asarray(tf.cast(tf.clip_by_value(tf.round(smaller), 0.0, 255.0), tf.uint8))
    is_small = longest <= LOSSLESS_SIDE
    if is_small:
        kind, content = "png", tf.io.encode_png(pixels)
    else:
        kind, content = "jpeg", tf.io.encode_jpeg(pixels, quality=90)
    return EmbeddedPicture(f"data:image/{kind};base64,{base64.b64encode(content.numpy()).decode()}", is_small)
