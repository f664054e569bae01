"""`softlabel inspect`: the tables tell what h5py and NumPy tell; the picture shows what the teacher saw."""

import hashlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import h5py
import keras
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import scipy.special
import tensorflow as tf
from click.testing import CliRunner
from soft_label_files import edit, write_logits

from pipeline.cli.main import main
from pipeline.images.augmentation import Erasing, Mixing, Operations
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import SPLITS, Image, Index, write_index
from pipeline.images.views import Augmentation, Views
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.soft_labels.writing import soften_file

SIDE = 168  # a teacher of 12 x 12 pixels is shown 14 times larger; images of that size are not resized at all
COUNTS = {"train": 7, "val": 3, "test": 4}
VIEWS = Views(3, 5, Augmentation(horizontal_flip=True, vertical_flip=True, brightness=0.25))
INDEX = Path("data/index.csv")
LOGITS, TARGETS = "data/soft_labels/teacher_logits.h5", "data/soft_labels/soft_targets_T3.h5"
CLASS_NAMES = ["HP", "SSA", "très plat"]
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TOP2 = TopK(2, "float16")
of_each_format = pytest.mark.parametrize("file", [LOGITS, TARGETS])


def pixels_of(number):
    """Noise that is the same nowhere, so that no flip leaves it as it is; few values that brightness cuts."""
    return np.random.default_rng(number).integers(20, 236, (SIDE, SIDE, 3), dtype=np.uint8)


@cache
def png_of(number):
    return tf.io.encode_png(pixels_of(number)).numpy()


def image(name, row, classes):
    image_id = f"{name}_{row}.png"
    path = Path("data/split") / name / image_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_of(100 * SPLITS.index(name) + row))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Image(image_id, path.as_posix(), classes[row % len(classes)], name, "", sha256)


def logits_of(views, count, classes):
    return np.random.default_rng(count).normal(0, 2, (views, count, classes)).astype(np.float32)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a project of images, an index and both files; returns its index."""

    def project(*, channels=3, classes=CLASS_NAMES, **options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        index = Index(image(name, row, classes) for name in SPLITS for row in range(COUNTS[name]))
        write_index(INDEX, index)
        resize = {"method": "bilinear", "antialias": True, "fit": "stretch"}
        shown = {"input_shape": [12, 12, channels], "decoder": "Pillow", "resize": resize}
        options = {"views": VIEWS, "logits": logits_of, "stored_as": Dense("float32")} | options
        write_logits(Path(LOGITS), index=index, preprocessing=shown, **options)
        soften_file(Path(LOGITS), Path(TARGETS), 3.0)
        return index

    return project


def inspect(*arguments):
    shown = CliRunner().invoke(main, ["inspect", *arguments])
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def refused(*arguments):
    told = CliRunner().invoke(main, ["inspect", *arguments])
    assert (told.exit_code, type(told.exception)) == (1, SystemExit), told.exception
    first, *others = told.stderr.splitlines(keepends=True)
    assert first == "inspect: starting\n"
    return "".join(others[1:] if others[0].startswith("TensorFlow ") else others)


def tables(text):
    """The rows of each table by its head's first word, split where two blanks or more stand between cells."""
    found = {}
    for block in text.split("\n\n"):
        head, *rows = [re.split(r" {2,}", line.strip()) for line in block.splitlines()]
        found[head[0]] = rows[1:]
    return found


def probabilities(name, split, temperature):
    """(V * N, C) soft labels of a dense file, and the label of each, by SciPy."""
    with h5py.File(name) as file:
        if "logits" in file[split]:
            soft = scipy.special.softmax(file[split]["logits"][...].astype(np.float64) / temperature, axis=-1)
            labels = file[split]["label"][:]
        else:
            soft, labels = file[split]["soft"][...], file[split]["hard"][...].argmax(1)
    return soft.reshape(-1, soft.shape[-1]), np.tile(labels, len(soft))


# ---- tables


@of_each_format
@pytest.mark.parametrize("stored_as", [Dense("float32"), Dense("float16"), TOP2], ids=["float32", "float16", "topk"])
def test_datasets_are_listed_with_shape_dtype_and_bytes(make, stored_as, file):
    make(stored_as=stored_as)
    listed = {row[0]: row[1:] for row in tables(inspect(file))["dataset"]}
    with h5py.File(file) as content:
        for split in SPLITS:
            for dataset in content[split].values():
                shape, dtype, size = listed.pop(dataset.name[1:])
                assert shape == " x ".join(map(str, dataset.shape))
                assert dtype in (str(dataset.dtype), f"text of {dataset.dtype.itemsize}")
                assert int(size.replace(",", "")) == dataset.nbytes
    assert set(listed) <= {"class_names"}


def test_the_provenance_shown_is_the_one_in_the_file(make):
    index = make(batch_size=48, teacher="resnet50v2", teacher_sha256="0123456789ab" + "c" * 52)
    made = dict(tables(inspect(LOGITS))["made from"])
    digest = hashlib.sha256(Path(LOGITS).read_bytes()[:-128]).hexdigest()
    assert made == {
        "sha256": digest,
        "classes": "HP, SSA, très plat",
        "teacher": "resnet50v2, file 0123456789ab",
        "data set": index.fingerprint()[:12],
        "preprocessing": "decoder Pillow, input_shape [12, 12, 3], antialias True, fit stretch, method bilinear",
        "batch size": "48",
        "views": "3 of each training image, seed 5: brightness 0.25, horizontal_flip, vertical_flip",
        "storage": "kind dense, dtype float32",
    }
    of_targets = dict(tables(inspect(TARGETS))["made from"])
    assert of_targets.pop("sha256") == hashlib.sha256(Path(TARGETS).read_bytes()[:-128]).hexdigest()
    assert of_targets == {key: made[key] for key in made if key != "sha256"} | {"temperature": "3", "logits": digest}


def test_the_head_names_file_format_and_size(make):
    make()
    for file, name in ((LOGITS, "teacher-logits"), (TARGETS, "soft-targets")):
        size = Path(file).stat().st_size
        assert inspect(file).splitlines()[0] == f"{file}: {name}, version 2, {size:,} bytes"


def test_views_without_augmentation_are_called_untouched(make):
    make(views=Views(1, 5, Augmentation()))
    assert "1 of each training image, seed 5: untouched" in inspect(LOGITS)


@pytest.mark.parametrize(("file", "temperature"), [(LOGITS, 1.0), (TARGETS, 3.0)])
def test_statistics_by_class_are_those_of_numpy(make, file, temperature):
    """Of all views together; soft targets at their own temperature, logits at 1."""
    index = make()
    text = inspect(file)
    rows = tables(text)["split"]
    assert [row[:2] for row in rows] == [[split, name] for split in SPLITS for name in CLASS_NAMES]
    images = Counter((entry.split, entry.class_name) for entry in index.images)
    for split, name, count, *shown in rows:
        soft, labels = probabilities(file, split, temperature)
        soft = soft[labels == CLASS_NAMES.index(name)]
        right = np.mean(soft.argmax(1) == CLASS_NAMES.index(name))
        expected = right, soft.max(1).mean(), scipy.special.entr(soft).sum(1).mean()
        assert int(count) == images[split, name]
        assert list(map(float, shown)) == pytest.approx(expected, abs=6e-5)
    assert f"Over all views, at temperature {temperature:g}." in text


def test_a_class_without_images_in_a_split_is_left_out(make):
    make(classes=["a", "b", "c", "d"])  # three validation images
    rows = tables(inspect(LOGITS))["split"]
    assert [row[1] for row in rows if row[0] == "val"] == ["a", "b", "c"]


@of_each_format
def test_a_damaged_file_is_refused(make, file):
    make()
    content = bytearray(Path(file).read_bytes())
    content[-500] ^= 4
    Path(file).write_bytes(content)
    for arguments in ([file], [file, "--sample", "test_0.png"]):
        message = refused(*arguments)
        assert message.startswith(f"Error: {file} ")
        assert "damaged: its bytes do not match" in message
        assert "`dvc repro`" in message
    assert not Path("results").exists()


def test_a_missing_file_is_refused(make):
    make()
    assert "no file x.h5. " in refused("x.h5")


def test_labels_of_no_class_are_refused(make):
    make()

    def spoil(file):
        file["test/label"][0] = 3

    edit(Path(LOGITS), spoil)
    assert LOGITS in refused(LOGITS)


@of_each_format
def test_kept_classes_that_there_are_not_are_refused(make, file):
    make(stored_as=TOP2)

    def spoil(content):
        content["train/index"][0, 0, 0] = 3

    edit(Path(file), spoil)
    assert file in refused(file)


# ---- picture


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def bars(figure):
    """(V, temperatures, classes) widths, and the names beside them."""
    charts = [axes for axes in figure.axes if axes.containers]
    widths = [[[bar.get_width() for bar in group] for group in chart.containers] for chart in charts]
    return np.array(widths), [label.get_text() for label in charts[0].get_yticklabels()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def seen_by_numpy(file, split, row, view, pixels):
    """A flip of either axis, then the brightness, as the file's numbers say."""
    with h5py.File(file) as content:
        a, b, x, c, d, y = content[split]["affine"][view, row].tolist()
        color = content[split]["color"][view, row].astype(np.float64) if "color" in content[split] else [0] * 6
    assert (abs(a), b, x, c, abs(d), y) == (1, 0, 0, 0, 1, 0)
    flipped = pixels[:: int(d), :: int(a)].astype(np.float64)
    return np.clip(flipped + 255 * np.array(color[3:]), 0, 255), (a, d)


@pytest.mark.parametrize(
    ("file", "rows", "expected_flips"),
    [(LOGITS, [0, 1, 2], {(1, 1), (-1, 1), (1, -1), (-1, -1)}), (TARGETS, [0], None)],
    ids=["logits", "targets"],
)
def test_shown_views_are_the_pixels_under_stored_transforms(make, drawn, file, rows, expected_flips):
    images = make().split("train")
    flips = set()
    for row, entry in [(row, images[row]) for row in rows]:
        inspect(file, "--sample", entry.id)
        found = pictures(drawn[-1])
        assert len(found) == 3
        for view, picture in enumerate(found):
            expected, flip = seen_by_numpy(file, "train", row, view, pixels_of(row))
            flips.add(flip)
            # rounded to whole values: half a value, and what float32 loses
            np.testing.assert_allclose(picture, expected, rtol=0, atol=0.51)
    assert expected_flips in (flips, None)


MIXED = Augmentation(horizontal_flip=True, erasing=Erasing(0.5), mixup=Mixing(1.0, 0.4), cutmix=Mixing(1.0, 0.3))


def mixed_by_numpy(content, view, row):
    """A view of a training image, its partner's picture alone, and what the columns of the hard label are."""
    centres = (2 * np.arange(SIDE) + 1) / SIDE - 1

    def inside(box):
        left, top, right, bottom = box.astype(np.float64)
        rows, columns = (top <= centres) & (centres < bottom), (left <= centres) & (centres < right)
        return (rows[:, None] & columns)[..., None]

    def alone(number):
        flipped = pixels_of(number)[:, :: int(content["affine"][view, number, 0])].astype(np.float64)
        return np.where(inside(content["erased"][view, number]), 127.5, flipped)

    partner, share, box = (content[name][view, row] for name in ("partner", "lambda", "box"))
    if partner < 0:
        return alone(row), None, {row % 3: "label"}
    own = np.where(inside(box), 0.0, 1.0) if box.any() else np.float64(share)
    told = {row % 3: f"{share:.0%} of the label", int(partner) % 3: f"{1 - share:.0%}"}
    if row % 3 == partner % 3:
        told = {row % 3: "label"}
    return own * alone(row) + (1 - own) * alone(partner), alone(partner), told


def test_a_mixed_view_stands_beside_its_partner(make, drawn):
    make(views=Views(4, 2, MIXED))
    row = 4
    inspect(LOGITS, "--sample", f"train_{row}.png", "--temperature", "1")
    with h5py.File(LOGITS) as file:
        content = {name: values[:] for name, values in file["train"].items()}
    assert len(drawn[-1].axes) == 3 * 4
    for view, (left, middle, right) in enumerate(np.reshape(drawn[-1].axes, (4, 3))):
        seen, partner, told = mixed_by_numpy(content, view, row)
        np.testing.assert_allclose(left.images[0].get_array(), seen, rtol=0, atol=0.51)
        assert left.get_title() == f"view {view}"
        if partner is None:
            assert not middle.images
            assert not middle.axison
        else:
            np.testing.assert_allclose(middle.images[0].get_array(), partner, rtol=0, atol=0.51)
            share = 1 - content["lambda"][view, row]
            assert middle.get_title() == f"{share:.0%} of train_{content['partner'][view, row]}.png"
        names = [f"{name} ({told[number]})" if number in told else name for number, name in enumerate(CLASS_NAMES)]
        assert [label.get_text() for label in right.get_yticklabels()] == names
    assert 0 < (content["partner"][:, row] >= 0).sum() < 4


def test_files_of_mixed_views_show_a_test_image_alone(make, drawn):
    make(views=Views(5, 2, MIXED))
    inspect(LOGITS, "--sample", "test_2.png")
    assert len(drawn[-1].axes) == 2


def test_a_partner_that_changed_is_refused(make):
    images = make(views=Views(5, 2, replace(MIXED, mixup=Mixing(1.0, 0.7)))).split("train")
    for entry in images[1:]:
        Path(entry.path).write_bytes(b"other")
    assert "not those of the index" in refused(LOGITS, "--sample", "train_0.png")


def test_operations_are_shown_in_the_teachers_own_pixels(make, drawn):
    """They are few, and enlarged; Pillow solarizes them, too."""
    make(views=Views(2, 3, Augmentation(operations=Operations(1, {"solarize": 1.0}))))
    inspect(LOGITS, "--sample", "train_2.png")
    resized = DecodedImages(["data/split/train/train_2.png"], (12, 12, 3), keep=False).rows([0])[0].numpy()
    with h5py.File(LOGITS) as content:
        strengths = content["train/strength"][:, 2, 0].astype(np.float64)
    for picture, strength in zip(pictures(drawn[-1]), strengths, strict=True):
        expected = np.array(PIL.ImageOps.solarize(PIL.Image.fromarray(resized), int(np.ceil(256 * (1 - strength)))))
        np.testing.assert_array_equal(picture, expected.repeat(14, axis=0).repeat(14, axis=1))


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_images_are_shown_once_and_untouched(make, drawn, split):
    make()
    inspect(LOGITS, "--sample", f"{split}_2.png")
    (picture,) = pictures(drawn[-1])
    np.testing.assert_array_equal(picture, pixels_of(100 * SPLITS.index(split) + 2))


def test_a_grey_teachers_views_are_grey(make, drawn):
    make(channels=1)
    inspect(LOGITS, "--sample", "train_1.png")
    for view, picture in enumerate(pictures(drawn[-1])):
        assert picture.shape == (SIDE, SIDE)
        grey = np.repeat((pixels_of(1) @ GREY)[..., None], 3, axis=2)
        expected = seen_by_numpy(LOGITS, "train", 1, view, grey)[0][..., 0]
        # rounded twice: before and after the transform
        np.testing.assert_allclose(picture, expected, rtol=0, atol=1.01)


def test_the_bars_of_logits_are_softmax_at_each_temperature(make, drawn):
    make()
    inspect(LOGITS, "--sample", "train_4.png", "--temperature", "0.5", "--temperature", "3")
    widths, names = bars(drawn[-1])
    with h5py.File(LOGITS) as content:
        logits = content["train/logits"][:, 4].astype(np.float64)
    expected = np.stack([scipy.special.softmax(logits / t, axis=-1) for t in (0.5, 3.0)], axis=1)
    np.testing.assert_allclose(widths, expected, rtol=1e-6)
    assert names == ["HP", "SSA (label)", "très plat"]
    assert legend(drawn[-1]) == ["T = 0.5", "T = 3"]


def test_logits_are_shown_at_four_temperatures_unless_told(make, drawn):
    make()
    inspect(LOGITS, "--sample", "test_0.png")
    assert legend(drawn[-1]) == ["T = 1", "T = 2", "T = 4", "T = 8"]


def test_soft_targets_are_shown_at_their_own_temperature(make, drawn):
    make()
    inspect(TARGETS, "--sample", "val_1.png")
    widths, _ = bars(drawn[-1])
    with h5py.File(TARGETS) as content:
        np.testing.assert_array_equal(widths[0, 0], content["val/soft"][0, 1])
    assert legend(drawn[-1]) == ["T = 3"]


@of_each_format
def test_topk_spreads_its_tail_evenly(make, drawn, file):
    make(classes=["a", "b", "c", "d"], stored_as=TOP2)
    inspect(file, "--sample", "test_3.png", "--temperature", "3")
    widths, names = bars(drawn[-1])
    with h5py.File(TARGETS) as content:
        expected = np.full(4, content["test/tail"][0, 3] / 2)
        expected[content["test/index"][0, 3]] = content["test/probability"][0, 3]
    np.testing.assert_allclose(widths[0, 0], expected, rtol=1e-6)
    assert names == ["a", "b", "c", "d (label)"]


def test_with_many_classes_the_ten_most_probable_are_shown(make, drawn):
    classes = [f"class {number:02}" for number in range(14)]

    def logits(views, count, _):
        return np.tile(np.roll(np.arange(14, dtype=np.float32), 5), (views, count, 1))

    make(classes=classes, class_names=tuple(classes), logits=logits)
    inspect(LOGITS, "--sample", "train_5.png")
    # The largest, 13, lies at class 04; the four smallest, 0 to 3, at 05 to 08.
    shown = [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]
    assert bars(drawn[-1])[1] == [classes[number] for number in shown]


def test_of_many_views_eight_are_shown(make, drawn):
    make(views=Views(12, 5, Augmentation(horizontal_flip=True)))
    inspect(LOGITS, "--sample", "train_5.png")
    assert len(pictures(drawn[-1])) == len(bars(drawn[-1])[0]) == 8


def test_the_picture_is_a_png_with_something_on_it(make):
    make()
    assert inspect(LOGITS, "--sample", "train_2.png") == "wrote results/samples/train_2.png\n"
    shown = keras.utils.img_to_array(keras.utils.load_img("results/samples/train_2.png"))
    height, width, _ = shown.shape
    assert width == 900
    assert height > 3 * 150
    for third in np.array_split(shown, 3):
        left, right = third[:, : width // 3], third[:, width // 3 :]
        assert left.std() > 20, "a picture of noise"
        assert len(np.unique(right.reshape(-1, 3), axis=0)) > 3, "bars of several colors"


def test_the_same_sample_gives_the_same_bytes(make):
    make()
    for name in ("a.png", "b/c.png"):
        inspect(LOGITS, "--sample", "train_2.png", "--output", name)
    assert Path("a.png").read_bytes() == Path("b/c.png").read_bytes()
    assert not Path("results").exists()


def test_the_title_names_image_split_and_teacher(make, drawn):
    make(teacher="resnet50v2")
    inspect(LOGITS, "--sample", "val_0.png")
    assert drawn[-1].get_suptitle() == "val_0.png (val) as seen by resnet50v2"


@of_each_format
def test_an_unknown_image_is_refused_with_an_example(make, file):
    make()
    message = refused(file, "--sample", "nobody.png")
    assert message.startswith(f"Error: {file} ")
    assert re.search(r"'nobody\.png'.*data/index\.csv, such as '((train|val|test)_\d\.png)'", message)
    assert not Path("results").exists()


def test_an_image_that_the_index_lacks_is_refused(make):
    index = make()
    INDEX.unlink()
    write_index(INDEX, Index(index.images[:-1]))
    message = refused(LOGITS, "--sample", index.images[-1].id)
    assert all(words in message for words in (f"'{index.images[-1].id}'", LOGITS, "`dvc repro precompute`"))


def test_without_an_index_the_sample_is_refused(make):
    make()
    INDEX.unlink()
    assert "no index at data/index.csv" in refused(LOGITS, "--sample", "train_0.png")


def test_an_image_file_that_is_missing_is_refused(make):
    make()
    Path("data/split/train/train_0.png").unlink()
    assert "data/split/train/train_0.png" in refused(LOGITS, "--sample", "train_0.png")


def test_an_image_file_that_changed_is_refused(make):
    """The soft labels beside it would be of another picture."""
    make()
    Path("data/split/train/train_0.png").write_bytes(Path("data/split/train/train_1.png").read_bytes())
    assert "train_0.png" in refused(LOGITS, "--sample", "train_0.png")


@pytest.mark.parametrize(("file", "stage"), [(LOGITS, "precompute"), (TARGETS, "soften")])
def test_an_image_changed_together_with_the_index_is_refused(make, file, stage):
    index = make()
    changed = Path("data/split/train/train_0.png")
    changed.write_bytes(Path("data/split/train/train_1.png").read_bytes())
    sha256 = hashlib.sha256(changed.read_bytes()).hexdigest()
    INDEX.unlink()
    of_others = [entry for entry in index.images if entry.id != changed.name]
    (of_it,) = [entry for entry in index.images if entry.id == changed.name]
    write_index(INDEX, Index([*of_others, of_it._replace(sha256=sha256)]))
    message = refused(file, "--sample", changed.name)
    assert all(words in message for words in ("'train_0.png'", file, f"`dvc repro {stage}`"))


def test_names_are_drawn_as_they_are_written_and_no_formulas(make, drawn):
    make(classes=["HP", "a $\\frac$ b"])
    inspect(LOGITS, "--sample", "test_0.png")
    assert bars(drawn[-1])[1] == ["HP (label)", "a $\\frac$ b"]


def wrong_use(*arguments):
    told = CliRunner().invoke(main, ["inspect", LOGITS, "--sample", "test_0.png", *arguments])
    assert told.exit_code == 2, told.output
    return told.stderr


@pytest.mark.parametrize("temperature", ["0", "-1", "nan", "inf", "warm", "1e-300", "1e300"])
def test_a_temperature_that_is_none_is_refused(make, temperature):
    make()
    assert re.search(f"'--temperature': .*{temperature}", wrong_use("--temperature", temperature))


def test_soft_targets_are_drawn_at_no_other_temperature(make):
    make()
    message = refused(TARGETS, "--sample", "val_1.png", "--temperature", "3", "--temperature", "5")
    assert all(words in message for words in (TARGETS, "temperature 3", "at 3, 5", LOGITS.rpartition("/")[2]))
    assert not Path("results").exists()


@pytest.mark.parametrize("output", ["data", "data/split", ".", "a.png"])
def test_a_folder_is_no_place_for_the_picture(make, output):
    """`--output data` once removed everything in data/."""
    make()
    Path("a.png").mkdir()
    before = sorted(Path().rglob("*"))
    assert f"'{output}' is a directory" in wrong_use("--output", output)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("output", ["o.jpg", "o", LOGITS])
def test_the_picture_takes_no_name_of_another_format(make, output):
    make()
    before = Path(LOGITS).read_bytes()
    message = wrong_use("--output", output)
    assert f"'{output}'" in message
    assert ".png" in message
    assert Path(LOGITS).read_bytes() == before
    assert output == LOGITS or not Path(output).exists()
