"""The soft-label files: their layout as others read it, their numbers, and every way to be broken."""

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.special
from soft_label_files import (
    CLASS_NAMES,
    DENSE,
    IDS,
    INDEX,
    LABELS,
    TOP2,
    VIEWS,
    VIEWS_OF,
    edit,
    image,
    logits_of,
    provenance_of,
    write_both,
    write_logits,
)

from pipeline.images.augmentation import Augmentation
from pipeline.images.index import SPLITS, Index
from pipeline.images.sampling import sample_views
from pipeline.images.transforms import SAME_COLOR
from pipeline.images.views import Views
from pipeline.runtime.errors import DamagedError, MissingError
from pipeline.runtime.progress import Progress
from pipeline.soft_labels import hdf5, logit_storage, reading, writing
from pipeline.soft_labels.hdf5 import damage, full_disk_as_os_error, seal, sealed_sha256
from pipeline.soft_labels.layout import LOGITS_FORMAT
from pipeline.soft_labels.reading import open_logits, open_soft_targets
from pipeline.soft_labels.writing import soften_file

ULP = 2.0**-24
STORAGES = {"dense": DENSE, "top-k": TOP2}
KINDS = ["dense logits", "dense targets", "top-k logits", "top-k targets"]
PROVENANCE_ATTRIBUTES = [
    "batch_size",
    "dataset",
    "format",
    "preprocessing",
    "storage",
    "teacher",
    "teacher_sha256",
    "version",
    "views",
]
ATTRIBUTES = {kind: PROVENANCE_ATTRIBUTES + (["logits", "temperature"] if "targets" in kind else []) for kind in KINDS}
# What one row of each data set holds: whether there is one a view, its shape, its dtype.
COMMON = {
    "id": (False, (), None),
    "image_sha256": (False, (), np.dtype("S64")),
    "affine": (True, (6,), np.dtype("<f2")),
    "color": (True, (6,), np.dtype("<f2")),
}
LABEL = {"label": (False, (), np.dtype("<i4"))}
ROWS = {
    "dense logits": COMMON | LABEL | {"logits": (True, (3,), np.dtype("<f4"))},
    "dense targets": COMMON | {"hard": (False, (3,), np.dtype("u1")), "soft": (True, (3,), np.dtype("<f4"))},
    "top-k logits": COMMON
    | LABEL
    | {
        "index": (True, (2,), np.dtype("<u2")),
        "value": (True, (2,), np.dtype("<f2")),
        "tail_mean": (True, (), np.dtype("<f4")),
        "tail_variance": (True, (), np.dtype("<f4")),
    },
    "top-k targets": COMMON
    | LABEL
    | {
        "index": (True, (2,), np.dtype("<u2")),
        "probability": (True, (2,), np.dtype("<f4")),
        "tail": (True, (), np.dtype("<f4")),
    },
}
DATASETS = [
    (kind, name)
    for kind in KINDS
    for name in ["class_names", *(f"{split}/{name}" for split in SPLITS for name in ROWS[kind])]
    if name not in ("val/color", "test/color")
]
by_kind = pytest.mark.parametrize("kind", KINDS)
by_format = pytest.mark.parametrize("kind", ["dense logits", "top-k targets"])
"""One file of each format and of each storage, where no more of either matters."""
by_storage = pytest.mark.parametrize("stored_as", STORAGES)


def datasets_of(kind):
    return [name for of_kind, name in DATASETS if of_kind == kind]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One sound file of each kind; the tests break copies."""
    files = {}
    for name, stored_as in STORAGES.items():
        logits, targets = write_both(tmp_path_factory.mktemp(name), stored_as=stored_as)
        files |= {f"{name} logits": logits, f"{name} targets": targets}
    return files


@pytest.fixture
def copy_of(made, tmp_path):
    def copy(kind):
        return Path(shutil.copy(made[kind], tmp_path / made[kind].name))

    return copy


@pytest.fixture
def logits_path(copy_of):
    return copy_of("dense logits")


@pytest.fixture
def targets_path(copy_of):
    return copy_of("dense targets")


def opened(path):
    return open_logits(path) if "logits" in path.name else open_soft_targets(path)


def stage_of(path):
    return "precompute" if "logits" in path.name else "soften"


def refusals(path, changes):
    """The messages with which a file is refused after each of some changes, by their names; it is sound in between."""
    sound, messages = path.read_bytes(), {}
    for name, change in changes.items():
        path.write_bytes(sound)
        change(path)
        messages[name] = refusal(path)
    return messages


def edits(changes):
    """Changes of what HDF5 holds, as changes of a file."""
    return {name: lambda path, change=change: edit(path, change) for name, change in changes.items()}


def refusal(path):
    """The message with which a file is refused: it names the file and the command."""
    with pytest.raises(DamagedError) as refused, opened(path):
        pass
    message = str(refused.value)
    assert str(path) in message
    assert f"`dvc repro --single-item --force {stage_of(path)}`" in message
    return message


# Round trips


@by_kind
def test_what_was_written_is_read(made, kind):
    with opened(made[kind]) as file:
        assert file.provenance == provenance_of(INDEX, VIEWS, STORAGES[kind.split()[0]])
        assert file.storage == STORAGES[kind.split()[0]]
        assert file.classes == 3
        assert file.temperature == {"logits": None, "targets": 4.0}[kind.split()[1]]
        assert file.stage == stage_of(made[kind])
        for split in SPLITS:
            assert file.count(split) == len(IDS[split])
            assert file.views(split).count == VIEWS_OF[split]
            assert file.ids(split) == tuple(IDS[split])
            assert file.labels(split).tolist() == LABELS[split]
            rows = range(len(IDS[split]))
            assert file.image_sha256(split) == tuple(image(split, row).sha256 for row in rows)


@by_kind
def test_the_stored_transforms_are_those_of_the_draw(made, kind):
    with opened(made[kind]) as file:
        assert file.views("train") == VIEWS
        for view in range(3):
            expected = sample_views(VIEWS.augmentation, VIEWS.seed, IDS["train"], view)
            np.testing.assert_array_equal(file.transforms("train", view).affine, expected.affine)
            np.testing.assert_array_equal(file.transforms("train", view).color, expected.color)
        for split in ("val", "test"):
            transforms = file.transforms(split, 0)
            np.testing.assert_array_equal(transforms.affine, np.tile([1, 0, 0, 0, 1, 0], (len(IDS[split]), 1)))
            np.testing.assert_array_equal(transforms.color, np.tile(SAME_COLOR, (len(IDS[split]), 1)))


def test_all_stored_transforms_have_the_shape_of_views_and_rows(made):
    """Also those that are not in the file, because no view mixes two images."""
    with opened(made["dense logits"]) as file:
        transforms = reading.stored_transforms(file.file["train"], ...)
        assert transforms.partner.shape == (3, len(IDS["train"]))
        assert transforms.affine.shape == (3, len(IDS["train"]), 6)


def test_logits_are_softened_at_temperature_1_unless_told(made):
    with opened(made["dense logits"]) as file:
        logits = logits_of(3, len(IDS["train"]))[1].astype(np.float64)
        soft = file.soft_labels("train", 1, slice(None))
        np.testing.assert_allclose(soft, scipy.special.softmax(logits, axis=-1), rtol=2 * ULP)


def test_dense_columns_are_those_of_their_view_and_row(made):
    with opened(made["dense logits"]) as logits, opened(made["dense targets"]) as targets:
        for split in SPLITS:
            expected = logits_of(VIEWS_OF[split], len(IDS[split]))
            for view in range(VIEWS_OF[split]):
                np.testing.assert_array_equal(logits.columns(split, view)["logits"], expected[view])
                soft = targets.columns(split, view)["soft"]
                assert soft.dtype == np.float32
                softmax = scipy.special.softmax(expected[view].astype(np.float64) / 4.0, axis=-1)
                np.testing.assert_allclose(soft, softmax, rtol=2 * ULP)


def test_top_k_columns_are_those_of_their_view_and_row(made):
    with opened(made["top-k logits"]) as logits, opened(made["top-k targets"]) as targets:
        expected = logits_of(3, 5)
        for view in range(3):
            stored = logits.columns("train", view)
            order = np.argsort(-expected[view], axis=1)
            np.testing.assert_array_equal(stored["index"], order[:, :2])
            np.testing.assert_array_equal(stored["value"], np.take_along_axis(expected[view], order, 1)[:, :2])
            np.testing.assert_array_equal(stored["tail_mean"], expected[view].min(axis=1))
            np.testing.assert_array_equal(stored["tail_variance"], np.zeros(5))
            # The tail is one class, so the model of the tail is exact.
            found = targets.storage.probabilities(targets.columns("train", view), 3)
            softmax = scipy.special.softmax(expected[view].astype(np.float64) / 4.0, axis=-1)
            np.testing.assert_allclose(found, softmax, rtol=1e-6)


@by_kind
def test_a_slice_of_rows_is_that_slice_of_the_whole(made, kind):
    with opened(made[kind]) as file:
        whole, part = file.columns("train", 1), file.columns("train", 1, slice(1, 4))
        assert whole.keys() == part.keys()
        for name in whole:
            np.testing.assert_array_equal(part[name], whole[name][1:4])


@by_format
def test_a_file_may_be_renamed(made, tmp_path, kind):
    elsewhere = tmp_path / "shared" / "by a friend.hdf5"
    elsewhere.parent.mkdir()
    shutil.copy(made[kind], elsewhere)
    reader = open_logits if "logits" in kind else open_soft_targets
    with reader(elsewhere) as file:
        assert file.ids("val") == tuple(IDS["val"])


def test_files_without_color_transforms_have_none(tmp_path):
    turned = Views(2, 1, Augmentation(rotation=0.5))
    for path in write_both(tmp_path, views=turned):
        with opened(path) as file, h5py.File(path) as raw:
            assert "color" not in file.file["train"]
            assert "color" not in raw["train"]


def test_a_thousand_long_class_names_fit(tmp_path):
    names = [f"class {number:03d} {'of a kind with a long name ' * 5}" for number in range(1000)]
    images = [
        image("train", 0)._replace(id=f"{split}{number}", split=split, class_name=name)
        for number, name in enumerate(names)
        for split in SPLITS
    ]
    _, targets = write_both(tmp_path, index=Index(images), views=Views(1, 0, Augmentation()))
    with open_soft_targets(targets) as file:
        assert file.provenance.class_names == tuple(names)
        np.testing.assert_array_equal(
            file.labels("val"), [names.index(e.class_name) for e in Index(images).split("val")]
        )


def test_rows_beyond_the_first_slab_are_softened(tmp_path, monkeypatch):
    """Two slabs of two rows, and one of one."""
    monkeypatch.setattr("pipeline.soft_labels.reading.SLAB_ROWS", 2)
    _, targets = write_both(tmp_path)
    expected = scipy.special.softmax(logits_of(3, 5).astype(np.float64) / 4.0, axis=-1)
    with h5py.File(targets) as file:
        np.testing.assert_allclose(file["train/soft"][:], expected, rtol=2 * ULP)
        assert file["train/hard"][:].argmax(axis=1).tolist() == LABELS["train"]
        assert [name.decode() for name in file["train/id"]] == IDS["train"]


def test_room_is_asked_for_as_much_as_the_files_take(tmp_path, monkeypatch):
    """All datasets of the splits, and 64 KiB: class names and HDF5's own structures are smaller."""
    asked = {}
    monkeypatch.setattr(writing, "refuse_full_disk", lambda path, size: asked.update({path: size}))
    for path in write_both(tmp_path):
        with h5py.File(path) as file:
            held = sum(dataset.nbytes for split in SPLITS for dataset in file[split].values())
        assert asked[path] == held + 65536 > path.stat().st_size


@pytest.mark.parametrize(
    ("raised", "error"), [("Can't close file (file write failed: errno = 28)", OSError), ("other", RuntimeError)]
)
def test_a_full_disk_is_told_from_other_failures_of_hdf5(tmp_path, raised, error):
    with pytest.raises(error, match=re.escape(raised)) as told, hdf5.create(tmp_path / "new.h5", LOGITS_FORMAT):
        raise RuntimeError(raised)
    assert type(told.value) is error
    assert list(tmp_path.iterdir()) == []


def test_soft_labels_that_are_hard_are_written_with_a_warning(tmp_path, capsys):
    write_both(tmp_path)
    assert capsys.readouterr().err == ""
    _, targets = write_both(tmp_path / "far", logits=lambda *size: 1e4 * logits_of(*size))
    assert capsys.readouterr().err.startswith(
        f"warning: {targets}: at T = 4 the soft labels have a mean entropy of 0.0"
    )


@pytest.fixture
def progress(monkeypatch):
    """What is told of all long work: [title, total, unit, count], if it is silent where it is short."""
    told = []

    class Counting(Progress):
        def __init__(self, *counted, short_is_silent):
            assert short_is_silent
            super().__init__(*counted, short_is_silent=True)

        def __exit__(self, *error):
            told.append([self.title, self.total, self.unit, self.done])

    for module in (hdf5, writing):
        monkeypatch.setattr(module, "Progress", Counting)
    return told


def test_softening_counts_the_rows_of_all_views(tmp_path, monkeypatch, progress):
    monkeypatch.setattr("pipeline.soft_labels.reading.SLAB_ROWS", 2)
    write_both(tmp_path)
    counted = [["soften train", 15, "rows", 15], ["soften val", 2, "rows", 2], ["soften test", 3, "rows", 3]]
    assert [work for work in progress if work[2] == "rows"] == counted


def test_the_digest_of_a_long_file_is_that_of_all_its_bytes(tmp_path, progress):
    """Three blocks of a mebibyte and a part of a fourth, of which the superblock names the end."""
    content = bytearray(np.random.default_rng(0).bytes(3 * 2**20 + 7))
    content[40:48] = len(content).to_bytes(8, "little")
    path = tmp_path / "long.h5"
    path.write_bytes(content)
    seal(path)
    assert sealed_sha256(path) == hashlib.sha256(content).hexdigest()
    assert damage(path) is None
    assert progress == [["digest of long.h5", 3, "MiB", 3]] * 2


def test_rows_of_an_index_are_those_of_each_split():
    rows = writing.rows_of_index(INDEX)
    assert [(split, images.ids, list(images.labels)) for split, images in rows.items()] == [
        (split, IDS[split], LABELS[split]) for split in SPLITS
    ]
    assert rows["val"].image_sha256 == ["10" * 32, "11" * 32]


def test_what_was_written_here_is_not_tried_before_it_is_read(tmp_path, monkeypatch):
    """Of content that no run has seen before."""
    tried = []
    monkeypatch.setattr("pipeline.runtime.tried_files.run_separately", lambda *_, path, **more: tried.append(path))
    logits, targets = write_both(tmp_path, teacher=uuid.uuid4().hex)
    assert tried == [logits]  # `soften_file` reads what `create_logits` wrote
    with open_soft_targets(targets):
        assert tried == [logits]


def test_ids_of_one_byte_take_one(tmp_path):
    images = [one._replace(id=f"{number}") for number, one in enumerate(INDEX.images[:10])]
    logits, _ = write_both(tmp_path, index=Index([one for one in images if one.split != "test"] + INDEX.split("test")))
    with h5py.File(logits) as file:
        assert [file[split]["id"].dtype.itemsize for split in SPLITS] == [1, 1, 60]


def test_texts_are_as_wide_as_the_longest_of_them():
    found = [hdf5.strings(texts) for texts in (["a", "b"], ["", "é"], [""])]
    assert [array.dtype.itemsize for array in found] == [1, 2, 1]
    assert hdf5.texts(found[1]) == ("", "é")


# The layout, read as anyone with h5py and NumPy would


@by_format
def test_the_last_line_names_digest_and_length_of_the_rest(made, kind):
    content = made[kind].read_bytes()
    digest = hashlib.sha256(content[:-128]).hexdigest()
    assert content.endswith(f"\nsoftlabel sha256 {digest} of {len(content) - 128} bytes\n".encode())
    assert sealed_sha256(made[kind]) == digest
    with opened(made[kind]) as file:
        assert file.sha256 == digest


@by_format
def test_sealing_again_or_after_half_a_seal_changes_nothing(copy_of, kind):
    path = copy_of(kind)
    whole = path.read_bytes()
    for left in (128, 127, 60, 1, 0):  # bytes of the seal that a kill left there
        path.write_bytes(whole[: len(whole) - 128 + left])
        seal(path)
        assert path.read_bytes() == whole


@by_kind
def test_a_file_holds_these_attributes_and_datasets(made, kind):
    with h5py.File(made[kind], "r") as file:
        assert sorted(file) == ["class_names", "test", "train", "val"]
        assert sorted(file.attrs) == sorted(ATTRIBUTES[kind])
        assert file.attrs["format"] == {"logits": "teacher-logits", "targets": "soft-targets"}[kind.split()[1]]
        assert file.attrs["version"] == 2
        assert file.attrs["teacher"] == "cnn"
        assert file.attrs["teacher_sha256"] == "ab" * 32
        assert file.attrs["dataset"] == INDEX.fingerprint()
        assert file.attrs["batch_size"] == 16
        # The keys in order, so that the same settings are the same bytes.
        assert file.attrs["preprocessing"] == (
            '{"decoder": "Pillow", "input_shape": [28, 28, 1], '
            '"resize": {"antialias": true, "fit": "stretch", "method": "bilinear"}}'
        )
        assert file.attrs["views"] == (
            '{"augmentation": {"contrast": 0.25, "rotation": 0.25, "translation": 0.125}, "count": 3, "seed": 5}'
        )
        assert json.loads(file.attrs["storage"]) == STORAGES[kind.split()[0]].as_json()
        assert [name.decode("utf-8") for name in file["class_names"][:]] == CLASS_NAMES
        assert h5py.check_string_dtype(file["class_names"].dtype).encoding == "utf-8"
        for split in SPLITS:
            group, count = file[split], len(IDS[split])
            assert not group.attrs
            assert sorted(f"{split}/{name}" for name in group) == sorted(
                name for of_kind, name in DATASETS if of_kind == kind and name.startswith(split)
            )
            for name, dataset in group.items():
                by_view, shape, dtype = ROWS[kind][name]
                longest = max(len(text.encode()) for text in IDS[split])
                assert dataset.shape == ((VIEWS_OF[split],) if by_view else ()) + (count, *shape), name
                assert dataset.dtype == (dtype or np.dtype(f"S{longest}")), name
                assert dataset.chunks is None
                assert dataset.compression is None
                assert not dataset.fletcher32
                assert not dataset.attrs
            assert [text.decode("utf-8") for text in group["id"][:]] == IDS[split]
            assert h5py.check_string_dtype(group["id"].dtype).encoding == "utf-8"
            labels = group["label"][:] if "label" in group else group["hard"][:].argmax(axis=1)
            assert labels.tolist() == LABELS[split]


@pytest.mark.parametrize("name", ["dense", "top-k"])
def test_soft_targets_name_their_logits_and_tell_the_same_origin(made, name):
    logits, targets = made[f"{name} logits"], made[f"{name} targets"]
    with h5py.File(logits) as source, h5py.File(targets) as file:
        assert file.attrs["temperature"] == 4.0
        assert file.attrs["logits"] == hashlib.sha256(logits.read_bytes()[:-128]).hexdigest()
        for attribute in set(PROVENANCE_ATTRIBUTES) - {"format"}:
            assert file.attrs[attribute] == source.attrs[attribute]
        for split in SPLITS:
            for shared in sorted(set(source[split]) & set(file[split]) - {"index"}):
                np.testing.assert_array_equal(source[split][shared][...], file[split][shared][...])


# The same inputs are the same bytes


def test_the_same_inputs_are_the_same_bytes_a_second_later(made, tmp_path):
    time.sleep(1.1)  # HDF5 keeps times in whole seconds
    for name, stored_as in STORAGES.items():
        logits, targets = write_both(tmp_path / f"{name} again", stored_as=stored_as)
        assert logits.read_bytes() == made[f"{name} logits"].read_bytes()
        assert targets.read_bytes() == made[f"{name} targets"].read_bytes()


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path, made):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import soft_label_files; soft_label_files.write_both(Path(sys.argv[2]))\n"
    )
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    subprocess.run(arguments, check=True)
    assert (tmp_path / "teacher_logits.h5").read_bytes() == made["dense logits"].read_bytes()
    assert (tmp_path / "soft_targets_T4.h5").read_bytes() == made["dense targets"].read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("HP", "SSA", "other")},
        {"teacher": "resnet50v2"},
        {"teacher_sha256": "ac" * 32},
        {"dataset": "ce" * 32},
        {"preprocessing": {"resize": "nearest", "input_shape": [28, 28, 1]}},
        {"batch_size": 17},
        {"views": replace(VIEWS, seed=6)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_origin_is_another_digest(tmp_path, made, change):
    logits, targets = write_both(tmp_path, **change)
    assert sealed_sha256(logits) != sealed_sha256(made["dense logits"])
    assert sealed_sha256(targets) != sealed_sha256(made["dense targets"])


def test_reading_changes_nothing(logits_path, targets_path):
    before = logits_path.read_bytes(), targets_path.read_bytes()
    for path in (logits_path, targets_path):
        with opened(path) as file:
            file.columns("train", 2)
            file.transforms("train", 0)
            file.labels("test")
    with hdf5.opened(logits_path, {LOGITS_FORMAT: "precompute"}) as file:
        assert file.mode == "r"
    assert (logits_path.read_bytes(), targets_path.read_bytes()) == before


# Softening


def soften_two_classes(folder, row, temperature):
    """What the soft-target file says of one row of two logits."""
    images = [image(split, number)._replace(class_name=f"class {number}") for split in SPLITS for number in range(2)]
    values = np.tile(np.asarray(row, np.float32), (1, 2, 1))
    _, targets = write_both(
        folder,
        temperature,
        index=Index(images),
        views=Views(1, 0, Augmentation()),
        logits=lambda *_: values,
    )
    with open_soft_targets(targets) as file:
        assert file.temperature == temperature
        return file.columns("test", 0)["soft"][0]


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        # v = (0, ln 16): p = (1, 16^(1/T)) over their sum.
        (1.0, [1 / 17, 16 / 17]),
        (4.0, [1 / 3, 2 / 3]),  # 16^(1/4) = 2
        (2.0, [1 / 5, 4 / 5]),
        (0.5, [1 / 257, 256 / 257]),
        (0.3, [1 / (1 + 2 ** (40 / 3)), 1 / (1 + 2 ** (-40 / 3))]),  # 16^(10/3) = 2^(40/3)
        (40.0, [1 / (1 + 2**0.1), 1 / (1 + 2**-0.1)]),  # 16^(1/40) = 2^0.1
    ],
)
def test_softening_two_classes_by_hand(tmp_path, temperature, expected):
    found = soften_two_classes(tmp_path, [0.0, math.log(16.0)], temperature)
    # ln 16 = 2.77 is stored as float32: an error of 2.8 ULP in v is one of 2.8 / T ULP in p, relative.
    np.testing.assert_allclose(found, expected, rtol=(1 + 3 / temperature) * ULP)


@pytest.mark.parametrize(
    ("row", "temperature", "expected"),
    [
        ([1e4, 0.0], 1.0, [1.0, 0.0]),  # e^-10000 is 0 in any format
        ([-1e4, 1e4], 1.0, [0.0, 1.0]),
        ([9999.0, 1e4], 4.0, [1 / (1 + math.exp(0.25)), 1 / (1 + math.exp(-0.25))]),
        ([-3e38, 3e38], 1.0, [0.0, 1.0]),
    ],
)
def test_huge_logits_are_stable(tmp_path, row, temperature, expected):
    np.testing.assert_allclose(soften_two_classes(tmp_path, row, temperature), expected, rtol=2 * ULP)


def test_an_interrupted_softening_leaves_the_older_file(tmp_path, logits_path, targets_path, monkeypatch):
    before = targets_path.read_bytes()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(logit_storage, "softmax", fail)
    with pytest.raises(MemoryError):
        soften_file(logits_path, targets_path, 2.0)
    assert targets_path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soft_targets_T4.h5", "teacher_logits.h5"]


def test_an_unwritable_target_is_not_blamed_on_the_source(tmp_path, logits_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        soften_file(logits_path, tmp_path / "file" / "soft_targets_T4.h5", 4.0)


# Damage: bytes that are not those that were written


def flip(path, position, bit=6):
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


@by_format
def test_a_missing_file_is_refused_with_the_command(copy_of, kind):
    path = copy_of(kind)
    path.unlink()
    with pytest.raises(MissingError) as refused, opened(path):
        pass
    assert str(path) in str(refused.value)
    assert f"`dvc repro {stage_of(path)}`" in str(refused.value)


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(MissingError, match=r"no file .*dvc repro precompute"), open_logits(tmp_path):
        pass


NO_SOFT_LABELS = "no soft-label file"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"id,HP,SSA\na.png,0.1,0.9\n",
        b"\x89HDF\r\n\x1a\n" + b"\0" * 2000,
        b"softlabel sha256 " + b"0" * 64,
        b"\x89HDF\r\n\x1a\n" + b"\0" * 2000 + b"softlabel sha256 " + b"0" * 64,
        b"\0" * 3000,
    ],
    ids=["empty", "text", "HDF5 without a digest", "half a digest", "HDF5 and half a digest", "zeros"],
)
def test_what_is_no_soft_label_file_is_refused(logits_path, content):
    logits_path.write_bytes(content)
    message = refusal(logits_path)
    assert NO_SOFT_LABELS in message or (content.startswith(b"softlabel") and OF_VERSION_1 in message)


def test_a_plain_hdf5_file_is_refused(tmp_path):
    path = tmp_path / "teacher_logits.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = LOGITS_FORMAT, 2
    assert NO_SOFT_LABELS in refusal(path)


OF_VERSION_1 = "of version 1, "


@by_format
def test_a_file_of_version_1_is_told_from_damage(copy_of, kind):
    """512 bytes in front of HDF5: a line that names the digest of the rest and the length of all, then zeros."""
    path = copy_of(kind)
    body = path.read_bytes()[:-128]
    line = f"softlabel sha256 {hashlib.sha256(body).hexdigest()} of {512 + len(body)} bytes\n"
    path.write_bytes(line.encode().ljust(512, b"\0") + body)
    message = refusal(path)
    assert OF_VERSION_1 in message
    assert "expected version 2" in message
    assert "damaged" not in message


@by_format
def test_a_file_that_was_cut_off_or_made_longer_is_refused(copy_of, kind):
    path = copy_of(kind)
    for change in (-1, -100, -2048, 1, 4096):
        content = made_longer(path.read_bytes(), change)
        path.with_stem(f"{path.stem}_{change}").write_bytes(content)
        assert NO_SOFT_LABELS in refusal(path.with_stem(f"{path.stem}_{change}")), change


def made_longer(content, change):
    """Some bytes more, or fewer."""
    return (content + b"\0" * 4096)[: len(content) + change]


@by_format
def test_a_wrong_length_is_refused_with_both_lengths(copy_of, kind):
    path = copy_of(kind)
    content = path.read_bytes()
    length = len(content) - 128
    for change in (-1, -2048, 1, 4096):
        path.write_bytes(made_longer(content[:length], change) + content[length:])
        assert f"damaged: {length + change} bytes" in (message := refusal(path))
        assert f"expected {length}. " in message


NO_MATCH = "damaged: its bytes do not match their digest"


@pytest.mark.parametrize(
    ("before", "part", "said"),
    [
        (128, "", NO_MATCH),  # of the line feeds in front
        (0, "softlabel", NO_SOFT_LABELS),
        (0, "sha256 ", NO_SOFT_LABELS),
        (-7, "sha256 ", "is damaged"),  # of the digest, which is no longer hexadecimal or another
        (-3, "of ", "is damaged"),  # of the length, which is no longer a number or another
        (1, "", NO_SOFT_LABELS),  # of the line feed that ends it
    ],
)
def test_a_flipped_bit_in_the_seal_is_refused(copy_of, before, part, said):
    path = copy_of("dense logits")
    content = path.read_bytes()
    flip(path, (content.rindex(part.encode(), 0, len(content))) - before, bit=0)
    assert said in refusal(path)


@by_format
def test_one_flipped_bit_of_every_byte_is_found(copy_of, kind):
    """So in every dataset, attribute and part of HDF5's structure; of the last line another message may tell."""
    path = copy_of(kind)
    assert damage(path) is None
    sound, told = path.read_bytes(), []
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(sound):
            file.seek(position)
            file.write(bytes([byte ^ (1 << position % 8)]))
            told.append(damage(path))
            file.seek(position)
            file.write(bytes([byte]))
    assert set(told[:-128]) == {f"is {NO_MATCH}"}
    assert None not in told
    assert damage(path) is None


@by_format
def test_a_flipped_bit_is_refused_with_the_command(made, tmp_path, kind):
    """In this process: libhdf5, which a flipped bit can crash, must not see it."""
    sound = made[kind].read_bytes()
    path = tmp_path / made[kind].name
    for position in (*range(0, len(sound) - 128, len(sound) // 25), len(sound) - 129):
        path.write_bytes(sound)
        flip(path, position)
        assert NO_MATCH in refusal(path), position


@pytest.mark.parametrize("bits", [1, 2])
def test_a_damaged_file_is_never_given_to_hdf5(copy_of, monkeypatch, bits):
    path = copy_of("dense logits")
    for position in range(600, 600 + bits):
        flip(path, position)

    def fail(*_, **__):
        raise AssertionError("HDF5 was asked to open a damaged file")

    monkeypatch.setattr("pipeline.soft_labels.hdf5.h5py.File", fail)
    refusal(path)


# Damage: a sound file that is not what it should be


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


def without_attribute(name):
    return lambda file: file.attrs.__delitem__(name)


def replaced(name, values):
    """Another data set under an old name."""

    def change(file):
        found = values(file[name][...])
        del file[name]
        file[name] = found

    return change


def as_group(name):
    def change(file):
        del file[name]
        file.create_group(name)

    return change


@by_format
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (attribute("format", "something-else"), "is of format 'something-else', expected '{format}'. "),
        (without_attribute("format"), "is no HDF5 file"),
        (attribute("version", 0), "version 0 of the format '{format}', expected version 2. "),
        (without_attribute("version"), "is no HDF5 file"),
        (attribute("version", "two"), "is no HDF5 file"),
    ],
    ids=["another format", "no format", "an older version", "no version", "a version that is a text"],
)
def test_another_format_or_version_is_refused(copy_of, kind, change, said):
    path = copy_of(kind)
    edit(path, change)
    name = {"logits": "teacher-logits", "targets": "soft-targets"}[kind.split()[1]]
    assert said.format(format=name) in refusal(path)


@by_format
def test_a_newer_version_is_told_from_damage(copy_of, kind):
    path = copy_of(kind)
    edit(path, attribute("version", 3))
    message = refusal(path)
    assert "version 3" in message
    assert "expected version 2" in message
    assert "update softlabel" in message
    assert "damaged" not in message


def test_one_format_is_not_taken_for_the_other(logits_path, targets_path):
    expected = r"is of format 'soft-targets', expected 'teacher-logits'.*precompute`"
    with pytest.raises(DamagedError, match=expected), open_logits(targets_path):
        pass
    expected = r"is of format 'teacher-logits', expected 'soft-targets'.*soften`"
    with pytest.raises(DamagedError, match=expected), open_soft_targets(logits_path):
        pass


@by_kind
def test_a_missing_attribute_is_named(copy_of, kind):
    changes = {name: without_attribute(name) for name in ATTRIBUTES[kind] if name != "logits"}
    for name, message in refusals(copy_of(kind), edits(changes)).items():
        assert re.search(rf"'{name}'|{name} None", message), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("views", "{"),
        ("views", "{}"),
        ("views", '{"count": 3, "seed": 5, "augmentation": {"color": 1}}'),
        ("storage", '{"kind": "zipped"}'),
        ("storage", '{"kind": "dense"}'),
        ("preprocessing", "bilinear"),
        ("batch_size", "many"),
    ],
    ids=str,
)
def test_an_attribute_that_cannot_be_understood_is_refused(logits_path, name, value):
    edit(logits_path, attribute(name, value))
    assert "lacks what its format demands" in refusal(logits_path)


@pytest.mark.parametrize("temperature", [0.0, -4.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(copy_of, temperature):
    path = copy_of("dense targets")
    edit(path, attribute("temperature", temperature))
    assert f"its temperature is {temperature}" in refusal(path)


def test_the_precision_of_the_teachers_pass_is_read(tmp_path):
    for precision in (None, "mixed_float16", "mixed_bfloat16"):
        with opened(write_logits(tmp_path / str(precision) / "teacher_logits.h5", precision=precision)) as file:
            assert file.provenance.precision == precision


def test_a_precision_that_no_teacher_has_is_refused(logits_path):
    edit(logits_path, attribute("precision", "float8"))
    assert "its precision is 'float8'" in refusal(logits_path)


def without_rows(split):
    """Takes all rows of a split away, as if it had no images."""

    def change(file):
        for name, dataset in list(file[split].items()):
            shape = (dataset.shape[0], 0, *dataset.shape[2:]) if name in ("affine", "color", "logits") else (0,)
            dtype = dataset.dtype
            del file[split][name]
            file[split].create_dataset(name, shape, dtype)

    return change


def test_a_split_without_rows_is_refused(logits_path):
    edit(logits_path, without_rows("val"))
    assert "does not lie in one run of the file's bytes" in refusal(logits_path)


def test_what_lies_behind_the_end_is_gone_when_a_file_is_sealed(logits_path):
    """Such as what a run wrote that was killed, whatever its length."""
    sound = logits_path.read_bytes()
    logits_path.write_bytes(sound + b"x" * 300)
    seal(logits_path)
    assert logits_path.read_bytes() == sound


def without(name):
    return lambda file: file.__delitem__(name)


@by_kind
def test_a_missing_dataset_is_refused(copy_of, kind):
    for name, message in refusals(copy_of(kind), edits({name: without(name) for name in datasets_of(kind)})).items():
        assert "lacks what its format demands" in message or " holds [" in message, name
        assert f"'{name.split('/')[-1]}'" in message, name


@by_format
def test_a_missing_split_is_refused(copy_of, kind):
    for split, message in refusals(copy_of(kind), edits({name: without(name) for name in SPLITS})).items():
        others = sorted(["class_names", *(name for name in SPLITS if name != split)])
        assert f"it holds {others}, expected ['class_names', 'test', 'train', 'val']" in message


@by_format
def test_an_unknown_dataset_is_named(copy_of, kind):
    def added(name):
        return lambda file: file.create_dataset(name, data=np.zeros(3))

    for place, message in refusals(
        copy_of(kind), edits({place: added(f"{place}extra") for place in ("", "train/", "val/")})
    ).items():
        assert "'extra'" in message, place
        assert ", expected [" in message, place


OTHER_DTYPE = {
    "class_names": np.float32,
    "id": np.int64,
    "image_sha256": "S65",
    "affine": np.float32,
    "color": np.float64,
    "label": np.int64,
    "logits": np.float64,
    "hard": np.float32,
    "soft": np.float16,
    "index": np.int32,
    "value": np.float32,
    "tail_mean": np.float16,
    "tail_variance": np.float64,
    "probability": np.float64,
    "tail": np.float64,
}


@by_kind
def test_a_dataset_of_another_dtype_is_named(copy_of, kind):
    def zeros(name):
        return replaced(name, lambda values: np.zeros(values.shape, OTHER_DTYPE[name.split("/")[-1]]))

    for name, message in refusals(copy_of(kind), edits({name: zeros(name) for name in datasets_of(kind)})).items():
        other = np.dtype(OTHER_DTYPE[name.split("/")[-1]])
        assert "lacks what its format demands" in message or f"holds /{name} as {other} of" in message


@by_kind
@pytest.mark.parametrize(
    "reshape",
    [lambda values: np.concatenate([values, values[..., :1]], axis=-1), lambda values: values[None]],
    ids=["longer", "an axis more"],
)
def test_a_dataset_of_another_shape_is_named(copy_of, kind, reshape):
    changes = {
        name: replaced(name, lambda values: reshape(values).astype(values.dtype))
        for name in datasets_of(kind)
        if name != "class_names"
    }
    for name, message in refusals(copy_of(kind), edits(changes)).items():
        # A wrong number of ids is seen at the first data set that has one row an image.
        assert "holds /" in message, name
        assert " of shape (" in message, name
        assert ", expected " in message, name


@by_kind
def test_a_group_in_the_place_of_a_dataset_is_refused(copy_of, kind):
    assert refusals(copy_of(kind), edits({name: as_group(name) for name in datasets_of(kind)}))


@by_format
def test_a_dataset_in_the_place_of_a_split_is_refused(copy_of, kind):
    path = copy_of(kind)
    edit(path, replaced_by_numbers)
    assert "lacks what its format demands" in refusal(path)


def replaced_by_numbers(file):
    del file["val"]
    file["val"] = np.zeros(3)


def test_its_structure_is_read_before_where_a_crash_does_no_harm(copy_of, monkeypatch):
    """Each content once, as it is read here."""
    tried = []
    monkeypatch.setattr(reading, "try_once", lambda reader, *arguments, **more: tried.append([reader, arguments, more]))
    path = copy_of("dense logits")
    with open_logits(path) as file:
        [[reader, arguments, more]] = tried
        assert (arguments, more["sha256"]) == ((path, ["teacher-logits"]), file.sha256)
    reader(str(path), ["teacher-logits"])
    edit(path, lambda file: file["train"].pop("label"))
    with pytest.raises(DamagedError, match=r"/train, expected .*'label'"):
        reader(str(path), ["teacher-logits"])


@by_format
def test_a_class_name_twice_is_refused(copy_of, kind):
    path = copy_of(kind)
    edit(path, replaced("class_names", lambda values: values[[0, 1, 1]]))
    assert "its class names are ['HP', 'SSA', 'SSA']" in refusal(path)


@by_format
def test_a_dataset_in_chunks_is_refused(copy_of, kind):
    def in_chunks(file):
        values = file["val/affine"][...]
        del file["val/affine"]
        file.create_dataset("val/affine", data=values, chunks=True)

    path = copy_of(kind)
    edit(path, in_chunks)
    assert "/val/affine does not lie in one run of the file's bytes" in refusal(path)


def a_soft_link(file, name):
    file[name] = h5py.SoftLink("/train/id")


def a_link_to_another_file(file, name):
    file[name] = h5py.ExternalLink("/dev/zero", "/id")


def data_in_another_file(file, name):
    file.create_dataset(name, (5,), "i4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def data_of_other_datasets(file, name):
    file.create_virtual_dataset(name, h5py.VirtualLayout((5,), "i4"))


def data_in_the_header(file, name):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((5,)), plan)


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (a_soft_link, "is a link to another place or file"),
        (a_link_to_another_file, "is a link to another place or file"),
        (data_in_another_file, "does not lie in one run of the file's bytes"),
        (data_of_other_datasets, "does not lie in one run of the file's bytes"),
        (data_in_the_header, "does not lie in one run of the file's bytes"),
    ],
)
@pytest.mark.parametrize("name", ["class_names", "train/label"])
def test_what_lies_elsewhere_is_refused(copy_of, put, told, name):
    def change(file):
        del file[name]
        put(file, name)

    path = copy_of("dense logits")
    edit(path, change)
    assert f"{name.rpartition('/')[2]} {told}" in refusal(path)


def test_a_group_that_holds_itself_is_refused(copy_of):
    def change(file):
        file["train/loop"] = file["train"]

    path = copy_of("dense logits")
    edit(path, change)
    assert "'loop'" in refusal(path)


def test_a_dataset_behind_the_end_of_the_file_is_refused(copy_of):
    path = copy_of("dense logits")
    with h5py.File(path) as file:
        start, size = file["test/label"].id.get_offset(), file["test/label"].nbytes
    content = path.read_bytes()
    place = content.index(start.to_bytes(8, "little") + size.to_bytes(8, "little"))
    path.write_bytes(content[:place] + (2**40).to_bytes(8, "little") + content[place + 8 :])
    seal(path)
    assert "lacks what its format demands" in refusal(path)


def test_a_file_without_a_seal_has_no_digest(copy_of):
    path = copy_of("dense logits")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="does not end with its digest"):
        sealed_sha256(path)


@pytest.mark.parametrize(
    "storage",
    [
        {"kind": "dense", "dtype": "float64"},
        {"kind": "dense", "dtype": "O"},
        {"kind": "topk", "k": -1, "dtype": "float16"},
    ],
)
def test_a_storage_that_is_none_is_refused(copy_of, storage):
    path = copy_of("dense logits")
    edit(path, lambda file: file.attrs.modify("storage", json.dumps(storage)))
    assert 'lacks what its format demands: ValueError("its storage is ' in refusal(path)


def test_a_kept_logit_of_no_class_is_refused(copy_of):
    path = copy_of("top-k logits")
    edit(path, lambda file: file["train/index"].write_direct(np.full(file["train/index"].shape, 7, "uint16")))
    with open_logits(path) as file, pytest.raises(DamagedError, match="names class 7 of 3 classes"):
        file.soft_labels("train", 0, slice(None))


@pytest.mark.parametrize(("kind", "name"), [("dense logits", "logits"), ("dense targets", "soft")])
def test_a_class_name_too_many_is_refused(copy_of, kind, name):
    path = copy_of(kind)
    edit(path, replaced("class_names", lambda values: np.concatenate([values, np.array([b"new"], values.dtype)])))
    assert re.search(rf"/{name} as float32 of shape \(3, 5, 3\), expected float32 of shape \(3, 5, 4\)", refusal(path))


# Several teachers in one

ENSEMBLE = {
    "average": "probabilities",
    "members": [
        {"teacher": "cnn", "teacher_sha256": "cd" * 32},
        {"teacher": "réseau", "teacher_sha256": "ef" * 32},
    ],
}


@by_storage
def test_both_files_name_the_members_of_an_ensemble(tmp_path, stored_as):
    """docs/format.md: a JSON attribute, with plain h5py; and the same through the reader."""
    for path in write_both(tmp_path, stored_as=STORAGES[stored_as], ensemble=ENSEMBLE):
        with h5py.File(path) as file:
            assert json.loads(file.attrs["ensemble"]) == ENSEMBLE
        with opened(path) as file:
            assert file.provenance.ensemble == ENSEMBLE


@by_format
def test_a_single_teacher_has_no_members(made, kind):
    with h5py.File(made[kind]) as file:
        assert "ensemble" not in file.attrs
    with opened(made[kind]) as file:
        assert file.provenance.ensemble is None


def test_the_digest_depends_on_the_members_and_their_order(tmp_path):
    turned = ENSEMBLE | {"members": ENSEMBLE["members"][::-1]}
    reordered = dict(reversed(ENSEMBLE.items()))
    made = {"first": ENSEMBLE, "again": reordered, "turned": turned, "none": None}
    files = {name: write_both(tmp_path / name, ensemble=ensemble) for name, ensemble in made.items()}
    digests = {name: [sealed_sha256(path) for path in paths] for name, paths in files.items()}
    assert digests["first"] == digests["again"]
    for number in (0, 1):
        assert len({found[number] for found in digests.values()}) == 3


MEMBER = ENSEMBLE["members"][0]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "cnn and mlp",
        json.dumps([MEMBER, MEMBER]),
        json.dumps(ENSEMBLE | {"average": "votes"}),
        json.dumps(ENSEMBLE | {"members": []}),
        json.dumps(ENSEMBLE | {"members": 2}),
        json.dumps(ENSEMBLE | {"members": ["cnn", "cnn"]}),
        json.dumps(ENSEMBLE | {"members": [MEMBER, {"teacher": "cnn"}]}),
        json.dumps(ENSEMBLE | {"members": [MEMBER, {"teacher_sha256": "ab" * 32}]}),
        json.dumps(ENSEMBLE | {"members": [MEMBER, MEMBER | {"teacher_sha256": 7}]}),
        json.dumps({"members": [MEMBER, MEMBER]}),
        json.dumps({"average": "logits"}),
    ],
)
def test_an_ensemble_that_cannot_be_understood_is_refused(logits_path, value):
    edit(logits_path, attribute("ensemble", value))
    assert "lacks what its format demands" in refusal(logits_path)


@pytest.mark.parametrize(
    "value",
    [
        "CC-BY",
        7,
        0.5,
        pytest.param(np.array([1.5, 2.5]), id="numbers"),
        pytest.param(np.bytes_(b"fixed"), id="fixed-length string"),
    ],
)
def test_a_file_with_an_attribute_more_is_read(logits_path, value):
    # docs/format.md: a writer MAY add attributes; readers ignore them.
    edit(logits_path, attribute("note", value))
    with opened(logits_path) as file:
        assert file.ids("val") == tuple(IDS["val"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (Path.unlink, MissingError),
        (lambda path: flip(path, path.stat().st_size - 9), DamagedError),
        (lambda path: edit(path, attribute("version", 3)), DamagedError),
    ],
    ids=["missing", "flipped", "newer"],
)
def test_nothing_is_softened_from_a_damaged_file(tmp_path, logits_path, change, error):
    change(logits_path)
    with pytest.raises(error, match="precompute"):
        soften_file(logits_path, tmp_path / "soft_targets_T4.h5", 4.0)
    assert not list(tmp_path.glob("soft_targets*"))


def test_of_hdf5s_errors_a_failed_writing_is_of_the_disk():
    """h5py raises the first one where the disk is full, and the other where a file is damaged."""
    with (
        pytest.raises(OSError, match=r"^x\.h5 could not be written: .*write failed"),
        full_disk_as_os_error(Path("x.h5")),
    ):
        raise RuntimeError("Unable to flush file (file write failed: errno = 28)")
    with pytest.raises(RuntimeError, match=r"^Unable to read"), full_disk_as_os_error(Path("x.h5")):
        raise RuntimeError("Unable to read attribute")
