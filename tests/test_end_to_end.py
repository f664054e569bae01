"""The real stages, run by the real `dvc` in a copy of this repository, on a small data set."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import write_data_set
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
ENVIRONMENT["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), ENVIRONMENT["PATH"]])


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def change(params_file: Path, path: str, value) -> None:
    yaml = YAML()
    content = yaml.load(params_file)
    *sections, last = path.split(".")
    section = content
    for name in sections:
        section = section[name]
    section[last] = value
    yaml.dump(content, params_file)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the repository with a small data set and small models, reproduced once."""
    folder = tmp_path_factory.mktemp("project")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/") and Path(name).name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run("git", "init", "--quiet", cwd=folder)
    write_data_set(folder / "data/raw/small")
    params = folder / "params.yaml"
    change(params, "split.annotations", "data/raw/small/annotations.csv")
    change(params, "split.images", "data/raw/small/images")
    for section in ("train_teacher", "student"):
        change(params, f"{section}.model.input_shape", [12, 12, 3])
        change(params, f"{section}.model.filters", [4])
        change(params, f"{section}.phases", [{"epochs": 2, "learning_rate": 0.01, "trainable_from": "all"}])
    change(params, "student.seeds", [1, 2])
    output = run("dvc", "repro", cwd=folder)
    assert stages_run(output) == [
        "split", "train_teacher", "precompute", "soften@4", "train_student@4-1", "train_student@4-2",
        "train_baseline@1", "train_baseline@2", "evaluate",
    ]  # fmt: skip
    return folder


def test_split_wrote_class_folders_and_index(project):
    index = pd.read_csv(project / "data/index.csv")
    assert list(index.columns) == ["id", "path", "label", "split", "votes", "sha256"]
    assert len(index) == 40
    assert index["id"].is_monotonic_increasing
    assert (index["split"] == "test").sum() == 12
    for row in index.itertuples():
        assert row.path == f"data/split/{row.split}/{row.label}/{row.id}"
        assert (project / row.path).read_bytes() == (project / "data/raw/small/images" / row.id).read_bytes()


def test_soft_targets_are_the_softened_logits_of_the_teacher(project):
    """Logits recomputed with plain Keras from the image files, then softened in float64."""
    import keras

    model = keras.saving.load_model(project / "models/teacher.keras")
    index = pd.read_csv(project / "data/index.csv").set_index("id")
    with (
        h5py.File(project / "data/soft_labels/teacher_logits.h5") as logits_file,
        h5py.File(project / "data/soft_labels/soft_targets_T4.h5") as targets_file,
    ):
        for split in ("train", "val", "test"):
            ids = [name.decode() for name in targets_file[split]["id"][:]]
            assert (
                ids
                == [name.decode() for name in logits_file[split]["id"][:]]
                == index.query("split == @split").index.tolist()
            )
            pixels = [keras.utils.img_to_array(keras.utils.load_img(project / index.path[name])) for name in ids]
            logits = model.predict(np.array(pixels), verbose=0)
            np.testing.assert_allclose(logits_file[split]["logits"][0], logits, rtol=0, atol=1e-4)
            powers = np.exp(logits_file[split]["logits"][0].astype(np.float64) / 4)
            np.testing.assert_allclose(
                targets_file[split]["soft"][0], powers / powers.sum(1, keepdims=True), rtol=0, atol=1e-7
            )
            labels = (index.label[ids] == "SSA").to_numpy().astype(int)
            np.testing.assert_array_equal(targets_file[split]["hard"][:], np.eye(2)[labels])


def test_metrics_can_be_computed_again_from_the_files(project):
    import keras

    metrics = json.loads((project / "results/metrics.json").read_text())
    index = pd.read_csv(project / "data/index.csv").query("split == 'test'")
    assert metrics["test_images"] == 12
    assert set(metrics["models"]) == {"teacher", "baseline", "student_T4"}
    pixels = np.array([keras.utils.img_to_array(keras.utils.load_img(project / path)) for path in index.path])
    labels = (index.label == "SSA").to_numpy().astype(int)
    for group, folder, pattern in [
        ("baseline", "baselines", "seed{}.keras"),
        ("student_T4", "students", "T4_seed{}.keras"),
    ]:
        report = metrics["models"][group]
        for seed in (1, 2):
            model = keras.saving.load_model(project / "models" / folder / pattern.format(seed))
            accuracy = np.mean(model.predict(pixels, verbose=0).argmax(1) == labels)
            assert report["seeds"][str(seed)]["accuracy"] == pytest.approx(accuracy)
        mean = np.mean([report["seeds"][seed]["accuracy"] for seed in "12"])
        assert report["quality"]["accuracy"]["mean"] == pytest.approx(mean)
        assert report["parameters"]["total"] == model.count_params()
        assert report["file_bytes"] == (project / "models" / folder / pattern.format(1)).stat().st_size
    gains = [
        metrics["models"]["student_T4"]["seeds"][seed]["nll"] - metrics["models"]["baseline"]["seeds"][seed]["nll"]
        for seed in "12"
    ]
    assert metrics["models"]["student_T4"]["gain"]["nll"]["mean"] == pytest.approx(np.mean(gains))
    assert metrics["models"]["student_T4"]["gain"]["nll"]["std"] == pytest.approx(np.std(gains, ddof=1))


def test_table_shows_every_model(project):
    shown = run("softlabel", "table", cwd=project)
    for name in ("teacher", "baseline", "student T=4", "less baseline"):
        assert sum(line.strip().startswith(name) for line in shown.splitlines()) >= 1


def test_plots_are_complete(project):
    models = {"teacher", "baseline_seed1", "baseline_seed2", "student_T4_seed1", "student_T4_seed2"}
    for kind in ("roc", "confusion", "reliability"):
        assert {file.stem for file in (project / "results/plots" / kind).iterdir()} == models
    for name in models:
        reliability = pd.read_csv(project / f"results/plots/reliability/{name}.csv")
        assert reliability["images"].sum() == 12
        confusion = pd.read_csv(project / f"results/plots/confusion/{name}.csv")
        assert confusion["actual"].value_counts().to_dict() == {"HP": 4, "SSA": 8}
        right = json.loads((project / "results/metrics.json").read_text())["models"]
        if name == "teacher":
            expected = right["teacher"]["quality"]["accuracy"]
            assert (confusion["actual"] == confusion["predicted"]).mean() == pytest.approx(expected)
    history = pd.read_csv(project / "results/history/student_T4_seed1.csv")
    assert history["epoch"].tolist() == [1, 2]
    shown = json.loads(run("dvc", "plots", "show", "--json", cwd=project))
    assert not shown.get("errors")
    assert {Path(name).name for name in shown["data"]} == {f"{name}.csv" for name in models}
    assert len(shown["data"]) == 4 * len(models)


def test_a_second_repro_does_nothing(project):
    assert stages_run(run("dvc", "repro", cwd=project)) == []


def test_forced_repro_leaves_dvc_lock_unchanged(project):
    before = (project / "dvc.lock").read_bytes()
    assert len(stages_run(run("dvc", "repro", "--force", cwd=project))) == 9
    assert (project / "dvc.lock").read_bytes() == before


def test_the_student_trains_with_the_teacher_gone(project):
    """The student's process never loads the teacher: no file of it is there."""
    student = project / "models/students/T4_seed1.keras"
    before = student.read_bytes()
    hidden = project / "elsewhere"
    hidden.mkdir()
    gone = [project / "models/teacher.keras", project / "data/soft_labels/teacher_logits.h5"]
    for path in gone:
        path.rename(hidden / path.name)
    student.unlink()
    run("softlabel", "train-student", "--temperature", "4", "--seed", "1", cwd=project)
    for path in gone:
        (hidden / path.name).rename(path)
    assert student.read_bytes() == before


def test_a_new_temperature_runs_only_its_own_stages(project):
    change(project / "params.yaml", "distill.temperatures", [2, 4])
    output = run("dvc", "repro", cwd=project)
    assert stages_run(output) == ["soften@2", "train_student@2-1", "train_student@2-2", "evaluate"]
    metrics = json.loads((project / "results/metrics.json").read_text())
    assert {"student_T2", "student_T4"} < set(metrics["models"])


def test_leftovers_of_another_temperature_are_ignored(project):
    change(project / "params.yaml", "distill.temperatures", [4])
    run("dvc", "repro", cwd=project)
    assert (project / "models/students/T2_seed1.keras").exists()
    metrics = json.loads((project / "results/metrics.json").read_text())
    assert set(metrics["models"]) == {"teacher", "baseline", "student_T4"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("distill.hard_label_weight", 0.3, ["train_student@4-1", "train_student@4-2"]),
        ("student.seeds", [1, 2, 3], ["evaluate", "train_baseline@3", "train_student@4-3"]),
        ("precompute.batch_size", 16, ["precompute"]),
        ("train_teacher.seed", 2, ["train_teacher"]),
    ],
)
def test_a_change_touches_only_the_stages_that_use_it(project, path, value, expected):
    """As `dvc status` tells, before what follows from them."""
    original = (project / "params.yaml").read_text()
    change(project / "params.yaml", path, value)
    status = json.loads(run("dvc", "status", "--json", cwd=project))
    (project / "params.yaml").write_text(original)
    assert sorted(stage for stage in status if not stage.startswith("data/sample")) == expected


def test_invalid_params_are_refused_before_anything_runs(project):
    original = (project / "params.yaml").read_text()
    change(project / "params.yaml", "train_teacher.seed", -1)
    done = subprocess.run(["dvc", "repro"], cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    (project / "params.yaml").write_text(original)
    assert done.returncode != 0
    assert "train_teacher.seed: Input should be greater than or equal to 0 (got -1)" in done.stderr
    assert "Traceback" not in done.stderr
