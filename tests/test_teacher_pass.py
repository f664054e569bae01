"""The teacher's pass: how its batches are gathered between two writes."""

import time

import numpy as np
import pytest

from pipeline.teacher_pass import labelling
from pipeline.teacher_pass.labellers import numbered


class Clock:
    """Moves only when something is said to take time."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def blocks(batches, clock=time.monotonic):
    """The blocks of batches that have one column."""
    for places, columns in labelling.blocks(((part, {"logits": logits}) for part, logits in batches), clock):
        yield places, columns["logits"]


def sizes_of_blocks(batches: int, computing: float, writing: float) -> list[int]:
    """How many batches are joined, where each is computed and each block written in so many seconds."""
    clock = Clock()

    def computed():
        for number in range(batches):
            clock.now += computing
            yield np.full((2, 3), number, np.float32)

    sizes, seen = [], []
    for places, block in blocks(numbered(computed()), clock):
        clock.now += writing
        assert list(places) == [*range(2 * sum(sizes), 2 * sum(sizes) + len(block))]
        sizes.append(len(block) // 2)
        seen.extend(block[::2, 0])
    assert seen == list(range(batches))
    return sizes


@pytest.mark.parametrize(
    ("computing", "writing", "expected"),
    [
        (5.0, 0.01, [1] * 100),
        (0.1, 0.01, [1, *[5] * 19, 4]),
        (0.0625, 0.0078125, [1, *[7] * 14, 1]),
        (1.0, 3.0, [1, *[10] * 9, 9]),
        (0.5, 0.0, [1] * 100),
    ],
    ids=["slow model", "fast model", "no round number", "very slow disk", "instant disk"],
)
def test_writing_takes_a_fiftieth_of_the_time(computing, writing, expected):
    """A block is as many batches as take 50 times as long as the last write did, but 10 seconds at most."""
    assert sizes_of_blocks(100, computing, writing) == expected


def test_a_night_asleep_does_not_delay_the_next_write():
    clock = Clock()

    def computed():
        for _ in range(60):
            clock.now += 1.0
            yield np.zeros((1, 2), np.float32)

    sizes = []
    for _, block in blocks(numbered(computed()), clock):
        clock.now += 3600.0 * 8 if not sizes else 0.0
        sizes.append(len(block))
    assert sizes == [1, 10, *[1] * 49]


def test_no_more_than_64_mib_are_gathered():
    """Batches of 20 MiB, each a millisecond; a disk on which a write takes so long that ten seconds were to pass."""
    clock, batch = Clock(), np.zeros((4, 5 * 2**18), np.float32)

    def computed():
        for _ in range(10):
            clock.now += 0.001
            yield batch

    sizes = []
    for _, block in blocks(numbered(computed()), clock):
        clock.now += 5.0
        sizes.append(len(block) // 4)
    assert sizes == [1, 4, 4, 1]


def test_batches_in_any_order_keep_their_places():
    clock = Clock()

    def computed():
        for first, count in ((0, 1), (5, 2), (1, 3)):  # the first one is a block of its own
            clock.now += 0.001
            yield slice(first, first + count), np.full((count, 1), first, np.float32)

    found = []
    for places, block in blocks(computed(), clock):
        clock.now += 1.0
        found.append((list(places), list(block[:, 0])))
    assert found == [([0], [0]), ([5, 6, 1, 2, 3], [5, 5, 1, 1, 1])]


def test_no_batches_are_no_blocks():
    assert list(blocks(iter([]))) == []


def test_a_block_has_the_columns_of_its_batches():
    """They are gathered up to 64 MiB of all columns together: here up to two batches of 30 + 10 MiB."""
    wide, narrow = np.zeros((10, 3 * 2**20), np.uint8), np.arange(10 * 2**20, dtype=np.uint8).reshape(10, -1)
    clock = Clock()

    def computed():
        for number in range(5):
            clock.now += 0.001
            yield slice(10 * number, 10 * number + 10), {"value": wide, "index": narrow}

    sizes = []
    for places, columns in labelling.blocks(computed(), clock):
        clock.now += 5.0
        assert len(places) == len(columns["value"]) == len(columns["index"])
        np.testing.assert_array_equal(columns["index"][-10:], narrow)
        sizes.append(len(places) // 10)
    assert sizes == [1, 2, 2]
