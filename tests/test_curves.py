"""Curves over temperatures and epochs: what is drawn is what the metrics and the CSV files say."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from pipeline import figures, temperature_curves, training_curves
from pipeline.errors import PipelineError
from pipeline.temperature_curves import temperature_figure, temperature_table
from pipeline.training_curves import Curves, curve_table, measures_of, read_curves, training_figure

TEACHER = {"quality": {"accuracy": 0.9, "auc": 0.97}}


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
    "student_T4": group(0.8, 0.84),
    "student_T0.5": group(0.75, 0.77),
    "student_T20": group(0.85, 0.85),
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


# Temperatures


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_cross_entropy_and_is_the_first_of_equals():
    rows = [(1, 0.9, 0.5), (2, 0.95, 0.4), (3, 0.95, 0.3), (4, 0.95, 0.3), (5, 0.8, 0.1)]
    table = pd.DataFrame(rows, columns=["epoch", "val_accuracy", "val_cross_entropy"])
    assert Curves("teacher", "teacher", table).best_epoch() == 3
    assert Curves("teacher", "teacher", table[::-1]).best_epoch() == 4


def test_the_table_has_a_row_for_each_student_the_temperatures_ascending():
    table = temperature_table(MODELS, "auc")
    assert list(table) == ["temperature", "seed", "auc"]
    assert table["temperature"].tolist() == [0.5, 0.5, 4, 4, 20, 20]
    assert table["seed"].tolist() == [1, 2] * 3
    assert table["auc"].tolist() == pytest.approx([0.875, 0.885, 0.9, 0.92, 0.925, 0.925])


@pytest.mark.parametrize(("panel", "metric"), [(0, "accuracy"), (1, "auc")])
def test_students_are_drawn_with_mean_deviation_and_seeds(panel, metric):
    axes = temperature_figure(MODELS).axes[panel]
    x, mean, halves = errorbars(axes)
    expected = [MODELS[f"student_T{t}"]["quality"][metric] for t in ("0.5", "4", "20")]
    assert x == [0.5, 4, 20]
    assert mean == pytest.approx([quality["mean"] for quality in expected])
    assert halves == pytest.approx([quality["std"] for quality in expected])
    table = temperature_table(MODELS, metric)
    assert lines(axes)["each seed"] == (table["temperature"].tolist(), table[metric].tolist())


def test_teacher_and_baseline_are_level_lines_and_the_baseline_has_a_band():
    axes = temperature_figure(MODELS).axes[0]
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
def test_more_than_a_decade_of_temperatures_is_drawn_in_logarithms(temperatures, scale):
    axes = temperature_figure({"teacher": TEACHER} | {f"student_T{t}": group(0.8) for t in temperatures}).axes[0]
    assert axes.get_xscale() == scale
    assert [tick.get_text() for tick in axes.get_xticklabels()] == temperatures
    assert list(axes.get_xticks()) == [float(t) for t in temperatures]


def test_one_seed_has_no_deviation_and_no_dots_of_its_own():
    axes = temperature_figure({"teacher": TEACHER, "baseline": group(0.7), "student_T4": group(0.8)}).axes[0]
    assert errorbars(axes) == ([4.0], [0.8], [0.0])
    assert "each seed" not in lines(axes)
    assert axes.patches[0].get_height() == 0


def test_of_many_temperatures_the_axis_names_some_and_the_curve_has_all():
    models = {"teacher": TEACHER} | {f"student_T{t}": group(0.8) for t in range(1, 31)}
    axes = temperature_figure(models).axes[1]
    ticks = axes.get_xticks()
    assert (len(ticks), ticks[0], ticks[-1]) == (temperature_curves.MOST_TICKS, 1, 30)
    assert len(errorbars(axes)[0]) == 30


def test_without_students_teacher_and_baseline_are_drawn(tmp_path):
    for models in ({"teacher": TEACHER}, {"teacher": TEACHER, "baseline": group(0.7, 0.8)}):
        figures.save(temperature_figure(models), tmp_path / "a.png")
        assert temperature_table(models, "accuracy").empty


def test_axes_are_named():
    first, second = temperature_figure(MODELS).axes
    assert first.get_ylabel() == "accuracy on the test images"
    assert second.get_ylabel() == "AUC on the test images"
    assert first.get_xlabel() == second.get_xlabel() == "temperature T"


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


def three_groups():
    return [
        Curves("teacher", "teacher", history(6, 1)),
        *(Curves("baseline", f"baseline_seed{n}", history(6, 10 + n)) for n in (1, 2)),
        *(Curves("student_T4", f"student_T4_seed{n}", history(6, 20 + n, soft=True)) for n in (1, 2)),
    ]


def panels(figure, columns):
    """The panels by row and column; those that are switched off are None."""
    shown = [axes if axes.axison else None for axes in figure.axes]
    return [shown[start : start + columns] for start in range(0, len(shown), columns)]


def drawn_lines(axes):
    """Every line but those of the phases: label and y-values."""
    return [(line.get_label(), list(line.get_ydata())) for line in axes.lines if line.get_label() != "next phase"]


def test_rows_are_groups_and_columns_are_measures():
    figure = training_figure(three_groups())
    found = panels(figure, 4)
    assert [row[0].get_ylabel() for row in found] == ["teacher", "baseline", "student\nT = 4"]
    titles = ["loss", "hard-label loss (nats)", "soft-label loss (nats)", "accuracy"]
    assert [axes.get_title() for axes in figure.axes[:4]] == titles
    assert [axes.get_xlabel() for axes in found[-1]] == ["epoch"] * 4
    assert [row[2] is None for row in found] == [True, True, False]


def test_without_soft_losses_there_is_no_column_for_them():
    found = panels(training_figure(three_groups()[:3]), 3)
    assert len(found) == 2
    assert all(axes is not None for row in found for axes in row)


@pytest.mark.parametrize("column", range(4))
def test_lines_are_the_columns_of_the_files_and_their_mean(column):
    curves = three_groups()
    measure = list(training_curves.MEASURES)[column]
    axes = panels(training_figure(curves), 4)[2][column]
    first, second = (one.table for one in curves[3:])
    assert {tuple(line.get_xdata()) for line in axes.lines} == {(1, 2, 3, 4, 5, 6)}
    expected = []
    for name, label in ((measure, "training"), (f"val_{measure}", "validation")):
        expected += [(f"{label}, each model", table[name].tolist()) for table in (first, second)]
        expected += [(label, pytest.approx(((first[name] + second[name]) / 2).tolist()))]
    assert drawn_lines(axes) == expected


def test_one_seed_is_drawn_once():
    axes = panels(training_figure(three_groups()), 4)[0][0]
    table = three_groups()[0].table
    assert drawn_lines(axes) == [("training", table["loss"].tolist()), ("validation", table["val_loss"].tolist())]


def test_seeds_are_faint_training_thin_and_validation_strong_in_two_colours():
    axes = panels(training_figure(three_groups()), 4)[1][0]
    by_label = {line.get_label(): line for line in axes.lines}
    training, validation = by_label["training"], by_label["validation"]
    assert training.get_linewidth() < validation.get_linewidth()
    for name, line in (("training", training), ("validation", validation)):
        seeds = by_label[f"{name}, each model"]
        assert to_hex(seeds.get_color()) == to_hex(line.get_color())
        assert seeds.get_alpha() < 0.5
    assert to_hex(training.get_color()) != to_hex(validation.get_color())


def test_phases_are_marked_between_their_epochs():
    table = history(9)
    table["phase"] = [1, 1, 1, 2, 2, 2, 2, 3, 3]
    for axes in training_figure([Curves("teacher", "teacher", table)]).axes:
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_label() == "next phase"]
        assert marks == [3.5, 7.5]


def test_one_phase_has_no_mark():
    figure = training_figure(three_groups())
    assert all(line.get_label() != "next phase" for axes in figure.axes for line in axes.lines)


def test_one_epoch_is_a_dot(tmp_path):
    figure = training_figure([Curves("teacher", "teacher", history(1))])
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)
    figures.save(figure, tmp_path / "a.png")
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())


def test_seeds_that_ended_at_other_epochs_and_values_that_are_missing(tmp_path):
    short, long = history(2, 1), history(4, 2)
    long.loc[1, "val_loss"] = np.nan
    figure = training_figure([Curves("baseline", "1", short), Curves("baseline", "2", long)])
    mean = dict(drawn_lines(figure.axes[0]))["validation"]
    expected = [(short["val_loss"][0] + long["val_loss"][0]) / 2, short["val_loss"][1], *long["val_loss"][2:]]
    assert mean == pytest.approx(expected)
    figures.save(figure, tmp_path / "a.png")


def test_no_training_here_is_said(tmp_path):
    figure = training_figure([])
    assert figure.texts[-1].get_text() == "no model was trained here"
    figures.save(figure, tmp_path / "a.png")


# The files


def written(folder, **tables):
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_files_are_read_by_group_and_no_others(tmp_path):
    tables = {"teacher": history(2, 1), "baseline_seed1": history(3, 2), "student_T9_seed1": history(3, 3)}
    found = read_curves(written(tmp_path, **tables), {"teacher": ["teacher"], "baseline": ["baseline_seed1"]})
    assert [(one.group, one.name, len(one.table)) for one in found] == [
        ("teacher", "teacher", 2),
        ("baseline", "baseline_seed1", 3),
    ]
    pd.testing.assert_frame_equal(found[0].table, tables["teacher"])


def test_a_header_alone_is_left_out(tmp_path):
    models = {"teacher": ["teacher"], "baseline": ["baseline_seed1"]}
    folder = written(tmp_path, teacher=history(2).iloc[:0], baseline_seed1=history(2))
    assert [one.name for one in read_curves(folder, models)] == ["baseline_seed1"]


def test_the_members_of_an_ensemble_are_told_apart(tmp_path):
    members = [history(3, number).assign(member=number) for number in (0, 1)]
    folder = written(tmp_path, teacher=pd.concat(members)[["member", *members[0].columns[:-1]]])
    found = read_curves(folder, {"teacher": ["teacher"]})
    assert [(one.group, one.name) for one in found] == [("teacher", f"teacher_member{n}") for n in (0, 1)]
    for one, member in zip(found, members, strict=True):
        assert one.table["val_accuracy"].tolist() == member["val_accuracy"].tolist()
        assert list(curve_table(one.table, "loss")) == ["epoch", "loss", "val_loss"]
    assert len(drawn_lines(training_figure(found).axes[0])) == 2 * (2 + 1)


def test_an_ensemble_that_was_not_trained_here_is_left_out(tmp_path):
    folder = written(tmp_path, teacher=history(2).assign(member=0).iloc[:0])
    assert read_curves(folder, {"teacher": ["teacher"]}) == []


@pytest.mark.parametrize("content", [None, "", "loss,accuracy\n1,2\n", 'epoch,phase\n1,"2\n', "\xff"])
def test_curves_that_cannot_be_read_are_refused_with_the_remedy(tmp_path, content):
    if content is not None:
        (tmp_path / "teacher.csv").write_text(content, encoding="latin-1")
    with pytest.raises(PipelineError, match=r"teacher\.csv cannot be read: .*`dvc checkout`.*`dvc repro`"):
        read_curves(tmp_path, {"teacher": ["teacher"]})


def test_measures_are_those_that_were_recorded():
    assert measures_of(history(1)) == ["loss", "cross_entropy", "accuracy"]
    assert measures_of(history(1, soft=True)) == ["loss", "cross_entropy", "soft_loss", "accuracy"]
    assert measures_of(history(1).drop(columns=["loss", "accuracy", "val_accuracy"])) == ["loss", "cross_entropy"]
    assert list(curve_table(history(1).drop(columns="loss"), "loss")) == ["epoch", "val_loss"]


def test_the_same_curves_give_the_same_bytes(tmp_path):
    for draw in (lambda: training_figure(three_groups()), lambda: temperature_figure(MODELS)):
        for name in ("a.png", "b.png"):
            figures.save(draw(), tmp_path / name)
        content = (tmp_path / "a.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert (tmp_path / "b.png").read_bytes() == content


@pytest.mark.parametrize(("temperatures", "seeds"), [(1, 1), (1, 5), (6, 1), (6, 5)])
def test_panels_do_not_overlap(temperatures, seeds, tmp_path):
    """Neither their frames nor their names."""
    curves = [Curves("teacher", "teacher", history(35, 0, first_phase=10))]
    for t in (1, 5, 10, 20, 35, 50)[:temperatures]:
        curves += [Curves(f"student_T{t}", f"{n}", history(35, n, True, 10)) for n in range(seeds)]
    figure = training_figure(curves)
    figures.save(figure, tmp_path / "a.png")
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.axison]
    assert len(boxes) == 3 + 4 * temperatures
    for number, box in enumerate(boxes):
        assert not any(box.shrunk(0.98, 0.98).overlaps(other) for other in boxes[number + 1 :])
        assert box.x0 >= 0
        assert box.x1 <= 801
