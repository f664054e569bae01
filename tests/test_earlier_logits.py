"""Rows of an earlier file: taken by the image's content and the view's numbers, and from no file that is another's."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.transforms import SAME_COLOR, Transforms
from pipeline.images.views import Views
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.reading import Provenance, Rows
from pipeline.teacher_pass.earlier_logits import EarlierRows, open_earlier
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

SHIFTS = Augmentation(translation=0.2, fill_mode="constant")
VIEWS = Views(2, 7, SHIFTS)
PROVENANCE = Provenance(
    class_names=("a", "b", "c"),
    teacher="cnn",
    teacher_sha256="ab" * 32,
    dataset="cd" * 32,
    preprocessing={"input_shape": [12, 12, 3]},
    batch_size=4,
    views=VIEWS.as_json(),
    storage={"kind": "dense", "dtype": "float32"},
)


def rows(*names: str) -> Rows:
    """Images written as "id=content"; labels never matter here."""
    ids, contents = zip(*(name.split("=") for name in names), strict=True)
    return Rows(ids, [0] * len(ids), [content.rjust(64, "0") for content in contents])


OLD = {
    "train": rows("a=aa", "b=bb", "c=cc", "d=dd"),
    "val": rows("v=ff"),
    "test": rows("t=ee", "u=bc"),
}


def logits_of(split: str, view: int, row: int) -> list[float]:
    """Three numbers that name the row of the old file."""
    first = 100 * sorted(OLD).index(split) + 10 * view + row
    return [first + 0.1, first + 0.2, first - 0.3]


def write(
    folder: Path, provenance: Provenance = PROVENANCE, images: dict[str, Rows] = OLD, affine: np.ndarray | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = UnfinishedLogits(folder, provenance, images)
    with unfinished:
        for split in images:
            for view, row in np.argwhere(unfinished.missing(split)):
                logits = np.array([logits_of(split, view, row)], np.float32)
                unfinished.put(split, np.array([view]), np.array([row]), unfinished.encode(logits))
    if affine is not None:
        with h5py.File(folder / "unfinished.h5", "r+") as file:
            file["train/affine"][...] = affine
    unfinished.finish(folder / "earlier.h5")
    return folder / "earlier.h5"


def transforms(split: str, images: Rows, views: Views) -> Transforms:
    views = views.of_split(split)
    return Transforms.joined([views.sample(images.ids, view)[None] for view in range(views.count)])


def found(path: Path, split: str, images: Rows, views: Views = VIEWS, missing=None) -> dict:
    """Where each (view, id) of a split is found: in which split and row of the earlier file."""
    sampled = transforms(split, images, views)
    missing = np.ones(sampled.affine.shape[:2], bool) if missing is None else missing
    with open_earlier([path], replace(PROVENANCE, views=views.as_json())) as earlier:
        return {
            (part.view, images.ids[row]): (part.old_split, int(old_row))
            for part in earlier.find(split, images, sampled, missing)
            for row, old_row in zip(part.rows, part.old_rows, strict=True)
        }


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    return write(tmp_path_factory.mktemp("earlier"))


def test_the_same_images_and_views_are_all_found_in_their_places(earlier):
    assert found(earlier, "train", OLD["train"]) == {
        (view, name): ("train", row) for view in (0, 1) for row, name in enumerate("abcd")
    }
    assert found(earlier, "val", OLD["val"]) == {(0, "v"): ("val", 0)}
    assert found(earlier, "test", OLD["test"]) == {(0, "t"): ("test", 0), (0, "u"): ("test", 1)}


def test_rows_are_found_among_added_and_removed_images(earlier):
    images = rows("A=11", "b=bb", "bb=22", "d=dd", "e=33")
    assert found(earlier, "train", images) == {
        (view, name): ("train", row) for view in (0, 1) for name, row in [("b", 1), ("d", 3)]
    }


def test_of_more_views_those_that_are_there_are_found(earlier):
    more = found(earlier, "train", OLD["train"], Views(5, 7, SHIFTS))
    assert {view for view, _ in more} == {0, 1}
    assert {view for view, _ in found(earlier, "train", OLD["train"], Views(1, 7, SHIFTS))} == {0}


def test_an_image_whose_file_changed_is_not_found(earlier):
    changed = rows("a=aa", "b=99", "c=cc", "d=dd")
    assert {name for _, name in found(earlier, "train", changed)} == {"a", "c", "d"}


def test_two_images_that_changed_their_names_are_not_mixed_up(earlier):
    """Their views follow the name, and their content the file: no old row is right for either."""
    swapped = rows("a=bb", "b=aa", "c=cc", "d=dd")
    assert {name for _, name in found(earlier, "train", swapped)} == {"c", "d"}


def test_a_renamed_image_is_found_where_it_is_untouched(earlier):
    """The views of a training image are drawn from its id, so another id has other views."""
    assert found(earlier, "test", rows("renamed=ee", "u=bc")) == {(0, "renamed"): ("test", 0), (0, "u"): ("test", 1)}
    assert found(earlier, "train", rows("renamed=aa")) == {}


def test_an_untouched_image_is_found_in_another_split(earlier):
    assert found(earlier, "val", rows("t=ee", "v=ff")) == {(0, "t"): ("test", 0), (0, "v"): ("val", 0)}
    assert found(earlier, "train", rows("t=ee")) == {}
    assert found(earlier, "test", rows("a=aa")) == {}


def test_without_augmentation_images_may_move_between_all_splits(tmp_path):
    plain = Views(2, 7, Augmentation())
    path = write(tmp_path, replace(PROVENANCE, views=plain.as_json()))
    assert found(path, "val", rows("a=aa"), plain) == {(0, "a"): ("train", 0)}
    assert found(path, "train", rows("t=ee"), plain) == {(0, "t"): ("test", 0)}


def test_copies_of_one_image_are_found_by_their_own_ids(tmp_path):
    copies = OLD | {"train": rows("first=aa", "second=aa", "third=aa")}
    path = write(tmp_path, images=copies)
    assert found(path, "train", rows("second=aa", "third=aa", "zero=aa")) == {
        (view, name): ("train", row) for view in (0, 1) for name, row in [("second", 1), ("third", 2)]
    }
    several = found(path, "test", rows("any=ee"))
    assert several == {(0, "any"): ("test", 0)}


@pytest.mark.parametrize(
    "views",
    [
        Views(2, 8, SHIFTS),
        Views(2, 7, replace(SHIFTS, translation=0.1)),
        Views(2, 7, replace(SHIFTS, brightness=0.1)),
        Views(2, 7, replace(SHIFTS, fill_mode="reflect")),
    ],
    ids=["another seed", "another range", "colors as well", "another fill mode"],
)
def test_other_views_are_not_found_but_untouched_images_are(earlier, views):
    assert found(earlier, "train", OLD["train"], views) == {}
    assert found(earlier, "val", OLD["val"], views) == {(0, "v"): ("val", 0)}


def test_a_view_with_one_other_number_is_not_taken(earlier):
    sampled = transforms("train", OLD["train"], VIEWS)
    sampled.affine[1, 2, 5] = np.nextafter(sampled.affine[1, 2, 5], np.float16(9))
    sampled = replace(sampled, color=sampled.color.copy())
    sampled.color[0, 0, 3] = np.float16(1e-7)
    with open_earlier([earlier], PROVENANCE) as file:
        parts = list(file.find("train", OLD["train"], sampled, np.ones((2, 4), bool)))
    assert [(part.view, part.rows.tolist()) for part in parts] == [(0, [1, 2, 3]), (1, [0, 1, 3])]


def test_colors_of_an_earlier_file_count(tmp_path):
    colored = Views(2, 7, replace(SHIFTS, contrast=0.3))
    path = write(tmp_path, replace(PROVENANCE, views=colored.as_json()))
    assert len(found(path, "train", OLD["train"], colored)) == 8
    sampled = transforms("train", OLD["train"], colored)
    grey = replace(sampled, color=np.broadcast_to(SAME_COLOR, sampled.color.shape))
    with open_earlier([path], replace(PROVENANCE, views=colored.as_json())) as file:
        assert list(file.find("train", OLD["train"], grey, np.ones((2, 4), bool))) == []


MIXED = Views(2, 7, replace(SHIFTS, mixup=Mixing(1.0, 0.5), cutmix=Mixing(1.0, 0.5)))
"""Every view is mixed."""


@pytest.fixture(scope="module")
def earlier_mixed(tmp_path_factory):
    return write(tmp_path_factory.mktemp("mixed"), replace(PROVENANCE, views=MIXED.as_json()))


def kept(path, now, images=OLD["train"]):
    """The (view, row) of the new file that are found."""
    with open_earlier([path], replace(PROVENANCE, views=MIXED.as_json())) as file:
        parts = file.find("train", images, now, np.ones(now.partner.shape, bool))
        return {(part.view, int(row)) for part in parts for row in part.rows}


ALL_MIXED = {(view, row) for view in (0, 1) for row in range(4)}


def test_mixed_views_are_found_again_in_any_order(earlier_mixed):
    now = transforms("train", OLD["train"], MIXED)
    assert (now.partner >= 0).all()
    assert kept(earlier_mixed, now) == ALL_MIXED
    turned = rows("d=dd", "c=cc", "b=bb", "a=aa")
    assert kept(earlier_mixed, transforms("train", turned, MIXED), turned) == ALL_MIXED


@pytest.mark.parametrize("field", ["own_share", "box", "partner"])
def test_a_view_that_is_mixed_in_another_way_is_not_taken(earlier_mixed, field):
    now = transforms("train", OLD["train"], MIXED)
    values = getattr(now, field)
    values[1, 2] = (values[1, 2] + 1) % 4 if field == "partner" else values[1, 2] + np.float16(0.125)
    if field == "partner" and values[1, 2] == 2:
        values[1, 2] = 3
    assert kept(earlier_mixed, now) == ALL_MIXED - {(1, 2)}


def test_a_view_that_is_no_longer_mixed_is_not_taken(earlier_mixed):
    now = transforms("train", OLD["train"], MIXED)
    now.partner[0, 1], now.own_share[0, 1], now.box[0, 1] = -1, 1, 0
    assert kept(earlier_mixed, now) == ALL_MIXED - {(0, 1)}


def partner_of_most(now):
    """The row that most views show beside their own image, and all views that show it."""
    row = int(np.bincount(now.partner.ravel()).argmax())
    showing = {(view, other) for view, other in ALL_MIXED if row in (other, now.partner[view, other])}
    assert len(showing) > 3
    return row, showing


def test_a_partner_counts_with_its_content_and_its_transforms(earlier_mixed):
    now = transforms("train", OLD["train"], MIXED)
    row, showing = partner_of_most(now)
    content = list(OLD["train"].image_sha256)
    content[row] = "99" * 32
    assert kept(earlier_mixed, now, replace(OLD["train"], image_sha256=content)) == ALL_MIXED - showing
    now.affine[0, row, 5] += np.float16(0.125)
    in_first = {(view, other) for view, other in showing if view == 0}
    assert in_first > {(0, row)}
    assert kept(earlier_mixed, now) == ALL_MIXED - in_first


def test_a_partner_that_left_the_training_images_is_another(earlier_mixed):
    """The number of its row is now that of an image with other content."""
    before = transforms("train", OLD["train"], MIXED)
    row, showing = partner_of_most(before)
    stay = [other for other in range(4) if other != row]
    left = Rows(*([values[other] for other in stay] for values in vars(OLD["train"]).values()))
    now = before[:, stay]
    now.partner[...] = np.array([stay.index(other) if other != row else 0 for other in range(4)])[now.partner]
    now.partner[now.partner == np.arange(3)] = 1  # none is its own
    expected = {(view, new) for view in (0, 1) for new, old in enumerate(stay) if (view, old) not in showing}
    assert kept(earlier_mixed, now, left) == expected


def test_after_a_removal_only_views_of_other_partners_are_taken(earlier_mixed):
    """As they are drawn: the views that showed the removed image now show another one, which both files have."""
    before, left = transforms("train", OLD["train"], MIXED), rows("a=aa", "c=cc", "d=dd")
    now = transforms("train", left, MIXED)
    expected = {
        (view, new)
        for view in (0, 1)
        for new, old in enumerate([0, 2, 3])
        if left.ids[now.partner[view, new]] == OLD["train"].ids[before.partner[view, old]]
    }
    assert 0 < len(expected) < 6
    assert kept(earlier_mixed, now, left) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"erasing": Erasing(0.4)}, {"erasing": Erasing(0.6)}),
        ({"operations": Operations(1, of={"blur": 0.1})}, {"operations": Operations(1, of={"blur": 0.1, "hue": 0.3})}),
    ],
    ids=["erased more often", "one more operation"],
)
def test_a_partner_whose_own_picture_changed_counts_as_another(tmp_path, before, after):
    """Some images keep their own picture while that of their partner changes."""
    earlier, later = (replace(MIXED, augmentation=replace(MIXED.augmentation, **own)) for own in (before, after))
    images = OLD | {"train": rows(*(f"{name}={name}" for name in "abcdefghijklmnop"))}
    path = write(tmp_path, replace(PROVENANCE, views=earlier.as_json()), images)
    then, now = (transforms("train", images["train"], views) for views in (earlier, later))
    np.testing.assert_array_equal(now.partner, then.partner)

    def is_same(view, row):
        names = ("affine", "color", "operation", "strength", "erased")
        pairs = [(getattr(then, name)[view, row], getattr(now, name)[view, row]) for name in names]
        return all(np.array_equal(*pair) for pair in pairs)

    own = {(view, row) for view in (0, 1) for row in range(16) if is_same(view, row)}
    both = {(view, row) for view, row in own if (view, now.partner[view, row]) in own}
    assert set() < both < own
    with open_earlier([path], replace(PROVENANCE, views=later.as_json())) as file:
        parts = list(file.find("train", images["train"], now, np.ones((2, 16), bool)))
    assert {(part.view, int(row)) for part in parts for row in part.rows} == both


@pytest.mark.parametrize("fill_mode", ["reflect", "nearest"])
def test_with_another_fill_mode_partners_must_be_untouched_too(tmp_path, fill_mode):
    only_mixed = Views(2, 7, Augmentation(translation=0.2, fill_mode="constant", mixup=Mixing(1.0, 1.0)))
    now = transforms("train", OLD["train"], only_mixed)
    row, showing = partner_of_most(now)
    now.affine[:, [other for other in range(4) if other != row]] = [1, 0, 0, 0, 1, 0]
    path = write(tmp_path, replace(PROVENANCE, views=only_mixed.as_json()), affine=now.affine)
    other = replace(only_mixed, augmentation=replace(only_mixed.augmentation, fill_mode=fill_mode))
    with open_earlier([path], replace(PROVENANCE, views=other.as_json())) as file:
        parts = list(file.find("train", OLD["train"], now, np.ones((2, 4), bool)))
    assert {(part.view, int(row)) for part in parts for row in part.rows} == ALL_MIXED - showing


def test_only_what_is_missing_is_found(earlier):
    missing = np.array([[True, False, False, True], [False, False, False, False]])
    assert set(found(earlier, "train", OLD["train"], missing=missing)) == {(0, "a"), (0, "d")}


WANTED = {
    "as it is": {"kind": "dense", "dtype": "float32"},
    "half as wide": {"kind": "dense", "dtype": "float16"},
    "the largest": {"kind": "topk", "k": 2, "dtype": "float16"},
}


def test_an_image_that_two_splits_hold_is_found_once(tmp_path):
    twice = OLD | {"val": rows("v=ee"), "test": rows("t=ee", "u=bc")}
    path = write(tmp_path, images=twice)
    images = rows("w=ee")
    with open_earlier([path], PROVENANCE) as earlier:
        parts = list(earlier.find("test", images, transforms("test", images, VIEWS), np.ones((1, 1), bool)))
    assert [(part.view, part.rows.tolist()) for part in parts] == [(0, [0])]


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_what_is_read_are_the_rows_asked_for_in_the_new_storage(earlier, wanted):
    kind = logit_storage.of(wanted)
    rows_in_any_order = EarlierRows("train", 1, np.array([0, 2, 5]), "train", np.array([3, 0, 2]))
    expected = kind.encode(np.array([logits_of("train", 1, row) for row in (3, 0, 2)], np.float32))
    with open_earlier([earlier], replace(PROVENANCE, storage=wanted)) as file:
        columns = file.read(rows_in_any_order)
    assert sorted(columns) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name], values)
        assert columns[name].dtype == values.dtype


@pytest.mark.parametrize("earlier_storage", [WANTED["half as wide"], WANTED["the largest"]], ids=str)
@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_a_narrower_file_serves_only_its_own_storage(tmp_path, earlier_storage, wanted):
    path = write(tmp_path, replace(PROVENANCE, storage=earlier_storage))
    with open_earlier([path], replace(PROVENANCE, storage=wanted)) as file:
        assert (file is not None) == (wanted == earlier_storage)


@pytest.mark.parametrize(
    "other",
    [
        {"teacher_sha256": "ef" * 32},
        {"teacher": "mobilenetv2"},
        {"batch_size": 8},
        {"preprocessing": {"input_shape": [24, 24, 3]}},
        {"class_names": ("b", "a", "c")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_file_of_another_origin_is_not_opened(earlier, other, capsys):
    with open_earlier([earlier], replace(PROVENANCE, **other)) as file:
        assert file is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", [100, 600, -1])
def test_a_damaged_file_is_told_and_the_next_one_opened(earlier, tmp_path, place, capsys):
    content = bytearray(earlier.read_bytes())
    content[place] ^= 1
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(content)
    with open_earlier([damaged], PROVENANCE) as file:
        assert file is None
    with open_earlier([damaged, earlier], PROVENANCE) as file:
        assert file is not None
    message = capsys.readouterr().err
    assert message.count("an earlier file is left aside") == 2
    assert str(damaged) in message


def test_files_that_are_no_logits_are_left_aside(tmp_path, capsys):
    empty, gone = tmp_path / "empty.h5", tmp_path / "gone.h5"
    empty.write_bytes(b"")
    with open_earlier([empty, gone], PROVENANCE) as file:
        assert file is None
    assert capsys.readouterr().err.count("an earlier file is left aside") == 2


def test_a_sample_spreads_over_all_rows_and_keeps_pairs_together():
    many = EarlierRows("train", 0, np.arange(1000, 1100), "val", np.arange(100)[::-1])
    few = many.sample(5)
    assert few.rows.tolist() == [1000, 1024, 1049, 1074, 1099]
    assert (few.rows + few.old_rows).tolist() == [1099] * 5
    assert many.sample(1000).rows.tolist() == many.rows.tolist()


def test_parts_are_the_whole_in_order(monkeypatch):
    monkeypatch.setattr("pipeline.soft_labels.reading.SLAB_ROWS", 3)
    whole = EarlierRows("train", 0, np.arange(8), "val", np.arange(8)[::-1])
    parts = list(whole.parts())
    assert [len(part.rows) for part in parts] == [3, 3, 2]
    np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), whole.rows)
    np.testing.assert_array_equal(np.concatenate([part.old_rows for part in parts]), whole.old_rows)
