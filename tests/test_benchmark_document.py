"""The documents that show benchmarks show what the records say."""

import argparse
import json
import re
import subprocess
from importlib.util import find_spec

import pytest

from benchmarks import record
from benchmarks.document import BLOCK, DOCUMENTS, filled
from benchmarks.record import RESULTS

RECORD = {
    "command": "python -m benchmarks.one",
    "tables": [{"title": "Steps.", "header": ["variant", "seconds"], "rows": [["plain", "1"], ["ours", "2"]]}],
}


def test_a_block_gets_its_records_command_and_tables(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(RECORD))
    text = "Before.\n<!-- one -->\nold\n<!-- end -->\nafter\n"
    once = filled(text, tmp_path)
    table = "variant  seconds\n----------------\nplain    1\nours     2"
    block = f"`python -m benchmarks.one`\n\n```text\nSteps.\n\n{table}\n```\n"
    assert once == f"Before.\n<!-- one -->\n{block}<!-- end -->\nafter\n"
    assert filled(once, tmp_path) == once


def test_a_block_without_a_record_says_so_until_there_is_one(tmp_path):
    text = "<!-- one -->\nold\n<!-- end -->\n"
    without = filled(text, tmp_path)
    assert without == "<!-- one -->\n`python -m benchmarks.one` (not measured yet)\n<!-- end -->\n"
    (tmp_path / "one.json").write_text(json.dumps(RECORD))
    assert filled(without, tmp_path) == filled(text, tmp_path)
    assert "not measured" not in filled(text, tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_names_a_benchmark(document):
    names = [name for _, name, _, _ in BLOCK.findall(document.read_text(encoding="utf-8"))]
    assert [name for name in names if find_spec(f"benchmarks.{name}") is None] == []


def test_a_block_may_take_some_of_the_tables(tmp_path):
    tables = [RECORD["tables"][0] | {"title": title} for title in ("mnist: losses", "mnist: views", "colon: losses")]
    (tmp_path / "one.json").write_text(json.dumps(RECORD | {"tables": tables}))
    once = filled("<!-- one mnist: -->\n<!-- end -->\n<!-- one colon -->\n<!-- end -->\n", tmp_path)
    assert re.findall("mnist: .*|colon: .*", once.replace("<!-- one mnist: -->", "")) == [
        "mnist: losses",
        "mnist: views",
        "colon: losses",
    ]
    assert filled(once, tmp_path) == once


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_document_is_what_the_records_say(document):
    text = document.read_text(encoding="utf-8")
    assert filled(text, RESULTS) == text


def test_every_table_of_every_record_is_shown_once():
    shown = [block for document in DOCUMENTS for block in BLOCK.findall(document.read_text(encoding="utf-8"))]
    for path in RESULTS.glob("*.json"):
        if not path.stem.endswith("_quick"):
            starts = [start for _, name, start, _ in shown if name == path.stem]
            titles = [table["title"] for table in json.loads(path.read_text(encoding="utf-8"))["tables"]]
            assert [sum(map(title.startswith, starts)) for title in titles] == [1] * len(titles), path.stem


def test_records_name_no_host_and_no_path():
    for path in RESULTS.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert set(record["machine"]) >= {"processor", "cores", "memory_gib", "system", "python", "keras"}
        assert ("tensorflow" in record["machine"]) == ("KERAS_BACKEND=jax" not in record["command"])
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", path.read_text(encoding="utf-8")), path


def test_a_record_names_its_options_as_they_are_typed(monkeypatch):
    monkeypatch.setattr(record, "commit", str)
    options = argparse.Namespace(quick=False, output=None, work=None, queue_kills=4, only=["a", "b"])
    assert record.Record("one", options).document["command"] == "python -m benchmarks.one --queue-kills 4 --only a b"


@pytest.mark.parametrize(("changes", "expected"), [("", "0123456789ab"), (" M a.py\n", "0123456789ab+")])
def test_a_record_names_the_commit_and_whether_it_was_changed(changes, expected, monkeypatch, tmp_path):
    said = {"rev-parse": "0123456789ab\n", "status": changes}
    run = lambda words, **options: subprocess.CompletedProcess(words, 0, said[words[3]])  # noqa: E731
    monkeypatch.setattr(subprocess, "run", run)
    options = argparse.Namespace(quick=False, output=tmp_path / "a.json")
    record.Record("a", options).write()
    assert json.loads(options.output.read_text())["commit"] == expected
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
