"""The comparison table's cells from a `metrics.json` written by hand."""

import json
import re

import pytest

from pipeline.evaluation.comparison import DEVIATIONS, INTERVALS, comparison, comparison_in_markdown, tables
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError

NAMES = ("accuracy", "auc", "nll", "brier", "ece", "teacher_agreement", "teacher_kl")


def plain(*values):
    return dict(zip(NAMES, values, strict=True))


def spread(means, deviations):
    pairs = zip(means, deviations, strict=True)
    return plain(*({"mean": mean, "std": deviation} for mean, deviation in pairs))


def one_seed(*means):
    return plain(*({"mean": mean} for mean in means))


def cost(total, trainable, flops, file_bytes):
    return {"parameters": {"total": total, "trainable": trainable}, "flops": flops, "file_bytes": file_bytes}


TEACHER = {"quality": one_seed(0.9876, 0.9994, 0.0449, 0.0233, 0.0101, 1.0, 0.0)} | cost(
    23_564_800, 4_098, 6_987_654_321, 94_765_432
)
SMALL = cost(1_234, 1_200, 412_300, 25_499)
BASELINE = {
    "quality": spread(
        [0.95, 0.996, 0.2731, 0.1004, 0.0274, 0.9404, 0.2689], [0.005, 0.0011, 0.046, 0.0101, 0.0098, 0.0043, 0.0674]
    ),
    "seeds": {"1": {}, "2": {}, "3": {}},
} | SMALL
STUDENT = {
    "quality": spread(
        [0.9624, 0.998, 0.126, 0.06, 0.0151, 0.9633, 0.1], [0.0021, 0.0006, 0.01, 0.002, 0.0009, 0.0024, 0.012]
    ),
    "gain": spread(
        [0.0124, 0.002, -0.1471, -0.0404, -0.0123, 0.0229, -0.1689], [0.003, 0.0006, 0.04, 0.01, 0.009, 0.0049, 0.06]
    ),
    "seeds": {"1": {}, "2": {}, "3": {}},
} | SMALL


def table_of(tmp_path, **models):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"test_images": 1500, "models": models}), encoding="utf-8")
    return comparison(path)


def rows_of(text):
    """The cells of every line; two spaces or more separate them."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_quality_of_three_seeds_cell_by_cell(tmp_path):
    rows = rows_of(table_of(tmp_path, teacher=TEACHER, baseline=BASELINE, student_kl_T4=STUDENT))
    assert rows[0] == ["On 1,500 test images: mean over seeds ± standard deviation."]
    assert rows[2] == ["model", "seeds", "accuracy", "AUC", "NLL", "Brier", "ECE", "agreement", "KL"]
    assert rows[4:8] == [
        ["teacher", "1", "0.988", "0.999", "0.045", "0.023", "0.010", "1.000", "0.000"],
        [
            "baseline",
            "3",
            "0.950 ±0.005",
            "0.996 ±0.001",
            "0.273 ±0.046",
            "0.100 ±0.010",
            "0.027 ±0.010",
            "0.940 ±0.004",
            "0.269 ±0.067",
        ],
        [
            "student kl T=4",
            "3",
            "0.962 ±0.002",
            "0.998 ±0.001",
            "0.126 ±0.010",
            "0.060 ±0.002",
            "0.015 ±0.001",
            "0.963 ±0.002",
            "0.100 ±0.012",
        ],
        [
            "gain over baseline",
            "+0.012 ±0.003",
            "+0.002 ±0.001",
            "-0.147 ±0.040",
            "-0.040 ±0.010",
            "-0.012 ±0.009",
            "+0.023 ±0.005",
            "-0.169 ±0.060",
        ],
    ]


def with_classes(report, names, quality, gain=None):
    """A report with these metrics of classes too, and recalls of the classes of these names."""
    values = {name: {"mean": mean} for name, mean in quality.items()}
    recalls = [{"class": name, "images": 750, "mean": 0.5, "interval": [0.4, 0.6]} for name in names]
    more = report | {"quality": report["quality"] | values, "recall": recalls}
    return more | ({"gain": report["gain"] | {name: {"mean": mean} for name, mean in gain.items()}} if gain else {})


def test_two_classes_have_a_second_table_cell_by_cell(tmp_path):
    names = ["HP", "SSA"]
    text = table_of(
        tmp_path,
        teacher=with_classes(
            TEACHER, names, {"balanced_accuracy": 0.9, "f1": 0.8, "sensitivity": 0.85, "specificity": 0.95}
        ),
        student_kl_T4=with_classes(
            STUDENT,
            names,
            {"balanced_accuracy": 0.8, "f1": 0.7, "sensitivity": 0.65, "specificity": 0.95},
            {"balanced_accuracy": 0.05, "f1": 0.1, "sensitivity": 0.1, "specificity": 0.0},
        ),
    )
    rows = rows_of(text)
    assert ["model", "seeds", "accuracy", "AUC", "NLL", "Brier", "ECE", "agreement", "KL"] in rows
    start = rows.index(["by class", "balanced accuracy", "F1", "sensitivity", "specificity"])
    assert rows[start + 2 : start + 5] == [
        ["teacher", "0.900", "0.800", "0.850", "0.950"],
        ["student kl T=4", "0.800", "0.700", "0.650", "0.950"],
        ["gain over baseline", "+0.050", "+0.100", "+0.100", "+0.000"],
    ]
    assert "F1 and sensitivity are those of the class 'SSA', specificity that of 'HP'." in text
    assert text.index("by class") < text.index("parameters")


def test_more_classes_have_balanced_accuracy_alone(tmp_path):
    text = table_of(tmp_path, teacher=with_classes(TEACHER, ["a", "b", "c"], {"balanced_accuracy": 0.9}))
    assert ["by class", "balanced accuracy"] in rows_of(text)
    assert "F1" not in text


def test_a_metric_that_no_model_has_has_no_column(tmp_path):
    """Such as the AUC of test images of a single class."""
    quality = {name: value for name, value in TEACHER["quality"].items() if name != "auc"}
    assert ["model", "seeds", "accuracy", "NLL", "Brier", "ECE", "agreement", "KL"] in rows_of(
        table_of(tmp_path, teacher=TEACHER | {"quality": quality})
    )


def test_cost_cell_by_cell(tmp_path):
    rows = rows_of(table_of(tmp_path, teacher=TEACHER, baseline=BASELINE))
    start = rows.index(["model", "parameters", "trainable", "MFLOPs an image", "MB on disk"])
    # 6,987,654,321 FLOPs are 6,987.65 million; 94,765,432 bytes are 94.77 MB of 10^6 bytes, not 90.38 of 2^20.
    assert rows[start + 2 : start + 4] == [
        ["teacher", "23,564,800", "4,098", "6,987.65", "94.77"],
        ["baseline", "1,234", "1,200", "0.41", "0.03"],
    ]


def test_costs_that_are_not_known_are_called_so(tmp_path):
    teacher = {"quality": TEACHER["quality"], "file_bytes": 94_765_432}
    rows = rows_of(table_of(tmp_path, teacher=teacher, baseline=BASELINE))
    assert ["teacher", "not known", "not known", "not known", "94.77"] in rows


def test_one_seed_has_no_deviation(tmp_path):
    baseline = {"quality": one_seed(0.9, 0.95, 0.3, 0.2, 0.05, 0.85, 0.4), "seeds": {"7": {}}} | SMALL
    student = {
        "quality": one_seed(0.91, 0.96, 0.25, 0.18, 0.06, 0.9, 0.2),
        "gain": one_seed(0.01, 0.01, -0.05, -0.02, 0.01, 0.05, -0.2),
        "seeds": {"7": {}},
    } | SMALL
    text = table_of(tmp_path, baseline=baseline, student_kl_T4=student)
    rows = rows_of(text)
    assert rows[4:7] == [
        ["baseline", "1", "0.900", "0.950", "0.300", "0.200", "0.050", "0.850", "0.400"],
        ["student kl T=4", "1", "0.910", "0.960", "0.250", "0.180", "0.060", "0.900", "0.200"],
        ["gain over baseline", "+0.010", "+0.010", "-0.050", "-0.020", "+0.010", "+0.050", "-0.200"],
    ]
    assert "±" not in text


def test_no_gain_is_written_with_a_sign(tmp_path):
    student = STUDENT | {"gain": one_seed(*[0.0] * 7)}
    assert ["gain over baseline", *["+0.000"] * 7] in rows_of(table_of(tmp_path, student_kl_T4=student))


def test_each_temperature_has_its_rows_in_the_order_of_the_file(tmp_path):
    rows = rows_of(
        table_of(tmp_path, teacher=TEACHER, baseline=BASELINE, **{"student_kl_T0.5": STUDENT}, student_kl_T20=STUDENT)
    )
    assert [row[0] for row in rows[4:10]] == [
        "teacher",
        "baseline",
        "student kl T=0.5",
        "gain over baseline",
        "student kl T=20",
        "gain over baseline",
    ]


def test_numbers_line_up_at_the_decimal_point(tmp_path):
    lines = table_of(tmp_path, teacher=TEACHER, baseline=BASELINE, student_kl_T4=STUDENT).splitlines()
    quality, cost = lines[2:8], lines[-7:-2]
    assert set(quality[1]) == set(cost[1]) == {"-"}
    assert len({len(line) for line in cost}) == 1
    accuracy, auc = quality[0].index(" accuracy"), quality[0].index(" AUC")
    assert [line[accuracy:auc].rstrip() for line in quality[2:]] == [
        " 0.988",
        " 0.950 ±0.005",
        " 0.962 ±0.002",
        "+0.012 ±0.003",
    ]


def test_what_is_better_is_said(tmp_path):
    text = table_of(tmp_path, teacher=TEACHER)
    assert "NLL, Brier, ECE, KL (teacher || model, nats): lower is better" in text
    assert "A multiply-add counts as two FLOPs." in text


def level(images, mean, deviation=None, **others):
    accuracy = {"mean": mean} | ({} if deviation is None else {"std": deviation})
    return {"images": images, "accuracy": accuracy} | others


TEACHER_VOTES = {
    "levels": {"7-0": level(1234, 0.9876), "4-3": level(57, 0.5614)},
    "correlation": {
        "T1": {"pearson": {"mean": 0.7}, "spearman": {"mean": 0.6504}},
        "T0.5": {"spearman": {"mean": 0.65}},
    },
}
STUDENT_VOTES = {
    "levels": {"7-0": level(1234, 0.95, 0.0041, nll={"mean": 0.2}), "4-3": level(57, 0.6, 0.02, nll={"mean": 0.8})},
    "correlation": {"T4": {"pearson": {"mean": -0.25, "std": 0.0304}, "spearman": {"mean": 0.5}}},
}


def voted(tmp_path):
    teacher, student = TEACHER | {"votes": TEACHER_VOTES}, STUDENT | {"votes": STUDENT_VOTES}
    return table_of(tmp_path, teacher=teacher, student_kl_T4=student)


def test_accuracy_by_agreement_cell_by_cell(tmp_path):
    rows = rows_of(voted(tmp_path))
    start = rows.index(["annotators' votes", "7-0", "4-3"])
    assert rows[start + 2 : start + 5] == [
        ["images", "1,234", "57"],
        ["teacher", "0.988", "0.561"],
        ["student kl T=4", "0.950 ±0.004", "0.600 ±0.020"],
    ]


def test_correlations_cell_by_cell(tmp_path):
    rows = rows_of(voted(tmp_path))
    start = rows.index(["model", "at T", "Pearson", "Spearman"])
    assert rows[start + 2 : start + 5] == [
        ["teacher", "1", "0.700", "0.650"],
        ["teacher", "0.5", "0.650"],
        ["student kl T=4", "4", "-0.250 ±0.030", "0.500"],
    ]


def test_an_undefined_correlation_leaves_its_cell_empty(tmp_path):
    head, _, first, second, _ = voted(tmp_path).splitlines()[-7:-2]
    assert head.index(" Spearman") == second.index(" 0.650") == first.index(" 0.650")


def test_votes_come_last_and_change_nothing_above(tmp_path):
    without = table_of(tmp_path, teacher=TEACHER, student_kl_T4=STUDENT)
    assert "votes" not in without
    assert voted(tmp_path).startswith(without + "\n\nannotators' votes")


def test_models_without_votes_are_not_among_those_with(tmp_path):
    text = table_of(tmp_path, teacher=TEACHER | {"votes": TEACHER_VOTES}, baseline=BASELINE)
    assert "baseline" not in text[text.index("annotators' votes") :]


def test_what_to_bear_in_mind_comes_last_in_text_and_markdown(tmp_path):
    """The report has it at its top, not among the notes of the table."""
    unfinished = {"best_epochs": {f"baseline_seed{seed}": [40, 40] for seed in (1, 2, 3)}, "intervals": {"quality": {}}}
    text = table_of(tmp_path, baseline=BASELINE | unfinished)
    assert ": baseline (seed 1, seed 2, seed 3). More epochs " in " ".join(text.splitlines()[-2:])
    assert max(map(len, text.splitlines()[-2:])) <= 117
    assert "More epochs" in comparison_in_markdown(tmp_path / "metrics.json").splitlines()[-1]
    assert "More epochs" not in str(tables(tmp_path / "metrics.json", DEVIATIONS))


def test_metrics_of_no_test_images_are_refused(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"test_images": 0, "models": {"teacher": TEACHER}}))
    with pytest.raises(DamagedError, match=r"metrics\.json is damaged.*test_images: Input should be greater than"):
        comparison(tmp_path / "metrics.json")


@pytest.mark.parametrize("text", ["", '{"test_images": 1', "{}", "[]", '{"test_images": 1, "models": {"teacher": {}}}'])
def test_damaged_metrics_are_refused_with_the_remedy(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DamagedError, match=r"metrics\.json is damaged.*dvc repro --single-item --force evaluate"):
        comparison(tmp_path / "metrics.json")


@pytest.mark.parametrize(
    "models",
    [{"teacher": TEACHER | {"quality": plain(*[0.5] * 7)}}, {"student": STUDENT}],
    ids=["a number without its mean", "an unknown name"],
)
def test_models_of_another_shape_are_refused_with_the_remedy(tmp_path, models):
    with pytest.raises(DamagedError, match=r"metrics\.json is damaged.*dvc repro --single-item --force evaluate"):
        table_of(tmp_path, **models)


def test_metrics_without_shown_intervals_are_refused(tmp_path):
    table_of(tmp_path, teacher=TEACHER, baseline=BASELINE)
    with pytest.raises(DamagedError, match=r"the metrics of teacher have no intervals\. .*dvc repro"):
        tables(tmp_path / "metrics.json", INTERVALS)


def test_students_without_a_loss_are_of_an_earlier_version(tmp_path):
    with pytest.raises(MismatchError, match=r"names students without their loss: .*Make it again with `dvc repro`\."):
        table_of(tmp_path, teacher=TEACHER, student_T4=STUDENT)


def test_missing_metrics_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "results" / "metrics.json"
    with pytest.raises(MissingError) as refusal:
        comparison(path)
    assert str(refusal.value).endswith("`dvc repro`.")
    assert str(path) in str(refusal.value)
