"""The logits file in the making: any order, any number of sessions, the same bytes; nothing lost, nothing trusted."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.images.views import Augmentation, Views
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import damage
from pipeline.soft_labels.reading import Provenance, Rows, open_logits
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

VIEWS = Views(3, 7, Augmentation(rotation=0.1, brightness=0.2))
COUNTS = {"train": 5, "val": 2, "test": 3}
ROWS = {
    split: Rows(
        [f"{split}_{row}.png" for row in range(count)],
        [row % 4 for row in range(count)],
        [f"{ord(split[0]) * 256 + row:064x}" for row in range(count)],
    )
    for split, count in COUNTS.items()
}
UNTOUCHED = np.tile(np.array([1, 1, 1, 0, 0, 0], np.float16), (1, max(COUNTS.values()), 1))
CELLS = [
    (split, view, row)
    for split, count in COUNTS.items()
    for view in range(VIEWS.of_split(split).count)
    for row in range(count)
]
STORAGES = [logit_storage.Dense("float32"), logit_storage.Dense("float16"), logit_storage.TopK(2, "float16")]


def provenance_of(kind: logit_storage.Storage) -> Provenance:
    return Provenance(
        class_names=("a", "b", "c", "d"),
        teacher="cnn",
        teacher_sha256="ab" * 32,
        dataset="cd" * 32,
        preprocessing={"input_shape": [12, 12, 3]},
        batch_size=4,
        views=VIEWS.as_json(),
        storage=kind.as_json(),
    )


def open_unfinished(folder: Path, kind: logit_storage.Storage = STORAGES[0]) -> UnfinishedLogits:
    folder.mkdir(exist_ok=True)
    return UnfinishedLogits(folder, provenance_of(kind), ROWS)


def logits_of(cells) -> np.ndarray:
    """Four numbers that name their own split, view, row and class."""
    first = [100 * sorted(COUNTS).index(split) + 10 * view + row for split, view, row in cells]
    return (np.array(first)[:, None] + [0.25, -0.5, 0.125, 0.75]).astype(np.float32)


def put(unfinished: UnfinishedLogits, cells) -> None:
    for split in sorted({split for split, _, _ in cells}):
        of_split = [cell for cell in cells if cell[0] == split]
        views, rows = (np.array([cell[part] for cell in of_split], np.intp) for part in (1, 2))
        unfinished.put(split, views, rows, unfinished.encode(logits_of(of_split)))


def whole_file(folder: Path, kind: logit_storage.Storage) -> bytes:
    unfinished = open_unfinished(folder, kind)
    with unfinished:
        put(unfinished, CELLS)
    unfinished.finish(folder / "finished.h5")
    return (folder / "finished.h5").read_bytes()


def missing_cells(unfinished: UnfinishedLogits) -> list[tuple[str, int, int]]:
    return [(split, int(view), int(row)) for split in COUNTS for view, row in np.argwhere(unfinished.missing(split))]


@pytest.mark.parametrize("kind", STORAGES, ids=str)
def test_each_row_holds_its_own_logits_in_a_sound_file(tmp_path, kind):
    whole_file(tmp_path, kind)
    assert damage(tmp_path / "finished.h5") is None
    with open_logits(tmp_path / "finished.h5") as file:
        for split, view, row in CELLS:
            expected = kind.encode(logits_of([(split, view, row)]))
            for name, values in file.columns(split, view, slice(row, row + 1)).items():
                np.testing.assert_array_equal(values, expected[name])
            sampled = VIEWS.of_split(split).sample([ROWS[split].ids[row]], view)
            np.testing.assert_array_equal(file.transforms(split, view).affine[row], sampled.affine[0])
            np.testing.assert_array_equal(file.file[split].get("color", UNTOUCHED)[view, row], sampled.color[0])


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: whole_file(folder / str(number), kind) for number, kind in enumerate(STORAGES)}


@st.composite
def sessions(draw):
    """All rows in any order, cut into sessions, each of which is cut into puts."""
    order = draw(st.permutations(CELLS))
    cuts = sorted(draw(st.lists(st.integers(0, len(CELLS)), max_size=6)))
    puts = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(CELLS)], strict=True)]
    ends = draw(st.lists(st.booleans(), min_size=len(puts), max_size=len(puts)))
    return list(zip(puts, ends, strict=True))


@given(sessions=sessions(), kind=st.sampled_from(STORAGES))
@settings(max_examples=25, deadline=None)
def test_any_order_in_any_sessions_gives_the_same_bytes(tmp_path_factory, expected, sessions, kind):
    folder = tmp_path_factory.mktemp("sessions")
    done: set[tuple[str, int, int]] = set()
    unfinished = open_unfinished(folder, kind)
    unfinished.__enter__()
    for cells, session_ends in sessions:
        put(unfinished, cells)
        done |= set(cells)
        unfinished = reopened(unfinished, folder, kind) if session_ends else unfinished
        assert set(missing_cells(unfinished)) == set(CELLS) - done
    unfinished.__exit__(None, None, None)
    unfinished.finish(folder / "finished.h5")
    assert (folder / "finished.h5").read_bytes() == expected[kind]
    assert not (folder / "unfinished.h5").exists()


def reopened(unfinished: UnfinishedLogits, folder: Path, kind: logit_storage.Storage) -> UnfinishedLogits:
    unfinished.__exit__(None, None, None)
    return open_unfinished(folder, kind).__enter__()


def test_rows_that_were_written_but_not_marked_are_written_again(tmp_path, expected):
    """What a kill between the two leaves behind: half a block that nobody vouches for."""
    with open_unfinished(tmp_path) as unfinished:
        put(unfinished, CELLS[:6])
    with h5py.File(tmp_path / "unfinished.h5", "r+") as file:
        file["train/logits"][1, 2:5] = np.nan
    again = open_unfinished(tmp_path)
    with again:
        assert missing_cells(again) == CELLS[6:]
        put(again, missing_cells(again))
    again.finish(tmp_path / "finished.h5")
    assert (tmp_path / "finished.h5").read_bytes() == expected[STORAGES[0]]


@pytest.mark.parametrize("cell", [CELLS[0], CELLS[7], CELLS[-1]])
def test_a_file_that_lacks_a_row_is_never_finished(tmp_path, cell):
    unfinished = open_unfinished(tmp_path)
    with unfinished:
        put(unfinished, [other for other in CELLS if other != cell])
        assert missing_cells(unfinished) == [cell]
    with pytest.raises(AssertionError, match="rows are missing"):
        unfinished.finish(tmp_path / "finished.h5")
    assert not (tmp_path / "finished.h5").exists()


@pytest.mark.parametrize("split", sorted(COUNTS))
def test_without_its_marks_all_rows_of_a_split_are_missing(tmp_path, split):
    with open_unfinished(tmp_path) as unfinished:
        put(unfinished, CELLS)
    (tmp_path / f"done_{split}").unlink()
    assert missing_cells(open_unfinished(tmp_path)) == [cell for cell in CELLS if cell[0] == split]


def test_marks_without_their_file_are_not_believed(tmp_path):
    with open_unfinished(tmp_path) as unfinished:
        put(unfinished, CELLS)
    (tmp_path / "unfinished.h5").unlink()
    assert missing_cells(open_unfinished(tmp_path)) == CELLS


def test_a_half_made_skeleton_is_made_again(tmp_path, expected):
    (tmp_path / "unfinished.h5.partial").write_bytes(b"half")
    assert whole_file(tmp_path, STORAGES[0]) == expected[STORAGES[0]]
    assert not (tmp_path / "unfinished.h5.partial").exists()


@pytest.mark.parametrize("of_the_seal", [0, 1, 64, 127, 128])
def test_a_sealed_file_not_yet_renamed_ends_as_the_same_bytes(tmp_path, expected, of_the_seal):
    (tmp_path / "killed").mkdir()
    whole = whole_file(tmp_path / "killed", STORAGES[0])
    (tmp_path / "killed/finished.h5").unlink()
    (tmp_path / "killed/unfinished.h5").write_bytes(whole[: len(whole) - 128 + of_the_seal])
    again = open_unfinished(tmp_path / "killed")
    with again:
        assert missing_cells(again) == []
    again.finish(tmp_path / "killed/finished.h5")
    assert (tmp_path / "killed/finished.h5").read_bytes() == expected[STORAGES[0]]


def test_a_row_is_marked_only_after_it_reached_the_disk(tmp_path, monkeypatch):
    unfinished = open_unfinished(tmp_path)
    marked_at_flush = []

    def fsync(descriptor):
        marked_at_flush.append(len(CELLS) - len(missing_cells(unfinished)))

    with unfinished:
        monkeypatch.setattr(os, "fsync", fsync)
        put(unfinished, CELLS[:4])
    assert marked_at_flush[0] == 0
    assert len(CELLS) - len(missing_cells(unfinished)) == 4


def test_the_disk_is_taken_before_the_first_row_is_computed(tmp_path):
    """Its blocks are allocated, not just its length, so that a full disk is met at the start."""
    open_unfinished(tmp_path)
    status = (tmp_path / "unfinished.h5").stat()
    assert status.st_blocks * 512 >= status.st_size


def test_a_full_disk_leaves_nothing_and_says_how_much_is_needed(tmp_path, monkeypatch):
    def no_room(descriptor, offset, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        with pytest.raises(OSError, match=r"No space left on device, and 0\.1 MiB are needed") as refusal:
            open_unfinished(tmp_path)
    assert refusal.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    assert missing_cells(open_unfinished(tmp_path)) == CELLS


def test_predictions_are_the_largest_logit_of_the_first_view(tmp_path):
    with open_unfinished(tmp_path) as unfinished:
        put(unfinished, CELLS)
        for split, count in COUNTS.items():
            np.testing.assert_array_equal(unfinished.predictions(split), np.full(count, 3))
        one = unfinished.encode(np.array([[0, 5, 0, 1]], np.float32))
        unfinished.put("train", np.array([0]), np.array([2]), one)
        unfinished.put("train", np.array([1]), np.array([3]), one)
        np.testing.assert_array_equal(unfinished.predictions("train"), [3, 3, 1, 3, 3])
