"""The command line: help without TensorFlow, errors without tracebacks."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.errors import PipelineError

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(main.commands)


def softlabel(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("softlabel")
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_commands_are_the_stages_and_the_table():
    stages = "evaluate precompute sample soften split train-baseline train-student train-teacher"
    assert set(COMMANDS) == {*stages.split(), "table"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0
    assert main.commands[command].help.split()[:4] == shown.output.split("[OPTIONS]")[1].split()[:4]
    for parameter in main.commands[command].params:
        assert isinstance(parameter, click.Option)
        assert parameter.help, f"{parameter.name} of {command} has no help"


HELP_WITHOUT_HEAVY_IMPORTS = """
import sys
from click.testing import CliRunner
from pipeline.cli import main
for command in [[], *[[name] for name in main.commands]]:
    assert CliRunner().invoke(main, [*command, "--help"]).exit_code == 0
print([name for name in ("tensorflow", "keras", "h5py", "numpy", "pandas", "pydantic") if name in sys.modules])
"""


def test_help_imports_nothing_heavy():
    shown = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_HEAVY_IMPORTS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.strip() == "[]"


def test_module_and_console_script_are_the_same_program():
    module = subprocess.run([sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout.split()[-1] == softlabel("--version").stdout.split()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["soften", "--temperature", "0"], 2, "0 is not above 0"),
        (["soften", "--temperature", "warm"], 2, "'warm' is not a number"),
        (["soften", "--temperature", "inf"], 2, "inf is not above 0"),
        (["soften"], 2, "Missing option '--temperature'"),
        (["train-baseline", "--seed", "-1"], 2, "-1 is not in the range"),
        (["soften", "--temperature", "4"], 1, "there is no dvc.yaml here"),
        (["split"], 1, "there is no dvc.yaml here"),
        (["table"], 1, "there are no metrics at results/metrics.json"),
        (["sovten"], 2, "No such command 'sovten'"),
    ],
)
def test_refusals_are_one_message_without_traceback(tmp_path, arguments, code, message):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    refused = softlabel(*arguments, cwd=tmp_path)
    assert refused.returncode == code
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name != "data") == ["params.yaml"]


@pytest.mark.parametrize("arguments", [["sample"], ["soften", "--temperature", "4"], ["split"]])
def test_invalid_params_are_refused_before_anything_is_written(tmp_path, arguments):
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    text = (ROOT / "params.yaml").read_text().replace("hard_label_weight: 0.5", "hard_label_weight: 5")
    (tmp_path / "params.yaml").write_text(text)
    refused = softlabel(*arguments, cwd=tmp_path)
    assert refused.returncode == 1
    assert "distill.hard_label_weight: Input should be less than or equal to 1 (got 5)" in refused.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dvc.yaml", "params.yaml"]


def test_errors_of_the_system_are_told_without_traceback(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "data/x.h5")

    monkeypatch.setattr("pipeline.table.comparison", full)
    refused = CliRunner().invoke(main, ["table"])
    assert refused.exit_code == 1
    assert "No space left on device" in refused.output
    assert "Check the disk" in refused.output


def test_a_defect_of_ours_still_shows_its_traceback(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("pipeline.table.comparison", broken)
    assert isinstance(CliRunner().invoke(main, ["table"]).exception, ZeroDivisionError)


def test_a_pipeline_error_ends_with_code_1(monkeypatch):
    def refuse(*_, **__):
        raise PipelineError("what happened. what to do.")

    monkeypatch.setattr("pipeline.table.comparison", refuse)
    refused = CliRunner().invoke(main, ["table"])
    assert (refused.exit_code, refused.output) == (1, "Error: what happened. what to do.\n")
