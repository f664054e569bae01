"""The real stages, run by the real `dvc` in a copy of this repository, on a small data set."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from real_project import attempt, change, copy_without, run, stages_run


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory):
    """The small project, first with a student of a second temperature, then with a second seed instead."""
    folder = copy_without(reproduced, tmp_path_factory.mktemp("end_to_end") / "project")
    change(folder / "params.yaml", "distill.temperatures", [2, 4])
    assert stages_run(run("dvc", "repro", "train_student", cwd=folder)) == ["soften@2", "train_student@2-1"]
    change(folder / "params.yaml", "distill.temperatures", [4])
    change(folder / "params.yaml", "student.seeds", [1, 2])
    assert stages_run(run("dvc", "repro", cwd=folder)) == [
        "train_student@4-2",
        "train_baseline@2",
        "evaluate",
        "report",
    ]
    return folder


def models_compared(project):
    return set(json.loads((project / "results/metrics.json").read_text())["models"])


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
    assert set(metrics["models"]) == {"teacher", "baseline", "student_T4"}
    pixels = np.array([keras.utils.img_to_array(keras.utils.load_img(project / path)) for path in index.path])
    labels = (index.class_name == "SSA").to_numpy().astype(int)
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
        assert report["file_bytes"] == (project / "models" / folder / pattern.format(2)).stat().st_size
    gains = [
        metrics["models"]["student_T4"]["seeds"][seed]["nll"] - metrics["models"]["baseline"]["seeds"][seed]["nll"]
        for seed in "12"
    ]
    assert metrics["models"]["student_T4"]["gain"]["nll"]["mean"] == pytest.approx(np.mean(gains))
    assert metrics["models"]["student_T4"]["gain"]["nll"]["std"] == pytest.approx(np.std(gains, ddof=1))


def test_table_shows_every_model(project):
    shown = run("softlabel", "table", cwd=project)
    for name in ("teacher", "baseline", "student T=4", "gain over baseline"):
        assert sum(line.strip().startswith(name) for line in shown.splitlines()) >= 1


def test_plots_are_complete(project):
    models = {"teacher", "baseline_seed1", "baseline_seed2", "student_T4_seed1", "student_T4_seed2"}
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
    history = pd.read_csv(project / "results/history/student_T4_seed1.csv")
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


def test_leftovers_of_another_temperature_are_ignored(project):
    assert (project / "models/students/T2_seed1.keras").exists()
    assert models_compared(project) == {"teacher", "baseline", "student_T4"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("distill.hard_label_weight", 0.3, ["evaluate", "report", "train_student@4-1", "train_student@4-2"]),
        ("student.seeds", [1, 2, 3], ["evaluate", "report", "train_baseline@3", "train_student@4-3"]),
        ("precompute.batch_size", 16, ["evaluate", "precompute", "report"]),
        ("train_teacher.seed", 2, ["evaluate", "report", "train_teacher"]),
    ],
)
def test_a_change_touches_only_the_stages_that_use_it(project, path, value, expected):
    """As `dvc status` tells, before what follows from them; the numbers and the page tell of every parameter."""
    original = (project / "params.yaml").read_text()
    change(project / "params.yaml", path, value)
    status = json.loads(run("dvc", "status", "--json", cwd=project))
    (project / "params.yaml").write_text(original)
    assert sorted(stage for stage in status if not stage.startswith(("data/sample", "data/cifar10"))) == expected


def test_invalid_params_are_refused_before_anything_runs(project):
    original = (project / "params.yaml").read_text()
    change(project / "params.yaml", "train_teacher.seed", -1)
    done = attempt("dvc", "repro", cwd=project)
    (project / "params.yaml").write_text(original)
    assert done.returncode != 0
    assert re.search(r"train_teacher\.seed: .* 0 .*got -1", done.stdout)
    assert "Traceback" not in done.stdout
