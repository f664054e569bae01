"""dvc.yaml names what its stages really use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from imports import closure
from real_project import change, copy_repository, run, stages_run
from ruamel.yaml import YAML

from pipeline.cli import paths
from pipeline.cli.main import main
from pipeline.params import reading
from pipeline.stages import precompute, train_baseline, train_student, train_teacher

ROOT = Path(__file__).parents[1]
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
STAGES = PIPELINE["stages"] | {
    name: stage["do"]
    for data in ("sample", "cifar10")
    for name, stage in YAML(typ="safe").load(ROOT / f"data/{data}/dvc.yaml")["stages"].items()
}


def code_of(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline/")]


def test_every_output_is_one_that_no_data_may_lie_in():
    """`split` refuses data in these places, or around them, since stages replace what lies there."""
    stages = PIPELINE["stages"].values()
    outs = [out for stage in stages for key in ("outs", "metrics", "plots") for out in stage.get(key, [])]
    written = [Path(next(iter(out)) if isinstance(out, dict) else out) for out in outs]
    apart = [paths.SPLIT_FOLDER, paths.INDEX, *paths.AFTER_SPLIT]
    assert [out for out in written if not any(out.is_relative_to(place) for place in apart)] == []
    assert [place for place in apart if not any(out.is_relative_to(place) for out in written)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_packages_that_a_stage_imports(stage):
    module = Path(f"pipeline/stages/{stage}.py")
    folders = sorted({other.parent.as_posix() for other in closure(module) - {module}})
    assert code_of(stage) == [module.as_posix(), *folders]


@pytest.mark.parametrize("stage", [train_teacher, train_baseline, train_student, precompute])
def test_unfinished_work_is_keyed_by_the_code_of_its_stage(stage):
    name = stage.__name__.rpartition(".")[2]
    packages = {part if part.startswith("stages/") else part.partition("/")[0] for part in stage.CODE}
    assert sorted(f"pipeline/{part}" for part in packages) == sorted(code_of(name))


def test_which_worker_does_what_does_not_put_a_pass_aside():
    modules = {f"cluster/{path.name}" for path in Path("pipeline/cluster").glob("*.py")} - set(precompute.CODE)
    names = ("__init__", "calls", "connection", "engine", "held_workers", "leases", "processes", "settings")
    assert modules == {f"cluster/{name}.py" for name in names}


TEACHER, LABELS = ["train_teacher", "describe_teacher", "precompute"], ["soften@4"]
MODELS = ["train_student@kl-4-1", "train_baseline@1"]
ALL = [
    "split",
    *TEACHER,
    *LABELS,
    *MODELS,
    "evaluate",
    "export@best",
    "measure_exports",
    "measure_speed",
    "report",
    "model_card",
]
STAGES_OF_AN_EDIT = {
    "cli": [],
    "params": [],
    "tools": [],
    "report": ["report", "model_card"],
    "evaluation": ["evaluate", "export@best", "measure_speed", "measure_exports", "report", "model_card"],
    "distillation": ["train_student@kl-4-1"],
    "teacher_pass": ["precompute"],
    "cluster": ["precompute"],
    "inference": [*TEACHER, *MODELS, "evaluate", "export@best", "measure_speed", "measure_exports"],
    "soft_labels": ["precompute", *LABELS, "train_student@kl-4-1", "evaluate", "report", "model_card"],
    "training": ["train_teacher", *MODELS],
    "measures": ["train_teacher", *MODELS, "evaluate", "export@best", "measure_exports", "report", "model_card"],
    "models": [*TEACHER, *MODELS, "evaluate", "export@best", "measure_speed"],
    "deployed": ["export@best", "measure_exports", "model_card"],
    "exports": ["export@best", "measure_exports"],
    "timing": ["measure_exports"],
    "datasets": ["split"],
    "images": ALL,
    "runtime": ALL,
}
"""What DVC runs again after an edit of a package; what depends on its outputs follows if they changed."""


def with_stand_ins(project: Path) -> None:
    """Files of a byte for everything that stages read or write, which DVC takes for the results."""
    change(project / "params.yaml", "distill.temperatures", [4])
    change(project / "params.yaml", "student.seeds", [1])
    change(project / "params.yaml", "split.data", "data/raw/mine")
    params = YAML().load(project / "params.yaml")
    params.pop("sample", None)
    YAML().dump(params, project / "params.yaml")
    stages = PIPELINE["stages"].values()
    outs = [out for stage in stages for key in ("outs", "metrics", "plots") for out in stage.get(key, [])]
    names = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
    for name in ["data/raw/mine", *names]:
        file = project / name.replace("${item.loss}", "kl").replace("${item.temperature}", "4").replace(
            "${item.seed}", "1"
        ).replace("${item.student}", "best")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    run("dvc", "init", "--quiet", "--force", cwd=project)
    run("dvc", "commit", "--force", cwd=project)


@pytest.mark.slow
def test_an_edit_runs_the_stages_again_that_import_its_package(tmp_path):
    """As `dvc status` tells of each stage, after `dvc commit` has noted stand-ins for all outputs."""
    copy_repository(tmp_path)
    packages = [path.name for path in (tmp_path / "pipeline").glob("*/")]
    assert sorted(packages) == sorted([*STAGES_OF_AN_EDIT, "stages"])
    with_stand_ins(tmp_path)
    assert json.loads(run("dvc", "status", "--json", cwd=tmp_path)) == {}
    for package in STAGES_OF_AN_EDIT:
        with (tmp_path / "pipeline" / package / "__init__.py").open("a") as module:
            module.write("\n")
    edited = {stage: [] for stage in ALL}
    for stage, causes in json.loads(run("dvc", "status", "--json", cwd=tmp_path)).items():
        (cause,) = causes
        assert cause.keys() == {"changed deps"}
        edited[stage] = sorted(cause["changed deps"])
    assert edited == {
        stage: sorted(f"pipeline/{package}" for package, stages in STAGES_OF_AN_EDIT.items() if stage in stages)
        for stage in ALL
    }


@pytest.mark.parametrize("stage", STAGES)
def test_stage_command_and_module_share_one_name(stage):
    assert STAGES[stage]["desc"]
    command = STAGES[stage]["cmd"].split()[:4]
    assert command == ["python", "-m", "pipeline", stage.replace("_", "-")]
    assert command[3] in main.commands


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_declared_in_params_yaml(stage):
    for path in STAGES[stage].get("params", []):
        section = reading.read_params(ROOT / "params.yaml").model_dump()
        for name in path.replace("${item.loss}", "kl").split("."):
            assert name in section, path
            section = section[name]


def test_the_teacher_hangs_on_nothing_of_the_student():
    for stage in ("train_teacher", "precompute"):
        assert "pipeline/distillation" not in code_of(stage)
        assert not any(path.startswith(("student", "distill")) for path in STAGES[stage]["params"])
    assert "pipeline/soft_labels" not in code_of("train_teacher")


def test_the_student_needs_no_teacher():
    text = str(STAGES["train_student"])
    assert "teacher" not in text.replace("train_teacher", "").replace("no teacher", "")
    assert "pipeline/teacher_pass" not in code_of("train_student")


@pytest.mark.slow
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
SPLIT_OF = {
    "the sample": ("mnist", None, [SAMPLE], {SAMPLE}),
    "own data in place of the sample": ("mnist", "data/raw/mine", [], {SAMPLE}),
    "data that nothing makes": ("mhist", "data/raw/mhist", [], set()),
    "CIFAR-10": ("cifar10_cnn", None, [CIFAR10], {CIFAR10}),
    "own data in place of CIFAR-10": ("cifar10_resnet", "data/raw/mine/part.npz", [], {CIFAR10}),
}
"""Preset, own data, which stages make data before `split`, and of which `dvc status` tells."""

DRY_RUN_AND_STATUS = """
import os, sys
from dvc.cli import main
for project in sys.argv[1:]:
    os.chdir(project)
    assert main(["repro", "--dry", "split"]) == 0
    print("and", flush=True)
    assert main(["status"]) == 0
    print("next", flush=True)
"""
"""With `--dry` DVC runs nothing, and tells what it would run."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What DVC tells of a project for each entry of `SPLIT_OF`: in a dry run, and of its status."""
    projects = [tmp_path_factory.mktemp("split") for _ in SPLIT_OF]
    for project, (preset, data, _, _) in zip(projects, SPLIT_OF.values(), strict=True):
        copy_repository(project)
        (project / "params.yaml").write_text((ROOT / f"presets/{preset}.yaml").read_text())
        if data is not None:
            change(project / "params.yaml", "split.data", data)
        for file in ("data/raw/mnist/images/x.png", "data/raw/cifar10/cifar10.npz", *([data] if data else [])):
            (project / file).parent.mkdir(parents=True, exist_ok=True)
            (project / file).touch()
    said = run(sys.executable, "-c", DRY_RUN_AND_STATUS, *map(str, projects), cwd=projects[0])
    *parts, rest = said.split("next\n")
    assert rest == ""
    return dict(zip(SPLIT_OF, (part.split("and\n") for part in parts), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", SPLIT_OF)
def test_sample_data_are_made_only_if_split_reads_them(told, case):
    _, _, made, named = SPLIT_OF[case]
    dry_run, status = told[case]
    assert stages_run(dry_run) == [*made, "split"]
    assert "split:" in status.splitlines()
    assert {line.removesuffix(":") for line in status.splitlines() if line.startswith("data/")} == named
