"""The real stages, run by the real `dvc` in a copy of this repository, on a small data set."""

import json
import math
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from real_project import attempt, change, copy_without, run, stages_run

from pipeline.cli.main import main


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory):
    return copy_without(reproduced, tmp_path_factory.mktemp("end_to_end") / "project")


def test_split_wrote_class_folders_and_index(project):
    index = pd.read_csv(project / "data/index.csv")
    assert list(index.columns) == ["id", "path", "class_name", "split", "votes", "sha256", "label"]
    assert len(index) == 120
    assert index["id"].is_monotonic_increasing
    assert (index["split"] == "test").sum() == 36
    for row in index.itertuples():
        assert row.path == f"data/split/{row.split}/{row.class_name}/{row.id}"
        assert (project / row.path).read_bytes() == (project / "data/raw/small/images" / row.id).read_bytes()


def test_soft_targets_are_the_softened_logits_of_the_teacher(project):
    """Logits recomputed from the image files and the stored transforms, then softened in float64."""
    import keras

    from pipeline.images.rendering import apply_affines

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
            seen = apply_affines(np.array(pixels), logits_file[split]["affine"][-1], "reflect")
            logits = model.predict(seen, verbose=0)
            np.testing.assert_allclose(logits_file[split]["logits"][-1], logits, rtol=0, atol=1e-4)
            powers = np.exp(logits_file[split]["logits"][:].astype(np.float64) / 4)
            np.testing.assert_allclose(
                targets_file[split]["soft"][:], powers / powers.sum(-1, keepdims=True), rtol=0, atol=1e-7
            )
            labels = (index.class_name[ids] == "SSA").to_numpy().astype(int)
            np.testing.assert_array_equal(targets_file[split]["hard"][:], np.eye(2)[labels])


def test_metrics_can_be_computed_again_from_the_files(project):
    import keras

    metrics = json.loads((project / "results/metrics.json").read_text())
    index = pd.read_csv(project / "data/index.csv").query("split == 'test'")
    assert metrics["test_images"] == 36
    assert set(metrics["models"]) == {"teacher", "baseline", "student_kl_T4"}
    pixels = np.array([keras.utils.img_to_array(keras.utils.load_img(project / path)) for path in index.path])
    labels = (index.class_name == "SSA").to_numpy().astype(int)
    for group, file in [("baseline", "baselines/seed1.keras"), ("student_kl_T4", "students/kl_T4_seed1.keras")]:
        report = metrics["models"][group]
        model = keras.saving.load_model(project / "models" / file)
        chosen = model.predict(pixels, verbose=0).argmax(1)
        accuracy = np.mean(chosen == labels)
        assert report["seeds"]["1"]["accuracy"] == pytest.approx(accuracy)
        assert report["quality"]["accuracy"]["mean"] == pytest.approx(accuracy)
        found = [np.mean(chosen[labels == number] == number) for number in (0, 1)]
        assert [entry["mean"] for entry in report["recall"]] == pytest.approx(found)
        assert [report["seeds"]["1"][name] for name in ("specificity", "sensitivity")] == pytest.approx(found)
        assert report["seeds"]["1"]["balanced_accuracy"] == pytest.approx(np.mean(found))
        assert report["parameters"]["total"] == model.count_params()
        assert report["file_bytes"] == (project / "models" / file).stat().st_size
    nll = {group: metrics["models"][group]["seeds"]["1"]["nll"] for group in ("student_kl_T4", "baseline")}
    gain = metrics["models"]["student_kl_T4"]["gain"]["nll"]["mean"]
    assert gain == pytest.approx(nll["student_kl_T4"] - nll["baseline"])


def test_table_shows_every_model(project, monkeypatch):
    monkeypatch.chdir(project)
    shown = CliRunner().invoke(main, ["table"]).stdout
    for name in ("teacher", "baseline", "student kl T=4", "gain over baseline"):
        assert sum(line.strip().startswith(name) for line in shown.splitlines()) >= 1


def test_plots_are_complete(project):
    models = {"teacher", "baseline_seed1", "student_kl_T4_seed1"}
    for kind in ("roc", "confusion", "reliability"):
        assert {file.stem for file in (project / "results/plots" / kind).iterdir()} == models
    for name in models:
        reliability = pd.read_csv(project / f"results/plots/reliability/{name}.csv")
        assert reliability["images"].sum() == 36
        confusion = pd.read_csv(project / f"results/plots/confusion/{name}.csv")
        assert confusion["actual"].value_counts().to_dict() == {"HP": 12, "SSA": 24}
        right = json.loads((project / "results/metrics.json").read_text())["models"]
        if name == "teacher":
            expected = right["teacher"]["quality"]["accuracy"]["mean"]
            assert (confusion["actual"] == confusion["predicted"]).mean() == pytest.approx(expected)
    history = pd.read_csv(project / "results/history/student_kl_T4_seed1.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    shown = json.loads(run("dvc", "plots", "show", "--json", cwd=project))
    assert not shown.get("errors")
    pictures = {f"{name}.png" for name in ("samples", "views", "soft_labels")}
    of_temperature = {"accuracy.csv", "auc.csv"}
    assert {Path(name).name for name in shown["data"]} == {f"{name}.csv" for name in models} | of_temperature | pictures
    students = [name for name in models if name.startswith("student")]  # only these have a soft-label loss
    assert len(shown["data"]) == 6 * len(models) + len(students) + 2 + 3
    assert all(drawn for drawn in shown["data"].values())


def test_a_second_repro_does_nothing(project):
    assert stages_run(run("dvc", "repro", cwd=project)) == []


def test_leftovers_of_another_temperature_are_ignored(reproduced, tmp_path, monkeypatch):
    """What `train_student` made at T = 2, of which params.yaml says nothing any more, changes no number."""
    monkeypatch.chdir(copy_without(reproduced, tmp_path / "project"))
    metrics, students, history = Path("results/metrics.json"), Path("models/students"), Path("results/history")
    before = metrics.read_bytes()
    shutil.copy(students / "kl_T4_seed1.keras", students / "kl_T2_seed1.keras")
    shutil.copy(history / "student_kl_T4_seed1.csv", history / "student_kl_T2_seed1.csv")
    metrics.unlink()
    evaluated = CliRunner().invoke(main, ["evaluate"])
    assert evaluated.exit_code == 0, evaluated.output
    assert metrics.read_bytes() == before
    assert set(json.loads(before)["models"]) == {"teacher", "baseline", "student_kl_T4"}


@pytest.fixture
def status_after(reproduced, tmp_path):
    """Gives params.yaml other values, and returns for each stage why it would run again, as `dvc status` tells."""
    folder = copy_without(reproduced, tmp_path / "edited")

    def status(values):
        for path, value in values.items():
            change(folder / "params.yaml", path, value)
        told = json.loads(run("dvc", "status", "--json", cwd=folder))
        return {stage: causes for stage, causes in told.items() if not stage.startswith("data/")}

    return status


def test_an_edit_touches_only_the_stages_that_read_its_section(status_after):
    """And what follows from them later; the numbers and the page tell of every parameter."""
    told = status_after({"distill.hard_label_weight": 0.3, "precompute.batch_size": 16, "train_teacher.seed": 2})
    stages_of = {"distill": set(), "precompute": set(), "train_teacher": set()}
    for stage, (cause,) in told.items():
        for path in cause["changed deps"]["params.yaml"]:
            stages_of[path.partition(".")[0]].add(stage)
    assert stages_of == {
        "distill": {"train_student@kl-4-1", "evaluate", "report", "model_card"},
        "precompute": {"precompute", "evaluate", "report", "model_card"},
        "train_teacher": {"train_teacher", "evaluate", "report", "model_card"},
    }


def test_another_seed_trains_only_its_own_models(status_after):
    told = status_after({"student.seeds": [1, 2]})
    behind = ["evaluate", "export@best", "model_card", "report"]
    assert sorted(told) == [*behind, "train_baseline@2", "train_student@kl-4-2"]


def test_students_are_compared_to_the_baseline_of_their_seed(reproduced, tmp_path):
    """A second seed in the small project: its two models are trained, the others stay, and gains are paired."""
    folder = copy_without(reproduced, tmp_path / "project")
    before = json.loads((folder / "results/metrics.json").read_text())["models"]
    change(folder / "params.yaml", "student.seeds", [1, 2])
    ran = stages_run(run("dvc", "repro", "evaluate", cwd=folder))
    assert sorted(ran) == ["evaluate", "train_baseline@2", "train_student@kl-4-2"]
    models = json.loads((folder / "results/metrics.json").read_text())["models"]
    student, baseline = models["student_kl_T4"]["seeds"], models["baseline"]["seeds"]
    assert (student["1"], baseline["1"]) == (before["student_kl_T4"]["seeds"]["1"], before["baseline"]["seeds"]["1"])
    one, two = (student[seed]["nll"] - baseline[seed]["nll"] for seed in ("1", "2"))
    gain = models["student_kl_T4"]["gain"]["nll"]
    assert gain == pytest.approx({"mean": (one + two) / 2, "std": abs(one - two) / math.sqrt(2)})
    low, high = models["student_kl_T4"]["intervals"]["gain"]["nll"]
    assert low + high == pytest.approx(one + two)
    assert len({seed["nll"] for report in (student, baseline) for seed in report.values()}) == 4


def test_invalid_params_are_refused_before_anything_runs(project):
    original = (project / "params.yaml").read_text()
    change(project / "params.yaml", "train_teacher.seed", -1)
    done = attempt("dvc", "repro", cwd=project)
    (project / "params.yaml").write_text(original)
    assert done.returncode != 0
    assert re.search(r"train_teacher\.seed: .* 0 .*got -1", done.stdout)
    assert "Traceback" not in done.stdout
