"""The commands and settings of README.md, on a small project that was reproduced."""

import re
from pathlib import Path

import pytest
from real_project import ROOT, copy_without, run, stages_run
from ruamel.yaml import YAML

from pipeline.params.reading import read_params

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SETTINGS = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory):
    return copy_without(reproduced, tmp_path_factory.mktemp("readme") / "project")


def lines_with(word):
    """The commands of the block that has a word in it, without what is said of them."""
    (block,) = [block for block in SHELL if word in block]
    return [line.partition("#")[0].split() for line in block.splitlines()]


def test_these_are_all_blocks():
    assert len(SHELL) == 3
    assert len(SETTINGS) == 2


@pytest.mark.slow
def test_make_knows_its_two_targets():
    for command, expected in zip(lines_with("make repro"), ["dvc repro", "pytest"], strict=True):
        assert expected in run(command[0], "--dry-run", *command[1:], cwd=ROOT)


@pytest.mark.slow
def test_the_tools_work_as_they_are_shown(project):
    """On the first image of the small project instead of the default's, and with two steps for twenty."""
    said = ""
    for command in lines_with("softlabel inspect"):
        words = {"mnist_0000.png": "MHIST_000.png", "20": "2"}
        said += run(*(words.get(word, word) for word in command), cwd=project)
    assert "Offline pays off from" in said
    assert "Offline equals online" in said
    assert (project / "results/samples/MHIST_000.png").is_file()


@pytest.mark.slow
def test_a_frozen_teacher_is_not_trained(project):
    commands = lines_with("dvc freeze")
    try:
        said = "".join(run(*command, cwd=project) for command in commands)
    finally:
        run("dvc", "unfreeze", "train_teacher", cwd=project)
    assert stages_run(said) == []


@pytest.mark.parametrize("text", SETTINGS, ids=lambda text: text.partition(":")[0])
def test_settings_are_valid(tmp_path, text):
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    shown = yaml.load(text)
    yaml.dump(params | shown, tmp_path / "params.yaml")
    read = read_params(tmp_path / "params.yaml").model_dump(mode="json")
    for section, values in shown.items():
        for key, value in values.items():
            assert read[section][key] == value or value.items() <= read[section][key].items()


def test_documents_that_are_named_are_there():
    named = "experiments sharing report data teachers format reading reliability benchmarks decisions"
    for name in named.split():
        assert f"docs/{name}.md" in README
        assert Path(ROOT, f"docs/{name}.md").is_file()
