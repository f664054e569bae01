"""`softlabel plan`: rows, passes, bytes and operations against numbers by hand, and against files really written."""

import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import h5py
import keras
import pytest
from click.testing import CliRunner
from conftest import MODEL, copy_here, mhist_in, write_data_set
from hypothesis import given
from hypothesis import strategies as st
from real_project import ROOT, change
from ruamel.yaml import YAML
from soft_label_files import INDEX, write_both

from pipeline.cli.main import main
from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.index import SPLITS, Image, Index, write_index
from pipeline.images.views import UNTOUCHED, Views
from pipeline.inference import cost
from pipeline.models import keras_files
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import MissingError, UnusableError
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.stages import split
from pipeline.tools.image_counts import ImageCounts, count_images
from pipeline.tools.plan import Plan, as_text, make_plan, teacher_model
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

PLAIN = Views(3, 5, Augmentation(rotation=0.25))
COLORED = Views(3, 5, Augmentation(rotation=0.25, contrast=0.25))
MIXED = Views(
    3,
    1,
    Augmentation(
        erasing=Erasing(0.5), operations=Operations(2, magnitude=5.0), mixup=Mixing(1.0, 0.4), cutmix=Mixing(1.0, 0.4)
    ),
)
TEACHER = replace(MODEL, filters=[3])
STUDENT = replace(TEACHER, input_shape=(8, 8, 1), filters=[2])
STORAGES = {"float32": Dense("float32"), "float16": Dense("float16"), "topk": TopK(2, "float16")}
OF_8 = dict.fromkeys(SPLITS, 8)  # bytes of an id
SOURCE = Path("data/index.csv")
HDF5_OVERHEAD = 20_480  # groups, attributes, a header a dataset
SEVEN = Recipe([Phase(3, 0.1, "all"), Phase(4, 0.1, "all")], batch_size=8, seed=0)


@pytest.fixture(autouse=True, scope="module")
def _flops_are_counted_once():
    """Of models with the same layers and names."""
    count, counted = cost.forward_flops, {}

    def remembered(model):
        layers = model.to_json()
        if layers not in counted:
            counted[layers] = count(model)
        return counted[layers]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "forward_flops", remembered)
        yield


def names(count):
    return [f"class {number}" for number in range(count)]


EXAMPLE = Plan(
    images=ImageCounts(
        Path("data/index.csv"), {"train": 1000, "val": 200, "test": 300}, names(4), id_bytes=dict.fromkeys(SPLITS, 10)
    ),
    views=5,
    students=6,
    epochs=40,
    ends_early=False,
    images_seen=40_000,
    has_teacher_model=True,
    teacher_flops=2_000_000_000,
    student_flops=10_000_000,
    logits_bytes=12_345_678,
    targets_bytes=1_500_000,
    temperatures=3,
)


def test_a_plan_says_who_learns_from_images_without_a_label():
    said = " ".join(as_text(replace(EXAMPLE, images=replace(EXAMPLE.images, unlabelled=300)), None).split())
    assert "300 of the training images have no label" in said
    assert "the teacher and the baselines are trained on the other 700" in said
    assert "no label" not in as_text(EXAMPLE, None)
    assert "left out" not in said
    said = as_text(replace(EXAMPLE, images=replace(EXAMPLE.images, unused=7)), None)
    assert "7 images without a label are left out" in said


def planned(images, views=PLAIN, stored_as=STORAGES["float32"], **changes):
    options = {"teacher": TEACHER, "student": STUDENT, "temperatures": 3, "seeds": 2, "recipe": SEVEN} | changes
    for name in ("teacher", "student"):
        options[name] = options[name].untrained(images.classes)
    return make_plan(images, views, stored_as, **options)


def images_of(index):
    counts = {name: len(index.split(name)) for name in SPLITS}
    longest = {name: max(len(image.id.encode()) for image in index.split(name)) for name in SPLITS}
    return ImageCounts(SOURCE, counts, index.class_names, longest)


def same_length(index):
    """The index with ids of one length in all splits."""
    renamed = (image._replace(id=f"{number:04}.png") for number, image in enumerate(index.images))
    return Index(renamed)


def bytes_in(path):
    """Of all datasets of the splits."""
    with h5py.File(path) as file:
        return sum(dataset.nbytes for name in SPLITS for dataset in file[name].values())


@pytest.fixture(scope="module")
def project_once(tmp_path_factory):
    """A folder with params.yaml for 40 small images that were not split yet; to be copied."""
    folder = tmp_path_factory.mktemp("project_once")
    write_data_set(folder / "raw")
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        change_params("split.data", "raw")
        change_params("split.val_fraction", 0.3)
        for section in ("train_teacher", "student"):
            change_params(f"{section}.model.input_shape", [12, 12, 3])
            change_params(f"{section}.model.filters", [2])
            change_params(f"{section}.batch_size", 4)
        change_params("views.count", 3)
        change_params("views.augmentation", {"horizontal_flip": True})
        change_params("precompute.batch_size", 4)
        change_params("distill.temperatures", [2, 4])
    return folder


@pytest.fixture
def project(project_once, tmp_path, monkeypatch):
    """A copy of it; the current folder."""
    copy_here(project_once, tmp_path, monkeypatch)
    return tmp_path


def change_params(name, value):
    change(Path("params.yaml"), name, value)


def do_split():
    split.run(
        layout="mhist",
        settings=mhist_in(Path("raw")),
        split_folder=Path("data/split"),
        index=Path("data/index.csv"),
    )


def plan(*options):
    shown = CliRunner().invoke(main, ["plan", *options])
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def refused():
    told = CliRunner().invoke(main, ["plan"])
    assert (told.exit_code, type(told.exception)) == (1, SystemExit), told.exception
    assert told.stdout == ""
    return told.stderr


def table(text, head):
    """The rows of a table below a head, by their first cell."""
    block = next(block for block in text.split("\n\n") if head in block.splitlines()[0])
    rows = [re.split(r" {2,}", line.strip()) for line in block.splitlines()[2:]]
    return {name: cells for name, *cells in rows}


def numbers(text):
    """The counts of the first three lines."""
    return list(map(int, re.findall(r"\d+", " ".join(text.splitlines()[:3]).replace(",", ""))))


# ---- counts


def test_passes_of_the_teacher_by_hand():
    assert EXAMPLE.offline_passes == 5 * 1000 + 200 + 300
    assert EXAMPLE.student_passes == EXAMPLE.online_passes == 1000 * 40 * 6


def test_students_are_one_for_each_loss_temperature_and_seed():
    images = ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8)
    found, of_four_losses = planned(images), planned(images, losses=4)
    assert (found.students, found.epochs, found.views, found.temperatures) == (6, 7, 3, 3)
    assert (of_four_losses.students, of_four_losses.temperatures) == (24, 3)


@pytest.mark.parametrize(
    ("views", "epochs", "train", "val", "test", "students"),
    [
        (1, 40, 1000, 200, 300, 1),  # 40,000 online, 1,500 offline
        (40, 40, 1000, 0, 0, 2),  # one student: as often either way
        (40, 40, 1000, 1, 0, 2),  # one student: once more offline
        (3, 1, 10, 4, 6, 5),  # 40 offline: four students are as many, five are more
        (3, 1, 10, 4, 5, 4),  # 39 offline
        (100, 10, 7, 3, 3, 11),  # 706 offline, 70 a student: 10 are 700, 11 are 770
    ],
)
def test_break_even_by_hand(views, epochs, train, val, test, students):
    images = ImageCounts(SOURCE, {"train": train, "val": val, "test": test}, names(2), OF_8)
    assert replace(EXAMPLE, images=images, views=views, images_seen=epochs * train).pays_off_from == students


counts = st.integers(0, 10**6)
sizes = st.integers(1, 10**6)


@given(sizes, sizes, sizes, counts, counts)
def test_break_even_is_where_online_runs_the_teacher_more_often(views, epochs, train, val, test):
    images = ImageCounts(SOURCE, {"train": train, "val": val, "test": test}, names(2), OF_8)
    found = replace(EXAMPLE, images=images, views=views, images_seen=epochs * train)
    offline = views * train + val + test
    first = found.pays_off_from
    assert first >= 1
    assert first * epochs * train > offline
    assert (first - 1) * epochs * train <= offline


def test_flops_by_hand():
    """A convolution of stride 2, its biases, a dense layer, its biases, and pixels x scale + offset."""
    found = planned(ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8))
    assert found.teacher_flops == 2 * 36 * 3 * 27 + 36 * 3 + 2 * 108 * 4 + 4 + 2 * 432
    assert found.student_flops == 2 * 16 * 2 * 9 + 16 * 2 + 2 * 32 * 4 + 4 + 2 * 64


def test_pretrained_weights_are_not_needed_to_count():
    images = ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8)
    there = planned(images, teacher=replace(TEACHER, weights="nowhere/weights.h5"))
    assert there == planned(images)


OF_A_CNN = 2 * 36 * 3 * 27 + 36 * 3 + 2 * 108 * 4 + 4 + 2 * 432
"""FLOPs of `TEACHER` for four classes, as above."""

OF_A_DENSE_LAYER = 2 * 432 * 4 + 4 + 2 * 432
"""FLOPs of a dense layer on 12 x 12 x 3 scaled pixels, with its biases."""


def flops_of(*teachers, average="logits"):
    return cost.forward_flops(teacher_model(teachers, average, names(4)))


def to_train(**changes):
    return TeacherToTrain(replace(TEACHER, **changes), SEVEN, Augmentation())


def write_dense_layer(path, classes=4):
    layers = [keras.Input((12, 12, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    keras.Sequential([*layers, keras.layers.Dense(classes)]).save(path)
    return GivenTeacher(str(path), None)


def test_flops_of_each_kind_of_teacher_by_hand(tmp_path):
    """Of a file, what it holds; of weights, the model that is described: the file is not needed to count."""
    assert flops_of(to_train()) == OF_A_CNN
    assert flops_of(write_dense_layer(tmp_path / "given.keras")) == OF_A_DENSE_LAYER
    assert (
        flops_of(GivenTeacher(str(tmp_path / "absent.weights.h5"), replace(TEACHER, weights="nowhere.h5"))) == OF_A_CNN
    )


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_flops_of_an_ensemble_are_those_of_its_members(tmp_path, average):
    """And of the averaging: a few operations on each of 3 x 4 logits."""
    given_file = write_dense_layer(tmp_path / "given.keras")
    wider = to_train(filters=[6])
    members = OF_A_CNN + OF_A_DENSE_LAYER + 2 * 36 * 6 * 27 + 36 * 6 + 2 * 216 * 4 + 4 + 2 * 432
    counted = flops_of(to_train(), given_file, wider, average=average)
    assert members + 12 <= counted <= members + 10 * 12


def test_a_given_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises(MissingError, match=r"no teacher at .*absent\.keras"):
        flops_of(to_train(), GivenTeacher(str(tmp_path / "absent.keras"), None))


# ---- epochs of a number of steps


def with_steps(*phases, batch_size=8):
    return Recipe([Phase(epochs, 0.1, "all", steps_per_epoch=steps) for epochs, steps in phases], batch_size, seed=0)


@pytest.mark.parametrize(
    ("recipe", "seen"),
    [
        (with_steps((3, None), (4, None)), 7 * 10),
        (with_steps((3, 5)), 3 * 5 * 8),
        (with_steps((3, 5), (4, None)), 3 * 5 * 8 + 4 * 10),
        (with_steps((3, 5), (4, 1), batch_size=2), 3 * 5 * 2 + 4 * 1 * 2),
        (with_steps((1, 1), batch_size=1), 1),
    ],
)
def test_images_seen_by_hand(recipe, seen):
    """Of ten training images in three views, 35 views offline: a student pays off when it sees more."""
    images = ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8)
    found = planned(images, recipe=recipe)
    assert (found.images_seen, found.offline_passes) == (seen, 35)
    assert found.online_passes == found.student_passes == 6 * seen
    assert (found.pays_off_from - 1) * seen <= 35 < found.pays_off_from * seen
    assert found.epochs == sum(phase.epochs for phase in recipe.phases)


@pytest.mark.parametrize(("views", "never"), [(16, 0), (17, 1), (20, 4)])
def test_views_that_no_student_reaches_by_hand(views, never):
    """Three epochs of five steps of eight, and four passes: 160 images are sixteen passes over ten."""
    images = ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8)
    found = planned(images, replace(PLAIN, count=views), recipe=with_steps((3, 5), (4, None)))
    assert found.views_never_seen == never


def test_a_started_pass_shows_its_views_too():
    """Eleven images of ten are two passes: the second view is reached."""
    images = ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8)
    recipe = with_steps((11, 1), batch_size=1)
    assert [planned(images, replace(PLAIN, count=count), recipe=recipe).views_never_seen for count in (2, 3)] == [0, 1]


# ---- bytes

# 10 training images in 3 views, 5 others in one: 35 rows of an affine (12) and of logits or soft labels, and 15
# images of an id (8), a sha256 (64), and a label or 4 one-hot labels (4). Only the training rows have a color (12).
# Logits: 4 x 4, 4 x 2, or index 2 x 2, value 2 x 2, mean and variance. Soft labels: 4 x 4, or index 2 x 2,
# probability 2 x 4, tail 4.
OF_A_ROW = {"float32": (16, 16), "float16": (8, 16), "topk": (4 + 4 + 8, 4 + 8 + 4)}


@pytest.mark.parametrize("stored_as", STORAGES)
@pytest.mark.parametrize("views", [PLAIN, COLORED, MIXED], ids=["plain", "colored", "mixed"])
def test_bytes_by_hand(stored_as, views):
    found = planned(ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8), views, STORAGES[stored_as])
    color = 3 * 10 * 12 * views.augmentation.recolors
    # Two codes and strengths, an erased box, a partner, its share, its box.
    mixed = 3 * 10 * (2 * (1 + 2) + 8 + 4 + 2 + 8) * views.augmentation.mixes
    rest = 35 * 12 + 15 * (8 + 64 + 4) + color + mixed
    logits, soft = OF_A_ROW[stored_as]
    assert (found.logits_bytes, found.targets_bytes) == (35 * logits + rest, 35 * soft + rest)


def test_bytes_of_one_hot_labels_by_hand():
    """With 1,000 classes: dense soft labels 4,000 and one-hot labels 1,000 a row; top-k of 10 does without both."""
    images = ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(1000), OF_8)
    dense, topk = (planned(images, UNTOUCHED, kind) for kind in (Dense("float16"), TopK(10, "float16")))
    of_all = 64 + 8 + 12
    assert dense.logits_bytes == 15 * (of_all + 4 + 2000)
    assert dense.targets_bytes == 15 * (of_all + 1000 + 4000)
    assert topk.logits_bytes == 15 * (of_all + 4 + 20 + 20 + 8)
    assert topk.targets_bytes == 15 * (of_all + 4 + 20 + 40 + 4)


@pytest.mark.parametrize("views", [UNTOUCHED, PLAIN, MIXED], ids=["one view", "plain", "mixed"])
@pytest.mark.parametrize("stored_as", STORAGES)
def test_planned_bytes_are_those_of_the_files(tmp_path, monkeypatch, stored_as, views):
    monkeypatch.chdir(tmp_path)
    index = same_length(INDEX)
    found = planned(images_of(index), views, STORAGES[stored_as])
    files = write_both(tmp_path, index=index, views=views, stored_as=STORAGES[stored_as])
    for path, size in zip(files, (found.logits_bytes, found.targets_bytes), strict=True):
        assert size == bytes_in(path)
        assert size < path.stat().st_size < size + HDF5_OVERHEAD


def test_planned_bytes_are_right_where_one_split_has_longer_ids(tmp_path, monkeypatch):
    """Each split stores its ids at the length of its own longest: here 13, 9 and 60 bytes."""
    monkeypatch.chdir(tmp_path)
    found = planned(images_from(tmp_path, INDEX))
    for path, size in zip(write_both(tmp_path, views=PLAIN), (found.logits_bytes, found.targets_bytes), strict=True):
        assert size == bytes_in(path)


def images_from(folder, index):
    write_index(folder / "index.csv", index)
    return count_images(folder / "index.csv", "mhist", mhist_in(folder / "none"))


def test_images_are_counted_from_the_index(tmp_path):
    found = images_from(tmp_path, same_length(INDEX))
    assert dict(found.counts) == {"train": 5, "val": 2, "test": 3}
    assert (found.classes, found.id_bytes) == (3, OF_8)


def test_an_index_without_rows_is_refused(tmp_path):
    with pytest.raises(
        UnusableError,
        match=r"no images .*train, val, test\. .*split\.val_fraction and split\.test",
    ):
        images_from(tmp_path, Index([]))


# ---- text


def test_with_patience_the_epochs_are_the_most_that_can_run():
    images = ImageCounts(SOURCE, {"train": 10, "val": 2, "test": 3}, names(4), OF_8)
    phases = [Phase(3, 0.1, "all", patience=1), Phase(4, 0.1, "all")]
    found = planned(images, recipe=Recipe(phases, batch_size=8, seed=0))
    assert (found.ends_early, found.epochs, found.images_seen) == (True, 7, 70)
    assert not planned(images).ends_early
    assert as_text(replace(EXAMPLE, ends_early=True), None).splitlines()[2] == "6 student(s), at most 40 epochs each"


def test_the_text_tells_the_numbers_by_hand():
    text = as_text(EXAMPLE, None)
    assert text.splitlines()[:3] == [
        "1,500 images in 4 classes: 1,000 train, 200 val, 300 test (data/index.csv)",
        "5 view(s) of each training image, one of every other: 5,500 views",
        "6 student(s), 40 epochs each",
    ]
    assert table(text, "MB each") == {
        "teacher_logits.h5": ["5,500", "12.35", "1", "12.35"],
        "soft_targets_T<T>.h5": ["5,500", "1.50", "3", "4.50"],
    }
    # Teacher: 5,500 and 240,000 passes of 2 GFLOPs; students: 240,000 steps of three times 10 MFLOPs = 7.2 TFLOPs.
    assert table(text, "teacher passes") == {
        "offline": ["5,500", "11", "18.2"],
        "online": ["240,000", "480", "487.2"],
    }
    assert re.search(r"teacher 43\.6 times as often\. .*from 1 student", text)
    assert "hours" not in text.lower()


def test_unknown_operations_of_the_teacher_are_called_so():
    text = as_text(replace(EXAMPLE, teacher_flops=None), None)
    assert table(text, "teacher passes")["online"] == ["240,000", "not known", "not known"]


def test_measured_speeds_become_hours_by_hand():
    text = as_text(EXAMPLE, {"teacher": 100.0, "student": 1000.0})
    # 55 s and 2,400 s of the teacher, 240 s of the students.
    hours = {name: row[-1] for name, row in table(text, "hours").items()}
    assert hours == {"offline": f"{float(Fraction(295, 3600)):.2f}", "online": f"{float(Fraction(2640, 3600)):.2f}"}
    assert re.search(r" 100 images/s .*teacher, 1,000 ", text)


# ---- command


@pytest.mark.parametrize("storage", [{"kind": "dense", "dtype": "float16"}, {"kind": "topk", "k": 1}])
def test_the_plan_is_the_same_before_and_after_split(project, storage):
    change_params("precompute.storage", storage)
    before = plan()
    assert not Path("data").exists()
    do_split()
    assert plan() == before


def test_the_plan_counts_what_split_makes(project):
    text = plan()
    do_split()
    with open("data/index.csv", encoding="utf-8") as index:
        rows = index.read().splitlines()[1:]
    train, val, test = (sum(f",{name}," in row for row in rows) for name in SPLITS)
    assert train + val + test == 40
    offline = 3 * train + val + test
    assert numbers(text) == [40, 2, train, val, test, 3, offline, 2 * 3, 40]
    assert [row[0] for row in table(text, "teacher passes").values()] == [f"{offline:,}", f"{train * 40 * 6:,}"]
    assert table(text, "MB each")["soft_targets_T<T>.h5"][2] == "2"


def test_the_plan_reads_the_index_where_there_is_one(project):
    shutil.rmtree("raw")
    Path("data").mkdir()
    write_index(Path("data/index.csv"), same_length(INDEX))
    assert numbers(plan())[:5] == [10, 3, 5, 2, 3]


def test_measuring_adds_hours(project, monkeypatch):
    monkeypatch.setattr("pipeline.tools.step_speed.LEAST_SECONDS", 0.01)
    text = plan("--measure")
    rows = table(text, "hours")
    assert [len(row) for row in rows.values()] == [4, 4]
    assert all(re.fullmatch(r"[\d,]+\.\d\d", row[-1]) for row in rows.values())
    speeds = re.search(r"measured here: ([\d,]+) images/s through the teacher, ([\d,]+) images/s through", text)
    assert all(int(speed.replace(",", "")) > 0 for speed in speeds.groups())


def test_the_plan_counts_epochs_by_their_steps(project):
    phase = {"epochs": 3, "steps_per_epoch": 5, "learning_rate": 0.1, "trainable_from": "all"}
    change_params("student.phases", [phase, {"epochs": 2, "learning_rate": 0.1, "trainable_from": "all"}])
    text = plan()
    train = numbers(text)[2]
    seen = 3 * 5 * 4 + 2 * train
    assert table(text, "teacher passes")["online"][0] == f"{6 * seen:,}"


def test_the_plan_tells_of_frozen_layers_if_there_are_any(project, monkeypatch):
    monkeypatch.setattr("pipeline.tools.step_speed.LEAST_SECONDS", 0.01)
    assert "frozen layers" not in plan()
    change_params("student.phases", [{"epochs": 40, "learning_rate": 0.1, "trainable_from": None}])
    row = table(plan("--measure"), "frozen layers")["phase 1"]
    assert (row[0], row[2], row[4], len(row)) == ("pooling", "3", "disk", 9)
    change_params("student.cache_frozen", "none")
    assert plan().endswith("phase 1: nothing is kept of frozen layers: student.cache_frozen is none\n")


def teraflops(text):
    return float(table(text, "teacher passes")["offline"][1])


def test_the_plan_of_an_ensemble_is_that_of_its_members_together(project):
    trained = YAML(typ="safe").load(Path("params.yaml"))["train_teacher"]
    keras_files.save(replace(TEACHER, filters=[60]).build(classes=2, seed=1), Path("given.keras"))
    of_each = []
    for section in (trained, {"model": "given.keras"}):
        change_params("train_teacher", section)
        of_each.append(teraflops(plan()))
    for section in ([trained, {"model": "given.keras"}], {"average": "probabilities", "members": [trained] * 2}):
        change_params("train_teacher", section)
        members = sum(of_each) if isinstance(section, list) else 2 * of_each[0]
        assert teraflops(plan()) == pytest.approx(members, rel=5e-3)
    assert of_each[1] > 3 * of_each[0]


def test_a_given_teacher_that_is_missing_is_refused(project):
    change_params("train_teacher", {"model": "absent.keras"})
    assert "absent.keras" in refused()


def test_one_view_with_an_augmentation_is_called_a_poor_choice(project):
    assert "overfits" not in plan()
    change_params("views.count", 1)
    assert "views.count is 1 with an augmentation" in plan().splitlines()[-1]


def test_the_plan_writes_nothing(project):
    before = sorted(project.rglob("*"))
    plan()
    assert sorted(project.rglob("*")) == before


def test_params_that_are_not_valid_are_refused(project):
    change_params("views.count", 0)
    assert re.search(r"views\.count: .* 1 .*got 0", refused())


def test_more_kept_logits_than_classes_are_refused(project):
    change_params("precompute.storage", {"kind": "topk", "k": 2})
    assert re.search(r"precompute\.storage .* 2 largest .* 2 classes.*smaller k", refused())


def test_what_cannot_be_learned_of_two_classes_is_refused(project):
    change_params("distill.loss", {"kl": {}, "logit_standardization": {}})
    change_params("distill.losses", ["kl", "logit_standardization"])
    assert re.search(r"'logit_standardization' .*nothing of 2 classes.*Expected 3 classes or more", refused())
    change_params("distill.losses", ["kl"])
    phase = YAML(typ="safe").load(Path("params.yaml"))["student"]["phases"][0]
    change_params("student.phases", [phase | {"class_weight": {"HP": 1, "SAS": 2}}])
    assert re.search(r"class_weight names 'SAS', .*its classes are 'HP', 'SSA'.*mean 'SSA'", refused())


def test_without_params_and_without_data_it_says_what_is_missing(project):
    shutil.rmtree("raw")
    assert "annotations file at raw/annotations.csv" in refused()
    Path("params.yaml").unlink()
    assert "no params.yaml" in refused()


def test_a_damaged_index_is_refused(project):
    write_index(Path("index.csv"), Index([Image("a.png", "a", "b", "train", "", "0" * 64)]))
    Path("data").mkdir()
    Path("data/index.csv").write_text(Path("index.csv").read_text().replace("train", "trian"))
    change_params("split.data", "not/at/hand")
    assert "1 row(s)" in refused()


def test_no_training_images_are_refused(project):
    """As `split` would refuse them."""
    table = Path("raw/annotations.csv")
    table.write_text(table.read_text().replace(",train\n", ",test\n"))
    assert re.search(r"no image of a class: train/HP, train/SSA\. .*split\.val_fraction", refused())
