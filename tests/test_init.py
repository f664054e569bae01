"""`softlabel init`: the layout that it finds, the params.yaml that it writes, and what it asks for or refuses."""

import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from layouts import FOLDER, INDEX, png, write_files, write_params
from onnx_graphs import classifier, write
from PIL import Image
from real_project import ROOT
from ruamel.yaml import YAML
from shard_files import as_structs, write_parquet, write_tar

from pipeline.cli import arguments
from pipeline.cli.main import main
from pipeline.params.listing import as_text
from pipeline.params.reading import checked, read_params
from pipeline.runtime.errors import MissingError, UnusableError
from pipeline.stages import split
from pipeline.tools import first_params
from pipeline.tools.first_params import Pictures, about_weights, sections
from pipeline.tools.layout_detection import detect
from pipeline.tools.table_detection import Columns

PARAMS = Path("params.yaml")
RAW = Path("raw")


@pytest.fixture(autouse=True)
def _in_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("pipeline.inference.forward_speed.ROUND_SECONDS", 0.0)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)


def images(*names, side=12):
    return {f"raw/{name}": png(number, side) for number, name in enumerate(names)}


def table(name, *rows):
    write_files({f"raw/{name}": "\n".join(rows).encode()})


def numbered(count, form="images/{}.png"):
    return [form.format(number) for number in range(count)]


def mhist():
    write_files(images(*numbered(30)))
    header = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    rows = (f"{n}.png,{['HP', 'SSA'][n % 2]},{n % 8},{'test' if n % 5 == 4 else 'train'}" for n in range(30))
    table("annotations.csv", header, *rows)


def csv():
    write_files(images(*numbered(30, "pictures/{}.png")))
    table("list.csv", "file;dx;patient", *(f"{n};{['a', 'b', 'c'][n % 3]};p{n // 2}" for n in range(30)))


def one_hot():
    write_files(images(*numbered(30)))
    table("labels.tsv", "name\tMEL\tNV", *(f"{n}.png\t{n % 2}.0\t{1 - n % 2}.0" for n in range(30)))


def with_lists():
    write_files(images(*numbered(30)))
    table("all.csv", "name,label", *(f"{n}.png,{n % 2}" for n in range(30)))
    table("valid_ids.csv", "name", "1.png", "2.png")
    table("test_ids.csv", "name", "3.png", "4.png")
    write_files({"raw/names.json": json.dumps({"0": "no", "1": "yes"}).encode()})


def class_folders():
    write_files(images(*(f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(15))))
    write_files({"raw/README.txt": b"Pictures of cats and dogs.\nThey are ours."})


def split_folders():
    names = [
        f"{part}/{kind}/{n}.png" for part in ("train", "valid", "test") for kind in ("cat", "dog") for n in range(5)
    ]
    write_files(images(*names))


def repeated_folders():
    """As in the archive of the Intel images."""
    names = [f"seg_{part}/seg_{part}/{kind}/{n}.png" for part in ("train", "test") for kind in "ab" for n in range(9)]
    write_files(images(*names))


def arrays():
    RAW.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)
    np.savez(RAW / "data.npz", x_train=pixels, y_train=np.arange(30) % 3)


def tar_files():
    for shard in range(3):
        members = {}
        for n in range(10 * shard, 10 * shard + 10):
            about = {"caption": [n], "diagnosis": n % 2, "Patient_ID": n // 2}
            members |= {f"{n}.png": png(n, 12), f"{n}.json": json.dumps(about).encode()}
        write_tar(f"raw/shard-{shard:03}.tar", members)


def parquet_files():
    for part, count in (("train", 20), ("validation", 4), ("test", 6)):
        pictures = as_structs([png(n, 12) for n in range(count)])
        labels = [n % 2 for n in range(count)]
        columns = {"img": pictures, "Labels": labels}
        write_parquet(f"raw/data/{part}-00000-of-00001.parquet", columns, {"Labels": ["no", "yes"]})
    write_files({"raw/README.md": b"A data set of the Hub."})


DRAWN = {"val_fraction": 0.15, "test_fraction": 0.2}
EXPECTED = {
    mhist: {"layout": "mhist", "data": "raw", "annotations": "annotations.csv", "images": "images",
            "val_fraction": 0.15},
    csv: {"layout": "csv", "annotations": "list.csv", "images": "pictures", "image_column": "file",
          "label_column": "dx", "group_column": "patient", **DRAWN},
    one_hot: {"layout": "csv", "label_column": None, "label_columns": ["MEL", "NV"], **DRAWN},
    with_lists: {"layout": "csv", "validation_ids": "valid_ids.csv", "test_ids": "test_ids.csv", "val_fraction": None,
                 "test_fraction": None, "class_names": "names.json"},
    class_folders: {"layout": "folders", "train": ".", "val": None, "test": None, **DRAWN},
    split_folders: {"layout": "folders", "train": "train", "val": "valid", "test": "test", "val_fraction": None},
    repeated_folders: {"layout": "folders", "train": "seg_train/seg_train", "test": "seg_test/seg_test",
                       "val_fraction": 0.15, "test_fraction": None},
    arrays: {"layout": "arrays", "data": "raw/data.npz", **DRAWN},
    tar_files: {"layout": "webdataset", "train": ["shard-*.tar"], "label_column": "json:diagnosis",
                "group_column": "json:Patient_ID", **DRAWN},
    parquet_files: {"layout": "parquet", "train": ["data/train-*-of-*.parquet"],
                    "val": ["data/validation-*-of-*.parquet"], "test": ["data/test-*-of-*.parquet"],
                    "image_column": "img", "label_column": "Labels", "val_fraction": None},
}  # fmt: skip


@pytest.mark.parametrize("write", EXPECTED, ids=lambda write: write.__name__)
def test_each_layout_is_found_and_split_takes_it(write):
    write()
    section = detect(RAW).section
    assert {key: section[key] for key in EXPECTED[write]} == EXPECTED[write]
    write_params(section)
    split.run(**arguments.data_set(read_params().split), split_folder=FOLDER, index=INDEX)
    assert len(INDEX.read_text(encoding="utf-8").splitlines()) == 31 if write is not repeated_folders else 37


def test_shards_without_a_known_label_ask_for_its_name():
    write_tar("raw/a.tar", {"1.png": png(1), "1.kind": b"a", "2.png": png(2), "2.kind": b"b"})
    with pytest.raises(
        UnusableError, match=r"raw/a\.tar has no label .* it has 'png', 'kind'\. Name it: --label-column"
    ):
        detect(RAW)
    assert detect(RAW, Columns(label="kind")).section["label_column"] == "kind"


@pytest.mark.slow
def test_one_command_writes_a_commented_file_and_shows_the_plan():
    """An existing file is replaced by --force alone."""
    csv()
    PARAMS.write_text("mine", encoding="utf-8")
    refused = CliRunner().invoke(main, ["init", "raw"])
    assert refused.exit_code == 1
    assert "--force" in refused.output
    assert PARAMS.read_text(encoding="utf-8") == "mine"
    done = CliRunner().invoke(main, ["init", "raw", "--force"])
    assert done.exit_code == 0, done.output
    for words in ("30 images of 3 classes", "12 x 12 pixels", "'dx'", "'patient'", "teacher_logits.h5", "`dvc repro`"):
        assert words in done.stdout
    text = PARAMS.read_text(encoding="utf-8")
    written = YAML(typ="safe").load(text)
    assert "(default)" not in text
    assert written["evaluate"] == {}
    storage = {"kind": "dense", "dtype": "float32"}  # all that dvc.yaml names by itself must be there
    assert written["precompute"] == {"batch_size": 128, "precision": "float32", "storage": storage}
    assert written["export"]["students"] == ["best"]  # dvc.yaml needs it
    assert text.splitlines()[-1] == "# Other keys have their defaults; `softlabel params` lists them all."
    lines = text.splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r" *\w+:", line)]
    assert 40 < len(keys) < 80
    assert [lines[number] for number in keys if not lines[number - 1].strip().startswith("#")] == []
    assert YAML(typ="safe").load(text)["student"]["model"]["input_shape"] == [12, 12, 3]
    assert read_params().split.label_column == "dx"


@pytest.mark.parametrize(
    ("side", "on_gpu", "architecture", "input_shape"),
    [
        (28, True, "cnn", [28, 28, 3]),
        (130, False, "mobilenetv2", [128, 128, 3]),
        (300, True, "mobilenetv2", [224, 224, 3]),
        (300, False, "mobilenetv2", [128, 128, 3]),
        (70, False, "mobilenetv2", [96, 96, 3]),
    ],
)
def test_models_suit_the_images_and_the_machine(side, on_gpu, architecture, input_shape):
    pictures = Pictures(side, side, 3, side, side)
    student = sections(pictures, 500, teacher=None, student=None, on_gpu=on_gpu)["student"]["model"]
    assert (student["architecture"], student["input_shape"]) == (architecture, input_shape)
    assert (student.get("weights") == "imagenet") is (side > 64)


@pytest.mark.parametrize("installed", [True, False])
def test_onnx_is_exported_if_its_extra_is_there(monkeypatch, installed):
    monkeypatch.setattr(first_params.importlib.util, "find_spec", lambda _: object() if installed else None)
    formats = sections(Pictures(40, 40, 3, 40, 40), 500, teacher=None, student=None, on_gpu=False)["export"]["formats"]
    assert ("onnx" in formats, "litert_int8" in formats) == (installed, True)


def test_weights_that_must_be_downloaded_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    content = sections(Pictures(130, 130, 3, 130, 130), 500, teacher="vgg16", student=None, on_gpu=False)
    assert ["vgg16" in note for note in about_weights(content)] == [True, False]
    (tmp_path / "models").mkdir()
    (tmp_path / "models/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    assert ["mobilenetv2" in note for note in about_weights(content)] == [True]


@pytest.mark.parametrize("file", ["teacher.keras", "teacher.onnx", "TEACHER.ONNX"])
def test_stated_models_are_taken(file):
    class_folders()
    chosen = sections(Pictures(12, 12, 3, 12, 12), 500, teacher=file, student="mobilenet", on_gpu=False)
    assert chosen["train_teacher"] == {"model": file}
    assert chosen["student"]["model"]["architecture"] == "mobilenet"
    refused = CliRunner().invoke(main, ["init", "raw", "--teacher", file])
    assert refused.exit_code == 1
    assert file in refused.output
    assert not PARAMS.exists(), "what fails leaves nothing behind"


@pytest.mark.slow
def test_a_teacher_in_onnx_enters_the_plan():
    """The operations of a graph are not known."""
    class_folders()
    write(classifier(shape=(12, 12, 3), kernel=np.zeros((432, 2)), bias=np.array([0.5, -0.5])), "teacher.onnx")
    done = CliRunner().invoke(main, ["init", "raw", "--teacher", "teacher.onnx"])
    assert done.exit_code == 0, done.output
    assert "not known" in done.output
    assert YAML(typ="safe").load(PARAMS)["train_teacher"]["model"] == "teacher.onnx"


def test_an_unknown_architecture_is_refused_and_nothing_written():
    class_folders()
    refused = CliRunner().invoke(main, ["init", "raw", "--student", "mobilnet"])
    assert refused.exit_code == 1
    assert "'mobilenet'" in refused.output
    assert not PARAMS.exists()


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--teacher", "model.pt", "model.pt is a model of PyTorch. As a teacher, export it to ONNX, or"),
        ("--teacher", "model.h5", "keras.saving.load_model('NAME.h5', compile=False)"),
        ("--teacher", "MODEL.KERAS", "Rename it to end in .keras."),
        ("--teacher", "raw", "raw has no ending, and a SavedModel of TensorFlow is refused"),
        ("--student", "model.h5", "keras.saving.load_model('NAME.h5', compile=False)"),
        ("--student", "model.onnx", "only networks of Keras are trained here."),
        ("--student", "logits.csv", "A teacher can be one of logits"),
        ("--student", "votes", "votes are a teacher's answers"),
        ("--teacher", "", "--teacher is empty"),
        ("--student", " ", "--student is empty"),
        ("--label-column", "", "--label-column is empty"),
    ],
)
def test_what_can_be_no_model_is_told(option, name, said):
    class_folders()
    refused = CliRunner().invoke(main, ["init", "raw", option, name])
    assert (refused.exit_code, PARAMS.exists()) == (1, False)
    assert said in " ".join(refused.output.split())
    assert "no architecture" not in refused.output


def without_an_image():
    """A row of the table names no file: the folders beside the table are no classes."""
    write_files(images(*numbered(20, "train/{}.png"), *numbered(20, "test/{}.png")))
    table("train.csv", "name,label", *(f"{n}.png,{n % 2}" for n in range(20)), "lost.png,1")


def without_a_label():
    write_files(images(*numbered(20), *numbered(20, "masks/m{}.png")))
    table("list.csv", "name,label", *(f"{n}.png,{n % 2 if n else ''}" for n in range(20)))


def two_labelled_tables():
    write_files(images(*numbered(30)))
    table("test.csv", "name,label", *(f"{n}.png,{n % 2}" for n in range(20, 30)))
    table("train.csv", "name,label", *(f"{n}.png,{n % 2}" for n in range(20)))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (without_an_image, ["as csv", "lost.png"]),
        (without_a_label, ["as csv", "line"]),
        (two_labelled_tables, ["as csv", "test.csv"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_table_with_a_mistake_is_not_passed_over(write, words):
    write()
    with pytest.raises(UnusableError) as refused:
        detect(RAW)
    assert [word for word in words if word not in str(refused.value)] == []


@pytest.mark.parametrize("form", ["images/{}.png", "./images/{}.png", "images\\{}.png", "{}"])
def test_names_are_known_in_every_form_that_csv_takes(form):
    write_files(images(*numbered(20)))
    table("list.csv", "name,label", *(f"{form.format(n)},{n % 2}" for n in range(20)))
    assert len(detect(RAW).data_set.rows) == 20


def test_a_table_without_a_header_keeps_its_first_row():
    write_files(images(*numbered(20)))
    table("list.csv", *(f"{n}.png,{'ab'[n % 2]}" for n in range(20)))
    detected = detect(RAW)
    assert (detected.section["image_column"], detected.section["label_column"]) == ("1", "2")
    assert len(detected.data_set.rows) == 20


def test_the_patient_is_the_group_before_the_slide():
    write_files(images(*numbered(24)))
    table("list.csv", "name,slide_id,patient_id,label", *(f"{n}.png,s{n},p{n // 3},{n % 2}" for n in range(24)))
    section = detect(RAW).section
    assert (section["group_column"], section["label_column"]) == ("patient_id", "label")


def test_an_age_is_no_label():
    write_files(images(*numbered(45)))
    table("list.csv", "name,age", *(f"{n}.png,{n % 15}" for n in range(45)))
    with pytest.raises(UnusableError, match="--label-column"):
        detect(RAW)


def test_a_column_that_names_splits_is_told():
    write_files(images(*numbered(20)))
    table("list.csv", "name,label,split", *(f"{n}.png,{n % 2},{'train' if n % 3 else 'test'}" for n in range(20)))
    assert any("'split'" in note for note in detect(RAW, Columns(label="label")).notes)


# Images without a label


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled"])
@pytest.mark.parametrize("write", [class_folders, csv, mhist], ids=["folders", "csv", "mhist"])
def test_a_folder_of_images_without_a_label_is_found(write, name):
    write()
    before = detect(RAW)
    write_files({f"raw/{name}/{n}.png": png(100 + n, 12) for n in range(5)})
    detected = detect(RAW)
    assert detected.section == before.section | {"unlabelled": {"use": True, "folder": name}}
    assert len(detected.data_set.rows) == len(before.data_set.rows) + 5
    assert detected.data_set.class_names == before.data_set.class_names
    assert any(note.startswith(name) for note in detected.notes)


@pytest.mark.parametrize("place", ["train/unlabelled", "train/Unlabeled", "test/unlabelled", "UNLABELLED"])
def test_the_folder_is_found_beside_folders_of_classes(place):
    split_folders()
    before = detect(RAW)
    Path("raw/train/unlabeled").mkdir(exist_ok=True)  # an empty one is passed over
    write_files({f"raw/{place}/deep/{n}.png": png(100 + n, 12) for n in range(5)})
    detected = detect(RAW)
    assert detected.section == before.section | {"unlabelled": {"use": True, "folder": place}}
    assert len(detected.data_set.rows) == len(before.data_set.rows) + 5
    assert detected.data_set.class_names == before.data_set.class_names


@pytest.mark.parametrize("write", [class_folders, split_folders, csv], ids=lambda write: write.__name__)
def test_an_empty_folder_is_passed_over(write):
    write()
    before = detect(RAW)
    Path("raw/unlabelled").mkdir()
    assert detect(RAW).section == before.section
    assert detect(RAW).data_set.class_names == before.data_set.class_names


def rows_with(blank, count, label="label"):
    """Sixty rows, of which some have no label."""
    write_files(images(*numbered(60)))
    labels = [blank if n < count else ["x", "y"][n % 2] for n in range(60)]
    if label == "a,b":
        labels = [{"x": "1,0", "y": "0,1"}.get(one, f"{one},{one}") for one in labels]
    table("list.csv", f"name,{label}", *(f"{n}.png,{one}" for n, one in enumerate(labels)))
    return count


def rows_of_mhist():
    write_files(images(*numbered(30)))
    header = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    table("annotations.csv", header, *(f"{n}.png,{'ab'[n % 2] if n > 1 else ''},,train" for n in range(30)))
    return 2


def labels_of_minus_one():
    RAW.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
    np.savez(RAW / "data.npz", x_train=pixels, y_train=np.where(np.arange(60) < 9, -1, np.arange(60) % 2))
    return 9


@pytest.mark.parametrize(
    "write",
    [
        lambda: rows_with("", 3),
        lambda: rows_with("NA", 3),
        lambda: rows_with("NA", 18),
        lambda: rows_with("none", 18, label="a,b"),
        rows_of_mhist,
        labels_of_minus_one,
    ],
    ids=["3 empty", "3 NA", "18 NA", "one-hot", "mhist", "arrays"],
)
def test_rows_without_a_label_are_taken_if_they_are_meant(write):
    """Without the option the refusal names it, and no file that does not exist yet."""
    count = write()
    with pytest.raises(UnusableError) as refused:
        detect(RAW)
    assert "add --unlabelled" in str(refused.value)
    assert "split.unlabelled" not in str(refused.value)
    detected = detect(RAW, unlabelled=True)
    assert detected.section["unlabelled"] == {"use": True, "rows": True}
    assert sum(not row.is_labelled for row in detected.data_set.rows) == count
    assert len(detected.data_set.class_names) == 2
    assert any("--unlabelled" in note for note in detected.notes)


def test_the_word_none_may_be_a_class():
    """A third of the rows say none: that may be a finding, so nobody but the user can tell."""
    rows_with("none", 20)
    with pytest.raises(UnusableError, match="'none' is a class"):
        detect(RAW)


def test_of_folders_the_option_says_what_it_looks_for():
    class_folders()
    assert any("no folder is called unlabelled" in note for note in detect(RAW, unlabelled=True).notes)
    write_files({"raw/unlabelled/1.png": png(100, 12)})
    assert not any("no folder is called" in note for note in detect(RAW, unlabelled=True).notes)


@pytest.mark.parametrize("label", ["label", "a,b"], ids=["a column", "one-hot"])
def test_rows_without_a_label_are_found(label):
    write_files(images(*numbered(30)))
    fields = {"label": ["", "x", "y"], "a,b": [",", "1,0", "0,1"]}[label]
    table("list.csv", f"name,{label}", *(f"{n}.png,{fields[0 if n < 9 else 1 + n % 2]}" for n in range(30)))
    detected = detect(RAW)
    assert detected.section["unlabelled"] == {"use": True, "rows": True}
    assert sum(not row.is_labelled for row in detected.data_set.rows) == 9
    assert any(note.startswith("9 of 30 rows have no label") for note in detected.notes)


def test_mhists_rows_and_a_folder_are_found_together():
    write_files(images(*numbered(30)) | {"raw/unlabelled/1.png": png(100, 12)})
    header = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    labels = ["" if n < 9 else "ab"[n % 2] for n in range(30)]
    table("annotations.csv", header, *(f"{n}.png,{labels[n]},,{'test' if n > 20 else 'train'}" for n in range(30)))
    detected = detect(RAW)
    assert detected.section["layout"] == "mhist"
    assert detected.section["unlabelled"] == {"use": True, "rows": True, "folder": "unlabelled"}
    assert sum(not row.is_labelled for row in detected.data_set.rows) == 10


def test_the_key_is_written_and_read_again():
    test_mhists_rows_and_a_folder_are_found_together()
    chosen = sections(Pictures(12, 12, 3, 12, 12), 500, teacher=None, student=None, on_gpu=False)
    content = {"split": detect(RAW).section, **chosen}
    PARAMS.write_text(as_text(checked(content, PARAMS), content, defaults=False), encoding="utf-8")
    assert YAML(typ="safe").load(PARAMS) == content
    assert read_params(PARAMS).split == checked(content, PARAMS).split
    assert read_params(PARAMS).split.unlabelled.folder == Path("unlabelled")


@pytest.mark.parametrize("teacher", [None, "mlp", "vgg16", "teacher.keras", "votes"])
@pytest.mark.parametrize("write", EXPECTED, ids=lambda write: write.__name__)
def test_the_file_holds_what_was_chosen_and_no_more(write, teacher):
    write()
    chosen = sections(Pictures(40, 40, 3, 40, 40), 500, teacher=teacher, student="network.keras", on_gpu=False)
    content = {"split": detect(RAW).section, **chosen}
    text = as_text(checked(content, PARAMS), content, defaults=False)
    assert YAML(typ="safe").load(text) == content
    assert "(default)" not in text


def test_the_teachers_schedule_suits_the_labelled_images():
    pictures = Pictures(12, 12, 3, 12, 12)
    made = sections(pictures, 20_000, teacher=None, student=None, on_gpu=False, unlabelled=16_000)
    other = sections(pictures, 4_000, teacher=None, student=None, on_gpu=False)
    assert made["train_teacher"] == other["train_teacher"]
    assert made["student"]["phases"][0]["epochs"] < made["train_teacher"]["phases"][0]["epochs"]


@pytest.mark.parametrize(("shape", "channels"), [((12, 16, 3), 3), ((12, 16), 1)], ids=["colour", "grey"])
def test_a_file_of_arrays_may_be_named_itself(shape, channels):
    RAW.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8)
    np.savez(RAW / "data.npz", x_train=pixels, y_train=np.arange(30) % 3)
    detected = detect(RAW / "data.npz")
    assert (detected.section["layout"], detected.section["data"]) == ("arrays", "raw/data.npz")
    assert first_params.look_at(detected.data_set) == Pictures(12, 16, channels, 12, 16)


def test_images_may_lie_beside_their_table():
    write_files(images(*numbered(20, "{}.png")))
    table("list.csv", "name,label", *(f"{n}.png,{n % 2}" for n in range(20)))
    detected = detect(RAW)
    assert (detected.section["layout"], detected.section["images"]) == ("csv", ".")
    assert len(detected.data_set.rows) == 20


def test_what_is_no_table_is_told_where_one_is_needed():
    class_folders()
    write_files({"raw/list.csv": b"\xff\xfe\x00"})
    with pytest.raises(
        UnusableError, match=r"list\.csv is not used: it cannot be read as a table with the column of im"
    ):
        detect(RAW, Columns(label="kind"))


def test_a_stated_column_must_be_there():
    write_files(images(*numbered(20)))
    table("list.csv", "name,label", *(f"{n}.png,{n % 2}" for n in range(20)))
    with pytest.raises(UnusableError, match=r"list\.csv lacks the column 'kind'; it has 'name', 'label'"):
        detect(RAW, Columns(label="kind"))


def test_stated_columns_ask_for_a_table():
    class_folders()
    with pytest.raises(UnusableError, match=r"README\.txt is not used"):
        detect(RAW, Columns(label="kind"))


def test_a_classifier_of_imagenet_must_be_described_by_hand():
    class_folders()
    refused = CliRunner().invoke(main, ["init", "raw", "--teacher", "keras.applications:mobilenet"])
    assert refused.exit_code == 1
    assert "docs/teachers.md" in refused.output
    assert not PARAMS.exists()


def test_a_folder_of_the_project_is_named_relative_to_it():
    class_folders()
    assert detect(RAW.absolute()).section["data"] == "raw"


def test_of_several_possible_columns_it_asks_for_one():
    write_files(images(*numbered(30)))
    table("t.csv", "name,grade,colour", *(f"{n}.png,{'xyz'[n % 3]},{'rg'[n % 2]}" for n in range(30)))
    with pytest.raises(UnusableError, match=r"'grade', 'colour'.*--label-column"):
        detect(RAW)
    assert detect(RAW, Columns(label="grade")).section["label_column"] == "grade"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda: RAW.mkdir(), ["as folders"]),
        (lambda: write_files({"raw/a/1.txt": b"text"}), ["as folders"]),
        (lambda: write_files(images(*numbered(4))), ["folders"]),
        (lambda: write_files({"raw/data.npz": b"no archive"}), ["as arrays", "data.npz"]),
    ],
    ids=["empty", "text", "one folder of images", "a damaged npz"],
)
def test_a_folder_of_no_layout_is_refused_with_reasons(write, words):
    write()
    with pytest.raises(UnusableError) as refused:
        detect(RAW)
    assert [word for word in [*words, "docs/data.md"] if word not in str(refused.value)] == []


def test_a_file_that_is_no_image_is_named():
    write_files(images("cat/1.png") | {"raw/dog/notes.txt": b"x"})
    refused = CliRunner().invoke(main, ["init", "raw"])
    assert refused.exit_code == 1
    assert "notes.txt" in refused.output
    assert not PARAMS.exists()


def refused_init(*options):
    """What `init` says when it refuses; nothing is written, and nothing is called ready to start."""
    refused = CliRunner().invoke(main, ["init", "raw", *options])
    assert (refused.exit_code, PARAMS.exists()) == (1, False), refused.output
    assert "dvc repro" not in refused.output
    return refused.output


def test_a_class_that_a_split_lacks_is_refused_as_by_split():
    write_files(images(*(f"train/{kind}/{n}.png" for kind in "abc" for n in range(9))))
    write_files(images(*(f"test/{kind}/{n}.png" for kind in "ab" for n in range(9))))
    said = refused_init()
    assert "1 split(s) would have no image of a class: test/c" in said
    write_params(detect(RAW).section)
    with pytest.raises(UnusableError, match="would have no image of a class: test/c"):
        split.run(**arguments.data_set(read_params().split), split_folder=FOLDER, index=INDEX)


def deep_png():
    content = io.BytesIO()
    Image.fromarray(np.arange(144, dtype=np.uint16).reshape(12, 12) * 256).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (deep_png(), "PNG of 16 bits a channel"),
        (png(0, 12)[:60], "damaged"),
        (b"\x00\x00\x01\x00\x01\x00", "not an image"),
    ],
    ids=["16 bits", "cut off", "an icon"],
)
def test_images_that_split_would_refuse_are_refused(content, reason):
    class_folders()
    write_files({"raw/cat/0.png": content})
    said = refused_init()
    assert "cat/0.png" in said
    assert reason in said


def test_tiny_images_are_refused_with_a_remedy_that_works():
    write_files(images(*(f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(15)), side=3))
    said = refused_init()
    assert "side of 3 pixels" in said
    assert "--teacher mlp --student mlp" in said
    chosen = sections(Pictures(3, 3, 3, 3, 3), 30, teacher="mlp", student="mlp", on_gpu=False)
    model = checked({"split": detect(RAW).section, **chosen}, PARAMS).student.model
    assert model.untrained(2).input_shape == (None, 3, 3, 3)


def test_a_missing_folder_is_refused():
    with pytest.raises(MissingError, match="nowhere"):
        detect(Path("nowhere"))


@pytest.mark.parametrize(
    ("name", "layout", "classes"),
    [("colon_mhist_format", "mhist", 2), ("leaves_cassava_format", "csv", 5), ("cifar10_subset.npz", "arrays", 10)],
)
def test_real_data_sets_are_recognised(name, layout, classes):
    data = Path(os.environ.get("SOFTLABEL_SHARED_DATA", "nowhere"), name)
    if not data.exists():
        pytest.skip(reason=f"SOFTLABEL_SHARED_DATA names no folder with {name}")
    detected = detect(data)
    assert (detected.section["layout"], len(detected.data_set.class_names)) == (layout, classes)


@pytest.mark.parametrize("data", [".", "data/split", "data"])
def test_data_that_a_stage_would_replace_are_refused(data):
    write_files({f"data/split/{kind}/{n}.png": png(n, 12) for kind in "ab" for n in range(9)})
    refused = CliRunner().invoke(main, ["init", data])
    assert refused.exit_code == 1
    assert "data/raw/NAME" in refused.output
    assert not PARAMS.exists()


@pytest.mark.slow
def test_votes_and_tables_are_taken_as_teachers():
    mhist()
    Path("logits.npz").touch()
    cases = [("votes", {"votes": {"smoothing": 1.0}}, 10), ("logits.npz", {"logits": "logits.npz"}, 1)]
    for name, expected, count in cases:
        done = CliRunner().invoke(main, ["init", "raw", "--teacher", name, "--force"])
        assert done.exit_code == 0, done.output
        assert "No teacher runs" in done.stdout
        written = YAML(typ="safe").load(PARAMS)
        assert {key: written["train_teacher"][key] for key in expected} == expected
        assert written["views"]["count"] == count


def test_votes_that_are_not_there_are_no_teacher():
    csv()
    refused = CliRunner().invoke(main, ["init", "raw", "--teacher", "votes"])
    assert (refused.exit_code, PARAMS.exists()) == (1, False)
    assert "30 of 30" in refused.output


def test_a_missing_table_is_told_before_params_are_written():
    csv()
    refused = CliRunner().invoke(main, ["init", "raw", "--teacher", "away.csv"])
    assert (refused.exit_code, PARAMS.exists()) == (1, False)
    assert "away.csv" in refused.output
