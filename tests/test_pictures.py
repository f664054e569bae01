"""Pictures of images: which are chosen, what is drawn, and that the files are sound."""

import hashlib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.text import Text
from soft_label_files import write_logits

from pipeline.images.augmentation import Mixing
from pipeline.images.index import SPLITS, Image, Index
from pipeline.images.views import Augmentation, Views
from pipeline.report import sample_grid, softening_picture, style, view_grid
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.logit_storage import Dense, TopK

SIDE = 168  # a teacher of 12 x 12 pixels is shown 14 times larger; images of that size are not resized at all
LOGITS, OUTPUT = Path("data/teacher_logits.h5"), Path("results/pictures/picture.png")
VIEWS = Views(3, 5, Augmentation(horizontal_flip=True, vertical_flip=True, brightness=0.25))
HARD_NAMES = ["a $\\frac$ b_c", "<b>HP</b> $x$ & y", "図 " + "long " * 20 + "$_$"]
TEMPERATURES = [1.0, 5.0, 20.0]


def pixels_of(image_id):
    seed = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(20, 236, (SIDE, SIDE, 3), dtype=np.uint8)


def image(split, number, label):
    image_id = f"{split}_{number}.png"
    path = Path("data/split") / split / image_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(pixels_of(image_id)).numpy())
    return Image(image_id, path.as_posix(), label, split, "", hashlib.sha256(path.read_bytes()).hexdigest())


def logits_of(views, count, classes):
    return np.random.default_rng(count).normal(0, 2, (views, count, classes)).astype(np.float32)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a project of images and logits; returns its index."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def project(classes=("HP", "SSA"), channels=3, counts=(7, 3, 5), **options):
        index = Index(
            image(split, number, classes[number % len(classes)])
            for split, count in zip(SPLITS, counts, strict=True)
            for number in range(count)
        )
        resize = {"method": "bilinear", "antialias": True, "fit": "stretch"}
        shown = {"input_shape": [12, 12, channels], "decoder": "Pillow", "resize": resize}
        options = {"views": VIEWS, "logits": logits_of, "stored_as": Dense("float32")} | options
        write_logits(LOGITS, index=index, preprocessing=shown, **options)
        return index

    return project


@pytest.fixture
def unsaved(monkeypatch):
    """The figures that would be saved: to draw their pixels takes longest."""
    figures = []
    for module in (sample_grid, view_grid, softening_picture):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    return figures


def shown_in(axes):
    return np.asarray(axes.images[0].get_array())


def pictures(figure):
    return [shown_in(axes) for axes in figure.axes if axes.images]


def bars(axes):
    return [bar.get_width() for bar in axes.patches]


def charts(figure):
    return [axes for axes in figure.axes if axes.patches]


def names_beside(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def all_texts(figure):
    return figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text() and artist.get_visible())


def noise(height=20, width=20, channels=3):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def size_on_disk(path):
    return keras.utils.img_to_array(keras.utils.load_img(path)).shape[:2]


# What all pictures share


def test_a_picture_is_a_png_of_the_figures_size(tmp_path):
    style.save(Figure(figsize=(8, 2.5)), tmp_path / "a/b.png")
    assert (tmp_path / "a/b.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert size_on_disk(tmp_path / "a/b.png") == (250, 800)


def test_a_picture_does_not_name_the_software_that_drew_it(tmp_path):
    style.save(Figure(), tmp_path / "a.png")
    assert b"atplotlib" not in (tmp_path / "a.png").read_bytes()


def test_a_picture_that_fails_leaves_the_older_one(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"older")
    figure = Figure()
    figure.suptitle("$\\frac$")  # a formula that is none
    with pytest.raises(ValueError, match="frac"):
        style.save(figure, path)
    assert [path.read_bytes() for path in tmp_path.glob("a*")] == [b"older"]


@pytest.mark.parametrize(
    ("name", "longest", "expected"),
    [("HP", 5, "HP"), ("12345", 5, "12345"), ("123456", 5, "12…56"), ("123456789", 6, "12…789"), ("", 4, "")],
)
def test_a_long_name_loses_its_middle(name, longest, expected):
    assert style.short(name, longest) == expected
    assert len(expected) <= longest


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(3, 9, [0, 1, 2]), (9, 9, list(range(9))), (10, 4, [0, 3, 6, 9]), (12, 3, [0, 5, 11]), (0, 4, []), (1, 4, [0])],
)
def test_few_keeps_both_ends(count, most, expected):
    assert style.few(list(range(count)), most) == expected


# Samples


def entries(labels):
    return [Image(f"{number}.png", f"{number}.png", label, "train", "", "") for number, label in enumerate(labels)]


def hashed(image):
    return hashlib.sha256(image.id.encode()).hexdigest()


def test_images_come_from_each_class_in_turn_by_their_hash():
    images = entries("ab" * 10 + "c")
    chosen = sample_grid.spread_over_classes(Index(images), 9)
    # Of c there is one; a and b share the other eight places.
    assert [image.class_name for image in chosen] == ["a", "b", "c", "a", "b", "a", "b", "a", "b"]
    for label in "ab":
        of_class = sorted((image for image in images if image.class_name == label), key=hashed)
        assert [image for image in chosen if image.class_name == label] == of_class[:4]


def test_the_choice_does_not_depend_on_the_order():
    images = entries("abc" * 9)
    chosen = sample_grid.spread_over_classes(Index(images), 9)
    assert sample_grid.spread_over_classes(Index(images[::-1]), 9) == chosen


def test_classes_are_in_the_order_of_the_class_axis():
    index = Index(entries("abc" * 9), ["c", "a", "b"])
    assert [image.class_name for image in sample_grid.spread_over_classes(index, 4)] == ["c", "a", "b", "c"]
    assert [of_class[0].class_name for of_class in sample_grid.by_class(index)] == ["c", "a", "b"]


def test_with_many_classes_evenly_spaced_ones_are_shown():
    chosen = sample_grid.spread_over_classes(Index(entries([f"{number % 100:02}" for number in range(300)])), 9)
    assert [image.class_name for image in chosen] == ["00", "11", "22", "33", "44", "55", "66", "77", "88"]


def test_of_fewer_images_than_places_all_are_shown():
    assert len(sample_grid.spread_over_classes(Index(entries("aab")), 9)) == 3


def test_the_samples_are_the_files_pixels_under_their_labels(make, drawn):
    index = make()
    sample_grid.draw_samples(index, OUTPUT)
    chosen = sample_grid.spread_over_classes(index, 9)
    assert len(chosen) == 7
    shown = [axes for axes in drawn[0].axes if axes.images]
    assert [axes.get_title() for axes in shown] == [image.class_name for image in chosen]
    for axes, image in zip(shown, chosen, strict=True):
        np.testing.assert_array_equal(shown_in(axes), pixels_of(image.id))


@pytest.mark.parametrize(
    ("classes", "each", "size"),
    [
        (10, 9, (1205, 800)),  # a row for each class: 35 pixels for the title, and 100 + 17 for each row
        (21, 2, (365, 800)),  # 10 in a row, one image of each class: 35 + 3 * (80 + 30)
        (201, 1, (1244, 800)),  # 16 in a row: 35 + 13 * (50 + 43)
    ],
)
def test_every_one_of_many_classes_is_shown(monkeypatch, tmp_path, drawn, classes, each, size):
    monkeypatch.setattr(sample_grid, "read_original", lambda path: np.full((6, 4, 3), 7, np.uint8))
    names = [f"class {number}" for number in range(classes)]
    sample_grid.draw_samples(Index(entries(names * each), names), tmp_path / "many.png")
    shown = [text.get_text().replace("\n", "") for text in all_texts(drawn[0]) if text.get_text()]
    assert shown == ["Training images and their labels", *names]
    assert len(drawn[0].axes[0].images) == (8 * classes if classes <= 20 else classes)
    assert size_on_disk(tmp_path / "many.png") == size


def test_beyond_1000_classes_the_title_says_how_many_are_shown(monkeypatch, unsaved):
    monkeypatch.setattr(sample_grid, "read_original", lambda path: np.full((6, 4, 3), 7, np.uint8))
    monkeypatch.setattr(sample_grid, "MOST_CLASSES_SHOWN", 25)
    sample_grid.draw_samples(Index(entries([f"{number:02}" for number in range(50)])), OUTPUT)
    texts = [text.get_text() for text in all_texts(unsaved[0]) if text.get_text()]
    assert texts == [
        "Training images and their labels: 25 of 50 classes", *(f"{2 * number:02}" for number in range(25)),
    ]  # fmt: skip


def test_small_tiles_keep_the_shape_and_the_colors(monkeypatch, tmp_path):
    """A wide red image: 3:1, in the middle of its square; a photograph is thinned out, not cut."""
    wide = np.zeros((1200, 3600, 3), np.uint8)
    wide[..., 0] = 255
    monkeypatch.setattr(sample_grid, "read_original", lambda path: wide)
    figure = sample_grid.small_tiles([entries(["red"])], 10)
    (shown,) = figure.axes[0].images
    left, right, bottom, top = shown.get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(3)
    assert max(shown.get_array().shape) <= 4 * 80 * 3
    style.save(figure, tmp_path / "red.png")
    pixels = tf.io.decode_png((tmp_path / "red.png").read_bytes()).numpy()[..., :3]
    red = np.argwhere((pixels == (255, 0, 0)).all(axis=-1))
    np.testing.assert_allclose(np.ptp(red, axis=0) + 1, [76 / 3, 76], atol=2)


def test_only_training_images_are_samples(make, drawn):
    index = make(counts=(2, 9, 9))
    sample_grid.draw_samples(index, OUTPUT)
    assert len(pictures(drawn[0])) == 2
    assert size_on_disk(OUTPUT) == (300, 800)  # one row


def test_samples_of_any_shape_and_number_can_be_drawn(tmp_path):
    wide = [noise(10, 200), noise(200, 10), noise(1, 1), noise(9, 9, 1)]
    style.save(sample_grid.sample_grid(wide, [*HARD_NAMES, "x"]), tmp_path / "a.png")
    style.save(sample_grid.sample_grid(wide[:1], ["x"]), tmp_path / "b.png")
    assert [size_on_disk(tmp_path / name) for name in ("a.png", "b.png")] == [(560, 800), (300, 800)]


# Views


def seen_by_numpy(row, view, pixels):
    """A flip of either axis, then the brightness, as the file's numbers say."""
    with h5py.File(LOGITS) as content:
        a, _, _, _, d, _ = content["train/affine"][view, row].tolist()
        color = content["train/color"][view, row].astype(np.float64)
    return np.clip(pixels[:: int(d), :: int(a)] + 255 * color[3:], 0, 255)


def test_rows_are_the_untouched_image_and_its_stored_views(make, drawn):
    classes = ["HP", "SSA", "TA"]
    index = make(classes)
    view_grid.draw_views(LOGITS, index, OUTPUT)
    chosen = sample_grid.spread_over_classes(index, 3)
    assert [image.class_name for image in chosen] == classes
    assert [row.get_suptitle() for row in drawn[0].subfigs] == classes
    for image, row in zip(chosen, drawn[0].subfigs, strict=True):
        assert [axes.get_title() for axes in row.axes] == ["untouched", "view 0", "view 1", "view 2"]
        untouched, *views = map(shown_in, row.axes)
        np.testing.assert_array_equal(untouched, pixels_of(image.id))
        number = [entry.id for entry in index.split("train")].index(image.id)
        for view, seen in enumerate(views):
            expected = seen_by_numpy(number, view, pixels_of(image.id))
            # rounded to whole values: half a value, and what float32 loses
            np.testing.assert_allclose(seen, expected, rtol=0, atol=0.51)
    assert size_on_disk(OUTPUT)[1] == 800


def test_mixed_views_tell_the_share_of_their_own_image(make, unsaved):
    index = make(views=Views(6, 5, Augmentation(mixup=Mixing(1.0, 0.6))))
    view_grid.draw_views(LOGITS, index, OUTPUT)
    ids = [entry.id for entry in index.split("train")]
    with h5py.File(LOGITS) as content:
        partners, shares = content["train/partner"][:], content["train/lambda"][:].astype(np.float64)
    number_mixed = 0
    for image, row in zip(sample_grid.spread_over_classes(index, 3), unsaved[0].subfigs, strict=True):
        for view, axes in enumerate(row.axes[1:]):
            number, own = ids.index(image.id), pixels_of(image.id)
            partner, share = partners[view, number], shares[view, number]
            mixed = own if partner < 0 else share * own + (1 - share) * pixels_of(ids[partner])
            np.testing.assert_allclose(shown_in(axes), mixed, rtol=0, atol=0.51)
            assert axes.get_title() == (f"view {view}" if partner < 0 else f"view {view} ({share:.0%})")
            number_mixed += partner >= 0
    assert 3 < number_mixed < 18
    assert unsaved[0].get_suptitle().endswith("\nIn brackets: the image's own share of a mixed view")


def test_of_many_views_seven_are_shown(make, unsaved):
    view_grid.draw_views(LOGITS, make(views=Views(12, 5, Augmentation(rotation=0.2))), OUTPUT)
    assert len(pictures(unsaved[0])) == 3 * 8
    assert unsaved[0].get_figwidth() == style.WIDTH


def test_a_single_untouched_view_is_the_untouched_image(make, unsaved):
    index = make(views=Views(1, 0, Augmentation()), counts=(2, 1, 2))
    view_grid.draw_views(LOGITS, index, OUTPUT)
    for row in unsaved[0].subfigs:
        untouched, view = map(shown_in, row.axes)
        np.testing.assert_array_equal(untouched, view)
    assert len(unsaved[0].subfigs) == 2


def test_a_grey_teachers_views_are_grey(make, unsaved):
    view_grid.draw_views(LOGITS, make(channels=1), OUTPUT)
    assert {picture.shape for picture in pictures(unsaved[0])} == {(SIDE, SIDE)}


def test_a_class_without_training_images_is_not_shown(make, unsaved):
    index = make(counts=(2, 1, 3), classes=["HP", "SSA", "TA"])  # TA has a test image only
    view_grid.draw_views(LOGITS, index, OUTPUT)
    sample_grid.draw_samples(index, OUTPUT)
    assert [row.get_suptitle() for row in unsaved[0].subfigs] == ["HP", "SSA"]
    assert len(pictures(unsaved[1])) == 2


def test_views_of_images_that_changed_since_are_refused(make):
    index = make()
    other = Index([entry._replace(sha256="0" * 64) for entry in index.images])
    with pytest.raises(MismatchError, match=r"teacher_logits\.h5 was made from other content of 7 train image\(s\)"):
        view_grid.draw_views(LOGITS, other, OUTPUT)
    for entry in index.split("train"):
        Path(entry.path).unlink()
    with pytest.raises(MismatchError, match=r"image file\(s\) are missing"):
        view_grid.draw_views(LOGITS, index, OUTPUT)
    assert not OUTPUT.exists()


# Softening


def stored(split="test"):
    with h5py.File(LOGITS) as content:
        return content[split]["logits"][0].astype(np.float64)


def entropies():
    return scipy.special.entr(scipy.special.softmax(stored(), axis=1)).sum(axis=1)


def test_the_image_whose_entropy_is_the_upper_quartile_is_chosen():
    """Of five rows, the upper quartile is the second largest: here row 3 (p = 0.8), below row 0 (p = 0.6)."""
    positive = np.array([0.6, 0.99, 0.95, 0.8, 0.9])
    logits = np.log(np.stack([positive, 1 - positive], axis=1)) + 5
    assert softening_picture.some_doubt(softening_picture.entropies(logits)) == 3


def test_the_first_of_equals_is_chosen_also_when_all_are_certain():
    assert softening_picture.some_doubt(softening_picture.entropies(np.zeros((4, 3)))) == 0
    assert softening_picture.some_doubt(softening_picture.entropies(np.array([[1e4, -1e4], [-1e4, 1e4]]))) == 0


def test_bars_are_softmax_of_stored_logits_at_each_temperature(make, drawn):
    index = make(["HP", "SSA", "TA"])
    softening_picture.draw_softening(LOGITS, index, [20.0, 1.0, 5.0, 1.0], OUTPUT)
    row = int(np.argsort(entropies())[3])
    found = charts(drawn[0])
    assert [axes.get_title() for axes in found] == ["T = 1", "T = 5", "T = 20"]
    for axes, temperature in zip(found, TEMPERATURES, strict=True):
        expected = scipy.special.softmax(stored()[row] / temperature)
        assert bars(axes) == pytest.approx(expected.tolist(), abs=1e-6)
    assert [names_beside(axes) for axes in found] == [["HP", "SSA", "TA"], ["", "", ""], ["", "", ""]]
    (picture,) = pictures(drawn[0])
    np.testing.assert_array_equal(picture, pixels_of(f"test_{row}.png"))
    assert drawn[0].get_suptitle() == f"Soft labels of test_{row}.png (test)"


def test_the_labelled_class_has_another_color():
    figure = softening_picture.softening_figure("x", noise(), {1.0: np.array([0.2, 0.5, 0.3])}, ["a", "b", "c"], 2)
    colors = [bar.get_facecolor() for bar in charts(figure)[0].patches]
    assert colors[0] == colors[1] != colors[2]
    assert figure.get_supxlabel() == "softened probability; orange: the labelled class"


def test_with_many_classes_all_but_ten_bars_are_one_rest():
    probabilities = np.roll(np.arange(1, 15), 5) / 105  # the largest, 14, at class 04; the four smallest at 05 to 08
    names = [f"class {number:02}" for number in range(14)]
    figure = softening_picture.softening_figure("x", noise(), {1.0: probabilities, 9.0: probabilities}, names, 6)
    for axes in charts(figure):
        assert bars(axes) == pytest.approx([n / 105 for n in (10, 11, 12, 13, 14, 5, 6, 7, 8, 9, 1 + 2 + 3 + 4)])
    kept = [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]
    assert names_beside(charts(figure)[0]) == [*(names[number] for number in kept), "4 others"]
    assert "class 06" in figure.get_supxlabel()


def test_a_label_below_the_axis_is_no_formula(tmp_path):
    names = ["$\\frac$", *map(str, range(12))]
    figure = softening_picture.softening_figure("x", noise(), {1.0: np.arange(13) / 78}, names, 0)
    assert "$\\frac$" in figure.get_supxlabel()
    style.save(figure, tmp_path / "a.png")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 9])
def test_every_temperature_has_its_panel_and_each_row_its_names(count):
    by_temperature = {float(t): np.array([0.3, 0.7]) for t in range(1, count + 1)}
    figure = softening_picture.softening_figure("x", noise(), by_temperature, ["HP", "SSA"], 0)
    found = charts(figure)
    assert [axes.get_title() for axes in found] == [f"T = {t}" for t in range(1, count + 1)]
    named = [axes for axes in found if names_beside(axes) == ["HP", "SSA"]]
    assert len(named) == -(-count // 3)


def test_of_many_temperatures_nine_are_shown(make, unsaved):
    softening_picture.draw_softening(LOGITS, make(), [float(t) for t in range(1, 31)], OUTPUT)
    titles = [axes.get_title() for axes in charts(unsaved[0])]
    assert len(titles) == 9
    assert (titles[0], titles[-1]) == ("T = 1", "T = 30")


def test_topk_logits_are_softened_as_students_see_them(make, unsaved):
    kind = TopK(2, "float32")
    softening_picture.draw_softening(LOGITS, make([*"abcd"], stored_as=kind), TEMPERATURES, OUTPUT)
    row = int(unsaved[0].get_suptitle().split("_")[1].split(".")[0])
    with h5py.File(LOGITS) as content:
        columns = {name: content["test"][name][0, row : row + 1] for name in kind.columns(4)}
    for axes, temperature in zip(charts(unsaved[0]), TEMPERATURES, strict=True):
        expected = kind.probabilities(kind.soften(columns, temperature, 4), 4)[0]
        assert bars(axes) == pytest.approx(expected.tolist())


# All of them


def draw_all(index):
    sample_grid.draw_samples(index, Path("1.png"))
    view_grid.draw_views(LOGITS, index, Path("2.png"))
    softening_picture.draw_softening(LOGITS, index, TEMPERATURES, Path("3.png"))


def bytes_of_all(index):
    draw_all(index)
    return [Path(f"{number}.png").read_bytes() for number in (1, 2, 3)]


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(make):
    index = make()
    assert bytes_of_all(index) == bytes_of_all(index)


def test_names_are_drawn_as_they_are_written_and_no_formulas(make, unsaved):
    draw_all(make(HARD_NAMES))
    assert len(unsaved) == 3
    for figure in unsaved:
        texts = [text for text in all_texts(figure) if any(sign in text.get_text() for sign in "$<_")]
        assert texts
        assert [text for text in texts if text.get_parse_math()] == []
        assert any("$\\frac$" in text.get_text() for text in texts)


@pytest.mark.slow
def test_a_hundred_classes_with_long_names_can_be_drawn(make):
    index = make([f"class number {number} of a hundred, at length" for number in range(100)], counts=(100, 1, 100))
    assert all(content.startswith(b"\x89PNG") for content in bytes_of_all(index))
