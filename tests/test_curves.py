"""Curves over temperatures and epochs: what is drawn is what the metrics and the CSV files say."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.evaluation import names
from pipeline.evaluation.curves import Curves, best_epochs, curve_table, measures_of, read_curves
from pipeline.evaluation.temperatures import temperature_table
from pipeline.report import temperature_curves
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError

TEACHER = {"quality": {"accuracy": {"mean": 0.9}, "auc": {"mean": 0.97}}}


def group(*accuracies):
    """A report of seeds 1, 2, ...; AUC is half-way from the accuracy to 1."""
    seeds = {str(n): {"accuracy": a, "auc": (1 + a) / 2} for n, a in enumerate(accuracies, 1)}
    quality = {}
    for name in ("accuracy", "auc"):
        values = [seed[name] for seed in seeds.values()]
        quality[name] = {"mean": np.mean(values)} | ({"std": np.std(values, ddof=1)} if len(values) > 1 else {})
    return {"seeds": seeds, "quality": quality}


MODELS = {
    "teacher": TEACHER,
    "baseline": group(0.7, 0.8),
    "student_kl_T4": group(0.8, 0.84),
    "student_kl_T0.5": group(0.75, 0.77),
    "student_kl_T20": group(0.85, 0.85),
}


def lines(axes):
    """Label, x and y of each line that has a name of its own."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def errorbars(axes):
    """x, mean and half-length of the bars of the students."""
    (container,) = axes.containers
    data, _, (segments,) = container.lines
    halves = [(upper - lower) / 2 for (_, lower), (_, upper) in segments.get_segments()]
    return list(data.get_xdata()), list(data.get_ydata()), halves


def drawn(models, metric="accuracy"):
    axes = Figure().subplots()
    temperature_curves.draw_temperatures(axes, models, metric)
    return axes


# Temperatures


def test_the_table_has_a_row_per_student_by_temperature():
    table = temperature_table(MODELS, "auc")
    assert list(table) == ["loss", "temperature", "seed", "auc"]
    assert set(table["loss"]) == {"kl"}
    assert table["temperature"].tolist() == [0.5, 0.5, 4, 4, 20, 20]
    assert table["seed"].tolist() == [1, 2] * 3
    assert table["auc"].tolist() == pytest.approx([0.875, 0.885, 0.9, 0.92, 0.925, 0.925])


@pytest.mark.parametrize("metric", ["accuracy", "auc"])
def test_students_are_drawn_with_mean_deviation_and_seeds(metric):
    axes = drawn(MODELS, metric)
    x, mean, halves = errorbars(axes)
    expected = [MODELS[f"student_kl_T{t}"]["quality"][metric] for t in ("0.5", "4", "20")]
    assert x == [0.5, 4, 20]
    assert mean == pytest.approx([quality["mean"] for quality in expected])
    assert halves == pytest.approx([quality["std"] for quality in expected])
    table = temperature_table(MODELS, metric)
    assert lines(axes)["each seed"] == (table["temperature"].tolist(), table[metric].tolist())


def test_teacher_and_baseline_are_level_one_with_a_band():
    axes = drawn(MODELS)
    assert lines(axes)["teacher"][1] == [0.9, 0.9]
    assert lines(axes)["baseline"][1] == pytest.approx([0.75, 0.75])
    (band,) = axes.patches
    deviation = math.sqrt(0.005)
    assert band.get_y() == pytest.approx(0.75 - deviation)
    assert band.get_height() == pytest.approx(2 * deviation)


@pytest.mark.parametrize(
    ("temperatures", "scale"),
    [(["4"], "linear"), (["1", "10"], "linear"), (["1", "10.5"], "log"), (["0.1", "4", "20"], "log")],
)
def test_more_than_a_decade_of_temperatures_has_a_log_axis(temperatures, scale):
    axes = drawn({"teacher": TEACHER} | {f"student_kl_T{t}": group(0.8) for t in temperatures})
    assert axes.get_xscale() == scale
    assert [tick.get_text() for tick in axes.get_xticklabels()] == temperatures
    assert list(axes.get_xticks()) == [float(t) for t in temperatures]


def test_one_seed_has_no_deviation_and_no_dots_of_its_own():
    axes = drawn({"teacher": TEACHER, "baseline": group(0.7), "student_kl_T4": group(0.8)})
    assert errorbars(axes) == ([4.0], [0.8], [0.0])
    assert "each seed" not in lines(axes)
    assert axes.patches[0].get_height() == 0


def test_with_many_temperatures_the_axis_names_only_some():
    models = {"teacher": TEACHER} | {f"student_kl_T{t}": group(0.8) for t in range(1, 31)}
    axes = drawn(models, "auc")
    ticks = axes.get_xticks()
    assert (len(ticks), ticks[0], ticks[-1]) == (temperature_curves.MOST_TICKS, 1, 30)
    assert len(errorbars(axes)[0]) == 30


TWO_LOSSES = MODELS | {
    "student_dkd_T4": group(0.9, 0.92),
    "student_dkd_T20": group(0.7, 0.74),
    "student_kl_T8to2": group(0.86, 0.88),
}


def test_each_loss_has_a_line_of_its_own():
    axes = drawn(TWO_LOSSES)
    bars = {container.get_label(): container.lines[0] for container in axes.containers}
    assert list(bars["dkd"].get_xdata()) == [4, 20]
    assert list(bars["dkd"].get_ydata()) == pytest.approx([0.91, 0.72])
    assert list(bars["kl"].get_ydata()) == pytest.approx([0.76, 0.82, 0.85])
    assert bars["dkd"].get_color() != bars["kl"].get_color()
    assert len(lines(axes)["each seed"][0]) == 10
    assert list(axes.get_xticks()) == [0.5, 4, 20]


def test_a_temperature_that_changes_is_a_level_line():
    """It is no point on the curve, nor a row of its table."""
    assert lines(drawn(TWO_LOSSES))["kl T=8to2"] == ([8.0, 2.0], [pytest.approx(0.87)] * 2)
    table = temperature_table(TWO_LOSSES, "accuracy")
    assert table["loss"].tolist() == ["dkd"] * 4 + ["kl"] * 6
    assert set(table["temperature"]) == {0.5, 4, 20}


def test_without_students_teacher_and_baseline_are_drawn(tmp_path):
    for models in ({"teacher": TEACHER}, {"teacher": TEACHER, "baseline": group(0.7, 0.8)}):
        axes = drawn(models)
        axes.figure.savefig(tmp_path / "a.png")
        assert lines(axes).keys() == models.keys()
        assert axes.containers == []
        assert temperature_table(models, "accuracy").empty


# Epochs


def history(epochs, seed=0, soft=False, first_phase=None):
    """Training curves of nothing in particular, as `results/history/*.csv` has them."""
    noise = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    table = {"epoch": epoch, "phase": 1 + (epoch > (first_phase or epochs)), "learning_rate": 0.01}
    for prefix in ("", "val_"):
        for name in ("loss", "accuracy", "cross_entropy", *(["soft_loss"] if soft else [])):
            table[prefix + name] = noise.random(epochs)
    return pd.DataFrame(table)


# The files


def written(folder, **tables):
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_files_are_read_by_group_and_no_others(tmp_path):
    tables = {"teacher": history(2, 1), "baseline_seed1": history(3, 2), "student_kl_T9_seed1": history(3, 3)}
    found = read_curves(written(tmp_path, **tables), {names.TEACHER: ["teacher"], names.BASELINE: ["baseline_seed1"]})
    assert [(one.group, one.name, len(one.table)) for one in found] == [
        (names.TEACHER, "teacher", 2),
        (names.BASELINE, "baseline_seed1", 3),
    ]
    pd.testing.assert_frame_equal(found[0].table, tables["teacher"][[*found[0].table]], check_dtype=False)


def test_a_header_alone_is_left_out(tmp_path):
    models = {names.TEACHER: ["teacher"], names.BASELINE: ["baseline_seed1"]}
    folder = written(tmp_path, teacher=history(2).iloc[:0], baseline_seed1=history(2))
    assert [one.name for one in read_curves(folder, models)] == ["baseline_seed1"]


def test_the_members_of_an_ensemble_are_told_apart(tmp_path):
    members = [history(3, number).assign(member=number) for number in (0, 1)]
    folder = written(tmp_path, teacher=pd.concat(members)[["member", *members[0].columns[:-1]]])
    found = read_curves(folder, {names.TEACHER: ["teacher"]})
    assert [(one.group, one.name) for one in found] == [(names.TEACHER, f"teacher_member{n}") for n in (0, 1)]
    for one, member in zip(found, members, strict=True):
        assert one.table["val_accuracy"].tolist() == member["val_accuracy"].tolist()
        assert list(curve_table(one.table, "loss")) == ["epoch", "loss", "val_loss"]


def test_an_ensemble_that_was_not_trained_here_is_left_out(tmp_path):
    folder = written(tmp_path, teacher=history(2).assign(member=0).iloc[:0])
    assert read_curves(folder, {names.TEACHER: ["teacher"]}) == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, MissingError),
        ("", DamagedError),
        ("loss,accuracy\n1,2\n", DamagedError),
        ('epoch,phase\n1,"2\n', DamagedError),
        ("\xff", DamagedError),
        ("epoch,phase,loss\n1,1,1e301\n", DamagedError),
        ("epoch,phase,loss\n1,1,1,1\n", DamagedError),
        ("epoch,phase,loss\n1.5,1,1\n", DamagedError),
    ],
)
def test_curves_that_cannot_be_read_are_refused_with_the_remedy(tmp_path, content, error):
    if content is not None:
        (tmp_path / "teacher.csv").write_text(content, encoding="latin-1")
    with pytest.raises(error, match=r"teacher\.csv.*`dvc checkout`.*`dvc repro`"):
        read_curves(tmp_path, {names.TEACHER: ["teacher"]})


def test_measures_are_those_that_were_recorded():
    assert measures_of(history(1)) == ["loss", "cross_entropy", "accuracy"]
    assert measures_of(history(1, soft=True)) == ["loss", "cross_entropy", "soft_loss", "accuracy"]
    assert measures_of(history(1).drop(columns=["loss", "accuracy", "val_accuracy"])) == ["loss", "cross_entropy"]
    assert list(curve_table(history(1).drop(columns="loss"), "loss")) == ["epoch", "val_loss"]
    selected = history(1).assign(val_auc=0.5)
    assert measures_of(selected) == ["loss", "cross_entropy", "accuracy", "auc"]
    assert list(curve_table(selected, "auc")) == ["epoch", "val_auc"]


def curves_with(name, **values):
    table = pd.DataFrame({"epoch": [1, 2, 3], "phase": 1, "val_cross_entropy": [0.3, 0.2, 0.4]} | values)
    return Curves(names.parsed(name)[0], name, table)


def test_the_best_epoch_is_the_one_by_which_each_was_selected():
    accuracies, areas = [0.9, 0.7, 0.8], [0.5, 0.7, 0.9]
    trained = [
        curves_with("teacher_member0", val_accuracy=accuracies),
        curves_with("teacher_member2", val_accuracy=accuracies),
        curves_with("baseline_seed1", val_accuracy=accuracies, val_auc=areas),
    ]
    rules = {"teacher_member0": "accuracy", "teacher_member2": "cross_entropy"}
    assert best_epochs(names.TEACHER, trained, rules, "auc") == {
        "best_epochs": {"teacher_member0": (1, 3), "teacher_member2": (2, 3)}
    }
    assert best_epochs(names.BASELINE, trained, rules, "auc") == {"best_epochs": {"baseline_seed1": (3, 3)}}
    assert best_epochs(names.student("kl", "4"), trained, rules, "auc") == {}


def test_curves_of_another_selection_are_refused():
    trained = [curves_with("baseline_seed1", val_accuracy=[0.9, 0.7, 0.8])]
    with pytest.raises(MismatchError, match=r"baseline_seed1 have no val_auc, .*select_by: auc.*`dvc repro`"):
        best_epochs(names.BASELINE, trained, {}, "auc")
