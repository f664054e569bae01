"""Where features are kept, by numbers made by hand."""

import pytest
from real_project import ROOT
from ruamel.yaml import YAML

from pipeline.cli import arguments
from pipeline.params.reading import checked, load_params, read_params, read_yaml, with_effect
from pipeline.runtime.errors import ParameterError
from pipeline.training.kept_features import Choice, Room, Shown, choose, gigabytes

MB = 10**6
ROOMY = Room(memory=1000 * MB, disk=1000 * MB)
ONCE, TWICE = {"views": 10, "passes": 10}, {"views": 5, "passes": 10}


def chosen(setting="auto", *, size=100 * MB, room=ROOMY, on_disk=0, trainings=1, **how):
    return choose(setting, Shown(images=1000, trainings=trainings, **how), size, room, on_disk)


def test_the_size_is_that_of_every_view_of_every_image():
    """2,175 images in 5 views, of which 1,280 float32 numbers are kept."""
    assert Shown(2175, 5, 10, 1).size(1280, 4) == 55_680_000


@pytest.mark.parametrize("setting", ["auto", "memory", "disk"])
def test_what_would_be_used_once_is_not_kept(setting):
    assert chosen(setting, **ONCE) == Choice("none", "each view is shown less than twice")


@pytest.mark.parametrize(
    ("setting", "trainings", "place"),
    [
        ("auto", 1, "memory"),
        ("auto", 2, "disk"),
        ("memory", 1, "memory"),
        ("memory", 2, "memory"),
        ("disk", 1, "disk"),
        ("disk", 2, "disk"),
        ("none", 2, "none"),
    ],
)
def test_what_is_used_twice_is_kept_where_others_reach_it(setting, trainings, place):
    assert chosen(setting, trainings=trainings, **TWICE).place == place


def test_other_trainings_make_it_worth_while():
    """On the disk alone: memory is this training's own."""
    assert chosen(trainings=2, **ONCE) == Choice("disk")
    assert chosen("disk", trainings=2, **ONCE) == Choice("disk")
    assert chosen("memory", trainings=2, **ONCE) == Choice("none", "each view is shown less than twice")


@pytest.mark.parametrize(("passes", "place"), [(9.9, "none"), (10, "memory")])
def test_a_part_of_a_pass_counts_as_a_part(passes, place):
    assert chosen(views=5, passes=passes).place == place


@pytest.mark.parametrize(("memory", "place"), [(400 * MB, "memory"), (400 * MB - 1, "none")])
def test_a_quarter_of_the_free_memory_is_the_limit(memory, place):
    room = Room(memory, 0)
    assert chosen(room=room, **TWICE).place == chosen("memory", room=room, **TWICE).place == place
    if place == "none":
        reason = "100.0 MB are more than 25% of the available memory, 400.0 MB"
        assert chosen(room=room, **TWICE).reason == reason


@pytest.mark.parametrize(("disk", "on_disk", "place"), [(200, 0, "disk"), (199, 0, "memory"), (100, 50, "disk")])
def test_half_of_the_free_disk_is_the_limit_for_what_is_missing(disk, on_disk, place):
    """Else memory, if a view is shown twice in this training."""
    room = Room(1000 * MB, disk * MB)
    assert chosen(room=room, on_disk=on_disk * MB, trainings=6, **TWICE).place == place
    assert chosen(room=room, on_disk=on_disk * MB, trainings=6, **ONCE).place == place.replace("memory", "none")


def test_without_any_room_both_limits_are_told():
    reason = "12.0 GB are more than 50% of the free disk, 2.0 MB, and than 25% of the available memory, 1.0 MB"
    assert chosen(size=12_000 * MB, room=Room(MB, 2 * MB), trainings=2, **TWICE) == Choice("none", reason)


def test_disk_is_not_refused_before_it_is_full():
    assert chosen("disk", size=12_000 * MB, room=Room(MB, 2 * MB), **TWICE) == Choice("disk")


def test_bytes_are_shown_in_readable_units():
    assert [gigabytes(size) for size in (49_999, 999_949_999, 10**9, 10**13)] == [
        "0.0 MB", "999.9 MB", "1.0 GB", "10,000.0 GB",
    ]  # fmt: skip


@pytest.mark.parametrize("stage", ["train_teacher", "train_student", "train_baseline"])
def test_every_stage_that_trains_reads_the_key(tmp_path, stage):
    """And none declares it, so that a change of it runs no stage again."""
    content = read_yaml(ROOT / "params.yaml", ParameterError)
    content["student"]["cache_frozen"] = "disk"
    YAML(typ="safe").dump(content, tmp_path / "params.yaml")
    assert load_params(stage, tmp_path / "params.yaml", ROOT / "dvc.yaml").student.cache_frozen == "disk"
    assert "cache_frozen" not in (ROOT / "dvc.yaml").read_text()
    assert "cache_frozen" not in str(with_effect(read_params(tmp_path / "params.yaml")))


def test_float32_features_are_no_news_for_earlier_numbers(tmp_path):
    """`metrics.json` of before has no such key."""
    content = read_yaml(ROOT / "params.yaml", ParameterError)
    before = with_effect(checked(content, ROOT / "params.yaml"))
    assert "features_dtype" not in str(before)
    content["student"]["phases"][0] |= {"features_dtype": "float16", "trainable_from": None}
    assert "float16" in str(with_effect(checked(content, ROOT / "params.yaml")))


@pytest.mark.parametrize(
    ("changes", "student", "baseline"),
    [
        ({}, 3, 3),  # two temperatures and the baseline of its own seed, since weights are random
        ({"network": "own"}, 9, 9),  # of three seeds
        ({"unlabelled": {"rows": True}}, 2, 1),  # students see images that no baseline sees
        ({"unlabelled": {"rows": True, "use": False}}, 3, 3),
        ({"network": "own", "unlabelled": {"rows": True}}, 6, 3),
    ],
)
def test_trainings_share_what_the_same_weights_see(changes, student, baseline):
    content = read_yaml(ROOT / "params.yaml", ParameterError)
    content["distill"]["temperatures"] = [2, 4]
    content["student"]["model"] = {"architecture": "net.keras", "weights": changes.get("network")}
    if "unlabelled" in changes:
        content["split"]["unlabelled"] = changes["unlabelled"]
    params = checked(content, ROOT / "params.yaml")
    shared = [arguments.frozen_cache(params, labelled_only=labelled_only) for labelled_only in (False, True)]
    assert [cache.trainings for cache in shared] == [student, baseline]
    assert {cache.setting for cache in shared} == {"auto"}
    assert arguments.frozen_cache_of_teacher(params.student).trainings == 1
