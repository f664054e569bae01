"""Which trainings DVC will run after one, told from hand-made dvc.yaml, params.yaml and dvc.lock.

What DVC itself does then is compared in tests/test_beside.py, with a real `dvc repro`.
"""

from copy import deepcopy
from pathlib import Path

import pytest

from pipeline.cli.pending import pending

NAME = "T${item.temperature}_${item.seed}"
PIPELINE = {
    "stages": {
        "split": {"cmd": "split", "deps": ["data/raw"], "outs": ["data/index.csv"]},
        "soften": {
            "matrix": {"temperature": "${distill.temperatures}"},
            "cmd": "soften ${item.temperature}",
            "deps": ["code/soft"],
            "outs": ["soft_T${item.temperature}.h5"],
        },
        "train_student": {
            "matrix": {"temperature": "${distill.temperatures}", "seed": "${student.seeds}"},
            "cmd": "python -m pipeline train-student ${item.temperature} ${item.seed}",
            "deps": ["data/index.csv", "soft_T${item.temperature}.h5", "code/training", "stage.py"],
            "params": ["distill.weight", "student.model"],
            "outs": [f"{NAME}.keras", {f"{NAME}.csv": {"cache": False}}],
        },
        "train_baseline": {
            "matrix": {"seed": "${student.seeds}"},
            "cmd": "python -m pipeline train-baseline ${item.seed}",
            "deps": ["data/index.csv", "code/training"],
            "params": ["student.model"],
            "outs": ["base_${item.seed}.keras"],
        },
        "evaluate": {"cmd": "evaluate", "deps": ["base_1.keras", "code/training"], "outs": ["metrics.json"]},
    }
}  # fmt: skip
PARAMS = {"distill": {"temperatures": [4, 0.5], "weight": 0.3}, "student": {"seeds": [1, 2], "model": {"filters": [8]}}}
ALL = [
    "train_student@4-1", "train_student@4-2", "train_student@0.5-1", "train_student@0.5-2",
    "train_baseline@1", "train_baseline@2",
]  # fmt: skip
MD5_OF_BASE = ("stages", "train_baseline@2", "outs", 0, "md5")
OWN = Path("T4_1.keras")


def entry(deps, outs, params=None):
    noted = {
        kind: [{"path": path, "md5": md5} for path, md5 in of.items()] for kind, of in (("deps", deps), ("outs", outs))
    }
    return noted | ({"params": {"params.yaml": params}} if params else {})


def student(temperature, seed):
    deps = {"data/index.csv": "i1", f"soft_T{temperature}.h5": f"s{temperature}", "code/training": "c1", "stage.py": PY}
    name = f"T{temperature}_{seed}"
    return entry(
        deps, {f"{name}.keras": name, f"{name}.csv": name}, {"distill.weight": 0.3, "student.model": {"filters": [8]}}
    )


PY = "1a1dc91c907325c69271ddf0c944bc72"  # echo -n pass | md5sum
LOCK = {
    "stages": {
        "split": entry({"data/raw": "r1", "code/training": "c1"}, {"data/index.csv": "i1"}),
        **{f"soften@{t}": entry({"code/soft": "o1"}, {f"soft_T{t}.h5": f"s{t}"}) for t in (4, 0.5)},
        **{f"train_student@{t}-{s}": student(t, s) for t in (4, 0.5) for s in (1, 2)},
        **{
            f"train_baseline@{s}": entry(
                {"data/index.csv": "i1", "code/training": "c1"},
                {f"base_{s}.keras": f"b{s}"},
                {"student.model": {"filters": [8]}},
            )
            for s in (1, 2)
        },
        "evaluate": entry({"base_1.keras": "b1", "code/training": "old"}, {"metrics.json": "m"}),
    }
}


@pytest.fixture(autouse=True)
def _everything_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (out["path"] for stage in LOCK["stages"].values() for out in (*stage["outs"], *stage["deps"])):
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text("pass")


def named(pipeline=PIPELINE, params=PARAMS, lock=LOCK, own=OWN):
    return [stage.name for stage in pending(pipeline, params, lock, own)]


def changed(content, value, *path):
    copy = deepcopy(content)
    below = copy
    for key in path[:-1]:
        below = below[key]
    below[path[-1]] = value
    return copy


def noted_dep(name, number, md5):
    return changed(LOCK, md5, "stages", name, "deps", number, "md5")


def test_nothing_is_pending_if_all_are_as_dvc_noted_them():
    assert named() == []


def test_all_are_pending_in_a_project_without_trainings():
    """As in a fresh copy: the stages before the training have just run."""
    kept = {name: stage for name, stage in LOCK["stages"].items() if not name.startswith("train")}
    assert named(lock={"stages": kept}) == [name for name in ALL if name != "train_student@4-1"]
    assert named(lock={"stages": kept}, own=Path("base_2.keras")) == [
        name for name in ALL if name != "train_baseline@2"
    ]


def test_name_command_and_files_are_those_of_dvc():
    Path("T0.5_2.keras").unlink()
    (stage,) = pending(PIPELINE, PARAMS, LOCK, OWN)
    assert (stage.name, stage.command) == ("train_student@0.5-2", "python -m pipeline train-student 0.5 2")
    assert stage.outs == ["T0.5_2.keras", "T0.5_2.csv"]


def test_an_output_in_the_cache_of_dvc_is_not_made_again():
    Path("base_2.keras").unlink()
    assert named(lock=changed(LOCK, "ab12", *MD5_OF_BASE)) == ["train_baseline@2"]
    Path(".dvc/cache/files/md5/ab").mkdir(parents=True)
    Path(".dvc/cache/files/md5/ab/12").touch()
    assert named(lock=changed(LOCK, "ab12", *MD5_OF_BASE)) == []


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        (noted_dep("train_student@4-2", 0, "older"), ["train_student@4-2"]),  # another index
        (noted_dep("train_student@4-2", 1, "older"), ["train_student@4-2"]),  # other soft labels
        (noted_dep("train_student@4-2", 3, "older"), ["train_student@4-2"]),  # another stage.py
        (noted_dep("train_baseline@2", 1, "older"), ["train_baseline@2"]),  # code that an earlier stage depends on, too
        # Only trainings' own entries, or those of later stages, tell of this code: nothing is known of it.
        (changed(noted_dep("train_baseline@2", 1, "older"), [], "stages", "split", "deps"), []),
    ],
)
def test_what_depends_on_something_else_is_pending(lock, expected):
    assert named(lock=lock) == expected


def test_what_a_frozen_stage_depends_on_does_not_count():
    """A frozen teacher was made by old code, and DVC leaves it so; the trainings were made by today's."""
    old = noted_dep("split", 1, "old")
    assert len(named(lock=old)) == 5
    assert named(changed(PIPELINE, True, "stages", "split", "frozen"), lock=old) == []


def test_a_frozen_stage_of_old_code_is_ready():
    """DVC leaves it as it is, whatever a stage after it that is not frozen says of the code."""
    frozen = changed(PIPELINE, True, "stages", "split", "frozen")
    old = noted_dep("split", 1, "old")
    for temperature in (4, 0.5):
        old["stages"][f"soften@{temperature}"]["deps"].append({"path": "code/training", "md5": "c1"})
    new_weight = changed(PARAMS, 0.7, "distill", "weight")
    assert named(frozen, new_weight, old) == ALL[1:4]


def test_other_parameters_touch_those_that_declare_them():
    assert named(params=changed(PARAMS, 0.7, "distill", "weight")) == ALL[1:4]
    assert named(params=changed(PARAMS, {"filters": [9]}, "student", "model")) == ALL[1:]


def test_new_seeds_are_ready_but_new_temperatures_wait():
    more = changed(PARAMS, [1, 2, 3], "student", "seeds")
    assert named(params=more) == ["train_student@4-3", "train_student@0.5-3", "train_baseline@3"]
    assert named(params=changed(PARAMS, [4, 0.5, 8], "distill", "temperatures")) == []


def test_soft_labels_that_will_be_made_again_are_not_used():
    """Their stage has another input than before: its turn has not come yet."""
    stale = changed(LOCK, "older", "stages", "soften@0.5", "deps", 0, "md5")
    stale["stages"]["split"]["outs"].append({"path": "code/soft", "md5": "o1"})
    assert named(params=changed(PARAMS, 0.7, "distill", "weight"), lock=stale) == ["train_student@4-2"]


def test_frozen_trainings_are_left_alone():
    frozen = changed(PIPELINE, True, "stages", "train_baseline", "frozen")
    assert named(frozen, changed(PARAMS, {"filters": [9]}, "student", "model")) == ALL[1:4]


def test_a_matrix_may_list_its_values():
    listed = changed(PIPELINE, [2, 3], "stages", "train_baseline", "matrix", "seed")
    assert named(listed) == ["train_baseline@3"]
