"""What the annotators' votes tell: numbers worked out by hand, and what is left out."""

import json
import math

import numpy as np
import pytest
import scipy.stats

from pipeline.evaluation.votes import by_agreement, correlations, report_over_seeds, vote_report, votes_on
from pipeline.images.index import Image

# Eight images; the positive class is the second.
#   votes  level  label  p(positive)  right
#     0     7-0     0        0.2       yes
#     7     7-0     1        0.9       yes
#     1     6-1     0        0.7       no
#     6     6-1     1        0.6       yes
#     5     5-2     1        0.25      no
#     3     4-3     0        0.5 -     yes (the first of equals)
#     4     4-3     1        0.75      yes
#     4     4-3     1        0.1       no
VOTES = ["0", "7", "1", "6", "5", "3", "4", "4"]
LABELS = np.array([0, 1, 0, 1, 1, 0, 1, 1])
POSITIVE = np.array([0.2, 0.9, 0.7, 0.6, 0.25, 0.5, 0.75, 0.1])
LOGITS = np.log(np.stack([1 - POSITIVE, POSITIVE], axis=1)) + np.arange(8)[:, None]  # a constant a row means nothing


def images(votes):
    return [Image(f"{number}.png", f"{number}.png", "", "test", of, "") for number, of in enumerate(votes)]


def all_votes(votes=VOTES, labels=LABELS):
    return votes_on(images(votes), labels, 2)


def logits_at(temperature_scaled_margins):
    margins = np.asarray(temperature_scaled_margins, np.float64)
    return np.stack([np.zeros_like(margins), margins], axis=1)


# Who voted


def test_only_images_with_votes_are_taken_with_their_own_labels():
    votes = all_votes(["", "7", "", "6", "5", "", "", "4"])
    assert votes.rows.tolist() == [1, 3, 4, 7]
    assert votes.positive.tolist() == [7, 6, 5, 4]
    assert votes.labels.tolist() == [1, 1, 1, 1]


def test_without_any_vote_there_is_nothing_to_report():
    assert all_votes([""] * 8) is None


@pytest.mark.parametrize("classes", [1, 3, 10])
def test_votes_for_one_class_mean_nothing_for_other_than_two(classes):
    assert votes_on(images(VOTES), LABELS, classes) is None


def test_more_votes_than_annotators_are_told_of_and_not_used(capsys):
    assert all_votes(["8", *VOTES[1:]]) is None
    assert "an image has 8, expected at most 7" in capsys.readouterr().err


# By agreement


def test_levels_by_hand():
    levels = by_agreement(LOGITS, all_votes())
    assert list(levels) == ["7-0", "6-1", "5-2", "4-3"]
    assert [levels[name]["images"] for name in levels] == [2, 2, 1, 3]
    assert [levels[name]["accuracy"] for name in levels] == [1.0, 0.5, 0.0, pytest.approx(2 / 3)]
    # 7-0: -(ln 0.8 + ln 0.9) / 2; 6-1: -(ln 0.3 + ln 0.6) / 2; 5-2: -ln 0.25; 4-3: -(ln 0.5 + ln 0.75 + ln 0.1) / 3
    expected = [0.1642520, 0.8573992, 1.3862944, 1.0944714]
    assert [levels[name]["nll"] for name in levels] == pytest.approx(expected, abs=1e-6)


def test_auc_of_levels_by_hand():
    """6-1: in the wrong order; 4-3: of two pairs one is in order, 0.75 > 0.5 but 0.1 < 0.5; 5-2 has one class only."""
    levels = by_agreement(LOGITS, all_votes())
    assert "auc" not in levels["5-2"]
    assert [levels[name]["auc"] for name in ("7-0", "6-1", "4-3")] == pytest.approx([1.0, 0.0, 0.5])


def test_a_level_without_images_is_left_out():
    votes = all_votes(["0", "7", *[""] * 3, "3", "4", "4"])
    assert list(by_agreement(LOGITS[votes.rows], votes)) == ["7-0", "4-3"]


def test_the_majority_may_be_against_the_positive_class():
    levels = by_agreement(LOGITS[:4], all_votes(["0", "1", "2", "3"], LABELS[:4]))
    assert {name: level["images"] for name, level in levels.items()} == {"7-0": 1, "6-1": 1, "5-2": 1, "4-3": 1}


def test_levels_together_are_all_images():
    levels = by_agreement(LOGITS, all_votes()).values()
    right = sum(level["accuracy"] * level["images"] for level in levels)
    assert right == pytest.approx(np.sum(LOGITS.argmax(1) == LABELS))


# Correlations


def test_pearson_by_hand():
    """p = 0.2, 0.5, 0.8 against 0, 2/7, 1: covariance 0.3, deviations sqrt(0.18) and sqrt(0.5306122)."""
    logits = logits_at([math.log(0.25), 0.0, math.log(4)])
    found = correlations(logits, np.array([0, 2 / 7, 1]), 1.0)
    assert found["pearson"] == pytest.approx(0.3 / math.sqrt(0.18 * 26 / 49), abs=1e-12)
    assert found["spearman"] == pytest.approx(1.0)


def test_spearman_by_hand_with_ties():
    """Ranks 1 2 3 4 against 1.5 1.5 4 3: covariance 3.5, deviations sqrt(5) and sqrt(4.5)."""
    found = correlations(logits_at([-3, -1, 0, 5]), np.array([1, 1, 7, 5]) / 7, 1.0)
    assert found["spearman"] == pytest.approx(3.5 / math.sqrt(5 * 4.5))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 50.0])
def test_both_correlations_are_scipys(temperature):
    random = np.random.default_rng(3)
    logits, fractions = random.normal(0, 3, (60, 2)), random.integers(0, 8, 60) / 7
    probability = 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]) / temperature))
    found = correlations(logits, fractions, temperature)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(probability, fractions).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(probability, fractions).statistic, abs=1e-12)


def test_ranks_survive_probabilities_that_are_1_to_the_last_bit():
    logits = logits_at([-1000.0, 100.0, 200.0, 900.0])
    assert correlations(logits, np.array([0, 5, 6, 7]) / 7, 1.0)["spearman"] == pytest.approx(1.0)


def test_the_temperature_changes_the_linear_correlation_only():
    fractions = np.array([0, 1, 5, 7]) / 7
    at = {t: correlations(logits_at([-9, -2, 1, 6]), fractions, t) for t in (1.0, 4.0)}
    assert at[1.0]["pearson"] != pytest.approx(at[4.0]["pearson"], abs=1e-3)
    assert at[1.0]["spearman"] == at[4.0]["spearman"]


@pytest.mark.parametrize(
    ("margins", "fractions"),
    [([1, 1, 1], [0, 0.5, 1]), ([1, 2, 3], [1, 1, 1]), ([1], [1]), ([0, 0], [0, 0])],
    ids=["a constant model", "votes all alike", "one image", "both constant"],
)
def test_what_is_not_defined_is_left_out(margins, fractions):
    assert correlations(logits_at(margins), np.array(fractions, np.float64), 2.0) == {}


def test_a_saturated_model_has_ranks_but_no_linear_correlation():
    found = correlations(logits_at([100.0, 200.0, 300.0]), np.array([5, 6, 7]) / 7, 1.0)
    assert found == {"spearman": pytest.approx(1.0)}


# Reports


def test_votes_are_shown_at_t_1_and_each_temperature_as_written():
    report = vote_report(LOGITS, all_votes(), ["20", "0.5", "4"])
    assert list(report) == ["levels", "correlation"]
    assert list(report["correlation"]) == ["T0.5", "T1", "T4", "T20"]
    assert report["correlation"]["T4"] == correlations(LOGITS, np.array([int(v) for v in VOTES]) / 7, 4.0)


@pytest.mark.parametrize("written", ["1", "1.0"])
def test_a_temperature_of_1_is_reported_once(written):
    assert list(vote_report(LOGITS, all_votes(), [written])["correlation"]) == [f"T{written}"]


def test_images_without_votes_count_nowhere():
    some = all_votes(["0", "7", "", "6", "", "3", "", "4"])
    report = vote_report(LOGITS, some, ["4"])
    alone = all_votes(["0", "7", "6", "3", "4"], LABELS[[0, 1, 3, 5, 7]])
    assert report == vote_report(LOGITS[[0, 1, 3, 5, 7]], alone, ["4"])


def test_mean_and_deviation_over_seeds_by_hand():
    def one(accuracy, auc, pearson):
        level = {"images": 4, "accuracy": accuracy, "auc": auc}
        return {"levels": {"7-0": level}, "correlation": {"T1": {"pearson": pearson}}}

    found = report_over_seeds([one(0.5, 0.75, 0.1), one(1.0, 0.75, 0.4)])
    assert found["levels"]["7-0"] == {
        "images": 4,
        "accuracy": {"mean": 0.75, "std": pytest.approx(math.sqrt(0.125))},
        "auc": {"mean": 0.75, "std": 0.0},
    }
    assert found["correlation"]["T1"]["pearson"] == pytest.approx({"mean": 0.25, "std": math.sqrt(0.045)})


def test_a_single_seed_has_no_deviation():
    found = report_over_seeds([vote_report(LOGITS, all_votes(), ["4"])])
    numbers = [value for level in found["levels"].values() for name, value in level.items() if name != "images"]
    numbers += [value for at in found["correlation"].values() for value in at.values()]
    assert numbers
    assert all(list(value) == ["mean"] for value in numbers)


def test_a_correlation_one_seed_lacks_is_the_mean_of_the_rest():
    defined = vote_report(LOGITS, all_votes(), ["4"])
    constant = vote_report(np.zeros((8, 2)), all_votes(), ["4"])
    assert constant["correlation"] == {}
    found = report_over_seeds([constant, defined])
    assert found["correlation"]["T4"] == {
        name: {"mean": pytest.approx(value)} for name, value in defined["correlation"]["T4"].items()
    }
    assert report_over_seeds([constant])["correlation"] == {}


def test_reports_are_json_without_nan():
    for logits in (LOGITS, np.zeros((8, 2))):
        report = vote_report(logits, all_votes(), ["4"])
        assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_class_that_the_votes_count_may_be_either():
    """Names sort as they like: with the classes swapped, in labels and logits alike, nothing else changes."""
    swapped, logits = votes_on(images(VOTES), 1 - LABELS, 2), LOGITS - np.array([0.0, 1e-6])  # without the tie
    assert (all_votes().positive_class, swapped.positive_class) == (1, 0)
    assert vote_report(logits[:, ::-1], swapped, ["4"]) == vote_report(logits, all_votes(), ["4"])
