"""Blocks of views: where they are cut, and that one carries all that its pixels need."""

import numpy as np
import pytest

from pipeline.cluster.blocks import MOST_BATCHES, MOST_BYTES, block_of, cuts
from pipeline.images.augmentation import Augmentation, Mixing
from pipeline.images.transforms import NOT_MIXED, Pictures, Transforms
from pipeline.images.views import Views


@pytest.mark.parametrize(("count", "batch", "workers"), [(1000, 10, 1), (999, 10, 3), (7, 10, 4), (5000, 1, 8)])
def test_blocks_are_whole_batches_without_gap_or_overlap(count, batch, workers):
    parts = [*cuts(count, batch, 2, lambda: workers)]
    assert [number for part in parts for number in range(count)[part]] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert all(size % batch == 0 for size in sizes[:-1])
    assert max(sizes) <= MOST_BATCHES * batch


def test_blocks_become_smaller_towards_the_end():
    """Of 320 batches and 2 workers: 16 batches as long as that is at most an eighth of the rest, and one in the end."""
    batches = [(part.stop - part.start) // 8 for part in cuts(320 * 8, 8, 10, lambda: 2)]
    assert batches[:13] == [16] * 13
    assert batches[13:20] == [14, 12, 10, 9, 8, 7, 6]  # 112 // 8, 98 // 8, 86 // 8, ...
    assert batches == sorted(batches, reverse=True)
    assert batches[-8:] == [1] * 8


def test_a_block_of_many_classes_is_small():
    """20,000 classes: 80 kB a view, 3.2 MB a batch of 40."""
    (first, *_) = cuts(10**6, 40, 20_000, lambda: 1)
    assert first == slice(0, 5 * 40)
    assert 5 * 40 * 20_000 * 4 <= MOST_BYTES < 6 * 40 * 20_000 * 4
    assert next(cuts(10**6, 4000, 20_000, lambda: 1)) == slice(0, 4000)  # never less than a batch


def all_views(images: int, views: Views) -> Transforms:
    ids = [f"image{number}" for number in range(images)]
    return Transforms.joined([views.sample(ids, view)[None] for view in range(views.count)])


@pytest.mark.parametrize("mixing", [None, Mixing(share=0.5, alpha=1.0)], ids=["alone", "mixed"])
def test_a_block_has_the_pictures_of_its_views_and_no_others(mixing):
    """Compared with the pictures of the same views in the whole split, by the places of the images."""
    views = Views(5, 3, Augmentation(rotation=0.2, mixup=mixing))
    transforms = all_views(40, views)
    paths = [f"data/{number}.png" for number in range(40)]
    rows = np.repeat(np.arange(7, 19), 3)
    numbers = np.tile([0, 2, 4], 12)
    block = block_of(paths, transforms, views.augmentation, numbers, rows)
    whole, own = (
        Pictures.of(transforms, rows, numbers),
        Pictures.of(block.transforms, block.rows, block.views),
    )
    assert [block.paths[row] for row in own.rows] == [paths[row] for row in whole.rows]
    assert own.transforms.equal_pictures(whole.transforms).all()
    for one, other in zip(own.arrays(views.augmentation), whole.arrays(views.augmentation), strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(block.paths) == {paths[row] for row in whole.rows}
    assert block.transforms.affine.shape[:2] == (3, len(block.paths))
    if mixing is None:
        assert len(block.paths) == 12
        assert (block.transforms.partner == NOT_MIXED).all()
    else:
        assert len(block.paths) > 12
