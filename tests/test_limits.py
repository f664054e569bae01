"""Limits of size and number: which are in force, who has them, and which key raises each."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from click.testing import CliRunner
from real_project import ROOT, change

from pipeline.cli import arguments
from pipeline.cli.interruption import Announced
from pipeline.params.limits import LimitsSection
from pipeline.params.reading import read_params
from pipeline.runtime.errors import ParameterError
from pipeline.runtime.limits import DEFAULT, KEYS, VARIABLE, Limits, limits, raised_by, use


@pytest.fixture(autouse=True)
def limits_as_they_were(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")  # else there would be nothing to put back
    monkeypatch.delenv(VARIABLE)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_the_default_limits_are_in_force():
    assert limits() == DEFAULT == LimitsSection().in_force


def test_the_section_has_a_key_for_each_limit_that_has_one():
    assert list(LimitsSection.model_fields) == [key.name for key in KEYS.values()]
    assert set(KEYS) < {field.name for field in fields(Limits)}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_raises_its_own_limit_alone(name):
    key = KEYS[name]
    raised = LimitsSection.model_validate({key.name: 7}).in_force
    assert getattr(raised, name) == 7 * key.unit
    assert {field.name for field in fields(Limits) if getattr(raised, field.name) != getattr(DEFAULT, field.name)} == {
        name
    }


def test_megapixels_are_millions_and_megabytes_powers_of_two():
    raised = LimitsSection(image_megapixels=1, table_megabytes=1).in_force
    assert (raised.image_pixels, raised.table_bytes) == (1_000_000, 1_048_576)


@pytest.mark.parametrize("read", [arguments.all_params, lambda: arguments.params_of("soften")], ids=["all", "a stage"])
def test_reading_the_parameters_puts_limits_in_force(project, read):
    change(project / "params.yaml", "limits", {"image_megapixels": 3})
    read()
    assert limits().image_pixels == 3_000_000
    change(project / "params.yaml", "limits", None)
    read()
    assert limits() == DEFAULT
    assert VARIABLE not in os.environ


@pytest.mark.parametrize("broken", [False, True])
def test_every_command_has_the_limits_of_params(project, broken):
    """Also one that reads nothing else of it."""
    change(project / "params.yaml", "limits", {"image_megapixels": 3})
    if broken:
        change(project / "params.yaml", "student", None)
    assert CliRunner().invoke(Announced("nothing", callback=lambda: None)).exit_code == 0
    assert limits().image_pixels == 3_000_000


@pytest.mark.parametrize(
    "content",
    [
        "limits: {image_megapixels: many}",
        "limits: [1]",
        'card:\n  note: "text\nlimits: foo"\n',
        "# limits: none",
        "limits: [",
        "limits: {image_megapixels: 3}\n" + "#" * 2**20,
    ],
    ids=["a text", "a list", "in a text", "in a comment", "damaged", "too large"],
)
def test_limits_that_are_none_end_no_other_command(project, content):
    (project / "params.yaml").write_text(content)
    assert CliRunner().invoke(Announced("nothing", callback=lambda: None)).exit_code == 0
    assert limits() == DEFAULT


@pytest.mark.parametrize("text", ['"limits": {"image_megapixels": 3}', "{limits: {image_megapixels: 3}}"])
def test_limits_are_found_however_they_are_written(project, text):
    (project / "params.yaml").write_text(text)
    arguments.limits_of_params()
    assert limits().image_pixels == 3_000_000


def test_no_key_is_named_for_a_params_file_that_is_too_large(project):
    """It would stand in this very file."""
    with (project / "params.yaml").open("a") as file:
        file.write("limits: {yaml_megabytes: 8}\n" + "#" * 2**20)
    with pytest.raises(ParameterError, match=r"^params.yaml has more than 1,048,576 bytes. Compare it .* presets/.$"):
        arguments.all_params()


def test_a_params_file_without_end_is_not_read(project):
    (project / "params.yaml").unlink()
    with (project / "params.yaml").open("wb") as file:
        file.truncate(2**43)  # no block of the disk is written; no memory holds it
    arguments.limits_of_params()
    assert limits() == DEFAULT


def test_the_document_has_each_limit_with_its_key():
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| ([\d,]+) \| `limits\.(\w+)` \|$", text, re.MULTILINE)
    assert {key: int(value.replace(",", "")) for value, key in rows} == LimitsSection().model_dump()


@pytest.mark.parametrize("value", [0, -1, 1.5, "9", True, 10**9 + 1, 10**18])
def test_a_limit_is_a_whole_number_above_0(project, value):
    change(project / "params.yaml", "limits", {"image_megapixels": value})
    with pytest.raises(ParameterError, match="image_megapixels"):
        read_params(project / "params.yaml")


@pytest.mark.slow
def test_a_process_that_is_started_has_the_limits():
    use(Limits(depth=5))
    told = "from pipeline.runtime.limits import limits; print(limits())"
    answer = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == str(Limits(depth=5))


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"depth": "a"}', '{"depth": 0}', '{"other": 1}', '{"depth": true}'])
def test_other_things_in_the_environment_are_refused(text, monkeypatch):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ParameterError, match=VARIABLE):
        limits()


def test_what_raises_a_limit_is_told_in_the_unit_of_its_key():
    use(Limits(text_bytes=3 * 2**20))
    assert raised_by("text_bytes") == "If the file is sound, raise limits.text_megabytes in params.yaml, now 3."
    assert raised_by("depth") == ""
    assert json.loads(os.environ[VARIABLE])["depth"] == DEFAULT.depth
