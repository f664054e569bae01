"""dvc.yaml names what its stages really use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from real_project import change, copy_repository, run, stages_run
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.params import reading

ROOT = Path(__file__).parents[1]
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
STAGES = PIPELINE["stages"] | {
    name: stage["do"]
    for data in ("sample", "cifar10")
    for name, stage in YAML(typ="safe").load(ROOT / f"data/{data}/dvc.yaml")["stages"].items()
}


def imports(module: Path) -> set[str]:
    """Modules of this package that one of its files imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("pipeline.")}
    return found


def closure(name: str) -> set[str]:
    seen, waiting = set(), {name}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting |= imports(ROOT / "pipeline" / f"{module}.py") - seen
    return seen


def test_closure_of_a_known_case():
    assert closure("soften") == {
        "soften", "soft_label_writing", "softness", "answers", "chance", "soft_labels", "storage", "checked_hdf5",
        "progress", "views", "index", "artifacts", "errors",
    }  # fmt: skip


def test_the_package_itself_is_only_a_docstring():
    """So it need not be a dependency of every stage."""
    body = ast.parse((ROOT / "pipeline/__init__.py").read_text()).body
    assert [type(node) for node in body] == [ast.Expr]


@pytest.mark.parametrize("stage", STAGES)
def test_python_deps_are_the_import_closure(stage):
    declared = [dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")]
    assert declared == sorted(f"pipeline/{module}.py" for module in closure(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_stage_command_and_module_share_one_name(stage):
    assert STAGES[stage]["desc"]
    command = STAGES[stage]["cmd"].split()[:2]
    assert command == ["softlabel", stage.replace("_", "-")]
    assert command[1] in main.commands


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_declared_in_params_yaml(stage):
    for path in STAGES[stage].get("params", []):
        section = reading.read_params(ROOT / "params.yaml").model_dump()
        for name in path.split("."):
            assert name in section, path
            section = section[name]


def test_the_teacher_hangs_on_nothing_of_the_student():
    for stage in ("train_teacher", "precompute"):
        assert not {"losses", "targets", "train_student"} & closure(stage)
        assert not any(path.startswith(("student", "distill")) for path in STAGES[stage]["params"])
    assert "soft_labels" not in closure("train_teacher")


def test_the_student_needs_no_teacher():
    text = str(STAGES["train_student"])
    assert "teacher" not in text.replace("train_teacher", "").replace("no teacher", "")
    assert not {"precompute", "train_teacher"} & closure("train_student")


def test_soften_takes_no_tensorflow():
    program = "import sys, pipeline.stages.soften; print({'tensorflow', 'keras'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == "set()"


def test_plots_are_drawn_from_what_evaluate_writes():
    written = tuple(STAGES["evaluate"]["outs"])
    for plot in PIPELINE["plots"]:
        (path,) = plot
        assert path.startswith(tuple(f"{out}/" for out in written)), path


def test_the_default_is_the_mnist_preset():
    """But for the comments at its head, which tell how to use a preset."""
    read = YAML(typ="safe").load
    assert read(ROOT / "presets/mnist.yaml") == read(ROOT / "params.yaml")


def test_presets_are_valid_and_all_there():
    found = {path.stem: reading.read_params(path).split.layout for path in (ROOT / "presets").glob("*.yaml")}
    assert found == {
        "mnist": "mhist", "mhist": "mhist", "cifar10_cnn": "cifar10", "cifar10_resnet": "cifar10", "intel": "folders",
        "cassava": "csv",
    }  # fmt: skip


SAMPLE, CIFAR10 = "data/sample/dvc.yaml:sample@mnist", "data/cifar10/dvc.yaml:cifar10@images"


@pytest.mark.parametrize(
    ("preset", "data", "made", "named"),
    [
        ("mnist", None, [SAMPLE], {SAMPLE}),
        ("mnist", "data/raw/mine", [], {SAMPLE}),
        ("mhist", "data/raw/mhist", [], set()),
        ("cifar10_cnn", None, [CIFAR10], {CIFAR10}),
        ("cifar10_resnet", "data/raw/mine/part.npz", [], {CIFAR10}),
    ],
)
def test_data_are_made_if_split_reads_them_and_named_if_the_parameters_do(tmp_path, preset, data, made, named):
    """As DVC would run the stages; with `--dry` it runs none."""
    copy_repository(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / f"presets/{preset}.yaml").read_text())
    if data is not None:
        change(tmp_path / "params.yaml", "split.data", data)
    for file in ("data/raw/mnist/images/x.png", "data/raw/cifar10/cifar10.npz", *([data] if data else [])):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert stages_run(run("dvc", "repro", "--dry", "split", cwd=tmp_path)) == [*made, "split"]
    told = run("dvc", "status", cwd=tmp_path).splitlines()
    assert "split:" in told
    assert {line.removesuffix(":") for line in told if line.startswith("data/")} == named
