"""Tables of logits from other programs: three formats, hostile files, wrong values."""

import io
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.models.logit_tables import SMALLEST_PROBABILITY, read_logit_table
from pipeline.runtime.errors import DamagedError, MissingError, PipelineError, UnusableError

FORMATS = ["npz", "csv", "parquet"]
IDS = ["007", "NA", 'a, "b"/ü 1.png', "007"]
VIEWS = [0, 0, 3, 1]
CLASSES = ["cat", "dog, the", "x.y:z"]
LOGITS = np.array([[1.5, -2.25, 0.1], [0, 1e-30, -3e30], [5, 5, 5], [-1, 0.3333333, 7]])
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [1e-9, 0.5, 0.5 - 1e-9], [0.1, 0.2, 0.7]])
RENDERING = '{"seed": 1, "ü": ["a,b"]}'


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def frame(values, *, ids=IDS, views=VIEWS, kind="logits", names=CLASSES, rendering=RENDERING):
    prefix = {"logits": "logit:", "probabilities": "probability:"}[kind]
    columns = {"note": ["of no use"] * len(ids), "id": ids, "view": views}
    columns |= {f"{prefix}{name}": column for name, column in zip(names, np.transpose(values), strict=True)}
    columns["rendering"] = None if rendering is None else [rendering] * len(ids)
    return pd.DataFrame({name: column for name, column in columns.items() if column is not None})


def write(kind_of_file, values, *, ids=IDS, views=VIEWS, kind="logits", names=CLASSES, rendering=RENDERING):
    """Writes a table as users do: by `numpy.savez`, or by pandas."""
    path = Path(f"table.{kind_of_file}")
    if kind_of_file == "npz":
        arrays = {"ids": ids, "views": views, kind: values, "class_names": names, "rendering": rendering, "note": "x"}
        np.savez(path, **{name: np.array(array) for name, array in arrays.items() if array is not None})
        return path
    table = frame(values, ids=ids, views=views, kind=kind, names=names, rendering=rendering)
    if kind_of_file == "csv":
        table.to_csv(path, index=False, na_rep="nan")
    else:
        table.to_parquet(path)
    return path


def refusal(path, error=UnusableError):
    with pytest.raises(error) as refused:
        read_logit_table(path)
    message = str(refused.value)
    assert path.name in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("kind_of_file", FORMATS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_format_gives_the_same_rows_in_their_order(kind_of_file, dtype):
    values = np.clip(LOGITS, -6e4, 6e4).astype(dtype)
    table = read_logit_table(write(kind_of_file, values))
    assert (table.ids, table.views.tolist(), table.views.dtype) == (IDS, VIEWS, np.int64)
    if dtype == np.float16 and kind_of_file == "csv":  # pandas writes as many digits as 16 bits need
        np.testing.assert_array_equal(table.logits.astype(np.float16), values)
    else:
        np.testing.assert_array_equal(table.logits, values.astype(np.float32), strict=True)
    assert (table.class_names, table.kind, table.rendering) == (CLASSES, "logits", RENDERING)


@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_what_need_not_be_there_may_be_left_out(kind_of_file):
    distinct = ["1", "2", "3", "4"]
    table = read_logit_table(write(kind_of_file, LOGITS, ids=distinct, views=None, rendering=None))
    assert (table.ids, table.views.tolist(), table.rendering) == (distinct, [0, 0, 0, 0], None)
    np.savez("bare.npz", ids=distinct, logits=LOGITS)
    assert read_logit_table(Path("bare.npz")).class_names is None


@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_probabilities_become_logits_whose_softmax_they_are(kind_of_file):
    table = read_logit_table(write(kind_of_file, PROBABILITIES, kind="probabilities"))
    assert (table.kind, table.logits.dtype) == ("probabilities", np.float32)
    for temperature in (1.0, 4.0, 20.0):
        powers = np.exp(table.logits.astype(np.float64) / temperature)
        floored = np.maximum(PROBABILITIES, 2.0**-126) ** (1 / temperature)
        np.testing.assert_allclose(
            powers / powers.sum(axis=1, keepdims=True), floored / floored.sum(axis=1, keepdims=True), rtol=1e-5
        )
    assert np.exp(table.logits[0].astype(np.float64)).tolist() == pytest.approx([0.5, 0.25, 0.25], abs=1e-7)


def test_a_probability_of_zero_is_the_smallest_normal_number():
    """2^-126, and log(2^-126) = -126 log 2 = -87.336544750553. What is smaller still is not below it."""
    values = np.array([[1, 0, 0], [1, 1e-300, 1e-45]])
    table = read_logit_table(write("npz", values, ids=["a", "b"], views=None, kind="probabilities"))
    np.testing.assert_allclose(table.logits, [[0, -87.336544750553, -87.336544750553]] * 2, rtol=1e-7)
    assert SMALLEST_PROBABILITY == 2.0**-126
    share_of = {temperature: np.exp(table.logits[0, 1] / temperature) for temperature in (4, 20)}
    assert share_of[4] < 1e-9  # as docs/teachers.md says
    assert share_of[20] == pytest.approx(0.0127, rel=1e-2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounded_probabilities_of_many_classes_are_accepted(dtype):
    scores = np.random.default_rng(3).normal(0, 3, (5000, 100))  # more rows than one block
    exact = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.savez("table.npz", ids=[f"{row}" for row in range(5000)], probabilities=exact.astype(dtype))
    table = read_logit_table(Path("table.npz"))
    np.testing.assert_allclose(np.exp(table.logits), exact, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("kind_of_file", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_logits_that_are_not_finite_are_counted_and_named(kind_of_file, bad):
    values = LOGITS.copy()
    values[2, 1] = values[3, 0] = bad
    message = refusal(write(kind_of_file, values))
    assert "has 2 row(s) with a logit that is missing, not finite or beyond float32: " in message
    assert f"{IDS[2]!r} (view 3), '007' (view 1). " in message


@pytest.mark.parametrize("kind_of_file", FORMATS)
@pytest.mark.parametrize(
    "row", [[0.5, 0.6, -0.1], [50, 25, 25], [0.5, 0.25, 0.2], [np.nan, 0.5, 0.5], [np.inf, 0, 0], [0, 0, 0]], ids=str
)
def test_probabilities_that_are_none_are_named(kind_of_file, row):
    values = PROBABILITIES.copy()
    values[1] = row
    message = refusal(write(kind_of_file, values, kind="probabilities"))
    assert "has 1 row(s) of probabilities that are missing, below 0, or do not sum to 1 (within 0.01): " in message
    assert "'NA' (view 0). " in message


@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_a_view_that_is_there_twice_is_named(kind_of_file):
    message = refusal(write(kind_of_file, LOGITS, views=[1, 0, 3, 1]))
    assert "has 1 view(s) more than once: '007' (view 1). Keep one row for each" in message
    message = refusal(write(kind_of_file, LOGITS, views=None))
    assert "'007' (view 0). It does not say which view a row is of" in message


@pytest.mark.parametrize("kind_of_file", FORMATS)
@pytest.mark.parametrize("view", [-1, 65535])
def test_numbers_of_views_begin_at_zero(kind_of_file, view):
    message = refusal(write(kind_of_file, LOGITS, views=[0, 0, view, 1]))
    assert f"has 1 numbers of views that are not 0 to 65534: {IDS[2]!r} (view {view}). " in message


@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_views_are_whole_numbers(kind_of_file):
    message = refusal(write(kind_of_file, LOGITS, views=[0, 0.5, 3, 1]))
    assert re.search("views? is of type float64|the view '0.0' is no whole number|the type double in the", message)


@pytest.mark.parametrize("kind_of_file", FORMATS)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"names": ["cat", "dog", ""]}, "has 1 class names that are empty or no text in UTF-8: '' (number 3)"),
        ({"ids": ["", "b", "c", ""]}, "has 2 ids that are empty or no text in UTF-8: '' (number 1), '' (number 4)"),
        ({"values": LOGITS[:, :1], "names": ["cat"]}, "has 4 row(s) of 1 class(es); expected at least 1 of 2. Exp"),
        (
            {"values": LOGITS[:0], "ids": np.array([], str), "views": np.array([], int), "rendering": None},
            "has 0 row(s) of 3 class(es)",
        ),
    ],
    ids=["class without name", "no ids", "one class", "no rows"],
)
def test_tables_that_make_no_sense_are_refused(kind_of_file, changes, expected):
    assert expected in refusal(write(kind_of_file, **{"values": LOGITS} | changes))


def test_a_class_that_is_there_twice_is_refused():
    twice = ["cat", "dog", "cat"]
    assert "names the class 'cat' more than once" in refusal(write("npz", LOGITS, names=twice))
    columns = {name: frame(LOGITS)[name] for name in ("id", "view")}
    names, arrays = [*columns, *(f"logit:{name}" for name in twice)], [*map(pa.array, [*columns.values(), *LOGITS.T])]
    table = pa.Table.from_arrays(arrays, names)
    parquet.write_table(table, "table.parquet")
    table.to_pandas().to_csv("table.csv", index=False)
    for file in ("table.csv", "table.parquet"):
        assert "has the column 'logit:cat' more than once" in refusal(Path(file))


@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_optional_names_are_not_misspelt(kind_of_file):
    path, (written, meant) = (
        Path(f"table.{kind_of_file}"),
        {"npz": ("View", "views")}.get(kind_of_file, ("Views", "view")),
    )
    if kind_of_file == "npz":
        np.savez(path, ids=IDS, logits=LOGITS, View=VIEWS)
    else:
        table = frame(LOGITS).rename(columns={"view": "Views"})
        table.to_csv(path, index=False) if kind_of_file == "csv" else table.to_parquet(path)
    assert f"has 1 misspelt {'array' if kind_of_file == 'npz' else 'column'}(s). " in (said := refusal(path))
    assert f"Rename {written!r} to {meant!r}." in said


@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_all_wrong_names_are_told_at_once(kind_of_file):
    path = Path(f"table.{kind_of_file}")
    if kind_of_file == "npz":
        np.savez(path, ID=IDS, Logit=LOGITS, View=VIEWS, other=VIEWS)
        expected = "has 3 misspelt array(s). Rename 'ID' to 'ids', 'Logit' to 'logits', 'View' to 'views'."
    else:
        names = {"id": "ID", "view": "View", "logit:cat": "Logit:cat", f"logit:{CLASSES[1]}": f"logits: {CLASSES[1]}"}
        table = frame(LOGITS)[["id", "view", *(f"logit:{name}" for name in CLASSES)]].rename(columns=names)
        table.to_csv(path, index=False) if kind_of_file == "csv" else table.to_parquet(path)
        expected = (
            f"has 4 misspelt column(s). Rename 'ID' to 'id', 'View' to 'view', 'Logit:cat' to 'logit:cat', "
            f"'logits: {CLASSES[1]}' to 'logit:{CLASSES[1]}'."
        )
    assert expected in refusal(path)
    assert "lacks" not in refusal(path)


def test_what_is_misspelt_and_what_is_missing_are_told_together():
    Path("table.csv").write_text("name,View,HP\nx,0,1\n", encoding="utf-8")
    said = refusal(Path("table.csv"))
    assert "Rename 'View' to 'view'. table.csv lacks the column id and has neither logits nor probabilities; it" in said
    Path("table.csv").write_text("name,View,Probability:HP\nx,0,1\n", encoding="utf-8")
    said = refusal(Path("table.csv"))
    assert "'Probability:HP' to 'probability:HP'. table.csv lacks the column id; it has 'name', 'View', " in said


@pytest.mark.parametrize("kind_of_file", ["csv", "parquet"])
def test_a_table_has_one_rendering(kind_of_file):
    table = frame(LOGITS)
    table.loc[2, "rendering"] = "other"
    path = Path(f"table.{kind_of_file}")
    table.to_csv(path, index=False) if kind_of_file == "csv" else table.to_parquet(path)
    assert "has 2 different values in the column 'rendering'" in refusal(path)


@pytest.mark.parametrize("kind_of_file", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": "name"}, "lacks the column id; it has 'note', 'name', 'view', "),
        ({f"logit:{name}": name for name in CLASSES}, "has neither logits nor probabilities; it has 'note', 'id', "),
        ({"logit:cat": "probability:cat"}, "has both logits and probabilities. Leave one of them out."),
    ],
    ids=["no id", "no logits", "both"],
)
def test_columns_that_are_missing_are_named(kind_of_file, columns, expected):
    table, path = frame(LOGITS).rename(columns=columns), Path(f"table.{kind_of_file}")
    table.to_csv(path, index=False) if kind_of_file == "csv" else table.to_parquet(path)
    assert expected in refusal(path)


OBJECTS = np.array([{}, "x", 3, None], dtype=object)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ids": None}, "lacks the array ids; it has 'class_names', 'logits', 'views'. Expected the arrays ids"),
        ({"logits": None}, "has neither logits nor probabilities; it has 'class_names', 'ids', 'views'. "),
        ({"probabilities": PROBABILITIES}, "has both logits and probabilities"),
        ({"logits": LOGITS[None]}, "logits is of type float64 and shape (1, 4, 3); expected floating-point numbers"),
        ({"logits": np.ones((4, 3), int)}, "logits is of type int64 and shape (4, 3); expected floating-point"),
        ({"logits": LOGITS.astype(complex)}, "logits is of type complex128"),
        ({"logits": LOGITS.astype(str)}, "logits is of type <U"),
        ({"ids": np.arange(4)}, "ids is of type int64 and shape (4,); expected texts of shape (4,), one for each row"),
        ({"ids": IDS[:3]}, " and shape (3,); expected texts of shape (4,)"),
        ({"ids": OBJECTS}, "holds an array of Python objects"),
        ({"views": np.zeros((4, 1), int)}, "views is of type int64 and shape (4, 1); expected whole numbers of shape"),
        ({"views": np.ones(4, bool)}, "views is of type bool"),
        (
            {"class_names": CLASSES[:2]},
            "class_names is of type <U8 and shape (2,); expected texts of shape (3,)",
        ),
        ({"class_names": np.ones(3)}, "class_names is of type float64"),
        (
            {"class_names": ["a", "b", "\udc80"]},
            "empty or no text in UTF-8: '\\udc80' (number 3)",
        ),
        ({"rendering": ["a", "b"]}, "rendering is of type <U1 and shape (2,); expected one text"),
        ({"rendering": 3}, "rendering is of type int64 and shape (); expected one text"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_refuses_arrays_of_another_type_or_shape(changes, expected):
    arrays = {"ids": IDS, "views": VIEWS, "logits": LOGITS, "class_names": CLASSES} | changes
    np.savez("table.npz", **{name: array for name, array in arrays.items() if array is not None})
    assert expected in refusal(Path("table.npz"))


def test_arrays_of_bytes_and_of_numbers_name_ids_and_classes():
    np.savez(
        "table.npz", ids=[text.encode() for text in IDS], views=np.uint8(VIEWS), logits=LOGITS, class_names=[2, 0, 1]
    )
    table = read_logit_table(Path("table.npz"))
    assert (table.ids, table.views.tolist(), table.class_names) == (IDS, VIEWS, ["2", "0", "1"])
    np.savez("table.npz", ids=[b"a\xff", b"b", b"c", b"d"], logits=LOGITS)
    assert "ids holds bytes that are no text in UTF-8" in refusal(Path("table.npz"), DamagedError)
    np.savez("table.npz", ids=np.frombuffer(np.full(4, 0x110000, np.int32).tobytes(), "U1"), logits=LOGITS)
    assert "ids holds bytes that are no text" in refusal(Path("table.npz"), DamagedError)


@pytest.mark.parametrize("view", [np.uint64(2**64 - 1), np.uint64(2**63)])
def test_views_beyond_what_memory_holds_are_refused(view):
    np.savez("table.npz", ids=IDS, views=np.array([0, 0, view, 1], np.uint64), logits=LOGITS)
    assert f"(view {view})" in refusal(Path("table.npz"))


def npy(array=None, header=None, body=b""):
    """The bytes of an .npy file; `header` replaces the true one."""
    if array is not None:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + body


def described(dtype, shape):
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("damage", [slice(40, 60), slice(140, 170), slice(-200, -190)], ids=["begin", "middle", "end"])
def test_damaged_members_are_refused_in_every_compression(compression, damage):
    with zipfile.ZipFile("table.npz", "w", compression) as file:
        for name, array in {"logits": np.random.default_rng(0).normal(size=(4, 3)), "ids": np.array(IDS)}.items():
            file.writestr(f"{name}.npy", npy(array))
    assert read_logit_table_or_message(Path("table.npz")) == "more than once"
    content = bytearray(Path("table.npz").read_bytes())
    content[damage] = bytes(len(content[damage]))
    Path("table.npz").write_bytes(content)
    with pytest.raises((DamagedError, UnusableError)):
        read_logit_table(Path("table.npz"))


@pytest.mark.parametrize("kind", [np.savez, np.savez_compressed])
def test_another_checksum_is_refused(kind):
    """All bytes of the array are there, so NumPy alone would not read as far as the checksum."""
    kind("table.npz", logits=LOGITS, ids=IDS)
    with zipfile.ZipFile("table.npz") as file:
        checksum = file.getinfo("logits.npy").CRC
    content = Path("table.npz").read_bytes()
    Path("table.npz").write_bytes(content.replace(checksum.to_bytes(4, "little"), b"\1\2\3\4"))
    assert "Bad CRC-32 for file 'logits.npy'" in refusal(Path("table.npz"), DamagedError)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_write_is_refused(compression):
    with zipfile.ZipFile("table.npz", "w", compression) as file:
        file.writestr("logits.npy", npy(LOGITS))
    assert "'logits.npy' are encrypted, or compressed in a way" in refusal(Path("table.npz"), DamagedError)


def test_an_encrypted_array_is_refused():
    write("npz", LOGITS)
    content = bytearray(Path("table.npz").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    Path("table.npz").write_bytes(content)
    assert "are encrypted, or" in refusal(Path("table.npz"), DamagedError)


def test_a_directory_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("pipeline.runtime.npz_files.DIRECTORY_BYTES", 150)
    write("npz", LOGITS)
    assert "a header of 338 bytes, where at most 150" in refusal(Path("table.npz"), DamagedError)


def test_what_unpacks_to_a_hundred_times_its_size_is_refused(monkeypatch):
    monkeypatch.setattr("pipeline.runtime.npz_files.SMALL", 2**16)
    zeros = np.zeros((2**14, 4), np.float32)
    np.savez_compressed("table.npz", logits=zeros)
    assert "table.npz would unpack to 0.0 GiB, more than 100 times its size" in refusal(Path("table.npz"))
    np.savez("table.npz", logits=zeros)
    assert "table.npz lacks the array ids" in refusal(Path("table.npz"))


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (0, 3), (-4, -3), (4, 3, 2**62), (2**70,)], ids=str)
def test_a_header_and_the_directory_must_agree(shape):
    with zipfile.ZipFile("table.npz", "w") as file:
        file.writestr("logits.npy", npy(header=described("'<f8'", shape), body=bytes(96)))
    assert "'logits.npy' has 224 bytes, and its header announces float64" in refusal(Path("table.npz"), DamagedError)


def read_logit_table_or_message(path):
    try:
        return read_logit_table(path)
    except UnusableError as error:
        return "more than once" if "more than once" in str(error) else str(error)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (npy(header=described("'<U3'", (10**12,))), "cannot be read"),
        (npy(header=described("'<U3'", (10**30,))), "cannot be read"),
        (npy(header=described("'<U0'", (10**18,))), "has elements of no size"),
        (npy(header=described("'|V0'", (4,))), "has elements of no size"),
        (npy(header=described("'<U3'", (-1,))), "cannot be read"),
        (npy(header=described("'<U3'", "(4,), 'more': 1")), "cannot be read"),
        (npy(header="(" * 110), "cannot be read"),
        (npy(header="{'descr': __import__('os').system('true')}"), "cannot be read"),
        (npy(header=described([("a", "|O")], (4,))), "Python objects"),
        (b"\x93NUMPY\7\0" + bytes(100), "cannot be read"),
        (npy(header=described("'<U3'", (4,)), body=bytes(10)), "cannot be read"),
        (b"no array", "cannot be read: 'ids.npy' is no array"),
    ],
    ids=range(12),
)
def test_headers_that_lie_are_refused(ids, reason):
    with zipfile.ZipFile("table.npz", "w") as file:
        file.writestr("logits.npy", npy(LOGITS))
        file.writestr("ids.npy", ids)
    assert reason in refusal(Path("table.npz"), (DamagedError, UnusableError))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused():
    with zipfile.ZipFile("table.npz", "w") as file:
        for name in ("logits.npy", "logits", "ids.npy"):
            file.writestr(name, npy(LOGITS))
    assert "it holds 'logits' more than once" in refusal(Path("table.npz"), DamagedError)


def test_what_unpacks_to_more_than_memory_is_refused(monkeypatch):
    write("npz", LOGITS)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 500}))
    assert "of arrays, and 0.0 GiB of memory are free" in refusal(Path("table.npz"))


@settings(deadline=None, derandomize=True)
@example(position=1823, byte=1)
@given(position=st.integers(0, 5000), byte=st.integers(1, 255))
@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_a_file_with_one_other_byte_is_read_or_refused(tmp_path_factory, kind_of_file, position, byte):
    path = tmp_path_factory.mktemp("damaged") / f"table.{kind_of_file}"
    content = bytearray(WHOLE[kind_of_file])
    content[position % len(content)] ^= byte
    path.write_bytes(content)
    try:
        table = read_logit_table(path)
    except PipelineError:
        return
    assert len(table.logits) == len(table.ids)
    if table.class_names is not None:  # an array that is renamed is not there
        assert table.logits.shape[1] == len(table.class_names)
    assert np.isfinite(table.logits).all()
    if kind_of_file == "npz":  # which has checksums
        np.testing.assert_array_equal(table.logits, LOGITS.astype(np.float32))


@settings(deadline=None)
@given(content=st.binary(max_size=300))
@pytest.mark.parametrize("kind_of_file", FORMATS)
def test_other_bytes_are_refused(tmp_path_factory, kind_of_file, content):
    path = tmp_path_factory.mktemp("other") / f"table.{kind_of_file}"
    path.write_bytes(content)
    with pytest.raises((DamagedError, UnusableError)):
        read_logit_table(path)


@pytest.fixture(scope="module", autouse=True)
def _whole_files(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        WHOLE.update({kind: write(kind, LOGITS).read_bytes() for kind in FORMATS})


WHOLE = {}


@pytest.mark.parametrize(
    ("text", "expected", "error"),
    [
        ("", "is empty. Expected the columns id", UnusableError),
        ("\n\n", "is empty. Expected the columns id", UnusableError),
        ("id;logit:a;logit:b\n", "has neither logits nor probabilities; it has 'id;logit:a;logit:b'", UnusableError),
        ("id,logit:a,logit:b\n", "has 0 row(s) of 2 class(es)", UnusableError),
        ("id,logit:a,logit:b\nx,1,\n", "has 1 row(s) with a wrong field: '' is no number (line 2)", UnusableError),
        ("id,logit:a,logit:b\nx,1,2\ny,1_0,2\nz,1,hot\n", "'1_0' is no number (line 3), 'hot' is no", UnusableError),
        ('id,logit:a,logit:b\n"x\ny",1,2\nz,"1,5",2\n', "'1,5' is no number (line 4)", UnusableError),
        ("id,logit:a,logit:b\nx,1,2,3\n", "has 4 fields in line 2, and 3 in its first line", DamagedError),
        ("id,logit:a,logit:b\nx,1\n", "has 2 fields in line 2, and 3 in its first line", DamagedError),
        ('id,logit:a,logit:b\n"x,1,2\n', "in or after line 2: unexpected end of data", DamagedError),
        ("id,logit:a,logit:b\n" + "x" * 200_000 + ",1,2\n", "a field has more than 131,072 characters", DamagedError),
        ("id,view,logit:a,logit:b\nx,9" + "9" * 5000 + ",1,2\n", "is no whole number", UnusableError),
        ("id,view,logit:a,logit:b\nx,,1,2\n", "the view '' is no whole number (line 2)", UnusableError),
        ("id,view,view,logit:a,logit:b\nx,1,1,1,2\n", "has the column 'view' more than once", UnusableError),
    ],
    ids=range(14),
)
def test_refuses_csv_files_with_their_lines(text, expected, error):
    Path("table.csv").write_text(text, encoding="utf-8")
    assert expected in refusal(Path("table.csv"), error)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_files_of_any_program_are_read(encoding, end):
    lines = ["note,logit:a,id,logit:b,note", '?, 1e3 ,007," -.5",?', "", "?,+1.25,NA,3,?", f'?,0,"tr{end}ue",0,?']
    Path("table.csv").write_bytes(end.join(lines).encode(encoding))
    table = read_logit_table(Path("table.csv"))
    assert (table.ids, table.class_names) == (["007", "NA", f"tr{end}ue"], ["a", "b"])
    assert table.logits.tolist() == [[1000, -0.5], [1.25, 3], [0, 0]]


def test_a_table_is_as_wide_as_imagenet_21k():
    classes = range(21_841)
    header = ",".join(["image", "id", *(f"logit:{number}" for number in classes)])
    Path("table.csv").write_text(f"{header}\n" + "".join(f"x,{row},{'-1.5,' * 21_840}{row}\n" for row in range(12)))
    table = read_logit_table(Path("table.csv"))
    assert table.logits.shape == (12, 21_841)
    assert table.logits[:, -1].tolist() == [*range(12)]


def test_a_table_that_is_too_wide_has_one_remedy():
    Path("table.csv").write_text("id," * 32_768 + "id\n")
    assert refusal(Path("table.csv"), DamagedError) == (
        "table.csv has a record of 32,769 fields. If the file is sound, raise limits.table_columns in params.yaml, now "
        "32768."
    )


def test_csv_files_of_another_encoding_are_refused():
    Path("table.csv").write_bytes("id,logit:a,logit:b\nü,1,2\n".encode("latin-1"))
    assert "cannot be read as a CSV file in UTF-8" in refusal(Path("table.csv"), DamagedError)
    Path("table.csv").write_bytes("id,logit:a,logit:b\nü,1,2\n".encode("utf-16"))
    assert "cannot be read as a CSV file in UTF-8" in refusal(Path("table.csv"), DamagedError)


def arrow_table(**changes):
    columns = {"id": pa.array(["a", "b"]), "logit:x": pa.array([1.0, 2.0]), "logit:y": pa.array([3.0, 4.0])}
    parquet.write_table(pa.table(columns | changes), "table.parquet")
    return Path("table.parquet")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": pa.array([1, 2])}, "has the type int64 in the column 'id'; expected a text in each row"),
        ({"id": pa.array([b"a", b"b"])}, "has the type binary in the column 'id'"),
        ({"id": pa.array(["a", None])}, "has 1 empty field(s) in the column 'id'"),
        ({"view": pa.array([0.0, 1.0])}, "has the type double in the column 'view'; expected a whole number"),
        ({"view": pa.array([0, None])}, "has 1 empty field(s) in the column 'view'"),
        ({"view": pa.array([True, False])}, "has the type bool in the column 'view'"),
        ({"rendering": pa.array([1, 1])}, "has the type int64 in the column 'rendering'"),
        (
            {"logit:x": pa.array([1, 2])},
            "has 1 column(s) of logits that are no floating-point numbers: 'logit:x'",
        ),
        ({"logit:x": pa.array(["1", "2"])}, "'logit:x' of type string"),
        ({"logit:x": pa.array([[1.0], [2.0]])}, "has list<element: double> in the column 'logit:x'; expected one"),
        ({"logit:x": pa.array([1.0, None])}, "has 1 row(s) with a logit that is missing, not finite"),
        (
            {"logit:x": pa.array(np.float16([1, 2])).take(pa.array([0, None]))},
            "has 1 row(s) with a logit that is missing",
        ),
    ],
    ids=range(12),
)
def test_refuses_parquet_columns_of_another_type(changes, expected):
    assert expected in refusal(arrow_table(**changes))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_parquet_texts_of_every_kind_are_read(kind):
    table = read_logit_table(arrow_table(id=pa.array(["NA", "007"]).cast(kind), view=pa.array([7, 0], pa.uint8())))
    assert (table.ids, table.views.tolist()) == (["NA", "007"], [7, 0])
    assert table.logits.tolist() == [[1, 3], [2, 4]]


def test_parquet_needs_pyarrow_and_says_how_to_get_it(monkeypatch):
    path = write("parquet", LOGITS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install -e '.[parquet]'" in refusal(path, MissingError)


def test_files_that_are_missing_or_of_another_format_are_told():
    assert "there is no file table.npz" in refusal(Path("table.npz"), MissingError)
    Path("table.pt").touch()
    assert "does not end in .npz, .csv, .parquet" in refusal(Path("table.pt"))
    write("npz", LOGITS).rename("TABLE.NPZ")
    assert read_logit_table(Path("TABLE.NPZ")).ids == IDS
    Path("table.csv").mkdir()
    assert "there is no file table.csv" in refusal(Path("table.csv"), MissingError)


def test_many_bad_rows_are_all_named_in_a_file():
    np.savez("table.npz", ids=[f"image {row}" for row in range(20)], logits=np.full((20, 2), np.nan))
    assert "has 20 row(s)" in refusal(Path("table.npz"))
    Path("table.csv").write_text("id,logit:a,logit:b\n" + 20 * "x,1,\n", encoding="utf-8")
    listed = Path(".work/wrong-logits.txt").read_text().splitlines()
    assert (len(listed), listed[0]) == (20, "'image 0' (view 0)")
    assert "has 20 row(s)" in refusal(Path("table.csv"))
    assert "(line 2)" in Path(".work/wrong-logits.txt").read_text().splitlines()[0]
    assert not Path(".work/names.txt").exists(), "the list of another refusal is kept"
