"""Sampling: draws the transforms of views by key, for many images at once. It does not import TensorFlow.

The key of a view is the SHA-256 of (seed, image id, number of the view). Its first half is a key of the generator
Philox, whose words decide the transforms. So a view depends on nothing else: not on the order of the images or the
batch size. All transforms are computed in float64 and rounded once to float16; only the rounded numbers are used.

The partner of a mixed view is drawn so that a new image changes few others (consistent hashing: Karger et al., STOC
1997). For each view, the images lie on a ring of 2^64 places, each at the third word of its key's SHA-256. A word of
the image points to a place; the next other image from there on is the partner. So a new image becomes the partner of
those views alone that point to the arc before it: of N images, about one. Images with a label have partners with a
label, and those without one have partners without. So a hard label is whole, and the baseline, which sees the former
only, sees the same views.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.operations import OPERATIONS
from pipeline.images.random_words import WORDS_OF_A_BLOCK, Words, digests_of, uniform, words_of
from pipeline.images.transforms import NOT_MIXED, Ints, Transforms

Floats16 = npt.NDArray[np.float16]
Floats64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NO_WORDS = np.empty(0, np.uint64)

AT_ONCE = 4096
"""Images whose words are computed at a time: few enough for a processor's cache."""

# The words of a view. Their places must never change, or stored views could not be sampled again.
AFFINE, COLOR = slice(0, 11), slice(11, 16)
MIX, OWN_SHARE, PARTNER, BOX = 16, 17, 18, slice(19, 21)
ERASE = slice(21, 26)
OPERATION = 26
"""Two words for each operation, from here on: which, and how strong."""


def sample_views(
    augmentation: Augmentation, seed: int, image_ids: Sequence[str], number: int, labelled: Flags | None = None
) -> Transforms:
    """Samples the transforms of one view of each of N images.

    The image is cropped, and the crop is stretched to the image's size; then it is flipped, zoomed, sheared, rotated
    and shifted about its centre. After that contrast, channel gain and brightness change; then come the operations, and
    the box that is erased.

    Args:
        augmentation: the ranges.
        seed: the seed of the whole set of views.
        image_ids: the images. If views are mixed, these must be all training images: partners are rows among them.
        number: the number of the view, or of the pass over the images.
        labelled: (N,) which of them have a label. None: all.

    Returns:
        The transforms, (N, ...).
    """
    count = len(image_ids)
    if augmentation.is_identity or not count:
        return _untouched(augmentation, count)
    drawn, places, points = zip(
        *(
            _block(augmentation, digests_of(seed, image_ids[start : start + AT_ONCE], number))
            for start in range(0, count, AT_ONCE)
        ),
        strict=True,
    )
    transforms = Transforms.joined(drawn)
    if not augmentation.mixes:
        return transforms
    pool = np.ones(count, bool) if labelled is None else labelled
    return _with_partners(transforms, np.concatenate(places), np.concatenate(points), pool)


def sample_view(augmentation: Augmentation, seed: int, image_id: str, number: int) -> Transforms:
    """The transforms of one view of one image, without a partner: (...)."""
    return sample_views(augmentation, seed, [image_id], number)[0]


def _untouched(augmentation: Augmentation, count: int) -> Transforms:
    if augmentation.operations is None:
        return Transforms.of((count,))
    places = (count, augmentation.operations.count)
    return Transforms.of((count,), operation=np.zeros(places, np.uint8), strength=np.zeros(places, np.float16))


def _block(augmentation: Augmentation, digests: Words) -> tuple[Transforms, Words, Words]:
    """The transforms of (N, 4) keys; and of mixed views the places on the ring and the words that point, (N,) each."""
    last = OPERATION + 2 * augmentation.operations.count if augmentation.operations is not None else OPERATION
    needs_more = augmentation.operations is not None or augmentation.erasing is not None or augmentation.mixes
    needed = last if needs_more else COLOR.stop
    words = words_of(digests, -(-needed // WORDS_OF_A_BLOCK) * WORDS_OF_A_BLOCK)
    numbers, drawn = uniform(words), dict[str, Any]()
    if augmentation.moves:
        drawn["affine"] = _affine(augmentation, numbers[AFFINE])
    if augmentation.recolors:
        drawn["color"] = _color(augmentation, 2.0 * numbers[COLOR] - 1.0)
    if augmentation.operations is not None:
        drawn["operation"], drawn["strength"] = _operations(augmentation.operations, numbers[OPERATION:])
    if augmentation.erasing is not None:
        drawn["erased"] = _erased(augmentation.erasing, numbers[ERASE])
    if augmentation.mixes:
        drawn["partner"], drawn["own_share"], drawn["box"] = _mixed(augmentation, numbers)
    # Copies, so that all the other words are not kept.
    places, points = (digests[:, 2].copy(), words[PARTNER].copy()) if augmentation.mixes else (NO_WORDS, NO_WORDS)
    return Transforms.of((len(digests),), **drawn), places, points


def _affine(augmentation: Augmentation, numbers: Floats64) -> Floats16:
    """The affine transforms from uniform numbers in [0, 1): (11, N) become (N, 6).

    Their order is: both flips, rotation, shear, zoom, shift along x and y, the crop's area, aspect ratio, and place
    along x and y.
    """
    either_way = 2.0 * numbers - 1.0
    flip_x = np.where(numbers[0] < 0.5, -1.0, 1.0) if augmentation.horizontal_flip else 1.0
    flip_y = np.where(numbers[1] < 0.5, -1.0, 1.0) if augmentation.vertical_flip else 1.0
    angle = 2.0 * math.pi * augmentation.rotation * either_way[2]
    slope = np.tan(math.radians(augmentation.shear) * either_way[3])
    scale = 1.0 + augmentation.zoom * either_way[4]
    shift_x, shift_y = 2.0 * augmentation.translation * either_way[5:7]
    # From the view back to the image: undo the shift, the rotation, the shear, the zoom, the flip, the crop. Adding 0
    # makes -0 to 0.
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = flip_x * (cos + slope * sin) / scale, flip_x * (sin - slope * cos) / scale + 0.0
    c, d = -flip_y * sin / scale + 0.0, flip_y * cos / scale
    x, y = -(a * shift_x + b * shift_y) + 0.0, -(c * shift_x + d * shift_y) + 0.0
    smallest, largest = augmentation.crop_area
    narrowest, widest = map(math.log, augmentation.crop_aspect_ratio)
    area = smallest + (largest - smallest) * numbers[7]
    aspect_ratio = np.exp(narrowest + (widest - narrowest) * numbers[8])
    width, height = np.minimum(1.0, np.sqrt(area * aspect_ratio)), np.minimum(1.0, np.sqrt(area / aspect_ratio))
    x, y = width * x + (1.0 - width) * either_way[9], height * y + (1.0 - height) * either_way[10]
    return np.stack([width * a, width * b, x, height * c, height * d, y], axis=1).astype(np.float16)


def _color(augmentation: Augmentation, either_way: Floats64) -> Floats16:
    """The color transforms from numbers in [-1, 1), brightness, contrast, red, green, blue: (5, N) become (N, 6)."""
    brightness = augmentation.brightness * either_way[0]
    contrast = 1.0 + augmentation.contrast * either_way[1]
    channels = 1.0 + augmentation.channel_gain * either_way[2:]
    # channels * (contrast * (value - 0.5) + 0.5) + brightness
    bias = channels * 0.5 * (1.0 - contrast) + brightness
    return np.concatenate([channels * contrast, bias]).T.astype(np.float16)


def _operations(operations: Operations, numbers: Floats64) -> tuple[npt.NDArray[np.uint8], Floats16]:
    """The codes and the strengths of K operations from two numbers each: (2 K, N) become (N, K) and (N, K)."""
    strengths = operations.strengths
    codes = np.array([OPERATIONS[name].code for name in strengths], np.uint8)
    which = (numbers[0 : 2 * operations.count : 2] * len(codes)).astype(np.intp)
    how = numbers[1 : 2 * operations.count : 2]
    of_each = np.stack([OPERATIONS[name].draw(how, largest) for name, largest in strengths.items()])
    chosen = np.take_along_axis(of_each, which[None], axis=0)[0]
    return codes[which].T, chosen.T.astype(np.float16)


def _erased(erasing: Erasing, numbers: Floats64) -> Floats16:
    """The boxes that are erased from numbers in [0, 1): whether, area, aspect ratio, place: (5, N) become (N, 4)."""
    (smallest, largest), (narrowest, widest) = erasing.area, map(math.log, erasing.aspect_ratio)
    area = smallest + (largest - smallest) * numbers[1]
    aspect_ratio = np.exp(narrowest + (widest - narrowest) * numbers[2])
    width, height = np.minimum(1.0, np.sqrt(area * aspect_ratio)), np.minimum(1.0, np.sqrt(area / aspect_ratio))
    x, y = (1.0 - width) * (2.0 * numbers[3] - 1.0), (1.0 - height) * (2.0 * numbers[4] - 1.0)
    boxes = np.stack([x - width, y - height, x + width, y + height], axis=1)
    return np.where(numbers[0][:, None] < erasing.share, boxes, 0.0).astype(np.float16)


def _mixed(augmentation: Augmentation, numbers: Floats64) -> tuple[npt.NDArray[np.int32], Floats16, Floats16]:
    """Which of N views are mixed (0; `NOT_MIXED` if not), the share of the image itself, and the partner's box."""
    mixup, cutmix = augmentation.mixup, augmentation.cutmix
    by_pixel = np.zeros_like(numbers[MIX], bool) if mixup is None else numbers[MIX] < mixup.share
    by_box = ~by_pixel & (numbers[MIX] < augmentation.share_mixed)
    own_share, boxes = np.ones_like(numbers[MIX]), np.zeros((len(by_box), 4), np.float16)
    if mixup is not None:
        own_share[by_pixel] = _beta(mixup, numbers[OWN_SHARE, by_pixel])
    if cutmix is not None:
        # The box lies anywhere about a point of the picture, and is cut at its edges (Yun et al., arXiv:1905.04899).
        side = np.sqrt(1.0 - _beta(cutmix, numbers[OWN_SHARE, by_box]))
        x, y = 2.0 * numbers[BOX, by_box] - 1.0
        box = np.stack([x - side, y - side, x + side, y + side], axis=1)
        boxes[by_box] = np.clip(box, -1.0, 1.0).astype(np.float16)
        left, top, right, bottom = boxes[by_box].astype(np.float64).T
        boxes[by_box] *= ((left < right) & (top < bottom))[:, None]  # too thin for float16: no box
        own_share[by_box] = 1.0 - (right - left) * (bottom - top) / 4.0
    partner = np.where(by_pixel | by_box, 0, NOT_MIXED).astype(np.int32)
    return partner, own_share.astype(np.float16), boxes


def _beta(mixing: Mixing, numbers: Floats64) -> Floats64:
    """Numbers from Beta(alpha, alpha), by the inverse of its distribution function."""
    from scipy.special import betaincinv  # SciPy takes longer to load than all else that a light stage needs

    return np.asarray(betaincinv(mixing.alpha, mixing.alpha, numbers))


def _with_partners(transforms: Transforms, places: Words, points: Words, labelled: Flags) -> Transforms:
    """Names the partners of the mixed views.

    Args:
        transforms: of N views; a view is mixed if its `partner` is not `NOT_MIXED`.
        places: (N,) the images' places on the ring.
        points: (N,) the places to which they point.
        labelled: (N,) which images have a label.
    """
    is_mixed, partner = transforms.partner != NOT_MIXED, np.full(len(labelled), NOT_MIXED, np.int32)
    for pool in (labelled, ~labelled):
        rows = np.flatnonzero(pool & is_mixed)
        partner[rows] = _next_on_ring(np.flatnonzero(pool), rows, places, points)
    alone = partner == NOT_MIXED
    return replace(
        transforms,
        partner=partner,
        own_share=np.where(alone, np.float16(1), transforms.own_share),
        box=np.where(alone[:, None], np.float16(0), transforms.box),
    )


def _next_on_ring(members: Ints, rows: Ints, places: Words, points: Words) -> Ints:
    """The first other member at or behind the point of each of R rows; `NOT_MIXED` if there is no other."""
    if len(members) < 2:
        return np.full(len(rows), NOT_MIXED)
    ring = members[np.argsort(places[members], kind="stable")]
    first = np.searchsorted(places[ring], points[rows]) % len(ring)
    itself = ring[first] == rows
    return np.where(itself, ring[(first + 1) % len(ring)], ring[first])
