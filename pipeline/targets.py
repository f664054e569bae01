"""What a student is trained to say of each image: its one-hot label beside the teacher's soft label.

Soft labels are joined to images by id, never by position.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, first_few
from pipeline.index import Image, Index
from pipeline.soft_labels import SoftTargets


def hard_and_soft_labels(
    index: Index, images: Sequence[Image], soft_targets: SoftTargets, path: Path
) -> npt.NDArray[np.float32]:
    """One-hot labels beside the soft labels of the untouched image, (N, 2C) float32.

    Args:
        index: the data set.
        images: N images of one split.
        soft_targets: of the same split.
        path: where they came from, for messages.

    Raises:
        PipelineError: the soft labels are of other classes, images or labels.
    """
    remedy = "Bring it up to date with `dvc repro`."
    if list(soft_targets.class_names) != index.class_names:
        raise PipelineError(
            f"{path} has the classes {list(soft_targets.class_names)}, the index has {index.class_names}. {remedy}"
        )
    row_of = {image_id: row for row, image_id in enumerate(soft_targets.ids)}
    missing = [image.id for image in images if image.id not in row_of]
    if missing:
        raise PipelineError(f"{path} has no soft labels for {len(missing)} image(s): {first_few(missing)}. {remedy}")
    rows = [row_of[image.id] for image in images]
    hard = index.one_hot(images)
    relabelled = [
        image.id for image, same in zip(images, (soft_targets.hard[rows] == hard).all(1), strict=True) if not same
    ]
    if relabelled:
        raise PipelineError(
            f"{path} has other labels than the index for {len(relabelled)} image(s): {first_few(relabelled)}. {remedy}"
        )
    if soft_targets.dataset != index.fingerprint():
        raise PipelineError(
            f"{path} was made from another data set: its fingerprint is {soft_targets.dataset[:12]}, "
            f"the index has {index.fingerprint()[:12]}. {remedy}"
        )
    return np.concatenate([hard, soft_targets.soft[0, rows]], axis=1)
