"""The commands and settings of README.md and docs/guide.md, on a small project that was reproduced."""

import re
import shlex
from functools import cache
from itertools import groupby

import pytest
from real_project import ROOT, copy_without, run, softlabel, stages_run
from ruamel.yaml import YAML

from pipeline.params.reading import read_params

README = (ROOT / "README.md").read_text(encoding="utf-8")
BOTH = README + (ROOT / "docs/guide.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```", BOTH, re.MULTILINE | re.DOTALL)
SETTINGS = re.findall(r"^```yaml\n(.*?)^```", BOTH, re.MULTILINE | re.DOTALL)
SMALL = {"mnist_0000.png": "MHIST_000.png", "20": "2", "data/raw/mine": "data/raw/small"}
"""The first image of the small project instead of the default's, two steps for twenty, and the project's own data."""


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory):
    return copy_without(reproduced, tmp_path_factory.mktemp("readme") / "project")


@pytest.fixture(scope="module")
def output_of(project, tmp_path_factory):
    """Runs a block of commands, which must succeed, and returns what they print; each block once.

    Those of `softlabel` run in one process, one after another.
    """

    @cache
    def run_block(block):
        cwd = project
        if "softlabel init" in block:  # it replaces params.yaml
            cwd = copy_without(project, tmp_path_factory.mktemp("init") / "project")
        commands = [as_tried(shlex.split(line, comments=True)) for line in block.splitlines()]
        groups = groupby(commands, key=lambda words: words[0] == "softlabel")
        return "".join(follow(list(group), cwd, ours) for ours, group in groups)

    return run_block


def follow(commands, project, ours):
    if ours:
        return softlabel(*(words[1:] for words in commands), cwd=project)
    return "".join(run(*words, cwd=project) for words in commands)


def as_tried(words):
    """A command on the small project; `make` only says what it would do."""
    return ["make", "--dry-run", *words[1:]] if words[0] == "make" else [SMALL.get(word, word) for word in words]


def block_with(word):
    return next(block for block in SHELL if word in block)


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.partition("#")[0].strip())
def test_every_command_that_is_shown_succeeds(output_of, block):
    output_of(block)


@pytest.mark.slow
def test_make_runs_the_stages_and_the_tests(output_of):
    said = output_of(block_with("make repro"))
    assert "dvc repro" in said
    assert "pytest" in said


@pytest.mark.slow
def test_the_tools_say_what_the_guide_promises(output_of, project):
    said = output_of(block_with("softlabel inspect"))
    assert "Offline pays off from" in said
    assert "Offline equals online" in said
    assert (project / "results/samples/MHIST_000.png").is_file()


@pytest.mark.slow
def test_a_frozen_teacher_is_not_trained(output_of):
    assert stages_run(output_of(block_with("dvc freeze"))) == []


def test_the_settings_of_a_teacher_and_of_views_are_shown():
    assert {text.partition(":")[0] for text in SETTINGS} >= {"train_teacher", "views"}


def is_part_of(shown, read):
    """Whether a value is as it is shown; keys that are not shown have their defaults."""
    if isinstance(shown, list):
        return len(shown) == len(read) and all(map(is_part_of, shown, read))
    if isinstance(shown, dict) and isinstance(read, dict):
        return all(key in read and is_part_of(value, read[key]) for key, value in shown.items())
    return bool(shown == read)


@pytest.mark.parametrize("text", SETTINGS, ids=lambda text: text.partition(":")[0])
def test_settings_are_valid(tmp_path, text):
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    shown = yaml.load(text)
    for section, values in shown.items():  # a teacher is shown with all its keys
        params[section] = values if section == "train_teacher" else params[section] | values
    yaml.dump(params, tmp_path / "params.yaml")
    read = read_params(tmp_path / "params.yaml").model_dump(mode="json")
    assert is_part_of(shown, read)


@pytest.mark.parametrize("document", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_the_readme_names_every_document(document):
    assert f"](docs/{document})" in README


def test_the_readme_has_at_most_150_lines():
    assert len(README.splitlines()) <= 150
