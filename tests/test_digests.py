"""The digests that identify work, files and inputs."""

import hashlib
import json

import pytest

from pipeline.runtime.digests import fingerprint, sha256_file


def test_fingerprint_does_not_depend_on_the_order_of_keys():
    one = fingerprint(model={"a": 1, "b": [1.5, None]}, seed=3)
    assert one == fingerprint(seed=3, model={"b": [1.5, None], "a": 1})
    assert fingerprint(b="\u00e9", a=1) == hashlib.sha256('{"a": 1, "b": "é"}'.encode()).hexdigest()


def test_fingerprint_of_millions_of_words_is_that_of_their_text():
    values = [["é" * (number % 3), number / 7, {"b": None, "a": [True]}] for number in range(3000)]
    text = json.dumps({"values": values}, sort_keys=True, ensure_ascii=False)
    assert fingerprint(values=values) == hashlib.sha256(text.encode()).hexdigest()


def test_fingerprint_tells_inputs_apart():
    inputs = [{"a": 1}, {"a": 2}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": [1, 2]}, {"a": [2, 1]}, {}]
    assert len({fingerprint(**values) for values in inputs}) == len(inputs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), [1.0, float("nan")]])
def test_fingerprint_refuses_what_is_no_number(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(weight=value)


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
    ids=["empty", "abc", "a million a"],
)
def test_sha256_of_the_published_test_vectors(content, digest, tmp_path):
    """FIPS 180-4's examples."""
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == digest
