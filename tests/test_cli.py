"""The command line: help without TensorFlow, errors without tracebacks."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from real_project import change
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.runtime.errors import PipelineError

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(main.commands)


def softlabel(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("softlabel")
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_commands_are_the_stages_and_those_that_only_tell():
    stages = "cifar10 describe-teacher evaluate precompute report sample soften split"
    shipping = "export measure-exports measure-speed model-card"
    trainings = "train-baseline train-student train-teacher"
    others = "init render-views import-logits table verify inspect pack predict plan sweep"
    last = "parity params models init-remote"
    assert set(COMMANDS) == {name for names in (stages, shipping, trainings, others, last) for name in names.split()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0
    parameters = main.commands[command].params
    arguments = [entry.human_readable_name for entry in parameters if isinstance(entry, click.Argument)]
    words = [*arguments, *main.commands[command].help.split()[:4]]
    assert shown.output.split("[OPTIONS]")[1].split()[: len(words)] == words
    for option in (entry for entry in parameters if isinstance(entry, click.Option)):
        assert option.help, f"{option.name} of {command} has no help"
        assert (option.opts[0] in shown.output) != option.hidden


def listed_under(heading):
    """(command, first word of its help) of each line that `softlabel --help` has under a heading."""
    block = CliRunner().invoke(main, ["--help"]).output.split(f"\n{heading}:\n")[1].partition("\n\n")[0]
    return [tuple(line.split()[:2]) for line in block.splitlines()]


def test_help_lists_stages_in_their_order_then_tools():
    """The order is that of dvc.yaml, behind the two stages that make data."""
    in_dvc_yaml = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    stages = ["sample", "cifar10", *(name.replace("_", "-") for name in in_dvc_yaml)]
    assert [name for name, _ in listed_under("Stages, in their order")] == stages
    assert [name for name, _ in listed_under("Tools")] == [
        "init",
        "render-views",
        "import-logits",
        "table",
        "verify",
        "inspect",
        "pack",
        "predict",
        "plan",
        "sweep",
        "parity",
        "params",
        "models",
        "init-remote",
    ]
    headings = [line for line in CliRunner().invoke(main, ["--help"]).output.splitlines() if line.endswith(":")]
    assert headings == ["Options:", "Stages, in their order:", "Tools:"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_list_of_commands_names_each(command):
    listed = [*listed_under("Stages, in their order"), *listed_under("Tools")]
    assert [first for name, first in listed if name == command] == [main.commands[command].help.split()[0]]


def test_the_list_of_commands_cuts_no_help_short():
    listing = CliRunner().invoke(main, ["--help"]).output.partition("Stages")[2]
    assert "..." not in listing


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_file_is_named_in_the_usage(command):
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.output.splitlines()[0] == f"Usage: main {command} [OPTIONS] FILE"


HELP_WITHOUT_HEAVY_IMPORTS = """
import sys
from click.testing import CliRunner
from pipeline.cli.main import main
for command in [[], *[[name] for name in main.commands]]:
    assert CliRunner().invoke(main, [*command, "--help"]).exit_code == 0
heavy = (
    "tensorflow", "keras", "h5py", "numpy", "scipy", "matplotlib", "pandas", "pydantic", "psutil", "filelock", "ruamel",
    "tqdm",
)
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    shown = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_HEAVY_IMPORTS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.slow
def test_module_and_console_script_are_the_same_program():
    module = subprocess.run([sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout.split()[-1] == softlabel("--version").stdout.split()[-1]


@pytest.fixture
def in_a_folder_with_params(tmp_path, monkeypatch):
    """The current folder: it has params.yaml and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["soften", "--temperature", "0"], 2, "0 is not a temperature from 0.001"),
        (["soften", "--temperature", "warm"], 2, "'warm' is not a number"),
        (["soften", "--temperature", "inf"], 2, "inf is not a temperature from 0.001"),
        (["soften"], 2, "Missing option '--temperature'"),
        (["train-baseline", "--seed", "-1"], 2, "-1 is not in the range"),
        (["soften", "--temperature", "4"], 1, "there is no dvc.yaml here"),
        (["split"], 1, "there is no dvc.yaml here"),
        (["table"], 1, "there are no metrics at results/metrics.json"),
        (["sovten"], 2, "No such command 'sovten'"),
        (["verify"], 2, "Missing argument 'FILE'"),
        (["inspect"], 2, "Missing argument 'FILE'"),
        (["pack"], 2, "Missing argument 'FOLDER'"),
        (["pack", "new"], 1, "there is no index at data/index.csv"),
        (["verify", "a.h5", "b.h5"], 2, "unexpected extra argument (b.h5)"),
        (["inspect", "x.h5"], 1, "there is no file x.h5. Make it with `dvc repro`."),
        (["inspect", "x.h5", "--temperature", "0"], 2, "0 is not a temperature from 0.001"),
        (["inspect", "x.h5", "--temperature", "4"], 2, "--temperature needs --sample ID"),
        (["inspect", "x.h5", "--output", "x.png"], 2, "--output needs --sample ID"),
        (["inspect", "x.h5", "--sample"], 2, "Option '--sample' requires an argument"),
        (["predict"], 2, "Missing argument 'MODEL'"),
        (["predict", "student.tflite"], 2, "Missing argument 'IMAGES...'"),
        (["predict", "student.h5", "params.yaml"], 1, "its name does not end in .tflite or .onnx or .keras"),
        (["predict", "student.tflite", "params.yaml"], 1, "there is no file student.tflite"),
        (["predict", "student.tflite", "data/*.png"], 1, "data/*.png names no image"),
        (["plan", "--mesure"], 2, "--mesure"),
        (["sweep"], 2, "give one of --engine ray, --only NUMBER and --list"),
        (["sweep", "--list", "--only", "1"], 2, "give one of"),
        (["sweep", "--engine", "ray", "--workers", "0"], 2, "0 is not in the range"),
        (["sweep", "--engine", "ray", "--address", "here"], 2, "it is 'here'; expected auto, or host:port"),
        (["sweep", "--list"], 1, "there is no dvc.yaml here"),
    ],
)
def test_refusals_are_one_message_and_write_nothing(in_a_folder_with_params, arguments, code, message):
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == code
    assert isinstance(refused.exception, SystemExit)
    assert message in refused.stderr
    assert refused.stdout == ""
    assert sorted(entry.name for entry in in_a_folder_with_params.iterdir() if entry.name != "data") == ["params.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["soften", "--temperature", "0"], 2, "0 is not a temperature from 0.001"),
        (["soften", "--temperature", "4"], 1, "there is no dvc.yaml here"),
    ],
    ids=["wrong use", "what is missing"],
)
def test_refusals_of_the_real_process_show_no_traceback(in_a_folder_with_params, arguments, code, message):
    refused = softlabel(*arguments, cwd=in_a_folder_with_params)
    assert refused.returncode == code
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("arguments", [["sample"], ["cifar10"], ["soften", "--temperature", "4"], ["split"]])
def test_invalid_params_are_refused_before_anything_is_written(in_a_folder_with_params, arguments):
    params = in_a_folder_with_params / "params.yaml"
    params.write_text(params.read_text().replace("hard_label_weight: 0.5", "hard_label_weight: 5"))
    (in_a_folder_with_params / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert re.search("distill\\.hard_label_weight: .* 1 .*got 5", refused.stderr)
    assert sorted(entry.name for entry in in_a_folder_with_params.iterdir()) == ["dvc.yaml", "params.yaml"]


def test_data_where_a_later_stage_writes_are_refused(in_a_folder_with_params):
    params, photo = in_a_folder_with_params / "params.yaml", in_a_folder_with_params / "results/plots/photo.png"
    change(params, "split.data", "results/plots")
    (in_a_folder_with_params / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"mine")
    refused = CliRunner().invoke(main, ["split"])
    assert (refused.exit_code, type(refused.exception)) == (1, SystemExit), refused.exception
    assert "split.data is results/plots" in refused.stderr
    assert photo.read_bytes() == b"mine"
    assert not (in_a_folder_with_params / "data").exists()


def test_a_package_that_is_not_installed_is_named(in_a_folder_with_params, monkeypatch):
    """As after installing the wheel alone, which brings what `predict` needs."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.delitem(sys.modules, "pipeline.cli.orphan", raising=False)
    refused = CliRunner().invoke(main, ["evaluate"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "evaluate needs the package psutil, which is not installed" in refused.stderr
    assert "`pip install -e '.[pipeline]'`" in refused.stderr


def test_errors_of_the_system_are_told_without_traceback(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "data/x.h5")

    monkeypatch.setattr("pipeline.evaluation.comparison.read_metrics", full)
    refused = CliRunner().invoke(main, ["table"])
    assert refused.exit_code == 1
    assert "No space left on device" in refused.output
    assert "Make room there, then run again" in refused.output


def test_a_defect_of_ours_still_shows_its_traceback(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("pipeline.evaluation.comparison.read_metrics", broken)
    assert isinstance(CliRunner().invoke(main, ["table"]).exception, ZeroDivisionError)


@pytest.mark.parametrize("error", PipelineError.__subclasses__())
def test_every_error_of_ours_ends_with_code_1(monkeypatch, error):
    def refuse(*_, **__):
        raise error("what happened. what to do.")

    monkeypatch.setattr("pipeline.evaluation.comparison.read_metrics", refuse)
    refused = CliRunner().invoke(main, ["table"])
    assert (refused.exit_code, refused.output) == (1, "table: starting\nError: what happened. what to do.\n")


def test_verify_of_a_missing_file_tells_it_as_a_finding(tmp_path, monkeypatch):
    """On stdout, as every finding, and with code 1, so that a script needs no other case."""
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["verify", "x.h5"])
    assert told.exit_code == 1
    assert re.fullmatch("WRONG file .*x\\.h5.*`dvc repro`.*\nx\\.h5 .*\n", told.stdout)
    assert told.stderr == "verify: starting\n"


def test_plan_without_params_says_where_to_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(main, ["plan"])
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert "params.yaml" in refused.stderr
    assert list(tmp_path.iterdir()) == []


TABLES_WITHOUT_TENSORFLOW = """
import sys
from click.testing import CliRunner
from pipeline.cli.main import main
for file in sys.argv[1:]:
    for command in ("verify", "inspect"):
        code = CliRunner().invoke(main, [command, file]).exit_code
        print(command, code, "h5py" in sys.modules, "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_without_a_teacher_a_file_is_read_without_tensorflow(tmp_path):
    """Files of every version of the format."""
    files = sorted((ROOT / "tests/golden").glob("*.h5"))
    for source in files:
        (tmp_path / source.name).write_bytes(source.read_bytes())
    shown = subprocess.run(
        [sys.executable, "-c", TABLES_WITHOUT_TENSORFLOW, *(file.name for file in files)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert shown.stdout.splitlines() == len(files) * ["verify 0 True False", "inspect 0 True False"]
