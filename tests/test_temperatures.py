"""Temperatures as params.yaml writes them, in the commands, the names of files, and from epoch to epoch."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from soft_label_files import write_both

from pipeline.cli import arguments
from pipeline.cli.main import main
from pipeline.cli.paths import soft_targets_file
from pipeline.runtime.errors import MissingError
from pipeline.runtime.temperatures import Temperature, last_of, softened_at
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.tools import verify


@pytest.mark.parametrize(
    ("written", "first", "last", "largest"),
    [
        ("4", 4, 4, 4),
        ("0.5", 0.5, 0.5, 0.5),
        ("8to2", 8, 2, 8),
        ("0.5to1e1", 0.5, 10, 10),
        ("1e-3to1e-05", 1e-3, 1e-5, 1e-3),
    ],
)
def test_two_temperatures_are_read_from_one_text(written, first, last, largest):
    found = Temperature.parsed(written)
    assert (found.first, found.last, found.largest) == (first, last, largest)
    assert found.changes == (first != last)
    assert softened_at(written) == largest
    assert float(last_of(written)) == last


@pytest.mark.parametrize("written", ["", "to", "4to", "to2", "4 to 2", "8to4to2", "four"])
def test_other_texts_are_none(written):
    with pytest.raises(ValueError, match="could not convert"):
        Temperature.parsed(written)


@pytest.mark.parametrize(("epochs", "expected"), [(1, [8]), (2, [8, 2]), (4, [8, 6, 4, 2])])
def test_the_first_epoch_has_the_first_and_the_last_the_last(epochs, expected):
    assert [Temperature(8, 2).at(epoch, epochs) for epoch in range(epochs)] == expected


def test_a_file_for_one_that_changes_is_softened_at_the_larger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, fixed = write_both(tmp_path / "data/soft_labels", 8.0)
    monkeypatch.setattr(arguments, "params_of", lambda stage: None)
    for written in ("8to2", "2to8"):
        done = CliRunner().invoke(main, ["soften", "--temperature", written])
        assert done.exit_code == 0, done.output
        assert soft_targets_file(written).read_bytes() == fixed.read_bytes()
        checks = verify.verify(soft_targets_file(written), *[Path("absent")] * 3, MissingError("no params.yaml"), 1.0)
        (check,) = [check for check in checks if check.name == "name"]
        assert check.ok
    with open_soft_targets(soft_targets_file("8to2")) as file:
        assert file.temperature == 8.0


@pytest.mark.parametrize(
    ("written", "said"), [("8to8", "two that differ"), ("8to0", "from 0.001"), ("8-2", "is not a number")]
)
def test_the_command_refuses_what_is_no_temperature(written, said):
    done = CliRunner().invoke(main, ["soften", "--temperature", written])
    assert done.exit_code == 2
    assert said in done.output


def test_of_one_that_changes_no_bar_is_drawn():
    done = CliRunner().invoke(main, ["inspect", "x.h5", "--sample", "a", "--temperature", "8to2"])
    assert done.exit_code == 2
    assert "'8to2' is not a number" in done.output
