"""The same images as files, in tar files and in Parquet files give the same files, bit for bit, through the stages."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import MODEL, write_data_set
from layouts import files_below
from real_project import change, copy_repository, inside, run
from ruamel.yaml import YAML
from shard_files import as_structs, write_parquet, write_tar
from weights import weights_sha256

from pipeline.distillation.loss import DistillationLoss
from pipeline.images.index import read_index
from pipeline.images.places import is_in_shard, read_bytes
from pipeline.images.resize import DEFAULT_RESIZE
from pipeline.images.views import Augmentation, Views
from pipeline.models import keras_files
from pipeline.report.hardest_images import embedded
from pipeline.report.sample_grid import draw_samples
from pipeline.report.softening_picture import draw_softening
from pipeline.report.view_grid import draw_views
from pipeline.runtime.errors import DamagedError, MismatchError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import precompute, soften, split, train_student, train_teacher
from pipeline.tools import parity
from pipeline.tools.chosen_views import Rendering
from pipeline.tools.render_views import write_pictures
from pipeline.tools.verify import verify
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

INDEX, TEACHER, LOGITS, TARGETS = (
    Path("data/index.csv"), Path("models/teacher.keras"), Path("data/teacher_logits.h5"), Path("data/T4.h5")
)  # fmt: skip
VIEWS = Views(2, 7, Augmentation(translation=0.2))
RECIPE = Recipe([Phase(2, 0.01, "all")], batch_size=8, seed=1)
IMAGES, SHARDS = 40, 2
DRAWN = {"val_fraction": 0.25, "test_fraction": 0.25}
OF_SHARDS = {"val": None, "test": None, **DRAWN}
WAYS = ["files", "webdataset", "parquet"]


def pictures():
    """The label and the bytes of 40 images by name, of two classes that brightness tells apart."""
    write_data_set(Path("drawn"))
    rows = [line.split(",") for line in Path("drawn/annotations.csv").read_text().splitlines()[1:]]
    return {name: (label, Path("drawn/images", name).read_bytes()) for name, label, *_ in rows}


def in_shards(named):
    """The images of each of the two shards, by the shard's name."""
    names = sorted(named)
    size = IMAGES // SHARDS
    return {f"train-{part}": names[part * size : (part + 1) * size] for part in range(SHARDS)}


def write_raw(way, named):
    """Writes the images in one way; returns the layout and its settings."""
    for shard, names in in_shards(named).items():
        labels, contents = zip(*(named[name] for name in names), strict=True)
        if way == "files":
            for name, content in zip(names, contents, strict=True):
                Path("raw/images", shard).mkdir(parents=True, exist_ok=True)
                Path("raw/images", shard, name).write_bytes(content)
            rows = "".join(f"{shard}/{name},{label}\n" for name, label in zip(names, labels, strict=True))
            with Path("raw/table.csv").open("a") as file:
                file.write(rows if file.tell() else f"name,label\n{rows}")
        elif way == "webdataset":
            members = {}
            for name, label, content in zip(names, labels, contents, strict=True):
                members |= {name: content, f"{Path(name).stem}.cls": label.encode()}
            write_tar(f"raw/{shard}.tar", members)
        else:
            columns = {"image": as_structs(contents), "label": labels, "name": names}
            write_parquet(f"raw/{shard}.parquet", columns, row_group_size=7, compression="none")
    if way == "files":
        columns = {"image_column": "name", "label_column": "label", "validation_ids": None, "test_ids": None}
        return "csv", {"annotations": Path("table.csv"), "images": Path("images"), **columns, **DRAWN}
    if way == "webdataset":
        return "webdataset", {"train": ["train-{0..1}.tar"], "label_column": "cls", **OF_SHARDS}
    return "parquet", {"train": ["*.parquet"], "label_column": "label", "id_column": "name", **OF_SHARDS}


def make_split(way, named):
    layout, settings = write_raw(way, named)
    data = {"data": Path("raw"), **settings}
    split.run(layout=layout, settings=data, split_folder=Path("data/split"), index=INDEX)


def train_a_student(output, **settings):
    train_student.run(
        index=INDEX, soft_targets=TARGETS, logits=LOGITS, views=VIEWS, loss=DistillationLoss(4.0, 0.5), model=MODEL,
        recipe=RECIPE, output=Path(f"models/{output}.keras"), history=Path(f"history/{output}_kl_T4_seed1.csv"),
        **settings,
    )  # fmt: skip


def run_all():
    """Every stage from the teacher to the student."""
    teacher = TeacherToTrain(replace(MODEL, filters=[4]), RECIPE, Augmentation())
    train_teacher.run(
        index=INDEX, teachers=[teacher], average="logits", output=TEACHER, history=Path("history/teacher.csv")
    )
    precompute.run(
        index=INDEX, teacher=TEACHER, views=VIEWS, stored_as=Dense("float32"), batch_size=16, previous=[],
        output=LOGITS,
    )  # fmt: skip
    soften.run(logits=LOGITS, soft_targets=TARGETS, temperature=4.0)
    train_a_student("student")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of the run of each way."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        patch.chdir(folder)
        named = pictures()
        for way in WAYS:
            (folder / way).mkdir()
            patch.chdir(folder / way)
            make_split(way, named)
            run_all()
    return folder


@pytest.fixture
def project(ran, way, tmp_path, monkeypatch):
    """A copy of a run from shards; the current folder."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copytree(ran / way, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")


def test_the_index_names_places_and_nothing_is_copied(ran):
    rows = {way: read_index(ran / way / INDEX).images for way in WAYS}
    assert len(rows["files"]) == IMAGES
    for way in WAYS[1:]:
        assert [row._replace(path="") for row in rows[way]] == [row._replace(path="") for row in rows["files"]]
        assert all(is_in_shard(row.path) for row in rows[way])
        assert list((ran / way / "data/split").iterdir()) == []
        assert len([path for path in (ran / way / "raw").rglob("*") if path.is_file()]) == SHARDS


@pytest.mark.parametrize("way", WAYS[1:])
def test_every_file_of_the_run_is_the_same(ran, way):
    for file in (LOGITS, TARGETS, "history/teacher.csv", "history/student_kl_T4_seed1.csv"):
        assert (ran / way / file).read_bytes() == (ran / "files" / file).read_bytes(), file
    for name in ("teacher", "student"):
        models = [keras_files.load(ran / run / f"models/{name}.keras") for run in (way, "files")]
        assert weights_sha256(models[0]) == weights_sha256(models[1])


@pytest.mark.parametrize(("way", "cache"), [("webdataset", "none"), ("parquet", "disk")])
def test_every_cache_gives_the_same_student(project, cache):
    train_a_student("again", cache=cache)
    students = [keras_files.load(Path(f"models/{name}.keras")) for name in ("student", "again")]
    assert weights_sha256(students[0]) == weights_sha256(students[1])


@pytest.mark.parametrize("way", ["parquet"])
def test_every_picture_is_the_same(ran, way, tmp_path, monkeypatch):
    """Those of the report, and the views that other programs get."""
    files = {}
    for run_of in ("files", way):
        monkeypatch.chdir(ran / run_of)
        index, folder = read_index(INDEX), tmp_path / run_of
        folder.mkdir()
        draw_samples(index, folder / "samples.png")
        draw_softening(LOGITS, index, [1.0, 4.0], folder / "soft_labels.png")
        draw_views(LOGITS, index, folder / "views.png")
        chosen = index.split("train")[:3]
        write_pictures(folder / "views", index, chosen, Rendering(tuple(MODEL.input_shape), DEFAULT_RESIZE, VIEWS))
        files[run_of] = {path: content for path, content in files_below(folder).items() if path.endswith("png")}
        files[run_of]["embedded"] = [embedded(image.path) for image in chosen]
    assert files[way] == files["files"]
    assert len(files[way]) == 3 + 3 * VIEWS.count + 1


@pytest.mark.parametrize("way", ["webdataset"])
def test_parity_and_verify_read_shards(project):
    proof = parity.run(
        index=INDEX, teacher=TEACHER, soft_targets=TARGETS, logits=LOGITS, views=VIEWS,
        loss=DistillationLoss(4.0, 0.5), model=MODEL,
        recipe=Recipe([Phase(1, 0.001, "all", optimizer="sgd")], batch_size=8, seed=1), steps=2,
    )  # fmt: skip
    assert parity.is_equal(proof)
    for path in (LOGITS, TARGETS):
        checks = verify(path, INDEX, TEACHER, LOGITS, DamagedError("none"), 4.0)
        assert [check for check in checks if check.ok is False] == []


@pytest.mark.parametrize("way", WAYS[1:])
def test_a_changed_image_in_a_shard_is_named(project):
    """One bit of the pixels of one image, as a failing disk changes it; the container stays sound."""
    chosen = read_index(INDEX).split("train")[3]
    shard = next(path for path in Path("raw").iterdir() if path.name.startswith("train-0."))
    original = read_bytes(chosen.path)
    middle = len(original) // 2
    changed = original[:middle] + bytes([original[middle] ^ 1]) + original[middle + 1 :]
    shard.write_bytes(shard.read_bytes().replace(original, changed))  # Parquet also holds some images as statistics
    with pytest.raises(MismatchError, match=r"1 image file\(s\) are missing or not those of the index: raw/train-0\."):
        train_a_student("again")


@pytest.mark.parametrize("way", WAYS[1:])
def test_another_shard_in_its_place_and_a_lost_one_are_named(project):
    first, second = sorted(Path("raw").iterdir())
    first.rename("kept")
    shutil.copy(second, first)
    with pytest.raises((MismatchError, DamagedError), match=rf"{first}"):
        train_a_student("again")
    first.unlink()
    with pytest.raises(MismatchError, match=rf"are missing or not those of the index: {first}"):
        train_a_student("again")


def test_dvc_watches_the_shards_alone(tmp_path):
    """A real `dvc repro split`, whose outputs, an empty folder among them, DVC then gives back from its cache."""
    copy_repository(tmp_path / "project")
    with inside(tmp_path / "project"):
        write_raw("webdataset", pictures())
        shutil.rmtree("drawn")
        section = {"layout": "webdataset", "data": "raw", "train": "train-{0..1}.tar", "label_column": "cls"}
        change(Path("params.yaml"), "split", section | OF_SHARDS)
        run("dvc", "add", "raw", cwd=Path())
        said = run("dvc", "repro", "split", cwd=Path())
        locked = YAML(typ="safe").load(Path("dvc.lock"))["stages"]["split"]
        watched = {entry["path"]: entry.get("nfiles") for entry in [*locked["deps"], *locked["outs"]]}
        assert "Running stage 'split'" in said
        assert watched["raw"] == SHARDS
        assert watched["data/split"] == 0
        shutil.rmtree("data/split")
        Path("data/index.csv").unlink()
        run("dvc", "checkout", "split", cwd=Path())
        assert list(Path("data/split").iterdir()) == []
        assert len(read_index(INDEX).images) == IMAGES
        assert "didn't change, skipping" in run("dvc", "repro", "split", cwd=Path())
