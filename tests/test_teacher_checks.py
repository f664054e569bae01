"""What the validation images say of a teacher: chance, another order of the classes, a stated accuracy, hard labels.

Each check has cases in which it must fire, and such in which it must not. The numbers are worked out by hand, or are
SciPy's and scikit-learn's; the cases at the end go through `precompute` with a stand-in teacher.
"""

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner
from real_project import ROOT, change
from sklearn.metrics import cohen_kappa_score
from soft_label_files import write_both

from pipeline.cli.main import main
from pipeline.images.index import Image, Index, write_index
from pipeline.images.views import Augmentation, Views
from pipeline.models import keras_files
from pipeline.models.ensembles import save_ensemble
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError, UnusableError
from pipeline.soft_labels.answers import MOST_ROWS, Answers, answers_in, sample_of
from pipeline.soft_labels.chance import as_good_as, chance, highest_accuracy, is_no_better_than_chance, knows_nothing
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.soft_labels.reading import open_soft_labels
from pipeline.soft_labels.softness import doubt, doubt_about, entropy, size
from pipeline.stages import precompute, train_teacher
from pipeline.teacher_pass import class_order, labelling, validation_answers
from pipeline.teacher_pass.class_order import other_order
from pipeline.teacher_pass.teacher_checks import may_be_chance, reaches, refuse_unsound


def images_of(confusion):
    """Labels and predictions of as many images as a table says: a row for each label, a column for each prediction."""
    table = np.asarray(confusion)
    labels, predictions = (np.repeat(side.ravel(), table.ravel()) for side in np.indices(table.shape))
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order], predictions[order]


def answers_of(confusion):
    labels, predictions = images_of(confusion)
    return Answers(labels, predictions, np.eye(len(confusion))[predictions])


# ---- chance


def test_the_binomial_tail_is_scipys():
    right, images = np.meshgrid(np.arange(13), np.arange(12, 40))
    for probability in (0.02, 0.5, 0.9):
        expected = scipy.stats.binom.sf(right - 1, images, probability)
        np.testing.assert_allclose(as_good_as(right, images, probability), expected, rtol=1e-12)


@pytest.mark.parametrize(("right", "images"), [(0, 10), (3, 10), (9, 10), (10, 10), (190, 1000)])
def test_the_highest_accuracy_is_scipys_exact_limit(right, images):
    limit = scipy.stats.binomtest(right, images, alternative="less").proportion_ci(0.99, method="exact").high
    assert highest_accuracy(right, images) == pytest.approx(limit, rel=1e-9)


def test_chance_by_hand_and_as_in_scikit_learns_kappa():
    """Three of four images are of class 0, and two of four answers: 3/4 * 1/2 + 1/4 * 1/2."""
    labels, predictions = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
    assert chance(labels, predictions) == 0.5
    assert cohen_kappa_score(labels, predictions) == pytest.approx((0.75 - 0.5) / (1 - 0.5))


def weak(classes, per_class, right):
    """A teacher that is right on so many images of each class, and spreads the others evenly."""
    wrong = (per_class - right) // (classes - 1)
    return np.full((classes, classes), wrong) + (right - wrong) * np.eye(classes, dtype=int)


AT_CHANCE = {
    "one class for all": [[20 if column == 3 else 0 for column in range(10)] for _ in range(10)],
    "one class for all, of an imbalanced set": [[710, 0], [290, 0]],
    "random": weak(10, 50, 5),
    "two classes the wrong way round": [[15, 35], [35, 15]],
    "never right": [[0, 6], [6, 0]],
}
BETTER = {
    "weak: kappa 0.11 of ten classes": weak(10, 100, 19),
    "weak: 116 of 200 images of two classes": [[58, 42], [42, 58]],
    "below the share of the largest class, above chance": [[800, 100], [30, 70]],
    "right on 3 of 10": [[2, 3], [4, 1]],
    "wrong on 10 of 10 of ten classes": np.roll(np.eye(10, dtype=int), 1, axis=1),
    "one class for all of ten": [[6, 0], [4, 0]],
    "one class in the data": [[40, 0], [0, 0]],
    "perfect": [[5, 0], [0, 5]],
}


@pytest.mark.parametrize("case", AT_CHANCE)
def test_a_teacher_at_or_below_chance_is_found(case):
    labels, predictions = images_of(AT_CHANCE[case])
    assert np.mean(labels == predictions) <= chance(labels, predictions) + 1e-9
    assert knows_nothing(answers_of(AT_CHANCE[case]))


@pytest.mark.parametrize("case", BETTER)
def test_a_weak_teacher_and_one_that_few_images_show_are_not(case):
    assert not is_no_better_than_chance(*images_of(BETTER[case]))


def one_class_for_all(shares, per_image):
    """Images of which none has its own class as the largest logit unless that is the first; and their logits."""
    labels = np.repeat(np.arange(len(shares)), shares)
    logits = np.tile([10.0, *[0.0] * (len(shares) - 1)], (len(labels), 1)) + per_image * np.eye(len(shares))[labels]
    return Answers(labels, logits.argmax(axis=1), logits[sample_of(len(labels))])


@pytest.mark.parametrize(
    ("shares", "per_image", "found"),
    [([900, 100], 1.0, False), ([900, 100], 0.0, True), ([600, 200, 200], 1.0, False), ([500, 500], 1.0, True)],
    ids=["knows the rare class", "knows nothing", "three classes", "as many of each"],
)
def test_a_constant_answer_is_sound_if_logits_show_a_rare_class(shares, per_image, found):
    """Of 1,000 images 100 are ill: a sound teacher may call none of them ill, and know which are more likely so."""
    answers = one_class_for_all(np.array(shares) * 5, per_image)
    assert is_no_better_than_chance(answers.labels, answers.predictions)
    assert knows_nothing(answers) is found


# ---- another order

TEXT_ORDER = sorted(range(11), key=str)
"""0, 1, 10, 2, ...: how eleven numbers are sorted that are taken for text."""


def in_text_order(images, right=1.0, seed=0):
    """Labels 0 to 10, and the places in `TEXT_ORDER` of what a teacher says of them that is right so often."""
    noise = np.random.default_rng(seed)
    labels = np.arange(images) % 11
    said = np.where(noise.random(images) < right, labels, noise.integers(0, 11, images))
    return labels, np.argsort(TEXT_ORDER)[said]


def test_an_order_that_only_one_half_shows_is_none():
    """Half of the images say that 0 and 1 changed places; over all, a cycle of three wins by one, which is too few."""
    pairs = [(0, 1)] * 50 + [(1, 0)] * 50 + [(1, 2)] * 100 + [(2, 0)] * 100 + [(2, 2)] * 149
    assert other_order(*np.array(pairs).T, 3) is None


@pytest.mark.parametrize(("images", "right"), [(22, 1.0), (110, 0.8), (440, 0.5)])
def test_numbers_that_were_sorted_as_text_are_found(images, right):
    labels, predictions = in_text_order(images, right)
    found = other_order(labels, predictions, 11)
    assert found.output_of.tolist() == np.argsort(TEXT_ORDER).tolist()
    assert found.accuracy == np.mean(np.array(TEXT_ORDER)[predictions] == labels)
    assert [*found.meanings([*map(str, range(11))]).values()] == [*map(str, TEXT_ORDER)]


def swapped(confusion, first, second):
    """The table of a teacher of whose outputs two have changed places."""
    table = np.array(confusion)
    table[:, [first, second]] = table[:, [second, first]]
    return table


OTHER = {
    "two of ten": swapped(weak(10, 36, 27), 2, 7),
    "two of two": swapped([[27, 3], [3, 27]], 0, 1),
    "all of three": np.roll(weak(3, 40, 30), 1, axis=1),
    "two of an imbalanced set": swapped([[900, 10, 10], [5, 25, 0], [6, 0, 24]], 1, 2),
}
OWN = {
    "sound": weak(10, 18, 9),
    "one class for all": AT_CHANCE["one class for all"],
    "two classes that look alike": [[10, 10, 0], [10, 10, 0], [0, 0, 20]],
    "a class that is mostly called another": [[60, 0, 0], [40, 20, 0], [10, 30, 20]],
    "each grade is called the next one": [[40, 60, 0, 0], [0, 40, 60, 0], [0, 0, 40, 60], [0, 0, 0, 100]],
    "rare classes that were never learned": [[9000, 0, 0], [400, 50, 10], [300, 110, 20]],
    "ten images": [[2, 3], [4, 1]],
    "ten images of ten classes": np.roll(np.eye(10, dtype=int), 1, axis=1),
    "no better the other way round": [[15, 20], [20, 15]],
}


@pytest.mark.parametrize("case", OTHER)
def test_classes_that_changed_places_are_found_and_no_others(case):
    found = other_order(*images_of(OTHER[case]), len(OTHER[case]))
    right = np.array(OTHER[case])[np.arange(len(OTHER[case])), found.output_of]
    assert found.accuracy == right.sum() / np.sum(OTHER[case])
    moved = {"two of ten": [2, 7], "two of two": [0, 1], "all of three": [0, 1, 2], "two of an imbalanced set": [1, 2]}
    assert np.flatnonzero(found.output_of != np.arange(len(OTHER[case]))).tolist() == moved[case]


@pytest.mark.parametrize("case", OWN)
def test_a_teacher_in_its_own_order_is_left_alone(case):
    assert other_order(*images_of(OWN[case]), len(OWN[case])) is None


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_random_answers_fit_no_other_order(classes):
    """The best order on the images themselves would always be better; of 40 draws one in a thousand may seem so."""
    noise = np.random.default_rng(3)
    drawn = [noise.integers(0, classes, (2, 300)) for _ in range(40)]
    assert [other_order(*pair, classes) for pair in drawn] == [None] * 40


def test_with_very_many_classes_the_most_confused_are_checked(monkeypatch):
    monkeypatch.setattr(class_order, "MOST_CLASSES", 2)
    table = swapped(weak(10, 18, 9), 2, 7)
    table += 10 * np.eye(10, dtype=int) * (table.diagonal() > 5)
    found = other_order(*images_of(table), 10)
    assert np.flatnonzero(found.output_of != np.arange(10)).tolist() == [2, 7]


# ---- what is stated, and what is said

NAMES = [*map(str, range(11))]
GIVEN = {"class_names": NAMES, "given": {"accuracy": None, "classes": None}}
OURS = {"class_names": NAMES, "validation": {"images": "ab" * 32, "accuracy": 0.1}}


NAMES_BY_LETTER = [*"abc"]


def given(**stated):
    return GIVEN | {"given": GIVEN["given"] | stated}


def refused(answers, names, record=None, error=MismatchError):
    with pytest.raises(error) as refusal:
        refuse_unsound(answers, "given.keras", names, record)
    return str(refusal.value)


def in_text_order_answers():
    labels, predictions = in_text_order(44)
    return Answers(labels, predictions, np.eye(11)[predictions])


def test_the_fitting_order_is_printed_as_params_take_it():
    """Output 2 was taken for class 2 and means 10, and so on: two of eleven classes are right."""
    listed = json.dumps([*map(str, TEXT_ORDER)])
    said = refused(in_text_order_answers(), NAMES)
    assert said.startswith("given.keras is right on 0.1818 of 44 ")
    assert " 1.0000 " in said
    assert ": 2 means 10, 3 means 2, 4 means 3, 5 means 4, 6 means 5 and 4 more. " in said
    assert said.endswith(f"in train_teacher. This one fits: `classes: {listed}`")


def test_an_order_that_was_stated_wrongly_is_printed_anew():
    """As a list with an output of no class, and as a map."""
    table = swapped([[27, 3, 0], [3, 27, 0], [0, 0, 30]], 0, 1)
    said = refused(answers_of(table), ["a", "b", "c"], given(classes=["c", None, "b", "a"]))
    assert said.endswith('`classes: ["c", null, "a", "b"]`')
    said = refused(answers_of(table), ["a", "b", "c"], given(classes={"a": 7, "b": 4, "c": 0}))
    assert said.endswith('`classes: {"b": 7, "a": 4, "c": 0}`')


def test_a_very_long_list_of_classes_is_not_printed():
    labels = np.arange(2000) % 500
    said = refused(Answers(labels, labels ^ 1, np.eye(500)[labels]), [f"class {number:03}" for number in range(500)])
    assert "class 004 means class 005 and 495 more. " in said
    assert said.endswith("in train_teacher.classes.")
    assert len(said) < 400


def test_chance_is_told_with_its_number_and_its_causes():
    said = refused(answers_of(AT_CHANCE["one class for all"]), NAMES[:10], error=UnusableError)
    assert said.startswith("given.keras is right on 0.1000 of 200 ")
    assert "chance (0.1000)" in said
    assert all(key in said for key in ("`classes`", "`preprocessing` in train_teacher", "`images.resize`"))
    assert "state in train_teacher the `accuracy`" in said
    assert "accuracy: 0.1" not in said


@pytest.mark.parametrize(
    ("table", "error"),
    [(AT_CHANCE["one class for all"], UnusableError), (OTHER["two of ten"], MismatchError)],
    ids=["chance", "order"],
)
def test_only_a_given_teacher_is_told_to_state_its_properties(table, error):
    said = refused(answers_of(table), NAMES[:10], OURS, error)
    assert "then train it again" in said
    assert not any(key in said for key in ("`classes", "`accuracy`", "train_teacher"))


def right_on(right, images):
    return answers_of(
        [[right // 2, images // 2 - right // 2], [images - images // 2 - (right - right // 2), right - right // 2]]
    )


@pytest.mark.parametrize(("right", "images", "stated"), [(270, 300, 0.98), (60, 100, 0.9), (90, 100, 1.0)])
def test_an_accuracy_far_below_the_stated_one_is_refused(right, images, stated):
    said = refused(right_on(right, images), ["a", "b"], given(accuracy=stated))
    assert said.startswith(f"given.keras is right on {right / images:.4f} of {images} ")
    assert f"train_teacher.accuracy says {stated:g}. " in said
    assert "`classes`" in said


@pytest.mark.parametrize(("right", "images", "stated"), [(288, 300, 0.98), (7, 10, 0.95), (980, 1000, 1.0)])
def test_an_accuracy_near_the_stated_one_is_taken(capsys, right, images, stated):
    """A tenth of a point, bad luck with ten images, and two points, which are tolerated."""
    refuse_unsound(right_on(right, images), "given.keras", ["a", "b"], given(accuracy=stated))
    assert capsys.readouterr().err == ""


def test_an_accuracy_clearly_above_the_stated_one_is_told(capsys):
    refuse_unsound(right_on(299, 300), "given.keras", ["a", "b"], given(accuracy=0.9))
    assert re.search(
        r"warning: given\.keras .*0\.9967 of 300 .*train_teacher\.accuracy says 0\.9\.", capsys.readouterr().err
    )


def test_a_stated_accuracy_of_chance_is_believed(capsys):
    """It is told, and not refused as it is without a statement."""
    refuse_unsound(answers_of(AT_CHANCE["one class for all"]), "given.keras", NAMES[:10], given(accuracy=0.1))
    assert "warning: given.keras: " in capsys.readouterr().err


@pytest.mark.parametrize("accuracy", [0.0, 0.18, 0.99], ids=["exceeded", "reached", "missed"])
def test_another_order_is_refused_whatever_accuracy_is_stated(accuracy):
    assert "This one fits" in refused(in_text_order_answers(), NAMES, given(accuracy=accuracy))


def test_a_true_accuracy_does_not_hide_two_swapped_classes():
    """Right on 0.9 elsewhere, and here on 72 of 90, which is not clearly less."""
    answers = answers_of(swapped(9 * np.eye(10, dtype=int), 2, 7))
    assert reaches(answers, 0.9)
    assert "2 means 7, 7 means 2" in refused(answers, NAMES[:10], given(accuracy=0.9))


MAY_BE_CHANCE = {
    "all one class": ([[0, 0, 10], [0, 0, 10], [0, 0, 5]], "c for all 25 images, but 5 "),
    "all one class, which most are": ([[90, 0], [10, 0]], "a for all 100 images, but 90 "),
    "nearly all": ([[39, 1], [20, 0]], "a for 59 of 60 images, but 40 "),
    "a little above chance": ([[7, 5], [5, 7]], "14 of 24 .* 12\\.0"),
}
NO_CHANCE = {
    "weak": [[58, 42], [42, 58]],
    "names the rare class on 4 of 100 images, and is right": [[90, 0], [6, 4]],
    "one class in the data": [[40, 0], [0, 0]],
    "ten images": [[5, 0], [5, 0]],
}


@pytest.mark.parametrize("case", MAY_BE_CHANCE)
def test_a_teacher_that_may_know_nothing_is_told_and_not_refused(capsys, case):
    table, words = MAY_BE_CHANCE[case]
    for stated in (given(), given(accuracy=0.1), OURS):
        refuse_unsound(answers_of(table), "given.keras", NAMES_BY_LETTER, stated)
        said = capsys.readouterr().err
        assert re.search(rf"warning: given\.keras: .*{words}", said)
        assert ("`classes`" in said) is (stated is not OURS)
        assert ("train it again" in said) is (stated is OURS)


@pytest.mark.parametrize("case", NO_CHANCE)
def test_a_useful_or_little_tested_teacher_gets_no_warning(case):
    assert may_be_chance(answers_of(NO_CHANCE[case]), NAMES_BY_LETTER) is None


# ---- hard labels


def test_entropy_by_hand():
    """At T = 2 the odds are 1/2, 1/4, 1/8, 1/8: (1/2 + 2/4 + 3/8 + 3/8) ln 2; an even row has ln 4 = 2 ln 2."""
    logits = np.array([2 * np.log([0.5, 0.25, 0.125, 0.125]), [3.0] * 4])
    assert entropy(logits, 2.0) == pytest.approx((1.75 + 2) / 2 * np.log(2), rel=1e-6)


def test_size_leaves_a_hundredth_out_and_a_rows_mean():
    """200 numbers 10 from the mean of their row of two, and one row of a thousand times that."""
    rows = np.tile([1000.0, 1020.0], (100, 1))
    assert size(rows) == 10
    rows[0] = -1e4, 1e4
    assert size(rows) == pytest.approx(109.9)  # a hundredth of the way from the 198th of 200 numbers to the 199th
    rows[1] = -1e4, 1e4
    assert size(rows) == 1e4


def margins(margin, rows=50, classes=10):
    return margin * np.eye(classes)[np.arange(rows) % classes]


def sure_by(margin, right=50, images=50, classes=10):
    """Answers of which so many are right, each surer than all others by the same margin."""
    labels = np.arange(images) % classes
    predictions = np.where(np.arange(images) < right, labels, (labels + 1) % classes)
    return Answers(labels, predictions, margin * np.eye(classes)[predictions])


@pytest.mark.parametrize(
    ("margin", "temperature", "words"),
    [
        (255 * 12.0, 4.0, ["at T = 4 ", " 0.0000 nats", " 2.3026", "`preprocessing: unit`"]),
        (255 * 12.0, 1e4, ["at T = 10000 ", " 2,754 ", "`preprocessing: unit`"]),
        (40.0, 1.0, ["at T = 1 ", "A larger temperature"]),
        (40.0, 0.3, ["at T = 1 "]),
    ],
    ids=["pixels of 0 to 1", "whatever the temperature", "very sure", "sharpened"],
)
def test_hard_labels_are_told_with_the_number_and_a_cause(margin, temperature, words):
    found = doubt(sure_by(margin), temperature)
    assert [word for word in words if word not in found] == [], found


@pytest.mark.parametrize(("margin", "temperature"), [(12.0, 4.0), (8.0, 1.0), (8.0, 0.3), (40.0, 8.0)])
def test_the_logits_of_a_sure_teacher_are_no_hard_labels(margin, temperature):
    """Right on 0.978 of MNIST, a teacher has margins of 12, and 0.04 nats at T = 1; sharpening is meant to sharpen."""
    assert doubt(sure_by(margin), temperature) is None


@pytest.mark.parametrize(
    ("margin", "temperature", "right", "images", "words"),
    [
        (20.0, 4.0, 180, 300, ["entropy of 0.3", "at T = 4 its mean confidence is 0.94, ", " 0.60 of 300 "]),
        (20.0, 1.0, 180, 300, ["at T = 1 ", "at T = 4 its mean confidence is 0.94"]),
        (100.0, 20.0, 15, 60, ["at T = 20 its mean confidence is 0.94, ", " 0.25 of 60 "]),
        (40.0, 4.0, 180, 300, ["entropy of 0.0", "at T = 4 its mean confidence is 1.00"]),
        (900.0, 4.0, 80, 100, ["entropy of 0.0000", " 810 ", "at T = 4 its", " 0.80 of 100 "]),
    ],
    ids=["scale of 20", "softened at 1", "softened at 20", "nearly hard", "hard"],
)
def test_a_sure_and_wrong_teacher_is_told_its_pixel_scale_first(margin, temperature, right, images, words):
    """At T = 4 a margin of 20 gives e^5 : 9, 0.943; neither the size nor the entropy of such logits is unheard of."""
    found = doubt(sure_by(margin, right, images), temperature)
    assert [word for word in words if word not in found] == [], found
    assert 0 < found.index("`preprocessing: unit`") < found.index("`classes`")
    assert "A larger temperature" not in found


@pytest.mark.parametrize(
    ("margin", "right", "images", "classes"),
    [
        (3.58, 180, 300, 10),
        (5.1, 550, 1000, 10),
        (2.2, 140, 200, 2),
        (3.5, 120, 200, 2),
        (8.0, 400, 1000, 100),
        (20.0, 3, 10, 10),
        (18.5, 15, 20, 10),
        (20.0, 250, 300, 10),
    ],
    ids=[
        "0.8 sure at T = 1, right on 0.6",
        "0.95 sure at T = 1, right on 0.55",
        "two classes: 0.9 sure, right on 0.7",
        "two classes: 0.97 sure, right on 0.6",
        "100 classes: 0.97 sure, right on 0.4",
        "ten images",
        "few images",
        "right on 0.83",
    ],
)
def test_a_slightly_overconfident_teacher_gets_no_warning(margin, right, images, classes):
    assert doubt(sure_by(margin, right, images, classes), 4.0) is None
    assert "mean confidence" not in (doubt(sure_by(margin, right, images, classes), 1.0) or "")


def labelled(rows_per_class, classes=3):
    """An index of so many validation images, and few others."""
    counts = {"train": 3, "val": rows_per_class * classes, "test": 3}
    names = "abcdefghijk"[:classes]
    return Index(
        Image(f"{split}{row:04}.png", f"{split}{row}", names[row % classes], split, "", f"{row:064x}")
        for split, count in counts.items()
        for row in range(count)
    )


UNTOUCHED = Views(1, 1, Augmentation())


@pytest.mark.parametrize("stored_as", [Dense("float32"), Dense("float16"), TopK(2, "float32")], ids=str)
@pytest.mark.parametrize("factor", [1, 255])
def test_both_files_give_the_same_answers_and_the_same_doubt(tmp_path, stored_as, factor):
    def logits(views, count, classes):
        rows = np.arange(count)
        return (factor * np.roll(np.eye(3), 1, axis=1)[rows % 3][None] * (1 + rows % 5)[:, None]).astype(np.float32)

    paths = write_both(tmp_path, index=labelled(5), views=UNTOUCHED, stored_as=stored_as, logits=logits)
    expected = logits(1, 15, 3)[0]
    for path in paths:
        with open_soft_labels(path) as file:
            found, told = answers_in(file, "val"), doubt_about(file, 4.0)
        assert found.labels.tolist() == [0, 1, 2] * 5
        assert found.predictions.tolist() == [1, 2, 0] * 5
        largest = found.logits.max(axis=1) - found.logits.min(axis=1)
        most = np.inf if path == paths[0] else 4 * 103.28  # below e^-103.28 a float32 is 0
        np.testing.assert_allclose(largest, np.minimum(expected.max(axis=1), most), rtol=0.001)
        assert (told is None) is (factor == 1)


def test_of_very_many_images_few_logits_are_looked_at():
    assert sample_of(10) == slice(0, 10, 1)
    assert sample_of(MOST_ROWS) == slice(0, MOST_ROWS, 1)
    assert sample_of(MOST_ROWS + 1) == slice(0, MOST_ROWS + 1, 2)
    assert len(range(10**6)[sample_of(10**6)]) <= MOST_ROWS


def test_soften_verify_and_inspect_repeat_the_warning(tmp_path, monkeypatch, capsys):
    """A file that is sound all the same; the temperature is the largest of params.yaml, or that of the soft labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    change(Path("params.yaml"), "distill.temperatures", [2, 20, 4])
    logits, targets = write_both(
        tmp_path,
        index=labelled(4),
        views=UNTOUCHED,
        logits=lambda *_: np.tile(margins(2550.0, 12, 3), (1, 1, 1))[:, : _[1]],
    )
    assert f"warning: {targets}: at T = 4 the soft labels" in capsys.readouterr().err
    for path, temperature in ((logits, 20), (targets, 4)):
        shown = CliRunner().invoke(main, ["verify", str(path), "--json"])
        (check,) = [check for check in json.loads(shown.stdout)["checks"] if check["name"] == "softness"]
        assert check["ok"] is True
        assert re.match(rf"warning: at T = {temperature} .* entropy of 0\.0000 ", check["detail"])
        text = CliRunner().invoke(main, ["verify", str(path)]).stdout
        assert "Warning: softness." in text.splitlines()[-1]
        last = CliRunner().invoke(main, ["inspect", str(path)]).stdout.splitlines()[-1]
        assert last == check["detail"]


def test_verify_repeats_that_a_teacher_may_know_nothing(tmp_path, monkeypatch):
    """24 validation images, and 3 of the other splits, of which so little is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    always_b = lambda views, count, classes: np.tile(np.float32([0, 5, 1]), (views, count, 1))  # noqa: E731
    for path in write_both(tmp_path, index=labelled(8), views=UNTOUCHED, logits=always_b):
        shown = CliRunner().invoke(main, ["verify", str(path), "--json"])
        (check,) = [check for check in json.loads(shown.stdout)["checks"] if check["name"] == "answers"]
        assert check["ok"] is True
        assert re.search("warning: .*val.* b for all 24 images, but 8 ", check["detail"])


# ---- through `precompute`

SIDE, INDEX, TEACHER, LOGITS = 4, Path("data/index.csv"), Path("models/teacher.keras"), Path("logits.h5")
GREYS = 10 + 23 * np.arange(11)
PER_SPLIT = {"train": 11, "val": 44, "test": 11}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Images of eleven greys, one for each of the classes 0 to 10."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    images, folder = [], Path("data/split")
    folder.mkdir(parents=True)
    for split, count in PER_SPLIT.items():
        for row in range(count):
            path = folder / f"{split}_{row:02}.png"
            keras.utils.save_img(path, np.full((SIDE, SIDE, 1), GREYS[row % 11]), scale=False)
            images.append(Image(path.name, path.as_posix(), str(row % 11), split, "", sha256_file(path)))
    write_index(INDEX, Index(images))
    return tmp_path


def tells_greys(order=range(11), scale=1 / 500):
    """A teacher whose logits are minus half the squared distance to each grey, but for what is common to all."""
    greys = GREYS[[*order]].astype(np.float32)
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(11)]
    )
    model.layers[-1].set_weights([scale * greys[None], -scale * greys**2 / 2])
    return model


def take(teacher):
    train_teacher.run(index=INDEX, teachers=[teacher], average="logits", output=TEACHER, history=Path("teacher.csv"))


def compute(temperature=4.0):
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=UNTOUCHED,
        stored_as=Dense("float32"),
        batch_size=16,
        previous=[],
        output=LOGITS,
        largest_temperature=temperature,
    )


@pytest.fixture
def computed(monkeypatch):
    """The splits of which logits are computed."""
    splits = []
    compute_split = labelling.TeacherPass._compute

    def note(self, split, progress):
        splits.append((split.name, int(self.unfinished.missing(split.name).sum())))
        compute_split(self, split, progress)

    monkeypatch.setattr(labelling.TeacherPass, "_compute", note)
    return splits


def test_a_teacher_in_text_order_is_refused_early_and_every_time(project, computed):
    """Classes 0 to 10, and a teacher whose outputs are in the order 0, 1, 10, 2, ..."""
    keras_files.save(tells_greys(TEXT_ORDER), TEACHER)
    for missing in (44, 0):
        with pytest.raises(MismatchError, match=r'This one fits: `classes: \["0", "1", "10", "2", '):
            compute()
        assert computed == [("val", missing)]
        computed.clear()
    assert not LOGITS.exists()


def test_what_the_message_says_is_what_mends_it(project):
    """The printed list, as `train_teacher.classes`."""
    tells_greys(TEXT_ORDER).save("given.keras")
    take(GivenTeacher("given.keras"))
    with pytest.raises(MismatchError) as refusal:
        compute()
    classes = json.loads(str(refusal.value).split("`classes: ")[1].rstrip("`"))
    take(GivenTeacher("given.keras", classes=classes, accuracy=0.99))
    compute()
    with open_soft_labels(LOGITS) as file:
        assert answers_in(file, "val").accuracy == 1.0


def test_a_teacher_in_numeric_order_is_taken_without_a_warning(project, computed, capsys):
    keras_files.save(tells_greys(), TEACHER)
    compute()
    assert [name for name, _ in computed] == ["val", "test", "train"]
    assert "warning" not in capsys.readouterr().err


def test_a_teacher_of_pixels_from_0_to_1_is_told_so(project, capsys):
    """Case (b): right on every image, and its soft labels are hard ones."""
    keras_files.save(tells_greys(scale=255 / 500), TEACHER)
    compute()
    said = capsys.readouterr().err
    assert re.search(rf"warning: {TEACHER}: at T = 4 .* 0\.0000 nats, .* 2\.3979; .*`preprocessing: unit`", said)


def test_a_member_of_an_ensemble_is_refused_by_its_number(project):
    keras_files.save(tells_greys(), Path("0.keras"))
    keras_files.save(tells_greys(TEXT_ORDER), Path("1.keras"))
    save_ensemble([Path("0.keras"), Path("1.keras")], "logits", [*map(str, range(11))], TEACHER)
    with pytest.raises(MismatchError, match=rf"^member 1 of {TEACHER} .* 0\.1818 of 44 "):
        compute()
    assert not LOGITS.exists()


def names_class_3_always():
    model = tells_greys(scale=0.0)
    model.layers[-1].set_weights([np.zeros((1, 11)), 5 * np.eye(11)[3]])
    return model


def test_a_file_as_accurate_as_stated_is_sound(project):
    for accuracy, fits in ((0.99, False), (0.09, True)):
        record = {"class_names": [*map(str, range(11))], "given": {"accuracy": accuracy, "classes": None}}
        keras_files.save(names_class_3_always(), TEACHER, record)
        if fits:
            compute()
        else:
            with pytest.raises(MismatchError, match=r"train_teacher\.accuracy says 0\.99"):
                compute()
    assert CliRunner().invoke(main, ["verify", str(LOGITS)]).exit_code == 0
    TEACHER.unlink()
    alone = CliRunner().invoke(main, ["verify", str(LOGITS)])
    assert alone.exit_code == 1
    assert "not sound: answers. " in alone.stdout


def test_a_file_in_another_order_is_unsound_despite_its_accuracy(project, monkeypatch):
    """As one that was written before the order was refused."""
    record = {"class_names": [*map(str, range(11))], "given": {"accuracy": 0.18, "classes": None}}
    keras_files.save(tells_greys(TEXT_ORDER), TEACHER, record)
    with monkeypatch.context() as patch:
        patch.setattr(validation_answers, "refuse_unsound", lambda *_: None)
        compute()
    verified = CliRunner().invoke(main, ["verify", str(LOGITS)])
    assert verified.exit_code == 1
    assert re.search(r"WRONG answers .*2 means 10", verified.stdout)


def test_verify_reads_the_largest_temperature_undeclared(tmp_path, monkeypatch):
    """So that a new temperature runs no teacher again."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    change(Path("params.yaml"), "distill.temperatures", [2, 0.5, 16])
    taken = {}
    monkeypatch.setattr(precompute, "run", lambda **options: taken.update(options))
    assert CliRunner().invoke(main, ["precompute"], catch_exceptions=False).exit_code == 0
    assert taken["largest_temperature"] == 16.0
