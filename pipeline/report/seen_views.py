"""The pictures behind the rows of a soft-label file: an untouched image, and its views as the teacher saw them."""

from typing import Any

import numpy as np

from pipeline.images.decoded_images import DecodedImages
from pipeline.images.decoding import read_original
from pipeline.images.index import Image, Index, SplitName, refuse_changed
from pipeline.images.rendering import render
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.transforms import Transforms
from pipeline.report.style import Pixels
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.reading import SoftLabelFile

SMALLEST_SIDE = 160
"""Pixels; smaller images are enlarged, since people could not see what they show."""


def untouched_and_views(
    file: SoftLabelFile, index: Index, split: SplitName, row: int, count: int
) -> tuple[Pixels, Pixels]:
    """One image and its first views, in the teacher's input size, or its own if that is not known, or a multiple.

    Args:
        file: a soft-label file of either format.
        index: the data set, which knows the path of the image.
        split: the split of the image.
        row: the row of the image in the file.
        count: V, the number of views.

    Returns:
        The image (height, width, channels) and its views (V, height, width, channels), values 0 to 255.

    Raises:
        MismatchError: the image is not the one from which the file was made.
    """
    image, preprocessing = _image(file, index, split, row), file.provenance.preprocessing
    if preprocessing is None:  # the teacher is no model of this program: the image is shown in its own size
        (height, width, channels), resize = read_original(image.path).shape, DEFAULT_RESIZE
    else:
        (height, width, channels), resize = preprocessing["input_shape"], Resize.of_file(preprocessing)
    scale = max(1, -(-SMALLEST_SIDE // min(height, width)))
    shown = (height * scale, width * scale, channels)
    pixels = DecodedImages([image.path], shown, resize, keep=False).rows([0]).numpy()
    transforms = Transforms.joined([file.transforms(split, view)[row : row + 1] for view in range(count)])
    views: Any = render(np.repeat(pixels, count, axis=0), transforms, file.views(split).augmentation)
    return pixels[0], np.clip(np.round(np.asarray(views)), 0, 255).astype(np.uint8)


def _image(file: SoftLabelFile, index: Index, split: SplitName, row: int) -> Image:
    """The image of a row; refused if the content of its file is not what the teacher saw."""
    image_id, content = file.ids(split)[row], file.image_sha256(split)[row]
    image = next((image for image in index.images if image.id == image_id), None)
    if image is None or image.sha256 != content:
        raise MismatchError(
            f"the index knows no image {image_id!r} with the content that {file.path} was made from. "
            f"Bring it up to date with `dvc repro {file.stage}`."
        )
    refuse_changed([image])
    return image
