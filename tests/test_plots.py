"""What `dvc plots show` draws: this project's templates and DVC's own, filled, on fields that the tables have."""

import json
import re

import pytest
from documents import EXPERIMENTS, block_with, follow
from real_project import ROOT, copy_without
from ruamel.yaml import YAML

OWN = {path.stem: json.loads(path.read_text()) for path in (ROOT / ".dvc/plots").glob("*.json")}
DEFINED = YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"]
MODELS = ("teacher", "baseline_seed1", "student_kl_T4_seed1")
STRAIGHT = [{"both": 0}, {"both": 1}]


@pytest.fixture(scope="module")
def specs(reproduced, tmp_path_factory):
    """The Vega-Lite specifications on the page that `dvc plots show` writes, by title."""
    project = copy_without(reproduced, tmp_path_factory.mktemp("plots") / "project")
    show = block_with("dvc plots show", EXPERIMENTS, "Plots")
    follow(show, project)
    found = re.findall(r"var spec = (.*);\n", (project / "dvc_plots/index.html").read_text(encoding="utf-8"))
    return {spec["title"]["text"]: spec for spec in map(json.loads, found)}


def parts(spec, data=None):
    """Every encoding of a specification, with the rows that it draws; fields that a transform adds are in them."""
    rows = spec.get("data", {}).get("values", data)
    for transform in spec.get("transform", []):
        added = transform.get("as") or [one["as"] for one in transform.get("window", transform.get("aggregate", []))]
        rows = [row | dict.fromkeys([added] if isinstance(added, str) else added, 0) for row in rows]
    if "encoding" in spec:
        yield spec["encoding"], rows
    for inner in [*spec.get("layer", []), *([spec["spec"]] if "spec" in spec else [])]:
        yield from parts(inner, rows)


def fields(encoding):
    """The fields that an encoding names, at any depth."""
    if isinstance(encoding, list):
        return {name for one in encoding for name in fields(one)}
    if not isinstance(encoding, dict):
        return set()
    own = {encoding["field"]} if isinstance(encoding.get("field"), str) else set()
    return own | {name for value in encoding.values() for name in fields(value)}


def of_kind(specs, kind):
    return {title: spec for title, spec in specs.items() if title.startswith(f"results/plots/{kind}/")}


@pytest.mark.parametrize("kind", ["roc", "confusion", "reliability", "training_loss", "training_accuracy"])
def test_every_model_has_a_plot_of_each_kind(specs, kind):
    assert of_kind(specs, kind).keys() == {f"results/plots/{kind}/{model}.csv" for model in MODELS}


def test_every_metric_has_a_plot_against_temperature(specs):
    assert of_kind(specs, "temperature").keys() == {f"results/plots/temperature/{m}.csv" for m in ("accuracy", "auc")}


def test_nothing_of_a_template_is_left_open(specs):
    assert "results/plots/training_soft_loss/student_kl_T4_seed1.csv" in specs
    assert "DVC_METRIC" not in json.dumps(list(specs.values()))


def test_every_row_has_every_field_that_is_drawn(specs):
    own = ("roc", "reliability", "temperature", "confusion")
    for title, spec in {title: spec for kind in own for title, spec in of_kind(specs, kind).items()}.items():
        for encoding, rows in parts(spec):
            assert rows, title
            assert all(fields(encoding) <= row.keys() for row in rows), title


def test_a_field_that_is_not_there_would_be_found():
    spec = {"data": {"values": [{"a": 1}]}, "layer": [{"encoding": {"x": {"field": "b"}}}]}
    ((encoding, rows),) = parts(spec)
    assert not fields(encoding) <= rows[0].keys()


@pytest.mark.parametrize("template", OWN)
def test_each_own_template_is_used(template):
    assert template in [definition["template"] for plot in DEFINED for definition in plot.values()]


@pytest.mark.parametrize(
    ("kind", "x", "y"),
    [
        ("roc", "false_positive_rate", "true_positive_rate"),
        ("reliability", "confidence", "accuracy"),
    ],
)
def test_shares_have_equal_axes_from_0_to_1_and_the_diagonal(specs, kind, x, y):
    for spec in of_kind(specs, kind).values():
        assert spec["width"] == spec["height"]
        diagonal, *drawn = spec["layer"]
        assert diagonal["data"]["values"] == STRAIGHT
        assert fields(diagonal["encoding"]) == {"both"}
        for layer in spec["layer"]:
            assert layer["encoding"]["x"]["scale"] == layer["encoding"]["y"]["scale"] == {"domain": [0, 1]}
        for layer in drawn:
            assert (layer["encoding"]["x"]["field"], layer["encoding"]["y"]["field"]) == (x, y)
        for row in spec["data"]["values"]:
            assert 0 <= float(row[x]) <= 1
            assert 0 <= float(row[y]) <= 1


def test_points_of_reliability_are_as_large_as_their_bins(specs):
    for spec in of_kind(specs, "reliability").values():
        assert spec["layer"][-1]["mark"]["type"] == "circle"
        assert spec["layer"][-1]["encoding"]["size"]["field"] == "images"
        assert sum(int(row["images"]) for row in spec["data"]["values"]) == 36


def test_a_roc_curve_is_drawn_in_the_order_of_its_rows(specs):
    """By x alone, as lines are drawn, its upright parts would zigzag."""
    for spec in of_kind(specs, "roc").values():
        curve = spec["layer"][-1]
        assert curve["transform"] == [{"window": [{"op": "row_number", "as": "step"}], "groupby": ["rev", "class"]}]
        assert curve["encoding"]["order"]["field"] == "step"
        rates = [
            (float(row["false_positive_rate"]), float(row["true_positive_rate"])) for row in spec["data"]["values"]
        ]
        assert rates[0] == (0, 0)
        assert rates[-1] == (1, 1)
        assert rates == sorted(rates)


def test_the_confusion_is_in_shares_of_each_actual_class(specs):
    """So the diagonal is each class's recall; DVC's template divides by the sums over y."""
    for spec in of_kind(specs, "confusion").values():
        transforms = spec["spec"]["transform"]
        assert {"calculate": "datum.xy_count / datum.sum_y", "as": "percent_of_y"} in transforms
        assert {
            "joinaggregate": [{"op": "sum", "field": "xy_count", "as": "sum_y"}],
            "groupby": ["actual"],
        } in transforms
        axes = spec["spec"]["encoding"]
        assert (axes["x"]["field"], axes["y"]["field"]) == ("predicted", "actual")


def test_classes_are_in_the_order_of_the_class_axis(specs):
    """As text 10 would come before 2. Of ROC curves: in the order of the rows, which have one class after another."""
    for spec in of_kind(specs, "confusion").values():
        for name, axis in (("predicted", "x"), ("actual", "y")):
            assert {"calculate": f"toNumber(datum.{name}_index)", "as": f"{name}_index"} in spec["spec"]["transform"]
            assert spec["spec"]["encoding"][axis]["sort"] == {"field": f"{name}_index", "op": "min"}
        for row in spec["data"]["values"]:
            assert (row["actual"], row["actual_index"]) in [("HP", "0"), ("SSA", "1")]
    for spec in of_kind(specs, "roc").values():
        assert spec["layer"][-1]["encoding"]["color"]["sort"] is None


def test_roc_curves_carry_the_names_of_their_classes(specs):
    for spec in of_kind(specs, "roc").values():
        color = spec["layer"][-1]["encoding"]["color"]
        assert (color["field"], color["title"]) == ("class", "class")
        assert {row["class"] for row in spec["data"]["values"]} == {"SSA"}


def test_temperatures_are_on_a_log_axis_with_the_mean_over_seeds(specs):
    for spec in of_kind(specs, "temperature").values():
        assert spec["encoding"]["x"]["field"] == "temperature"
        assert spec["encoding"]["x"]["scale"] == {"type": "log"}
        mean, each = spec["layer"]
        assert mean["mark"]["type"] == "line"
        assert mean["encoding"]["y"]["aggregate"] == "mean"
        assert "aggregate" not in each["encoding"]["y"]
        assert {"seed"} <= fields(each["encoding"])
