"""The golden files, read as `docs/format.md` says, with h5py and NumPy alone: what a version 2 file is."""

import hashlib
import json
import re
import runpy
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import norm

FOLDER = Path(__file__).parent / "golden"
LOGITS = ["teacher_logits_dense", "teacher_logits_topk", "teacher_logits_mixed"]
TARGETS = ["soft_targets_T2_dense", "soft_targets_T2_topk", "soft_targets_T2_mixed"]
MIXED = ["teacher_logits_mixed", "soft_targets_T2_mixed"]
FILES = [*LOGITS, *TARGETS]
VIEWS_OF = {"train": 2, "val": 1, "test": 1}
CLASSES = ["adenoma", "hyperplasia", "normal", "sérrated"]
IDS = {"train": ["a.png", "b.png", "é.png"], "val": ["c.png"], "test": ["d.png", "f.png"]}
SHA256 = {"train": ["0a" * 32, "0b" * 32, "0e" * 32], "val": ["0c" * 32], "test": ["0d" * 32, "0f" * 32]}
LABELS = {"train": [0, 2, 1], "val": [2], "test": [1, 0]}
V = {
    "train": [
        [[4.0, 1.0, 0.5, -2.0], [-1.0, 0.25, 3.0, 0.0], [0.0, 6.0, -6.0, 1.5]],
        [[3.5, 1.5, 0.0, -2.5], [-0.5, 0.5, 2.0, 0.0], [1.0, 5.0, -5.0, 2.5]],
    ],
    "val": [[[-3.0, 0.0, 2.0, 1.0]]],
    "test": [[[0.5, 1.0, 0.0, -0.5], [2.0, -2.0, 1.0, 0.0]]],
}
# The two largest of each row of V, and mean and variance of the two others, by hand.
INDEX = {"train": [[[0, 1], [2, 1], [1, 3]], [[0, 1], [2, 1], [1, 3]]], "val": [[[2, 3]]], "test": [[[1, 0], [0, 2]]]}
VALUE = {
    "train": [[[4.0, 1.0], [3.0, 0.25], [6.0, 1.5]], [[3.5, 1.5], [2.0, 0.5], [5.0, 2.5]]],
    "val": [[[2.0, 1.0]]],
    "test": [[[1.0, 0.5], [2.0, 1.0]]],
}
TAIL_MEAN = {"train": [[-0.75, -0.5, -3.0], [-1.25, -0.25, -2.0]], "val": [[-1.5]], "test": [[-0.25, -1.0]]}
TAIL_VARIANCE = {"train": [[1.5625, 0.25, 9.0], [1.5625, 0.0625, 9.0]], "val": [[2.25]], "test": [[0.0625, 1.0]]}
UNTOUCHED = [1, 0, 0, 0, 1, 0]
AFFINE = {
    "train": [
        [[-0.0784, -0.997, 0, -0.997, 0.0784, 0], [-0.2632, -0.965, 0, -0.965, 0.2632, 0],
         [-1, -0.01022, 0, -0.01022, 1, 0]],
        [[-0.552, 0.834, 0, 0.834, 0.552, 0], [0.2534, 0.9673, 0, -0.9673, 0.2534, 0],
         [0.3987, 0.917, 0, -0.917, 0.3987, 0]],
    ],
    "val": [[UNTOUCHED]],
    "test": [[UNTOUCHED, UNTOUCHED]],
}  # fmt: skip
BRIGHTNESS = [[-0.1181, -0.0575, 0.04742], [0.0517, -0.02858, -0.02098]]  # biases; all gains are 1

MIX = {
    "affine": [[[-1, 0, 0, 0, 1, 0], UNTOUCHED, UNTOUCHED], [UNTOUCHED] * 3],
    "operation": [[[1, 4], [2, 4], [2, 2]], [[2, 2], [4, 2], [4, 2]]],
    "strength": [
        [[0.01788330078125, 1], [0.08056640625, 1], [-0.0732421875, -0.09796142578125]],
        [[0.01220703125, 0.06646728515625], [1, 0.016571044921875], [1, -0.0712890625]],
    ],
    "erased": [
        [[-0.423095703125, 0.459228515625, 0.4296875, 0.91015625],
         [-0.492431640625, -0.200439453125, 0.5888671875, 0.9345703125], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [-0.876953125, 0.2034912109375, -0.58837890625, 0.48388671875], [0, 0, 0, 0]],
    ],
    "partner": [[1, 0, -1], [1, 0, 1]],
    "lambda": [[0.72509765625, 0.72509765625, 1], [0.78759765625, 0.54443359375, 0.482177734375]],
    "box": [
        [[0, 0, 0, 0], [-1, -0.468994140625, -0.173828125, 0.8623046875], [0, 0, 0, 0]],
        [[-1, 0.16845703125, 0.0214996337890625, 1], [0, 0, 0, 0],
         [-0.1944580078125, -0.73779296875, 1, 0.99658203125]],
    ],
}  # fmt: skip
"""What the files of mixed views hold for their training images, beside the brightness."""

VIEWS = {
    "count": 2,
    "seed": 7,
    "augmentation": {"horizontal_flip": True, "rotation": 0.25, "fill_mode": "nearest", "brightness": 0.125},
}
MIXED_VIEWS = {
    "count": 2,
    "seed": 12,
    "augmentation": {
        "horizontal_flip": True,
        "fill_mode": "nearest",
        "brightness": 0.125,
        "operations": {"count": 2, "of": {"hue": 0.1, "blur": 0.05, "grayscale": 1.0}},
        "erasing": {"share": 0.5, "area": [0.02, 0.33], "aspect_ratio": [0.3, 3.3]},
        "mixup": {"alpha": 1.0, "share": 0.4},
        "cutmix": {"alpha": 1.0, "share": 0.4},
    },
}
PREPROCESSING = {
    "input_shape": [8, 6, 3],
    "decoder": "Pillow",
    "resize": {"method": "bilinear", "antialias": True, "fit": "stretch"},
}
DIGESTS = {
    "teacher_logits_dense": "0e291e0f4fd27963f69db1a86bd671b93e5c9da24cb2df4a345966c19158f74e",
    "teacher_logits_topk": "9b009519277bee919e604b7eeb6d274125f6c5e3898f52bbebf9f4253a69e439",
    "soft_targets_T2_dense": "df7ec5e25989519820eab8e49932e8ba0d1c29781c28aa35f35879f89046fe78",
    "soft_targets_T2_topk": "095ae3f5b77480d58c820e2edaf5cfc6f3abf027a8faad7c8dcdb9eb62472bf1",
    "teacher_logits_mixed": "4a456a35cf8b78ddbe946fa3494aff1039dcd02474a284c9e594994772aa5833",
    "soft_targets_T2_mixed": "9ae221b39f29cfb82dfa437adf3c2d7545d4aec2a3de8f090f775fc00cf91419",
}
OF_LOGITS = {"temperature": None, "logits": None}
OF_TARGETS = {
    "teacher_logits_dense": OF_LOGITS,
    "teacher_logits_topk": OF_LOGITS,
    "soft_targets_T2_dense": {"temperature": 2.0, "logits": DIGESTS["teacher_logits_dense"]},
    "soft_targets_T2_topk": {"temperature": 2.0, "logits": DIGESTS["teacher_logits_topk"]},
    "teacher_logits_mixed": OF_LOGITS,
    "soft_targets_T2_mixed": {"temperature": 2.0, "logits": DIGESTS["teacher_logits_mixed"]},
}
# Shape of one row, whether there is one a view, dtype.
COMMON = {"id": ((), False, None), "image_sha256": ((), False, "S64"), "affine": ((6,), True, "<f2")}
LABEL = {"label": ((), False, "<i4")}
DATASETS = {
    "teacher_logits_dense": COMMON | LABEL | {"logits": ((4,), True, "<f4")},
    "teacher_logits_topk": COMMON
    | LABEL
    | {
        "index": ((2,), True, "<u2"),
        "value": ((2,), True, "<f2"),
        "tail_mean": ((), True, "<f4"),
        "tail_variance": ((), True, "<f4"),
    },
    "soft_targets_T2_dense": COMMON | {"hard": ((4,), False, "u1"), "soft": ((4,), True, "<f4")},
    "soft_targets_T2_topk": COMMON
    | LABEL
    | {"index": ((2,), True, "<u2"), "probability": ((2,), True, "<f4"), "tail": ((), True, "<f4")},
}
for of_dense in ("teacher_logits_{}", "soft_targets_T2_{}"):
    DATASETS[of_dense.format("mixed")] = DATASETS[of_dense.format("dense")]
COLOR = {"color": ((6,), True, "<f2")}
OF_MIXED = {
    "operation": ((2,), True, "u1"),
    "strength": ((2,), True, "<f2"),
    "erased": ((4,), True, "<f2"),
    "partner": ((), True, "<i4"),
    "lambda": ((), True, "<f2"),
    "box": ((4,), True, "<f2"),
}


def datasets_of(name, split):
    """The untouched images of other splits have an affine transform and no other."""
    of_train = COLOR | (OF_MIXED if name in MIXED else {})
    return DATASETS[name] | (of_train if split == "train" else {})


of_each_file = pytest.mark.parametrize("name", FILES)
of_each_split = pytest.mark.parametrize("split", VIEWS_OF)


def path_of(name):
    return FOLDER / f"{name}.h5"


def opened(name):
    return h5py.File(path_of(name), "r")


def decoded(dataset):
    assert h5py.check_string_dtype(dataset.dtype).encoding == "utf-8"
    assert dataset.dtype.kind == "S"  # of fixed length
    return [text.decode() for text in dataset[:]]


def same(found, expected):
    np.testing.assert_array_equal(found, np.array(expected, found.dtype))


def within_one_rounding(found, expected):
    """float32 rounds a float64 by at most one part in 2^24; the two computations differ by far less."""
    np.testing.assert_allclose(found, expected, rtol=2.0**-23, atol=0)


def softened(logits):
    powers = np.exp(np.array(logits, np.float64) / 2)
    return powers / powers.sum(axis=-1, keepdims=True)


def softened_topk(split):
    """The document's formula at T = 2: probabilities of the two kept classes, and of the two others together."""
    u_all = np.array(VALUE[split]) / 2
    m, s = np.array(TAIL_MEAN[split]) / 2, np.sqrt(TAIL_VARIANCE[split]) / 2
    u = u_all[..., -1]
    log_expectation = m + s**2 / 2 + np.log(norm.cdf((u - m) / s - s)) - np.log(norm.cdf((u - m) / s))
    tail = 2 * np.exp(np.clip(log_expectation, m, u))
    total = np.exp(u_all).sum(-1) + tail
    return np.exp(u_all) / total[..., None], tail / total


@of_each_file
def test_the_last_128_bytes_are_line_feeds_and_one_line(name):
    last = path_of(name).read_bytes()[-128:]
    line = re.search(rb"softlabel sha256 [0-9a-f]{64} of \d+ bytes\n\Z", last)[0]
    assert last == b"\n" * (128 - len(line)) + line


@of_each_file
def test_digest_and_length_cover_all_but_the_last_128_bytes(name):
    content = path_of(name).read_bytes()
    _, _, digest, _, length, _ = content.splitlines()[-1].decode().split(" ")
    assert int(length) == len(content) - 128
    assert digest == hashlib.sha256(content[:-128]).hexdigest()


@of_each_file
def test_hdf5_spans_all_but_the_last_128_bytes(name):
    """The signature, superblock version 0, and its "end of file address" of 8 bytes at byte 40."""
    content = path_of(name).read_bytes()
    assert content[:9] == b"\x89HDF\r\n\x1a\n\x00"
    assert int.from_bytes(content[40:48], "little") == len(content) - 128


@of_each_file
def test_the_root_has_these_attributes(name):
    with opened(name) as file:
        found = dict(file.attrs)
    kind = {"kind": "topk", "k": 2, "dtype": "float16"} if "topk" in name else {"kind": "dense", "dtype": "float32"}
    texts = {"views": MIXED_VIEWS if name in MIXED else VIEWS, "storage": kind, "preprocessing": PREPROCESSING}
    assert {key: json.loads(found.pop(key)) for key in texts} == texts
    of_targets = {"temperature": found.pop("temperature", None), "logits": found.pop("logits", None)}
    assert found == {
        "format": name.rsplit("_", 1)[0].replace("_T2", "").replace("_", "-"),
        "version": 2,
        "teacher": "cnn",
        "teacher_sha256": "7e" * 32,
        "dataset": "da" * 32,
        "batch_size": 2,
    }
    assert of_targets == OF_TARGETS[name]


@of_each_file
def test_its_digest_is_the_one_of_version_2(name):
    assert path_of(name).read_bytes().splitlines()[-1].split(b" ")[2].decode() == DIGESTS[name]


@of_each_file
def test_the_class_names_are_in_order(name):
    with opened(name) as file:
        assert decoded(file["class_names"]) == CLASSES


@of_each_file
def test_there_are_these_groups_and_datasets_and_no_others(name):
    with opened(name) as file:
        assert sorted(file) == ["class_names", "test", "train", "val"]
        assert isinstance(file["class_names"], h5py.Dataset)
        for split in VIEWS_OF:
            assert sorted(file[split]) == sorted(datasets_of(name, split))


@of_each_split
@of_each_file
def test_shapes_and_dtypes_are_those_of_the_table(name, split):
    with opened(name) as file:
        for dataset, (row, of_each_view, dtype) in datasets_of(name, split).items():
            views = (VIEWS_OF[split],) if of_each_view else ()
            assert file[split][dataset].shape == (*views, len(IDS[split]), *row), dataset
            expected = f"S{max(len(text.encode()) for text in IDS[split])}" if dataset == "id" else dtype
            assert file[split][dataset].dtype == np.dtype(expected), dataset


@of_each_file
def test_every_dataset_is_one_run_of_bytes_that_numpy_maps(name):
    path, seen = path_of(name), []

    def compare(entry, dataset):
        if isinstance(dataset, h5py.Group):
            return
        assert dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        assert dataset.id.get_create_plist().get_nfilters() == 0
        mapped = np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)
        np.testing.assert_array_equal(mapped, dataset[...])
        seen.append(entry)

    with opened(name) as file:
        file.visititems(compare)
    assert len(seen) == 1 + sum(len(datasets_of(name, split)) for split in VIEWS_OF)


@of_each_split
@of_each_file
def test_rows_are_named_by_id_and_content(name, split):
    with opened(name) as file:
        assert decoded(file[split]["id"]) == IDS[split]
        assert decoded(file[split]["image_sha256"]) == SHA256[split]


@of_each_split
@pytest.mark.parametrize("name", [*LOGITS, "soft_targets_T2_topk"])
def test_labels_are_indices_of_classes(name, split):
    with opened(name) as file:
        same(file[split]["label"][:], LABELS[split])


@of_each_split
@pytest.mark.parametrize("name", ["soft_targets_T2_dense", "soft_targets_T2_mixed"])
def test_hard_labels_are_one_hot(name, split):
    """Those of mixed views too: each row has the label of its own image."""
    with opened(name) as file:
        same(file[split]["hard"][:], [[column == label for column in range(4)] for label in LABELS[split]])


@of_each_split
@pytest.mark.parametrize("name", [name for name in FILES if name not in MIXED])
def test_affine_transforms_are_these_for_ever(name, split):
    """The seed, the ids and the ranges give these numbers; val and test are the untouched image."""
    with opened(name) as file:
        same(file[split]["affine"][...], AFFINE[split])


@pytest.mark.parametrize("dataset", MIX)
@pytest.mark.parametrize("name", MIXED)
def test_mixed_views_are_these_for_ever(name, dataset):
    with opened(name) as file:
        same(file["train"][dataset][...], MIX[dataset])


@pytest.mark.parametrize("name", MIXED)
def test_lambda_is_the_share_that_is_not_in_the_box(name):
    with opened(name) as file:
        boxes, share = file["train/box"][...].astype(np.float64), file["train/lambda"][...]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) / 4
    assert (area > 0).sum() == 3
    same(share[area > 0], (1 - area[area > 0]).astype(np.float16))


@pytest.mark.parametrize("name", [name for name in FILES if name not in MIXED])
def test_color_transforms_are_these_for_ever(name):
    with opened(name) as file:
        gains, biases = np.split(file["train/color"][...], 2, axis=-1)
    same(gains, np.ones((2, 3, 3)))
    same(biases, np.repeat(np.array(BRIGHTNESS)[..., None], 3, axis=-1))


@of_each_split
@pytest.mark.parametrize("name", ["teacher_logits_dense", "teacher_logits_mixed"])
def test_dense_logits_are_the_teachers_numbers(name, split):
    with opened(name) as file:
        same(file[split]["logits"][...], V[split])


@of_each_split
@pytest.mark.parametrize("name", ["soft_targets_T2_dense", "soft_targets_T2_mixed"])
def test_dense_soft_labels_are_softmax_of_the_logits_at_t_2(name, split):
    with opened(name) as file:
        soft = file[split]["soft"][...]
    within_one_rounding(soft, softened(V[split]))
    np.testing.assert_allclose(soft.sum(axis=-1, dtype=np.float64), 1, rtol=0, atol=4 * 2.0**-24)


@of_each_split
def test_topk_keeps_the_largest_logits_and_the_others_moments(split):
    with opened("teacher_logits_topk") as file:
        same(file[split]["index"][...], INDEX[split])
        same(file[split]["value"][...], VALUE[split])
        same(file[split]["tail_mean"][...], TAIL_MEAN[split])
        same(file[split]["tail_variance"][...], TAIL_VARIANCE[split])


@of_each_split
def test_topk_soft_labels_follow_the_documents_formula(split):
    probability, tail = softened_topk(split)
    with opened("soft_targets_T2_topk") as file:
        same(file[split]["index"][...], INDEX[split])
        within_one_rounding(file[split]["probability"][...], probability)
        within_one_rounding(file[split]["tail"][...], tail)


@of_each_split
def test_topk_soft_labels_sum_to_1_with_the_tail_below_the_rest(split):
    with opened("soft_targets_T2_topk") as file:
        probability, tail = (file[split][name][...].astype(np.float64) for name in ("probability", "tail"))
    np.testing.assert_allclose(probability.sum(-1) + tail, 1, rtol=0, atol=3 * 2.0**-24)
    assert (tail / (4 - 2) <= probability[..., -1]).all()


def test_the_modelled_tail_of_one_row_by_hand():
    """Row b.png, view 1, at T = 2: u = 1/4, m = -1/8, s = 1/8, so (u - m) / s = 3 and minus s 2.875.

    log E = -0.125 + 0.0078125 + log(0.997980) - log(0.998650) = -0.117859, two classes: 2 e^-0.117859 = 1.77764;
    the kept ones are e^1 + e^0.25 = 4.002307; tail = 1.77764 / 5.77995 = 0.307553.
    """
    with opened("soft_targets_T2_topk") as file:
        assert file["train/tail"][1, 1] == pytest.approx(0.3075533, abs=1e-7)


def test_the_writer_still_writes_these_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    runpy.run_path(str(FOLDER / "make.py"))["write"](tmp_path / "again")
    written = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert written == {f"{name}.h5": path_of(name).read_bytes() for name in FILES}
