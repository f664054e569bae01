"""`softlabel render-views`: pictures, transforms, the folder, and the programs of docs/guide.md that use them."""

import csv
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner
from real_project import ROOT, change
from sklearn.naive_bayes import GaussianNB

from pipeline.cli import arguments
from pipeline.cli.main import main
from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import SPLITS, Image, Index, write_index
from pipeline.images.resize import DEFAULT_RESIZE, rendering_of
from pipeline.images.transforms import Transforms
from pipeline.images.views import Views
from pipeline.inference.forward import Forward
from pipeline.models.logit_tables import read_logit_table
from pipeline.params.reading import read_params
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError
from pipeline.tools import render_views
from pipeline.tools.chosen_views import Rendering, chosen
from pipeline.tools.render_views import refuse_taken, write_pictures, write_transforms

FOLDER = Path("views")
NAMES = {"train": ["a/b c.png", '=1+1,"x".png', "ü" * 120, "図\n2.png"], "val": ["..", "v.png"], "test": ["t.png"]}
CLASS_NAMES = ["zebra", "très, plat"]
SIZE = (20, 16, 3)
VIEWS = Views(3, 5, Augmentation(horizontal_flip=True, rotation=0.1, translation=0.1, brightness=0.25, contrast=0.2))
MIXED = Views(
    4,
    5,
    Augmentation(
        horizontal_flip=True,
        vertical_flip=True,
        erasing=Erasing(0.5),
        mixup=Mixing(1.0, 0.5),
        cutmix=Mixing(1.0, 0.4),
    ),
)
EVERYTHING = replace(
    MIXED, augmentation=replace(MIXED.augmentation, rotation=0.1, contrast=0.2, operations=Operations(2, magnitude=8))
)
RENDERING = Rendering(SIZE, DEFAULT_RESIZE, VIEWS)
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guide.md").read_text(encoding="utf-8"), re.DOTALL)


def block_with(word):
    (block,) = [block for block in BLOCKS if word in block]
    return block


def image(split, number, image_id, size=SIZE):
    pixels = np.random.default_rng([SPLITS.index(split), number]).integers(0, 256, size, dtype=np.uint8)
    path = Path("data/split", split, f"{number}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Image(image_id, path.as_posix(), CLASS_NAMES[number % 2], split, "", digest)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data set of seven images whose ids no file system takes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    rows = [image(split, number, name) for split in SPLITS for number, name in enumerate(NAMES[split])]
    return Index(rows, CLASS_NAMES)


def table():
    with (FOLDER / "views.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picture(row):
    return np.array(PIL.Image.open(FOLDER / row["file"]))


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("channels", "training"), [(1, VIEWS), (3, VIEWS), (3, EVERYTHING)])
def test_the_pictures_are_what_a_teacher_sees_rounded(data, channels, training):
    """A teacher that answers with its pixels tells what `precompute` shows it."""
    shape = (10, 12, channels)
    write_pictures(FOLDER, data, data.images, replace(RENDERING, input_shape=shape, views=training))
    pixels = keras.Input(shape)
    forward = Forward(keras.Model(pixels, keras.layers.Flatten()(pixels)), 4)
    for split in SPLITS:
        images, views = data.split(split), training.of_split(split)
        ids = [entry.id for entry in images]
        rows, numbers = (np.repeat(np.arange(len(ids)), views.count), np.tile(np.arange(views.count), len(ids)))
        transforms = Transforms.joined([views.sample(ids, view)[None] for view in range(views.count)])
        decoded = DecodedImages([entry.path for entry in images], shape, keep=False)
        seen = np.concatenate([*forward.of_views(decoded, numbers, rows, transforms, views.augmentation)])
        shown = {(row["id"], int(row["view"])): picture(row) for row in table()}
        for row, number, values in zip(rows, numbers, seen, strict=True):
            expected = np.round(values.reshape(shape if channels == 3 else shape[:2]))
            np.testing.assert_array_equal(shown.pop((ids[row], number)), expected)
        assert not [image_id for image_id, _ in shown if image_id in ids]


def test_untouched_pictures_have_the_pixels_of_their_files(data):
    """At their own size; training images are flipped as the stored transform says: a is -1 or 1."""
    flips = Views(2, 7, Augmentation(horizontal_flip=True))
    write_pictures(FOLDER, data, data.images, replace(RENDERING, views=flips))
    by_id, mirrored = {entry.id: entry for entry in data.images}, 0
    for row in table():
        pixels = np.array(PIL.Image.open(by_id[row["id"]].path))
        if row["split"] == "train":
            ((a, *_),) = flips.sample([row["id"]], int(row["view"])).affine
            pixels, mirrored = pixels[:, :: int(a)], mirrored + (a == -1)
        np.testing.assert_array_equal(picture(row), pixels)
    assert 0 < mirrored < 8


def test_the_table_names_every_view_and_every_file_once(data):
    assert write_pictures(FOLDER, data, data.images, RENDERING) == 4 * 3 + 2 + 1
    expected = [
        (entry.id, str(view), entry.split)
        for entry in data.images
        for view in range(3 if entry.split == "train" else 1)
    ]
    assert [(row["id"], row["view"], row["split"]) for row in table()] == expected
    assert [*table()[0]] == ["id", "view", "split", "file"]
    named = sorted(row["file"] for row in table())
    assert files_in(FOLDER) == sorted([*named, "views.csv", "views.json"])
    assert len(set(named)) == 15
    assert all(re.fullmatch(r"pictures/view_[0-2]/[0-6]\.png", name) for name in named)
    about = json.loads((FOLDER / "views.json").read_text(encoding="utf-8"))
    assert about == {"class_names": CLASS_NAMES, "rendering": rendering_of(SIZE, DEFAULT_RESIZE, VIEWS)}


def test_more_images_than_a_batch_keep_their_pictures(data):
    many = Index([image("test", number, f"{number:03}", (4, 4, 3)) for number in range(101)], CLASS_NAMES)
    write_pictures(FOLDER, many, many.images, replace(RENDERING, input_shape=(4, 4, 3)))
    for entry, row in zip(many.images, table(), strict=True):
        np.testing.assert_array_equal(picture(row), np.array(PIL.Image.open(entry.path)))
    assert table()[7]["file"] == "pictures/view_0/007.png"


def test_transforms_are_those_of_the_views_in_the_tables_order(data):
    assert write_transforms(FOLDER, data, data.images, RENDERING) == 15
    with np.load(FOLDER / "transforms.npz", allow_pickle=False) as file:
        stored = dict(file)
    path = {entry.id: entry.path for entry in data.images}
    assert [row["file"] for row in table()] == [path[row["id"]] for row in table()]
    assert stored["ids"].tolist() == [row["id"] for row in table()]
    assert stored["views"].tolist() == [int(row["view"]) for row in table()]
    for number, row in enumerate(table()):
        sampled = VIEWS.of_split(row["split"]).sample([row["id"]], int(row["view"]))
        np.testing.assert_array_equal(stored["affine"][number], sampled.affine[0], strict=True)
        np.testing.assert_array_equal(stored["color"][number], sampled.color[0], strict=True)
    assert files_in(FOLDER) == ["transforms.npz", "views.csv", "views.json"]


def mixed_by_numpy(stored, row):
    """One view from the arrays of transforms.npz, as docs/format.md says: flips, a grey box, the partner."""

    def inside(box):
        left, top, right, bottom = box.astype(np.float64)
        y, x = (((2 * np.arange(n) + 1) / n - 1) for n in SIZE[:2])
        return ((top <= y) & (y < bottom))[:, None, None] & ((left <= x) & (x < right))[None, :, None]

    def alone(number):
        a, _, _, _, d, _ = stored["affine"][number].astype(int)
        pixels = np.array(PIL.Image.open(stored["files"][number]), np.float64)[::d, ::a]
        return np.where(inside(stored["erased"][number]), 127.5, pixels)

    if stored["partner"][row] < 0:
        return alone(row)
    share, box = float(stored["lambda"][row]), stored["box"][row]
    partner = alone(stored["partner"][row])
    return np.where(inside(box), partner, alone(row)) if box.any() else share * alone(row) + (1 - share) * partner


@pytest.mark.parametrize("some", [None, [0, 2, 4, 6]], ids=["all", "some"])
def test_the_transforms_of_mixed_views_are_enough_to_make_them(data, some):
    """Also where partners are not among the chosen images."""
    images = [data.images[number] for number in some or range(7)]
    rendering = replace(RENDERING, views=MIXED)
    total = write_transforms(FOLDER, data, images, rendering)
    with np.load(FOLDER / "transforms.npz", allow_pickle=False) as file:
        stored = dict(file)
    assert write_pictures(FOLDER, data, images, rendering) == len(table()) == total
    for number, row in enumerate(table()):
        assert (stored["ids"][number], stored["views"][number]) == (row["id"], int(row["view"]))
        np.testing.assert_allclose(picture(row), mixed_by_numpy(stored, number), rtol=0, atol=0.51)
    partners = stored["partner"][:total]
    assert set(stored["views"][partners[partners >= 0]] - stored["views"][:total][partners >= 0]) == {0}
    behind = stored["ids"][total:].tolist()
    assert bool(behind) == bool(some)
    assert set(behind) <= set(NAMES["train"]) - {entry.id for entry in images}
    assert len(stored["ids"]) == len(set(zip(stored["ids"], stored["views"], strict=True)))
    by_box = stored["box"][:total].any(axis=1)
    assert 0 < by_box.sum() < (partners >= 0).sum() < len(partners)


def test_a_view_has_the_same_partner_whatever_is_chosen(data):
    rendering = replace(RENDERING, views=MIXED)
    write_pictures(FOLDER, data, data.images, rendering)
    all_of_them = {(row["id"], row["view"]): picture(row) for row in table()}
    write_pictures(FOLDER, data, data.split("train")[2:3], rendering)
    assert len(table()) == 4
    for row in table():
        np.testing.assert_array_equal(picture(row), all_of_them[row["id"], row["view"]])


def test_images_without_a_label_are_mixed_among_themselves(data):
    without = [image("train", 4 + number, f"u{number}")._replace(class_name="") for number in range(3)]
    data = Index([*data.images, *without], CLASS_NAMES)
    write_transforms(FOLDER, data, data.images, replace(RENDERING, views=MIXED))
    with np.load(FOLDER / "transforms.npz") as file:
        ids, partners = file["ids"], file["partner"]
    mixed = partners >= 0
    is_without = np.char.startswith(ids, "u") & (np.char.str_len(ids) == 2)
    assert 3 < is_without[mixed].sum() < mixed.sum() - 3
    np.testing.assert_array_equal(is_without[partners[mixed]], is_without[mixed])


def test_a_changed_partner_is_refused(data):
    """Of the images that are mixed in, too, the files are those of the index."""
    first, *others = data.split("train")
    for entry in others:
        Path(entry.path).write_bytes(b"other")
    for write in (write_pictures, write_transforms):
        with pytest.raises(MismatchError, match="not those of the index"):
            write(FOLDER, data, [first], replace(RENDERING, views=MIXED))
    write_transforms(FOLDER, data, [first], RENDERING)


def test_images_are_chosen_by_split_or_by_id(data):
    assert [entry.id for entry in chosen(data, ["val", "test"], None)] == ["..", "t.png", "v.png"]
    Path("ids.txt").write_text("\ufefft.png\r\na/b c.png\n\nt.png\n" + "u\u0308" * 120, encoding="utf-8")
    assert [entry.id for entry in chosen(data, SPLITS, Path("ids.txt"))] == ["a/b c.png", "t.png", "ü" * 120]


@pytest.mark.parametrize(
    ("content", "expected", "error"),
    [
        (None, "there is no file ids.txt", MissingError),
        (b"\n\n", "ids.txt names no image", UnusableError),
        (b"t.png\n\xff", "ids.txt cannot be read as text in UTF-8", DamagedError),
        (
            b"T.png\nt.png\nz",
            "ids.txt names 2 image(s) that the index has not: 'T.png', 'z'. Did you mean 't",
            MismatchError,
        ),
    ],
    ids=["missing", "empty", "latin", "unknown"],
)
def test_a_wrong_list_of_ids_is_refused(data, content, expected, error):
    if content is not None:
        Path("ids.txt").write_bytes(content)
    with pytest.raises(error, match=re.escape(expected)):
        chosen(data, SPLITS, Path("ids.txt"))


@pytest.mark.parametrize("write", [write_pictures, write_transforms])
def test_a_changed_image_is_refused_and_nothing_is_written(data, write):
    Path(data.images[0].path).write_bytes(b"other")
    with pytest.raises(MismatchError, match="not those of the index"):
        write(FOLDER, data, data.images, RENDERING)
    assert not FOLDER.exists()


def test_a_folder_with_files_of_others_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_taken(FOLDER, replace=False)
    FOLDER.mkdir()
    refuse_taken(FOLDER, replace=False)
    (FOLDER / "views.csv").touch()
    with pytest.raises(MismatchError, match=r"views holds views already\. Replace them with --force"):
        refuse_taken(FOLDER, replace=False)
    refuse_taken(FOLDER, replace=True)
    (FOLDER / "logits.npz").touch()
    for folder in (FOLDER, Path(), Path("..")):
        with pytest.raises(MismatchError, match="holds files of others: '"):
            refuse_taken(folder, replace=True)
    with pytest.raises(MismatchError, match=r"views.csv is a file; expected a new folder"):
        refuse_taken(FOLDER / "views.csv", replace=True)


def test_new_views_replace_all_of_the_old_ones(data):
    write_pictures(FOLDER, data, data.images, RENDERING)
    write_transforms(FOLDER, data, data.split("test"), RENDERING)
    assert files_in(FOLDER) == ["transforms.npz", "views.csv", "views.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("older", [False, True])
def test_an_interruption_leaves_the_folder_as_it_was(data, monkeypatch, error, older):
    if older:
        write_transforms(FOLDER, data, data.images, RENDERING)
    before = files_in(Path())

    def stop(path, _):
        if path.name == "3.png":
            raise error

    monkeypatch.setattr(render_views, "_save", stop)
    with pytest.raises(error):
        write_pictures(FOLDER, data, data.images, RENDERING)
    assert [file for file in files_in(Path()) if not file.startswith(".work/")] == [
        file for file in before if not file.startswith(".work/")
    ]


# The command


@pytest.fixture
def project(data):
    """The data set with an index and params.yaml, whose teacher has another size than the student."""
    write_index(Path("data/index.csv"), data)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    change(Path("params.yaml"), "views", VIEWS.as_json())
    change(Path("params.yaml"), "train_teacher.model.input_shape", [14, 15, 3])
    return data


def said(*words, code=0):
    result = CliRunner().invoke(main, ["render-views", *words])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_the_command_writes_pictures_of_the_teachers_size(project):
    out = said("views", "--split", "train")
    assert out == "wrote 12 views of 4 images to views: pictures of 14 x 15 x 3, and views.csv names each\n"
    assert {row["split"] for row in table()} == {"train"}
    assert picture(table()[0]).shape == (14, 15, 3)
    assert "Replace them with --force" in said("views", code=1)
    Path("ids.txt").write_text("t.png\nv.png\n")
    said("views", "--force", "--ids", "ids.txt", "--size", "9", "8", "1")
    assert [(row["id"], picture(row).shape) for row in table()] == [("t.png", (9, 8)), ("v.png", (9, 8))]
    assert json.loads(json.loads((FOLDER / "views.json").read_text())["rendering"])["input_shape"] == [9, 8, 1]
    assert said("views", "--force", "--transforms").startswith("wrote 15 views of 7 images to views: transforms, and")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ids", "x", "--split", "val"], "Give one of them."),
        (["--size", "9", "8", "2"], "'2' is not one of '1', '3'"),
        (["--size", "0", "8", "3"], "0 is not in the range"),
        (["--split", "valid"], "'valid' is not one of"),
    ],
    ids=lambda words: words[1],
)
def test_wrong_options_are_told(project, words, expected):
    assert expected in said("views", *words, code=2)
    assert not FOLDER.exists()


def test_the_size_is_that_of_the_one_teacher_or_the_student(project):
    def size(teacher):
        change(Path("params.yaml"), "train_teacher", teacher)
        return arguments.size_of_views(read_params())

    trained = {"model": {"architecture": "mlp", "input_shape": [9, 8, 1]}, "phases": PHASES}
    other = {"model": {"architecture": "mlp", "input_shape": [7, 7, 1]}, "phases": PHASES}
    given = {"model": "teacher.keras"}
    weights = {"model": "t.weights.h5", "weights_of": {"architecture": "mlp", "input_shape": [6, 5, 1]}}
    assert [*map(size, [trained, [trained, trained], weights])] == [(9, 8, 1), (9, 8, 1), (6, 5, 1)]
    assert [*map(size, [given, [trained, other], [trained, given]])] == [(28, 28, 1)] * 3


PHASES = [{"epochs": 1, "optimizer": "adam", "learning_rate": 0.1, "trainable_from": "all"}]


# The programs of the guide


def test_the_pytorch_script_is_at_most_thirty_lines():
    assert len(block_with("torch.load").splitlines()) <= 30


def test_scikit_learns_probabilities_come_back_as_logits(project):
    said("views")
    first, _, rest = block_with("torch.load").partition("device = ")
    assert rest
    rows = {"np": np, "Image": PIL.Image}
    exec(compile(first.replace("import torch\n", ""), "guide", "exec"), rows)  # noqa: S102
    pixels = np.stack([picture(row).ravel() for row in table()])
    labels = np.array(["zebra", "très, plat"])[np.arange(len(pixels)) % 2]
    rows["classifier"] = GaussianNB(var_smoothing=1e3).fit(pixels, labels)
    exec(compile(block_with("classifier"), "guide", "exec"), rows)  # noqa: S102
    read = read_logit_table(Path("logits.npz"))
    assert [*zip(read.ids, read.views.tolist(), strict=True)] == [(row["id"], int(row["view"])) for row in table()]
    assert (read.class_names, read.kind) == (["très, plat", "zebra"], "probabilities")
    assert read.rendering == rendering_of((14, 15, 3), DEFAULT_RESIZE, VIEWS)
    np.testing.assert_allclose(np.exp(read.logits), rows["classifier"].predict_proba(pixels), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_pytorchs_logits_come_back_as_they_were(project):
    """A network whose weights are known: its logits are also computed by NumPy, in float64."""
    said("views", "--size", "6", "5", "3")
    numbers = np.random.default_rng(2)
    weights = {"first": numbers.normal(size=(7, 90)), "second": numbers.normal(size=(2, 7))}
    np.savez("weights.npz", **weights)
    run_by_torch(MAKE_MODEL, block_with("torch.load"))
    pixels = np.stack([picture(row).transpose(2, 0, 1).ravel() for row in table()]) / 255
    expected = np.maximum(pixels @ weights["first"].T, 0) @ weights["second"].T
    read = read_logit_table(Path("logits.npz"))
    assert [*zip(read.ids, read.views.tolist(), strict=True)] == [(row["id"], int(row["view"])) for row in table()]
    assert (read.class_names, read.kind) == (CLASS_NAMES, "logits")
    assert read.rendering == rendering_of((6, 5, 3), DEFAULT_RESIZE, VIEWS)
    np.testing.assert_allclose(read.logits, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 1


MAKE_MODEL = """
import numpy as np, torch
model = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(90, 7, bias=False), torch.nn.ReLU(), torch.nn.Linear(7, 2, bias=False)
)
with np.load("weights.npz") as file:
    for layer, name in ((model[1], "first"), (model[3], "second")):
        layer.weight.data = torch.from_numpy(file[name]).float()
torch.save(model, "model.pt")
"""


def run_by_torch(*blocks):
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True, capture_output=True, text=True)
