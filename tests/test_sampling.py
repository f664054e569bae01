"""What a view has beside its affine and color transform: operations, an erased box, and a partner that is mixed in."""

import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from philox_by_hand import fractions_by_hand, words_by_hand
from scipy.special import betainc

from pipeline.images import sampling
from pipeline.images.augmentation import Augmentation, Erasing, Mixing, OperationName, Operations
from pipeline.images.operations import OPERATIONS
from pipeline.images.random_words import digests_of, philox_words, words_of
from pipeline.images.sampling import sample_views
from pipeline.images.transforms import NOT_MIXED, SAME_COLOR, Pictures, Transforms

IDS = [f"MHIST_{number:03}.png" for number in range(300)]
MOVES_AND_COLOR = Augmentation(horizontal_flip=True, rotation=0.2, brightness=0.2, channel_gain=0.1)
EVERYTHING = replace(
    MOVES_AND_COLOR,
    operations=Operations(3, of={"hue": 0.2, "blur": 0.05, "grayscale": 1.0}),
    erasing=Erasing(0.5, (0.1, 0.2), (0.5, 2.0)),
    mixup=Mixing(0.4, 0.3),
    cutmix=Mixing(1.0, 0.5),
)
CODES = {"blur": 1, "hue": 2, "grayscale": 4}
SEED, VIEW = 7, 3


def numbers(image_id, count=36):
    return fractions_by_hand(SEED, image_id, VIEW, count=count)


def sampled(augmentation=EVERYTHING, ids=IDS, labelled=None):
    return sample_views(augmentation, SEED, ids, VIEW, labelled)


def place(image_id, view):
    """Where an image stands on the ring: the third quarter of its key's SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{SEED}\0{image_id}\0{view}".encode()).digest()[16:24], "little")


def partner_by_hand(image_id, pool, view=VIEW):
    """The first other image clockwise from the point that word 18 names."""
    point = words_by_hand(19, SEED, image_id, view)[18]
    others = [other for other in pool if other != image_id]
    return min(others, key=lambda other: (place(other, view) - point) % 2**64)


def same(first: Transforms, second: Transforms):
    for name, values in vars(first).items():
        np.testing.assert_array_equal(values, getattr(second, name), err_msg=name)


# Words in blocks


@pytest.mark.parametrize("count", [4, 16, 44])
def test_words_in_a_block_are_those_of_each_key(count):
    ids = ["a.png", "é", "", "b/c d.png"]
    expected = np.array([philox_words(count, 2**32 - 1, image_id, 12) for image_id in ids])
    np.testing.assert_array_equal(words_of(digests_of(2**32 - 1, ids, 12), count).T, expected)
    assert expected[1].tolist() == words_by_hand(count, 2**32 - 1, "é", 12)


def test_no_keys_have_no_words():
    assert words_of(digests_of(1, [], 0), 8).shape == (8, 0)


@pytest.mark.parametrize("augmentation", [MOVES_AND_COLOR, EVERYTHING], ids=["first", "all"])
def test_many_blocks_are_one(monkeypatch, augmentation):
    at_once = sampled(augmentation, IDS[:50])
    monkeypatch.setattr(sampling, "AT_ONCE", 7)
    same(sampled(augmentation, IDS[:50]), at_once)


def test_transforms_that_change_nothing_take_no_memory():
    """Blocks are joined; of millions of rows, each with the same six numbers, 24 bytes would stay for each."""
    parts = [Transforms.of((count,), affine=np.full((count, 6), count, np.float16)) for count in (1, 4)]
    joined = Transforms.joined(parts)
    np.testing.assert_array_equal(joined.affine[:, 0], [1, 4, 4, 4, 4])
    np.testing.assert_array_equal(joined.color, np.tile(SAME_COLOR, (5, 1)))
    assert joined.partner.tolist() == [NOT_MIXED] * 5
    assert {name for name, values in vars(joined).items() if values.strides[0]} == {"affine"}


def test_of_no_images_there_are_no_transforms():
    assert {name: values.shape for name, values in vars(sampled(EVERYTHING, [])).items() if values.ndim == 2} == {
        **dict.fromkeys(("affine", "color"), (0, 6)),
        **dict.fromkeys(("operation", "strength"), (0, EVERYTHING.operations.count)),
        **dict.fromkeys(("erased", "box"), (0, 4)),
    }


def test_rows_of_one_value_that_differ_from_others_are_joined():
    """The blocks of one field have one value each, and these differ."""
    parts = [replace(Transforms.of((2,)), own_share=np.broadcast_to(np.float16(share), (2,))) for share in (1, 0.5)]
    assert Transforms.joined(parts).own_share.tolist() == [1, 1, 0.5, 0.5]


def test_new_kinds_of_change_leave_the_others_as_they_were():
    plain, everything = sampled(MOVES_AND_COLOR), sampled()
    assert plain.affine.tobytes() == everything.affine.tobytes()
    assert plain.color.tobytes() == everything.color.tobytes()
    for name in ("operations", "erasing", "mixup", "cutmix"):
        without = sampled(replace(EVERYTHING, **{name: None}))
        fields = {"operations": ["operation", "strength"], "erasing": ["erased"]}.get(name, [])
        for field in ("operation", "strength", "erased"):
            unchanged = field not in fields
            assert np.array_equal(getattr(without, field), getattr(everything, field)) == unchanged, (name, field)


# Operations


def test_operations_and_strengths_are_those_of_their_words():
    largest = {"blur": 0.05, "hue": 0.2, "grayscale": 1.0}
    names = ["blur", "hue", "grayscale"]  # in the order of their codes
    transforms = sampled()
    assert (transforms.operation.dtype, transforms.strength.dtype) == (np.uint8, np.float16)
    for row in range(40):
        words = numbers(IDS[row])[26:]
        for number in range(3):
            name, how = names[int(3 * words[2 * number])], words[2 * number + 1]
            strength = {"blur": how, "hue": 2 * how - 1, "grayscale": 1.0}[name] * largest[name]
            assert transforms.operation[row, number] == CODES[name]
            assert transforms.strength[row, number] == np.float16(strength)


def test_as_many_operations_are_drawn_as_are_asked_for():
    for count in (1, 2, 3):
        transforms = sampled(Augmentation(operations=Operations(count, magnitude=5.0)), IDS[:5])
        assert transforms.operation.shape == transforms.strength.shape == (5, count)


FORMULAS = {
    "u L": lambda u, largest: u * largest,
    "(2 u - 1) L": lambda u, largest: (2 * u - 1) * largest,
    "L": lambda u, largest: largest,
    "floor(u (L + 1))": lambda u, largest: math.floor(u * (largest + 1)),
}
"""How docs/format.md says that strengths are drawn."""


def test_operations_are_those_of_the_format():
    """Each row of its table: code, name, strengths that there are, how they are drawn, and that of RandAugment."""
    text = (Path(__file__).parents[1] / "docs/format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) `(\w+)` \| .*?([\d.]+) \| .* \| ([^|]+) \| ([\d.]+) \| [^|]+ \|$", text, re.MULTILINE)
    assert [name for _, name, *_ in rows] == [*OPERATIONS]
    for code, name, limit, formula, at_10 in rows:
        operation = OPERATIONS[name]
        told = (operation.code, operation.limit, operation.at_magnitude_10)
        assert told == (int(code), float(limit), float(at_10)), name
        words = np.array([0.0, 0.3, 0.7, 0.999])
        expected = [FORMULAS[formula](word, 3.0) for word in words]
        np.testing.assert_allclose(operation.draw(words, 3.0), expected, rtol=1e-12, err_msg=name)


def test_params_yaml_may_name_every_operation():
    assert get_args(OperationName) == tuple(OPERATIONS)


def test_the_order_of_names_in_the_file_does_not_matter():
    turned = Operations(3, of={"grayscale": 1.0, "blur": 0.05, "hue": 0.2})
    same(sampled(replace(EVERYTHING, operations=turned)), sampled())


def test_a_magnitude_is_tenths_of_the_largest_strengths():
    strengths = Operations(2, magnitude=5.0).strengths
    assert [*strengths][:2] == ["blur", "hue"]
    assert len(strengths) == 9
    assert strengths["hue"] == pytest.approx(0.05)
    transforms = sampled(Augmentation(operations=Operations(2, magnitude=5.0)))
    assert set(np.unique(transforms.operation)) == set(range(1, 10))
    same(transforms, sampled(Augmentation(operations=Operations(2, of=strengths))))


# Erasing


def test_an_erased_box_is_that_of_its_words():
    transforms = sampled()
    for row in range(60):
        chance, area, ratio, x, y = numbers(IDS[row])[21:26]
        share, aspect_ratio = 0.1 + 0.1 * area, 0.5 * 4**ratio
        width, height = math.sqrt(share * aspect_ratio), math.sqrt(share / aspect_ratio)  # none reaches 1
        left, top = (1 - width) * x, (1 - height) * y  # as shares of the sides
        expected = [2 * left - 1, 2 * top - 1, 2 * (left + width) - 1, 2 * (top + height) - 1]
        actual = transforms.erased[row].astype(np.float64)
        np.testing.assert_allclose(actual, expected if chance < 0.5 else [0] * 4, rtol=0, atol=2.0**-11)


def test_a_box_never_leaves_the_picture():
    erased = sampled(Augmentation(erasing=Erasing(1.0, (0.01, 1.0), (0.1, 10.0)))).erased
    left, top, right, bottom = erased.astype(np.float64).T
    assert min(left.min(), top.min()) >= -1
    assert max(right.max(), bottom.max()) <= 1
    assert (left < right).all()
    assert (top < bottom).all()


# Mixing


def test_one_word_chooses_between_mixup_cutmix_and_neither():
    transforms = sampled()
    for row, image_id in enumerate(IDS[:80]):
        word = numbers(image_id)[16]
        kind = "mixup" if word < 0.3 else "cutmix" if word < 0.8 else "neither"
        assert (transforms.partner[row] == NOT_MIXED) == (kind == "neither")
        assert transforms.box[row].any() == (kind == "cutmix")
        assert kind != "neither" or transforms.own_share[row] == 1


def test_a_share_is_that_of_the_words_below_it():
    """So a share of 0 chooses no image, and one of 1 chooses all. Here a share is the word of the first image."""

    def chosen(share):
        transforms = [
            sampled(Augmentation(erasing=Erasing(share[21], (0.1, 0.2), (0.5, 2.0))), IDS[:2]).erased,
            sampled(Augmentation(mixup=Mixing(1.0, share[16])), IDS[:2]).partner + 1,
            sampled(Augmentation(cutmix=Mixing(1.0, share[16])), IDS[:2]).partner + 1,
        ]
        return [bool(of_images[0].any()) for of_images in transforms]

    words = np.array(numbers(IDS[0]))
    assert chosen(words) == [False] * 3
    assert chosen(np.nextafter(words, 1)) == [True] * 3


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_the_share_of_mixup_is_a_quantile_of_beta(alpha):
    share = sampled(Augmentation(mixup=Mixing(alpha, 1.0))).own_share
    words = np.array([numbers(image_id)[17] for image_id in IDS])
    # Beta's distribution function undoes it, between what rounds to the same float16.
    lower, upper = (np.clip(share.astype(np.float64) + step, 0, 1) for step in (-(2.0**-11), 2.0**-11))
    assert (betainc(alpha, alpha, lower) <= words).all()
    assert (words <= betainc(alpha, alpha, upper)).all()


def test_a_box_of_cutmix_is_that_of_its_words_cut_at_the_edges():
    transforms, cut = sampled(Augmentation(cutmix=Mixing(1.0, 1.0))), 0
    for row, image_id in enumerate(IDS[:60]):
        share, x, y = numbers(image_id)[17], *(2 * word - 1 for word in numbers(image_id)[19:21])
        side = math.sqrt(1 - share)  # Beta(1, 1) is uniform
        edges = np.array([x - side, y - side, x + side, y + side])
        cut += (np.abs(edges) > 1).any()
        box = transforms.box[row].astype(np.float64)
        np.testing.assert_allclose(box, np.clip(edges, -1, 1), rtol=2.0**-11, atol=1e-7)
        area = (box[2] - box[0]) * (box[3] - box[1]) / 4
        assert transforms.own_share[row] == np.float16(1 - area)
    assert cut > 20


def test_a_box_too_thin_for_float16_is_none():
    """Float16 has more numbers near 0 than near 1, so of a small box one side alone may vanish."""
    transforms = sampled(Augmentation(cutmix=Mixing(0.02, 1.0)))
    left, top, right, bottom = transforms.box.astype(np.float64).T
    is_box = (left < right) & (top < bottom)
    assert 0 < is_box.sum() < 300
    assert not transforms.box[~is_box].any()
    assert (transforms.own_share[~is_box] == 1).all()


def test_two_images_are_partners_of_each_other():
    assert sampled(Augmentation(mixup=Mixing(1.0, 1.0)), IDS[:2]).partner.tolist() == [1, 0]


def test_the_partner_is_the_next_image_on_the_ring():
    transforms = sampled()
    assert transforms.partner.dtype == np.int32
    for row in np.flatnonzero(transforms.partner != NOT_MIXED)[:60]:
        assert IDS[transforms.partner[row]] == partner_by_hand(IDS[row], IDS)


def test_behind_the_last_place_of_the_ring_comes_the_first():
    """With three images, a quarter of the points lies behind all of them."""
    ids = IDS[:3]
    for view in range(8):
        partner = sample_views(Augmentation(mixup=Mixing(1.0, 1.0)), SEED, ids, view).partner
        assert [ids[row] for row in partner] == [partner_by_hand(image_id, ids, view) for image_id in ids]


def test_a_partner_does_not_depend_on_the_order_of_the_images():
    turned = sampled(ids=IDS[::-1])
    expected = [-1 if row == NOT_MIXED else 299 - row for row in sampled().partner]
    assert turned.partner[::-1].tolist() == expected


def test_a_new_image_is_the_partner_of_few_and_moves_no_other():
    """Of 300 mixed views, each turns to it with probability 1/301; 12 or more have a probability below 1e-8."""
    augmentation = Augmentation(mixup=Mixing(1.0, 1.0))
    before, after = sampled(augmentation), sampled(augmentation, [*IDS, "new.png"])
    assert (before.partner >= 0).all()
    changed = before.partner != after.partner[:300]
    assert changed.sum() < 12
    assert (after.partner[:300][changed] == 300).all()
    np.testing.assert_array_equal(after.own_share[:300], before.own_share)
    some = [sampled(augmentation, [*IDS, f"{number}.png"]).partner[:300] != before.partner for number in range(20)]
    assert 5 <= np.sum(some) <= 50  # 20 expected, with a deviation of 4.5


def test_every_image_is_a_partner_about_as_often():
    """Arcs of a ring are exponentially long, but each view has a ring of its own."""
    augmentation = Augmentation(mixup=Mixing(1.0, 1.0))
    counts = sum(
        np.bincount(sample_views(augmentation, SEED, IDS[:20], view).partner, minlength=20) for view in range(200)
    )
    # 4,000 views; 200 each. The deviation is below 25: of the arcs 14, of the views on them 14.
    assert np.abs(counts - 200).max() < 5 * 25


def test_no_image_is_its_own_partner():
    for view in range(20):
        partner = sample_views(Augmentation(cutmix=Mixing(1.0, 1.0)), SEED, IDS[:3], view).partner
        assert (partner != np.arange(3)).all()
        assert (partner >= 0).all()


def test_images_with_and_without_a_label_keep_to_themselves():
    labelled = np.arange(300) % 3 > 0
    transforms = sampled(labelled=labelled)
    mixed = np.flatnonzero(transforms.partner != NOT_MIXED)
    assert (labelled[transforms.partner[mixed]] == labelled[mixed]).all()
    only = [image_id for image_id, has_label in zip(IDS, labelled, strict=True) if has_label]
    of_baseline = sampled(ids=only)
    for row, image_id in enumerate(only):
        stored = transforms[IDS.index(image_id)]
        names = [None if part == NOT_MIXED else ids[part] for part, ids in
                 ((stored.partner, IDS), (of_baseline.partner[row], only))]  # fmt: skip
        assert names[0] == names[1]
        assert stored.own_share == of_baseline.own_share[row]


def test_an_image_without_others_is_not_mixed():
    alone = sampled(ids=IDS[:4], labelled=np.array([True, False, True, True]))
    assert (alone.partner[1], alone.own_share[1], alone.box[1].any()) == (NOT_MIXED, 1, False)


# The container


def test_pictures_of_a_view_and_of_its_partner_are_named_once():
    transforms = replace(
        Transforms.of((2, 3)), partner=np.array([[-1, 2, 0], [1, -1, -1]]), own_share=np.ones((2, 3), np.float16)
    )
    pictures = Pictures.of(transforms, np.array([0, 1, 2, 0]), np.array([0, 0, 0, 1]))
    assert pictures.rows.tolist() == [0, 1, 2, 0, 2, 0, 1]
    assert pictures.partner.tolist() == [0, 4, 5, 6]


def random_transforms():
    """2 x 3 views with two operations each; no number is that of a change that is off."""
    random = np.random.default_rng(0)
    widths = {"affine": (6,), "color": (6,), "operation": (2,), "strength": (2,), "erased": (4,), "box": (4,)}
    drawn = {name: random.uniform(2, 3, (2, 3, *width)).astype(np.float16) for name, width in widths.items()}
    partner, own_share = random.integers(0, 9, (2, 3)), random.uniform(0, 1, (2, 3)).astype(np.float16)
    return Transforms(**drawn | {"operation": np.full((2, 3, 2), 3, np.uint8)}, partner=partner, own_share=own_share)


@pytest.mark.parametrize("name", vars(random_transforms()))
def test_views_are_equal_if_all_their_transforms_are(name):
    transforms = random_transforms()
    changed = {name: getattr(transforms, name).copy()}
    changed[name][(1, 2, -1)[: changed[name].ndim]] += 1
    other, expected = replace(transforms, **changed), [[True] * 3, [True, True, False]]
    assert transforms.equal(transforms).all()
    assert transforms.equal(other).tolist() == expected
    mixes = name in ("partner", "own_share", "box")
    assert transforms.equal_pictures(other).tolist() == ([[True] * 3] * 2 if mixes else expected)


def test_a_place_without_an_operation_is_as_good_as_no_place():
    transforms = random_transforms()
    wider = {name: np.pad(getattr(transforms, name), [(0, 0), (0, 0), (0, 2)]) for name in ("operation", "strength")}
    wider["operation"][0, 1, 3] = 5
    for pair in ((transforms, replace(transforms, **wider)), (replace(transforms, **wider), transforms)):
        assert pair[0].equal(pair[1]).tolist() == [[True, False, True], [True] * 3]


def test_what_is_not_stored_changes_nothing():
    """The identity of both maps, no box, no partner and the whole share: docs/format.md."""
    found = Transforms.of((2, 3), operation=np.ones((2, 3, 4), np.uint8))
    told = {}
    for name, values in vars(found).items():
        told[name] = (values.shape, values.dtype.name, np.unique(values, axis=1)[0].tolist())
    assert told == {
        "affine": ((2, 3, 6), "float16", [[1, 0, 0, 0, 1, 0]]),
        "color": ((2, 3, 6), "float16", [[1, 1, 1, 0, 0, 0]]),
        "operation": ((2, 3, 4), "uint8", [[1, 1, 1, 1]]),
        "strength": ((2, 3, 4), "float16", [[0, 0, 0, 0]]),
        "erased": ((2, 3, 4), "float16", [[0, 0, 0, 0]]),
        "partner": ((2, 3), "int32", [-1]),
        "own_share": ((2, 3), "float16", [1]),
        "box": ((2, 3, 4), "float16", [[0, 0, 0, 0]]),
    }


def test_parts_are_joined_along_the_first_axis():
    transforms = random_transforms()
    same(Transforms.joined([transforms[:1], transforms[1:]]), transforms)
    same(Transforms.joined([transforms]), transforms)
    assert len(transforms) == 2
