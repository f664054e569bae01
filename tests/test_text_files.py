"""Texts, JSON and YAML: what is refused before it is used, and that what we write ourselves is read."""

import json
import os
import re
import string
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.errors import DamagedError
from pipeline.runtime.limits import Limits, limits, use
from pipeline.runtime.text_files import parsed_json, read_bytes, read_json, read_text
from pipeline.runtime.yaml_files import parsed_yaml, read_yaml

FILE = Path("a.file")
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
"""2^60 texts, in 1,500 characters."""

NO_JSON = {
    "nothing": ("", "Expecting value"),
    "cut off": ('{"a": [1,', "Expecting value"),
    "not a number": ("[NaN]", "NaN is not finite"),
    "infinity": ('{"a": -Infinity}', "-Infinity is not finite"),
    "too large for a float": ("1e400", "inf is not finite"),
    "10^5000": ("1" + "0" * 5000, "5,001 digits"),
    "65 bits": (str(2**64), "more than 64 bits"),
    "one list too deep": ("[" * 102 + "]" * 102, "more than 100 lists or maps"),
    "deeper than the stack": ("[" * 10**6, "more than 100 lists or maps"),
    "maps as deep": ('{"a":' * 500 + "1" + "}" * 500, "more than 100 lists or maps"),
    "half a character": ('"\\udc00"', "half a character"),
    "half a character as a key": ('{"\\ud83d": 1}', "half a character"),
    "a key twice": ('{"a": 1, "b": 2, "a": 3}', "'a' stands more than once"),
    "a long text": (json.dumps("x" * 131_073), "131,073 characters"),
    "a long key": (json.dumps({"x" * 131_073: 1}), "131,073 characters"),
    "many lists": ("[" + "[]," * 1_000_000 + "1]", "more than 2,000,000 values"),
    "a long number in words": ("[" + "9" * 40 + "]", "40 digits"),
}
NO_YAML = {
    "cut off": ("a: [1,", "did not find expected"),
    "an empty whole number": ("a: !!int ''", "tag"),
    "binary": ("a: !!binary aGk=", "tag"),
    "a set": ("a: !!set {b, c}", "tag"),
    "a class of Python": ("a: !!python/object:os.system {}", "tag"),
    "a date": ("a: 2020-01-31", "2020-01-31 is read as a date: put it in quotation marks"),
    "no date": ("a: 2020-13-45", "month"),
    "a list as a key": ("? [1, 2]\n: 3", "a key in line 1 is a list"),
    "a key twice": ("a: 1\na: 2", "duplicate key"),
    "two documents": ("--- a\n--- b", "single document"),
    "10^5000": ("a: 1" + "0" * 5000, "digits"),
    "a long number in hexadecimal": ("a: 0x" + "f" * 5000, "more than 64 bits"),
    "one list too deep": ("a: " + "[" * 101 + "]" * 101, "more than 100 lists or maps"),
    "deeper than the stack": ("- " * 10**5, "more than 100 lists or maps"),
    "deep by an alias": ("a: &a " + "[" * 60 + "]" * 60 + "\nb: " + "[" * 60 + "*a" + "]" * 60, "more than 100"),
    "aliases that multiply": (LAUGHS, "more than 100,000 values, with those that aliases repeat"),
    "merged aliases that multiply": (LAUGHS.replace("[x, x]", "{x: 1}"), "more than 100,000 values"),
    "a map in a list as a key": ("a: 1\nb: [[{c: 2}, 3]: 4]", "a key in line 2 is a list"),
    "a map as a key": ("{? {a: 1} : 2}", "a key in line 1 is a list, a map"),
    "an alias as a key": ("a: &a [{}]\n*a : 1", "a key in line 2 is a list, a map or an alias"),
    "an alias of itself": ("a: &a [*a]", r"\*a repeats what it is in"),
    "an alias of nothing": ("a: *b", r"\*b repeats"),
    "NUL": ("a: b\0c", "control characters"),
    "a long text": ("a: " + "x" * 131_073, "131,073 characters"),
    "many values": ("[" + "1," * 100_001 + "]", "more than 100,000 values"),
    "another version": ("%YAML 9.9\n---\na: 1", "incompatible"),
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTLABEL_LIMITS", "")


@pytest.mark.parametrize("name", NO_JSON)
def test_json_that_is_refused(name):
    text, expected = NO_JSON[name]
    with pytest.raises(ValueError, match=expected) as refused:
        parsed_json(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("name", NO_YAML)
def test_yaml_that_is_refused(name):
    use(Limits(yaml_bytes=800_000))
    text, expected = NO_YAML[name]
    with pytest.raises(ValueError, match=expected):
        parsed_yaml(text)
    FILE.write_text(text)
    with pytest.raises(DamagedError, match=r"a\.file is not valid YAML: .*Mend it\.$") as refused:
        read_yaml(FILE, "Mend it.")
    assert len(str(refused.value)) < 500


def test_documents_at_a_limit_are_read():
    deep = "[" * 100 + "1" + "]" * 100
    assert json.dumps(parsed_json(deep)) == deep
    assert json.dumps(parsed_yaml(f"a: {deep[1:-1]}")["a"]) == deep[1:-1]
    assert parsed_json(json.dumps("x" * 131_072)) == "x" * 131_072
    assert parsed_json(f"[{2**64 - 1}, {-(2**63)}, 1.7976931348623157e308]") == [
        2**64 - 1,
        -(2**63),
        sys.float_info.max,
    ]
    assert parsed_yaml("a: &a [1, 2]\nb: *a\n<<: {c: 3}") == {"a": [1, 2], "b": [1, 2], "c": 3}


@pytest.mark.parametrize(
    ("parsed", "text", "within", "expected"),
    [
        (parsed_json, '{"a": 12345}', Limits(text_bytes=11), "more than 11 characters"),
        (parsed_json, '{"a": 1, "b": 2, "c": 3}', Limits(items=6), "more than 6 values"),
        (parsed_yaml, "a: " + "x" * 77, Limits(yaml_bytes=79), "more than 79 characters"),
    ],
    ids=["characters of JSON", "values and keys", "characters of YAML"],
)
def test_what_is_one_beyond_a_limit_is_refused(parsed, text, within, expected):
    """Also a text that is in memory already, such as what a file of another format has in it."""
    use(within)
    with pytest.raises(ValueError, match=expected):
        parsed(text)
    key = {name: value + 1 for name, value in vars(within).items() if value != getattr(Limits(), name)}
    use(Limits(**key))
    parsed(text)


def test_commas_and_brackets_in_texts_are_no_values():
    use(Limits(items=5000))
    names = [name for _ in range(1000) for name in ("a, b", r'[{,"', "c\\\\", ',"\\')]
    assert parsed_json(json.dumps([",,," * 10_000, *names])) == [",,," * 10_000, *names]


def test_a_lock_file_of_a_thousand_students_is_read():
    lock = (Path(__file__).parent.parent / "dvc.lock").read_text(encoding="utf-8")
    students = re.findall(r"^  train_student@.*\n(?:    .*\n)+", lock, re.MULTILINE)
    assert 1000 * max(map(len, students)) < limits().yaml_bytes
    use(Limits(yaml_bytes=len(lock)))  # so that its values alone are counted
    assert len(parsed_yaml(lock)["stages"]) >= len(students) > 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)  # fmt: skip


@given(VALUES)
def test_what_python_writes_as_json_is_read_unchanged(value):
    assert parsed_json(json.dumps(value)) == value
    assert parsed_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.text(string.printable) | st.text())
def test_any_text_is_read_or_refused_in_words(text):
    for parsed in (parsed_json, parsed_yaml):
        with suppress(ValueError):
            parsed(text)


def test_a_file_beyond_the_limit_is_not_read():
    use(Limits(text_bytes=10))
    FILE.write_bytes(b"x" * 10)
    assert read_text(FILE, "Mend it.") == "x" * 10
    FILE.write_bytes(b"x" * 11)
    with pytest.raises(DamagedError, match=r"a\.file has more than 10 bytes.*limits\.text_megabytes in params\.yaml"):
        read_text(FILE, "Mend it.")
    assert read_text(FILE, "Mend it.", "table_bytes") == "x" * 11


def test_a_file_without_end_is_not_read():
    """Its size is 0, so a look at the size would let it in."""
    use(Limits(text_bytes=1000))
    FILE.symlink_to("/dev/zero")
    with pytest.raises(DamagedError, match=r"a\.file is no file, but a folder, a pipe or a device\. Mend it\."):
        read_bytes(FILE, "Mend it.")


def test_a_pipe_that_nobody_writes_to_is_not_waited_for():
    os.mkfifo(FILE)
    with pytest.raises(DamagedError, match="a pipe"):
        read_text(FILE, "Mend it.")


@pytest.mark.parametrize("content", [b"\xff\xfe1\0", b"\x80", b'"caf\xe9"'])
def test_other_encodings_are_refused(content):
    FILE.write_bytes(content)
    for read in (read_text, read_json, read_yaml):
        with pytest.raises(DamagedError, match=r"a\.file cannot be read as text in UTF-8: .*\. Mend it\."):
            read(FILE, "Mend it.")


def test_a_mark_in_front_is_no_part_of_the_text():
    FILE.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert (read_text(FILE, ""), read_json(FILE, ""), read_yaml(FILE, "")) == ('{"a": 1}', {"a": 1}, {"a": 1})


def test_line_ends_of_other_systems_are_line_ends():
    FILE.write_bytes(b"a\r\nb\rc\n")
    assert read_text(FILE, "") == "a\nb\nc\n"


def test_damaged_json_names_the_file_and_the_remedy():
    FILE.write_text("[1,")
    with pytest.raises(DamagedError, match=r"^a\.file cannot be read as JSON: .*\(char 3\)\. Mend it\.$"):
        read_json(FILE, "Mend it.")


def test_documents_with_bytes_changed_are_read_or_refused():
    draws = np.random.default_rng(1)
    document = json.dumps({"a": [1, 2.5e3, None, True, "é"], "b": {"c": {}}}).encode()
    for _ in range(2000):
        changed = bytearray(document)
        for _ in range(draws.integers(1, 4)):
            changed[draws.integers(len(changed))] = draws.integers(256)
        FILE.write_bytes(changed)
        for read in (read_json, read_yaml):
            with suppress(DamagedError):
                read(FILE, "Mend it.")
