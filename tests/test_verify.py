"""`softlabel verify`: a sound file passes; every kind of damage, and every stranger, is named in its line."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import MODEL as SMALL_MODEL
from conftest import mhist_in
from real_project import ROOT, change, inside
from ruamel.yaml import YAML
from soft_label_files import edit, write_logits

from pipeline.cli.main import main
from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.index import SPLITS, Image, Index, write_index
from pipeline.images.views import Views
from pipeline.models import keras_files
from pipeline.runtime.digests import sha256_file
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.soft_labels.writing import soften_file
from pipeline.stages import precompute, soften, split

COUNTS = {"train": 32, "val": 12, "test": 8}
CLASS_NAMES = ["a", "b", "c", "d"]
AUGMENTATION = {"rotation": 0.25, "translation": 0.125, "contrast": 0.25}
VIEWS = Views(2, 5, Augmentation(**AUGMENTATION))
MODEL = replace(SMALL_MODEL, input_shape=(4, 4, 1))
STORAGES = {"float32": Dense("float32"), "float16": Dense("float16"), "topk": TopK(2, "float32")}
LOGITS, TARGETS = "data/soft_labels/teacher_logits.h5", "data/soft_labels/soft_targets_T2.h5"
of_each_storage = pytest.mark.parametrize("stored_as", STORAGES)
of_each_format = pytest.mark.parametrize("file", [LOGITS, TARGETS])


def image(name, row):
    label = CLASS_NAMES[row % 4]
    image_id = f"{name}_{row:02}.png"
    return Image(
        image_id, f"data/split/{name}/{label}/{image_id}", label, name, "", f"{SPLITS.index(name)}{row:03}" * 16
    )


IMAGES = [image(name, row) for name in SPLITS for row in range(COUNTS[name])]
INDEX = Index(IMAGES)


def logits_of(views, count, classes):
    """At T = 2 exactly (1/2, 1/4, 1/8, 1/8), the largest in the labelled class, but in every fourth row in the next."""
    odds = 2 * np.log([0.5, 0.25, 0.125, 0.125])
    rows = [np.roll(odds, row % 4 + (row % 4 == 3)) for row in range(count)]
    return np.array([rows] * views, np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sound project for each storage; the tests break copies."""
    teacher = MODEL.build(classes=4, seed=1)
    folders = {name: tmp_path_factory.mktemp(name) for name in STORAGES}
    for name, folder in folders.items():
        with inside(folder):
            keras_files.save(teacher, Path("models/teacher.keras"))
            write_params(STORAGES[name])
            write(stored_as=STORAGES[name], teacher_sha256=sha256_file(Path("models/teacher.keras")))
            write_index(Path("data/index.csv"), INDEX)
    return folders


def write_params(stored_as):
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["precompute"]["storage"] = stored_as.as_json()
    content["views"].update(count=2, seed=5, augmentation=AUGMENTATION)
    yaml.dump(content, Path("params.yaml"))


def write(**options):
    write_logits(Path(LOGITS), **({"index": INDEX, "views": VIEWS, "logits": logits_of} | options))
    soften_file(Path(LOGITS), Path(TARGETS), 2.0)


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """Copies a project and goes there."""

    def copy(stored_as):
        shutil.copytree(made[stored_as], tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        return tmp_path

    return copy


@pytest.fixture
def dense(project):
    return project("float32")


def verify(file, *options):
    return CliRunner().invoke(main, ["verify", file, *options])


def findings(file):
    """The checks of a file that is not sound, by name, as the text tells them."""
    refused = verify(file)
    assert (refused.exit_code, type(refused.exception)) == (1, SystemExit), refused.output
    *lines, verdict = refused.stdout.splitlines()
    told = [re.fullmatch(r"(ok|WRONG|-) +(\S+(?: of \S+| set)?) +(.*)", line).groups() for line in lines]
    wrong = {name: detail for word, name, detail in told if word == "WRONG"}
    not_compared = [name for word, name, _ in told if word == "-"]
    rest = f" Not compared: {', '.join(not_compared)}." * bool(not_compared)
    assert verdict == f"{file} is not sound: {', '.join(wrong)}.{rest}"
    return wrong


def statistics(file):
    """(images, views, accuracy, temperature, confidence, entropy) of each split."""
    pattern = (
        r"(\d+) image\(s\), (\d+) view\(s\); the teacher is right on ([\d.]+); "
        r"at T = ([\d.]+) confidence ([\d.]+), entropy ([\d.]+) nats"
    )
    checks = json.loads(verify(file, "--json").stdout)["checks"]
    details = {check["name"]: check["detail"] for check in checks}
    return {name: [float(v) for v in re.fullmatch(pattern, details[f"values of {name}"]).groups()] for name in SPLITS}


def set_cell(name, place, value):
    def assign(file):
        file[name][place] = value

    return assign


def spoil(file, change_file):
    edit(Path(file), change_file)
    return findings(file)


# ---- who made it

MEMBERS = [{"teacher": "cnn", "teacher_sha256": "0123456789abcdef" * 4}, {"teacher": "mlp", "teacher_sha256": "f" * 64}]


@of_each_format
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_members_of_an_ensemble_are_named(dense, file, average):
    made_by = {"teacher": "ensemble", "teacher_sha256": sha256_file(Path("models/teacher.keras"))}
    Path(LOGITS).unlink()
    write(**made_by, ensemble={"average": average, "members": MEMBERS})
    words = f"ensemble, mean of the {average} of cnn 0123456789ab, mlp ffffffffffff"
    shown = verify(file)
    assert shown.exit_code == 0
    assert re.search(rf"^ok +teacher +{words}, the file models/teacher\.keras$", shown.stdout, re.MULTILINE)
    told = CliRunner().invoke(main, ["inspect", file])
    assert told.exit_code == 0
    assert re.search(rf"^teacher +{words}, file {made_by['teacher_sha256'][:12]}$", told.stdout, re.MULTILINE)


@of_each_format
def test_a_single_teacher_is_named_alone(dense, file):
    shown = verify(file).stdout
    assert re.search(r"^ok +teacher +cnn, the file models/teacher\.keras$", shown, re.MULTILINE)


# ---- sound


@of_each_format
@of_each_storage
def test_a_sound_file_is_ok_in_every_line(project, stored_as, file):
    project(stored_as)
    sound = verify(file)
    assert sound.exit_code == 0
    *lines, verdict = sound.stdout.splitlines()
    of_targets = file == TARGETS
    names = ["file", *["name"][:of_targets], *(f"values of {name}" for name in SPLITS), "views", "data set", "params"]
    names[-3:-3] = ["answers", "softness"]
    names += ["teacher", *["logits"][:of_targets]]
    assert [re.fullmatch(r"ok {4}(\S+( of \S+| set)?) .*", line)[1] for line in lines] == names
    assert verdict == f"{file} is sound."
    assert re.search(r"^ok +data set .*data/index\.csv$", sound.stdout, re.M)
    assert re.search(r"^ok +params .*params\.yaml$", sound.stdout, re.M)


def test_files_that_the_stages_wrote_are_sound(data_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write_params(TopK(1, "float16"))
    index, teacher = Path("data/index.csv"), Path("models/teacher.keras")
    split.run(
        layout="mhist",
        settings=mhist_in(data_set),
        split_folder=Path("data/split"),
        index=index,
    )
    keras_files.save(MODEL.build(classes=2, seed=1), teacher)
    precompute.run(
        index=index,
        teacher=teacher,
        views=VIEWS,
        stored_as=TopK(1, "float16"),
        batch_size=16,
        previous=[],
        output=Path(LOGITS),
    )
    soften.run(logits=Path(LOGITS), soft_targets=Path(TARGETS), temperature=2.0)
    for file in (LOGITS, TARGETS):
        sound = verify(file)
        assert sound.exit_code == 0, sound.output
        assert {line.split()[0] for line in sound.stdout.splitlines()[:-1]} == {"ok"}


@of_each_format
def test_without_a_project_there_is_nothing_to_compare_with(dense, tmp_path_factory, monkeypatch, file):
    alone = tmp_path_factory.mktemp("alone")
    shutil.copy(dense / file, alone / "x.h5")
    monkeypatch.chdir(alone)
    sound = verify("x.h5")
    assert sound.exit_code == 0
    left_out = [line for line in sound.stdout.splitlines() if line.startswith("- ")]
    expected = ["data/index.csv", "params.yaml", "models/teacher.keras", LOGITS][: 3 + (file == TARGETS)]
    assert [line.split("not compared: there is no ")[1].split()[0] for line in left_out] == expected


# ---- statistics

OF_ROWS = {"train": (32, 2), "val": (12, 1), "test": (8, 1)}
# At T = 2 the odds are 1/2, 1/4, 1/8, 1/8: entropy (1/2 + 2/4 + 3/8 + 3/8) ln 2 = 1.75 ln 2 = 1.2130.
# At T = 1 they are squared: 16, 4, 1, 1 of 22, so the confidence is 16/22 = 0.7273, and the entropy is
# ln 22 - (16 ln 16 + 4 ln 4) / 22 = 3.0910 - (44.3614 + 5.5452) / 22 = 0.8226.
EXPECTED = {TARGETS: (0.75, 2, 0.5, 1.2130), LOGITS: (0.75, 1, 0.7273, 0.8226)}
# float16 keeps a logit of up to 4.2 to 2^-10: a probability p to p (1 - p) / 512 at the most, 0.0005.
TOLERANCE = {"float32": 6e-5, "float16": 2e-3, "topk": 6e-5}


@of_each_format
@of_each_storage
def test_accuracy_confidence_and_entropy_are_as_by_hand(project, stored_as, file):
    """Two classes of every row are alike, so that the two-class tail of top-k is exact."""
    project(stored_as)
    found = statistics(file)
    for name in SPLITS:
        assert found[name] == pytest.approx([*OF_ROWS[name], *EXPECTED[file]], abs=TOLERANCE[stored_as])


# ---- bytes


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def write_another_format(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = "weights", 1
    edit(path, lambda _: None)


def write_a_newer_version(path):
    edit(path, lambda file: file.attrs.modify("version", 3))


def write_no_hdf5(path):
    path.write_text("softlabel, but no HDF5\n")


def write_plain_hdf5(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = 1


BROKEN = {
    "flipped bit": (flip_a_bit, "damaged: its bytes do not match"),
    "truncated": (truncate, "no soft-label file"),
    "no file": (Path.unlink, "no file data/soft_labels/"),
    "empty file": (lambda path: path.write_bytes(b""), "no soft-label file"),
    "no HDF5 file": (write_no_hdf5, "no soft-label file"),
    "another HDF5 file": (write_plain_hdf5, "no soft-label file"),
    "another format": (write_another_format, "'weights', expected 'teacher-logits' or 'soft-targets'"),
    "newer version": (write_a_newer_version, "version 3 .* update softlabel"),
}


@of_each_format
@pytest.mark.parametrize(
    ("change_file", "words"),
    [
        (lambda _: None, {"ok"}),
        (flip_a_bit, {"WRONG"}),
        (lambda path: edit(path, set_cell("train/affine", (0, 3, 2), 0.5)), {"ok", "WRONG"}),
        (lambda _: Path("data/index.csv").unlink(), {"ok", "-"}),
    ],
    ids=["sound", "damaged", "wrong values", "no index"],
)
def test_json_and_text_say_the_same(dense, file, change_file, words):
    change_file(dense / file)
    text, as_json = verify(file), verify(file, "--json")
    assert text.exit_code == as_json.exit_code == int("WRONG" in words)
    found = json.loads(as_json.stdout)
    assert (found["file"], found["ok"]) == (file, "WRONG" not in words)
    word_of = {True: "ok", False: "WRONG", None: "-"}
    assert {word_of[check["ok"]] for check in found["checks"]} == words
    for line, check in zip(text.stdout.splitlines()[:-1], found["checks"], strict=True):
        assert check["name"]
        assert check["detail"]
        assert re.fullmatch(rf"{word_of[check['ok']]} +{check['name']} +{re.escape(check['detail'])}", line)


@of_each_format
@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_file_is_wrong_and_nothing_of_it_is_read(dense, damage, file):
    break_it, finding = BROKEN[damage]
    break_it(dense / file)
    found = findings(file)
    assert list(found) == ["file"]
    assert re.search(finding, found["file"])


# ---- values: files that someone changed and gave a new digest


def two_classes(file):
    file["test/hard"][1] = [1, 0, 1, 0]


def no_class(file):
    file["test/hard"][1] = 0


def hard_label_of_two(file):
    file["test/hard"][1] = [0, 2, 0, 0]


def other_classes_labels(file):
    file["train/label"][...] = (file["train/label"][...] + 2) % 4


def other_classes_hard(file):
    file["train/hard"][...] = np.roll(file["train/hard"][...], 2, axis=1)


def twice(file):
    file["train/id"][4] = file["train/id"][9]


NAN, INF = float("nan"), float("inf")
# storage, file, what is changed, the check that must find it, what it must say
VALUES = {
    "NaN": ("float32", LOGITS, set_cell("train/logits", (1, 3, 2), NAN), "values of train", "1 row(s) are not finite"),
    "infinity": ("float16", LOGITS, set_cell("val/logits", (0, 3, 2), INF), "values of val", "1 row(s) are not finite"),
    "all NaN": ("float16", LOGITS, set_cell("test/logits", ..., NAN), "values of test", "8 row(s) are not finite"),
    "NaN kept": ("topk", LOGITS, set_cell("val/value", (0, 5, 1), NAN), "values of val", "1 row(s) are not finite"),
    "NaN tail": ("topk", LOGITS, set_cell("test/tail_mean", (0, 1), NAN), "values of test", "1 row(s) are not finite"),
    "NaN variance": (
        "topk", LOGITS, set_cell("test/tail_variance", (0, 1), NAN), "values of test", "1 row(s) are not finite",
    ),
    "NaN soft": ("float32", TARGETS, set_cell("train/soft", (0, 0, 0), NAN), "values of train", "1 row(s) are not fin"),
    "sum": (
        "float32", TARGETS, set_cell("train/soft", (1, 0, 1), 0.75), "values of train",
        " 1.500000",
    ),
    "negative": (
        "float32", TARGETS, set_cell("val/soft", (0, 1), [1.5, -0.5, 0, 0]), "values of val",
        "1 row(s) have negative",
    ),
    "sum of top-k": (
        "topk", TARGETS, set_cell("val/probability", (0, 7, 0), 0.25), "values of val",
        " 0.750000",
    ),
    "tail of top-k": (
        "topk", TARGETS, set_cell("val/tail", (0, 7), 0.5), "values of val",
        " 1.250000",
    ),
    "two classes": ("float32", TARGETS, two_classes, "values of test", "1 hard label(s) are not one-hot"),
    "no class": ("float32", TARGETS, no_class, "values of test", "1 hard label(s) are not one-hot"),
    "a hard label of 2": ("float32", TARGETS, hard_label_of_two, "values of test", "1 hard label(s) are not one-hot"),
    "label too large": (
        "float32", LOGITS, set_cell("test/label", 2, 4), "values of test", "1 label(s) are of no class",
    ),
    "negative label": ("topk", TARGETS, set_cell("test/label", 2, -1), "values of test", "1 label(s) are of no class"),
    "id twice": (
        "float32", LOGITS, twice, "values of train", "1 image(s) are named more than once: train_09.png",
    ),
    "id twice, soft": ("topk", TARGETS, twice, "values of train", "1 image(s) are named more than once: train_09.png"),
    "other labels": (
        "float32", LOGITS, other_classes_labels, "answers",
        "of train, the teacher is right on 0.0000, but on 0.7500 ",
    ),
    "other labels, top-k": (
        "topk", TARGETS, other_classes_labels, "answers", "of train, the teacher is right on 0.0000, but on 0.7500 ",
    ),
    "other hard labels": (
        "float32", TARGETS, other_classes_hard, "answers", "of train, the teacher is right on 0.0000, but on 0.7500 ",
    ),
    "transform": (
        "float32", LOGITS, set_cell("train/affine", (1, 3, 2), 0.5), "views",
        "1 transform(s) are not as sampled from their seed: train_03.png (view 1)",
    ),
    "transform, soft": (
        "topk", TARGETS, set_cell("train/affine", (0, 23, 0), 0.5), "views",
        "1 transform(s) are not as sampled from their seed: train_23.png (view 0)",
    ),
    "color": (
        "float32", TARGETS, set_cell("train/color", (0, slice(None), 5), 0.5), "views",
        "32 transform(s) are not as sampled from their seed: train_00.png (view 0), train_01.png (view 0), "
        "train_02.png (view 0), train_03.png (view 0), train_04.png (view 0) and 27 more",
    ),
    "touched": (
        "float16", LOGITS, set_cell("val/affine", (0, 11, 2), 0.25), "views",
        "1 transform(s) are not as sampled from their seed: val_11.png (view 0)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_wrong_values_are_found_where_they_are(project, case):
    stored_as, file, change_file, check, finding = VALUES[case]
    project(stored_as)
    found = spoil(file, change_file)
    assert finding in found[check]
    assert set(found) - {check} <= {"data set", "views"}, "the other splits are as they were"


MIXED = Views(
    2,
    5,
    Augmentation(
        erasing=Erasing(0.5), operations=Operations(2, magnitude=5.0), mixup=Mixing(1.0, 0.4), cutmix=Mixing(1.0, 0.4)
    ),
)


@pytest.fixture
def of_mixed_views(dense):
    """A project with files of mixed views, whose teacher answers a mixed picture with its partner's class."""
    change(Path("params.yaml"), "views.augmentation", MIXED.augmentation.as_json())

    def answers(views, count, classes):
        logits = logits_of(views, count, classes)
        for view in range(views if count == COUNTS["train"] else 0):
            partner = MIXED.sample([f"train_{row:02}.png" for row in range(count)], view).partner
            logits[view, partner >= 0] = logits[view, partner[partner >= 0]]
        return logits

    for file in (LOGITS, TARGETS):
        Path(file).unlink()
    write(views=MIXED, logits=answers, teacher_sha256=sha256_file(Path("models/teacher.keras")))


@of_each_format
@pytest.mark.usefixtures("of_mixed_views")
def test_sound_files_of_mixed_views_are_ok_in_every_line(file):
    """Where a view is mixed, the label of its image alone is no measure of the teacher."""
    found = json.loads(verify(file, "--json").stdout)
    assert found["ok"], found
    said = {check["name"]: check["detail"] for check in found["checks"]}
    right, rows = 0, 0
    for view in (0, 1):
        unmixed = MIXED.sample([f"train_{row:02}.png" for row in range(32)], view).partner < 0
        rows += unmixed.sum()
        right += (unmixed & (np.arange(32) % 4 != 3)).sum()
    assert f"the teacher is right on {right / rows:.4f} of the views that are not mixed" in said["values of train"]
    assert "not mixed" not in said["values of val"]


MIX_CHANGES = {
    "operation": lambda values: (values + 1) % 9,
    "strength": lambda values: values + np.float16(0.25),
    "erased": lambda values: values - np.float16(0.25),
    "partner": lambda values: np.where(values < 0, 3, (values + 1) % 32),
    "lambda": lambda values: values / 2,
    "box": lambda values: values + np.float16(0.25),
}


@of_each_format
@pytest.mark.parametrize("dataset", MIX_CHANGES)
@pytest.mark.usefixtures("of_mixed_views")
def test_damage_to_a_mixed_view_is_found(file, dataset):

    def damage(content):
        cell = content[f"train/{dataset}"]
        cell[1, 7] = MIX_CHANGES[dataset](cell[1, 7])

    found = spoil(file, damage)
    assert "1 transform(s) are not as sampled from their seed: train_07.png (view 1)" in found["views"]
    assert set(found) <= {"views", "values of train"}


@of_each_format
@pytest.mark.usefixtures("of_mixed_views")
def test_partners_that_are_no_rows_are_counted(file):
    found = spoil(file, set_cell("train/partner", (slice(None), 7), 32))
    assert "2 partner(s) are no rows" in found["values of train"]
    assert "2 transform(s) are not as sampled" in found["views"]


def test_statistics_are_shown_beside_what_is_wrong(dense):
    found = spoil(LOGITS, twice)
    problem, numbers = found["values of train"].split("; ", 1)
    assert "train_09.png" in problem
    assert re.search(r"^32 image\(s\), 2 view\(s\).* 0\.7500; .*T = 1 .* 0\.7273, .* 0\.8226 nats$", numbers)


def test_labels_of_no_class_leave_nothing_to_be_right_on(dense):
    found = spoil(LOGITS, set_cell("test/label", 2, 4))
    assert found == {"values of test": "1 label(s) are of no class", "data set": found["data set"]}


def test_rows_of_all_views_are_counted_together(dense):
    """One row of view 0 and two of view 1: three, in one finding."""

    def spoil_three(file):
        for place in ((0, 3, 1), (1, 3, 2), (1, 7, 0)):
            file["train/soft"][place] = NAN

    assert spoil(TARGETS, spoil_three)["values of train"].startswith("3 row(s) are not finite; 32 image(s), 2 view(s)")


def test_several_problems_are_all_named(dense):
    Path("models/teacher.keras").unlink()
    keras_files.save(MODEL.build(classes=4, seed=2), Path("models/teacher.keras"))
    edit(Path(TARGETS), two_classes)
    edit(Path(TARGETS), set_cell("val/soft", (0, 0, 0), 3.0))
    assert list(findings(TARGETS)) == ["values of val", "values of test", "data set", "teacher"]


# ---- what it belongs to


def rewrite_index(images):
    Path("data/index.csv").unlink()
    write_index(Path("data/index.csv"), Index(images))


def with_first(**changes):
    return [IMAGES[0]._replace(**changes), *IMAGES[1:]]


OTHER_INDEX = {
    "added": ([*IMAGES, image("val", 12)], r"no soft labels .*1 val image\(s\): val_12\.png"),
    "removed": (IMAGES[:-1], r"has soft labels .*1 test image\(s\): test_07\.png"),
    "changed": (with_first(sha256="f" * 64), r"other content .*1 train image\(s\): train_00\.png"),
    "relabelled": (with_first(class_name="b"), r"other labels .*1 train image\(s\): train_00\.png"),
    "other classes": (with_first(class_name="e"), r"\['a', 'b', 'c', 'd'\].*\['a', 'b', 'c', 'd', 'e'\]"),
}


@of_each_format
@pytest.mark.parametrize("case", OTHER_INDEX)
def test_another_index_is_told_by_its_images(dense, case, file):
    images, finding = OTHER_INDEX[case]
    rewrite_index(images)
    found = findings(file)
    assert list(found) == ["data set"]
    assert re.search(finding, found["data set"])


def test_an_image_that_changed_its_split_is_told_on_both_sides(dense):
    rewrite_index(with_first(split="val"))
    finding = findings(LOGITS)["data set"]
    assert re.search(
        r"has soft labels .*1 train image\(s\): train_00\.png; .*no soft labels .*1 val .*train_00", finding
    )


@of_each_format
@pytest.mark.parametrize(
    ("name", "value", "finding"),
    [
        ("views.count", 3, "count 2, expected 3"),
        ("views.seed", 6, "seed 5, expected 6"),
        ("views.augmentation", {"rotation": 0.25}, "augmentation.contrast 0.25, expected None"),
    ],
)
def test_other_views_than_those_of_params_yaml_are_told(dense, name, value, finding, file):
    change(Path("params.yaml"), name, value)
    found = findings(file)
    assert list(found) == ["params"]
    assert finding in found["params"]


def test_other_views_are_told_without_an_index(dense):
    Path("data/index.csv").unlink()
    change(Path("params.yaml"), "views.count", 3)
    found = findings(LOGITS)
    assert list(found) == ["params"]
    assert "count 2, expected 3" in found["params"]


def test_another_storage_is_told(dense):
    change(Path("params.yaml"), "precompute.storage", {"kind": "dense", "dtype": "float16"})
    found = findings(LOGITS)
    assert list(found) == ["params"]
    assert "{'kind': 'dense', 'dtype': 'float32'}, expected {'kind': 'dense', 'dtype': 'float16'}" in found["params"]


def test_a_file_renamed_from_another_temperature_is_told(dense):
    renamed = Path(TARGETS).with_name("soft_targets_T4.h5")
    Path(TARGETS).rename(renamed)
    found = findings(renamed.as_posix())
    assert list(found) == ["name"]
    assert re.search("temperature 2, .* 4$", found["name"])


def test_params_that_are_not_valid_are_not_compared(dense):
    change(Path("params.yaml"), "views.count", 0)
    sound = verify(LOGITS)
    assert sound.exit_code == 0
    assert sound.stdout.splitlines()[-1] == f"{LOGITS} is sound. Not compared: params."
    assert re.search(r"^- +params +not compared: .*params\.yaml.*views\.count.* 0", sound.stdout, re.MULTILINE)


@of_each_format
def test_another_teacher_is_told(dense, file):
    keras_files.save(MODEL.build(classes=4, seed=2), Path("models/teacher.keras"))
    found = findings(file)
    assert list(found) == ["teacher"]
    own = sha256_file(Path("models/teacher.keras"))[:12]
    assert re.search(rf" [0-9a-f]{{12}}, models/teacher\.keras is {own}$", found["teacher"])
    assert found["teacher"].count(own) == 1


def test_soft_targets_of_other_logits_are_told(dense, tmp_path):
    before, named = Path(TARGETS).read_bytes(), Path(LOGITS).read_bytes().split(b"softlabel sha256 ")[-1][:12].decode()
    edit(Path(LOGITS), set_cell("train/logits", (0, 0, 0), 1.0))
    found = findings(TARGETS)
    assert list(found) == ["logits"]
    digests = Path(LOGITS).read_bytes().split(b"softlabel sha256 ")[-1][:12].decode()
    assert re.search(rf" {named}; {LOGITS} is {digests}$", found["logits"])
    assert Path(TARGETS).read_bytes() == before


def test_nothing_is_written(dense):
    before = {path: path.read_bytes() for path in sorted(dense.rglob("*")) if path.is_file()}
    assert verify(LOGITS).exit_code == 0
    assert {path: path.read_bytes() for path in sorted(dense.rglob("*")) if path.is_file()} == before


# ---- what stands beside the file is broken: nobody knows whether the file belongs to it, so it is not sound

BESIDE = {"data set": "data/index.csv", "logits": LOGITS}


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\xff\n" * 600])
@pytest.mark.parametrize("check", BESIDE)
def test_what_is_broken_beside_the_file_is_wrong(dense, check, content):
    Path(BESIDE[check]).write_bytes(content)
    told = verify(TARGETS, "--json")
    assert told.exit_code == 1, told.output
    found = {entry["name"]: entry for entry in json.loads(told.stdout)["checks"]}
    assert found[check]["ok"] is False
    assert found[check]["detail"].startswith(f"cannot be compared: {BESIDE[check]} ")
    assert {entry["ok"] for name, entry in found.items() if name != check} == {True}


# ---- no damage with a digest is a reason for a traceback either


@pytest.mark.parametrize(
    "change_file",
    [set_cell("train/index", (0, 0, 0), 4), set_cell("val/index", (0, 1), [2, 2])],
    ids=["no such class", "a class twice"],
)
@of_each_format
def test_a_kept_class_that_cannot_be_is_told(project, file, change_file):
    project("topk")
    edit(Path(file), change_file)
    assert any(name.startswith("values of ") for name in findings(file))


def test_an_id_that_is_no_utf8_is_told(dense):
    edit(Path(LOGITS), set_cell("val/id", 3, b"\xff\xfe.png"))
    assert findings(LOGITS)


def test_a_sha256_that_is_no_text_is_told(dense):
    edit(Path(LOGITS), set_cell("val/image_sha256", 3, b"\xff" * 64))
    assert findings(LOGITS)


def test_views_of_one_image_count_once_against_the_class_order(tmp_path, monkeypatch):
    """Right on 2 of 8 images of two classes: 14 of 100 coins do no better, however many views there are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    index = Index(image(name, row) for name in SPLITS for row in range(0, 4 * COUNTS["test"], 2))
    index = Index(entry for entry in index.images if entry.split != "train" or entry.id < "train_16")

    def right_on_two(views, count, classes):
        labels = np.arange(count) % 2
        chosen = np.where(np.arange(count) < 2, labels, 1 - labels)
        return np.tile(np.eye(2, dtype=np.float32)[chosen], (views, 1, 1))

    views = Views(60, 5, Augmentation(**AUGMENTATION))
    write_logits(tmp_path / "x.h5", index=index, views=views, logits=right_on_two)
    checks = {check["name"]: check for check in json.loads(verify("x.h5", "--json").stdout)["checks"]}
    assert checks["values of train"]["ok"]
    assert "of train" not in checks["answers"]["detail"]
    assert "of val, the teacher is right on 0.1250" in checks["answers"]["detail"]  # 2 of 16: two coins in a thousand
    assert statistics("x.h5")["train"][:3] == [8, 60, 0.25]


@pytest.mark.parametrize(("split", "ok"), [("train", True), ("val", False), ("test", True)])
def test_chance_is_wrong_in_the_validation_images_alone(tmp_path, monkeypatch, split, ok):
    """In the other splits it is a warning: a student may learn from images that its teacher has not yet understood."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    counts = {"train": 96, "val": 64, "test": 80}
    index = Index(image(name, row) for name in SPLITS for row in range(counts[name]))

    def by_chance_in_one_split(views, count, classes):
        rows = np.arange(count)
        chosen = (rows + (rows // 4 if count == counts[split] else 0)) % 4  # right on every image, or on every fourth
        return np.tile(5 * np.eye(4, dtype=np.float32)[chosen], (views, 1, 1))

    write_logits(tmp_path / "x.h5", index=index, views=VIEWS, logits=by_chance_in_one_split)
    (check,) = [check for check in json.loads(verify("x.h5", "--json").stdout)["checks"] if check["name"] == "answers"]
    assert check["ok"] is ok
    assert re.search(rf"of {split}, .* 0\.2500, .*chance", check["detail"])
