"""The house: which package may import which."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from imports import ROOT, arrows, closure, imports, modules

ARROWS = arrows()
MAY_IMPORT = {
    "runtime": set(),
    "measures": set(),
    "images": {"runtime"},
    "datasets": {"images", "runtime"},
    "models": {"runtime"},
    "params": {
        "cluster",
        "deployed",
        "distillation",
        "evaluation",
        "images",
        "measures",
        "models",
        "runtime",
        "soft_labels",
        "training",
    },
    "training": {"images", "inference", "measures", "models", "runtime"},
    "soft_labels": {"images", "runtime"},
    "inference": {"images", "runtime"},
    "evaluation": {"images", "measures", "runtime"},
    "distillation": {"images", "runtime", "soft_labels", "training"},
    "teacher_pass": {"images", "inference", "models", "runtime", "soft_labels"},
    "cluster": {"images", "inference", "models", "runtime", "soft_labels", "teacher_pass"},
    "deployed": {"images", "runtime"},
    "exports": {"deployed", "evaluation", "images", "inference", "measures", "models", "runtime"},
    "timing": {"deployed", "evaluation", "exports", "inference", "runtime"},
    "report": {"evaluation", "images", "measures", "runtime", "soft_labels"},
}
"""A package below the stages, and what it may import; why, is in docs/decisions.md."""


def test_the_imports_of_a_known_module_are_found():
    assert closure(Path("pipeline/stages/soften.py")) == {
        Path("pipeline", name)
        for name in (
            "stages/soften.py", "images/augmentation.py", "images/headers.py", "images/image_files.py",
            "images/index.py", "images/one_hot.py", "images/operations.py", "images/parquet_rows.py",
            "images/places.py", "images/random_words.py", "images/sampling.py", "images/shard_bytes.py",
            "images/transforms.py", "images/views.py",
            "runtime/cores.py", "runtime/csv_rows.py", "runtime/digests.py", "runtime/disk_errors.py",
            "runtime/errors.py", "runtime/extras.py", "runtime/limits.py", "runtime/parallel.py",
            "runtime/parquet_files.py", "runtime/progress.py", "runtime/publish.py", "runtime/ranges.py",
            "runtime/room.py", "runtime/seen_files.py", "runtime/separate_process.py", "runtime/text_files.py",
            "runtime/tried_files.py", "runtime/workspace.py",
            "soft_labels/answers.py", "soft_labels/chance.py", "soft_labels/hdf5.py", "soft_labels/layout.py",
            "soft_labels/logit_storage.py", "soft_labels/reading.py", "soft_labels/softness.py",
            "soft_labels/writing.py",
        )
    }  # fmt: skip


def test_every_module_lies_in_a_package():
    assert {path.name for path in (ROOT / "pipeline").glob("*.py")} == {"__init__.py", "__main__.py"}
    assert set(ARROWS) == {*MAY_IMPORT, "stages", "tools", "cli"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_what_it_may(package):
    assert ARROWS[package] <= MAY_IMPORT[package]


def test_only_the_command_line_knows_params_stages_and_tools():
    knowing = {package for package, known in ARROWS.items() if known & {"params", "stages", "tools"}}
    assert knowing == {"cli"}


def test_nothing_imports_the_command_line():
    assert not any("cli" in known for known in ARROWS.values())


def test_stages_import_no_other_stage():
    for module in modules():
        if module.parent.name == "stages":
            assert not [other for other in imports(module) if other.parent.name == "stages"], module


def test_packages_form_no_circle():
    list(TopologicalSorter(ARROWS).static_order())


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_a_package_itself_is_one_docstring(package):
    (body,) = ast.parse((ROOT / "pipeline" / package / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(body, ast.Expr)


def test_the_way_of_an_image_names_every_package():
    (told,) = ast.parse((ROOT / "pipeline/__init__.py").read_text(encoding="utf-8")).body
    named = [line.split("/")[0] for line in told.value.value.splitlines() if line[:1].isalpha() and "/ " in line]
    assert sorted(named) == sorted(ARROWS)


def test_files_that_are_no_modules_are_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    named = {
        ROOT / package.replace(".", "/") / name for package, names in settings["package-data"].items() for name in names
    }
    assert named == {path for path in (ROOT / "pipeline").rglob("*.*") if path.suffix not in (".py", ".pyc")}
