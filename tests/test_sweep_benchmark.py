"""`benchmarks.sweep`: what it runs, how it goes on after a kill, and its sums; nothing is timed here."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import record as benchmark_record
from benchmarks import sweep, sweep_tables, timed_parts
from benchmarks.projects import write_params
from benchmarks.sweep_parts import DISTILLER, FIRST, OURS, PLAIN, parts_of
from benchmarks.sweep_project import QUICK, Sweep, place_images
from benchmarks.timed_parts import Taken, timed
from pipeline.params.reading import read_params, read_yaml
from pipeline.runtime.errors import DamagedError

ROOT = Path(__file__).parents[1]

# What is run


def commands_of_dvc(stage: str, **items: object) -> list[tuple[str, ...]]:
    """The commands of a stage for all values of its matrix, as dvc.yaml has them."""
    command = read_yaml(ROOT / "dvc.yaml", DamagedError)["stages"][stage]["cmd"]
    found = []
    for values in product(*items.values()):
        written = command
        for name, value in zip(items, values, strict=True):
            written = written.replace(f"${{item.{name}}}", str(value))
        found.append(tuple(written.removeprefix("python -m ").split()))
    return found


def test_ours_runs_the_commands_that_dvc_runs():
    parts = parts_of((1, 16), (1, 2, 3), "kl")
    expected = [
        *commands_of_dvc("precompute"),
        *commands_of_dvc("soften", temperature=(1, 16)),
        *commands_of_dvc("train_student", temperature=(1, 16), seed=(1, 2, 3), loss=("kl",)),
        *commands_of_dvc("train_baseline", seed=(1, 2, 3)),
    ]
    assert [part.words for part in parts if part.kind in OURS] == expected
    assert len({part.name for part in parts}) == len(parts)


def test_plain_trainings_stand_beside_ours_of_their_seed():
    """6 temperatures and 3 seeds: 21 trainings, 6 plain ones, and 3 of the Distiller."""
    parts = parts_of((1, 2, 4, 16, 32, 64), (1, 2, 3), "kl")
    trainings = [part for part in parts if part.words[1] not in ("precompute", "soften")]
    assert len(trainings) == 21 + 6 + 3
    without = [part for part in trainings if part.kind != DISTILLER]
    ours = [part for part in without if part.kind != PLAIN]
    is_first = []
    for plain in (part for part in without if part.kind == PLAIN):
        training = ours[int(plain.name.removeprefix("plain")) - 1]
        assert abs(without.index(plain) - without.index(training)) == 1
        assert len({part.words[part.words.index("--seed") + 1] for part in (plain, training)}) == 1
        is_first.append(without.index(plain) < without.index(training))
    assert set(is_first) == {True, False}  # neither always comes first
    places = [number for number, part in enumerate(trainings) if part.kind == DISTILLER]
    assert [place // 10 for place in places] == [0, 1, 2]
    assert [part.kind for part in parts].count(FIRST) == 1


def test_its_params_are_those_of_system_1(tmp_path):
    write_params("mhist", Sweep(128).params("backbone.weights.h5"), tmp_path / "params.yaml")
    made, preset = read_params(tmp_path / "params.yaml"), read_params(ROOT / "presets/mhist.yaml")
    assert made.student.phases == preset.student.phases
    assert [phase.epochs for phase in made.student.phases] == [10, 25]
    assert (made.views, made.precompute) == (preset.views, preset.precompute)
    assert made.distill.temperatures == preset.distill.temperatures
    assert made.student.model == replace(preset.student.model, weights="backbone.weights.h5")
    assert (made.student.batch_size, made.student.seeds) == (32, [1, 2, 3])
    assert made.train_teacher.model == replace(preset.train_teacher.model, weights=None)


def test_the_quick_sweep_can_be_read(tmp_path):
    write_params("mhist", Sweep(32, (4,), (1,), QUICK).params("weights.h5"), tmp_path / "params.yaml")
    made = read_params(tmp_path / "params.yaml")
    assert sum(phase.epochs for phase in made.student.phases) == made.views.count == 3


def test_images_are_placed_by_split_and_class(tmp_path):
    files = {name: [tmp_path / f"{name}{number}.png" for number in range(6)] for name in ("HP", "SSA")}
    for file in [*files["HP"], *files["SSA"]]:
        file.write_text(file.stem)
    place_images(tmp_path / "data", {"train": 7, "val": 2, "test": 2}, files)
    placed = {path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png")}
    train = {f"train/HP/HP{number}.png" for number in range(4)} | {f"train/SSA/SSA{number}.png" for number in range(3)}
    assert placed == train | {"val/HP/HP4.png", "val/SSA/SSA3.png", "test/HP/HP5.png", "test/SSA/SSA4.png"}
    assert (tmp_path / "data/val/HP/HP4.png").read_text() == "HP4"
    with pytest.raises(SystemExit, match="13 images are needed, and the class HP has too few"):
        place_images(tmp_path / "more", {"train": 13, "val": 0, "test": 0}, files)


def test_the_splits_have_the_share_of_the_preset():
    """MHIST: 15 % of 2,175 are 326, beside 1,849."""
    assert Sweep(1849).counts == {"train": 1849, "val": 326, "test": 2}
    assert Sweep(128).counts["val"] == 23


# A process for each part


@pytest.fixture
def project(tmp_path):
    """A folder with a module that notes what it finds, leaves a file, and then does what its argument says."""
    (tmp_path / "part.py").write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "with Path(sys.argv[1]).open('a') as log: log.write(f'{Path(\"work.txt\").exists()} ')\n"
        "Path('work.txt').write_text('half')\n"
        "if sys.argv[2] == 'wait': time.sleep(60)\n"
        "if sys.argv[2] == 'fail': sys.exit('the disk is full')\n"
    )
    return tmp_path


@pytest.mark.slow
def test_a_part_that_has_ended_is_not_run_again(project, tmp_path_factory):
    log = str(tmp_path_factory.mktemp("log") / "log")
    first = timed(project, "one", ["part", log, "end"])
    assert first.processor > 0
    assert first.seconds > 0
    assert timed(project, "one", ["part", log, "end"]) == first
    assert Path(log).read_text() == "False "


@pytest.mark.slow
def test_a_part_that_was_killed_begins_anew(project, tmp_path_factory, capfd):
    """The whole benchmark is killed; its process lives on, and is refused until it is ended."""
    log = tmp_path_factory.mktemp("log") / "log"
    (project / "kept.txt").write_text("of a part that has ended")
    call = f"import pathlib; from benchmarks.timed_parts import timed; timed(pathlib.Path({str(project)!r}), 'one', "
    with subprocess.Popen([sys.executable, "-c", f"{call}['part', {str(log)!r}, 'wait'])"], cwd=ROOT) as benchmark:
        while not (project / "work.txt").exists():
            time.sleep(0.05)
        benchmark.kill()
    note = json.loads((project / "times/one.begun").read_text())["process"]
    with pytest.raises(SystemExit, match=f"process {note['number']}.*still running. End it first"):
        timed(project, "one", ["part", str(log), "end"])
    os.kill(note["number"], signal.SIGKILL)
    while timed_parts._lives(**note):
        time.sleep(0.05)
    timed(project, "one", ["part", str(log), "end"])
    assert log.read_text() == "False False "
    assert (project / "kept.txt").is_file()
    assert (project / "times/one.json").is_file()


@pytest.mark.slow
def test_a_part_that_fails_shows_what_it_said(project, tmp_path_factory):
    log = str(tmp_path_factory.mktemp("log") / "log")
    with pytest.raises(SystemExit, match=r"part .* fail` failed in .*\nthe disk is full"):
        timed(project, "one", ["part", log, "fail"])
    assert not (project / "times/one.json").exists()


def test_times_of_other_code_are_refused(tmp_path):
    (tmp_path / "pipeline").mkdir()
    for name in ("pipeline/module.py", "params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text("1")
    sweep.refuse_other(tmp_path)
    sweep.refuse_other(tmp_path)
    (tmp_path / "pipeline/module.py").write_text("2")
    with pytest.raises(SystemExit, match="times of other code or options"):
        sweep.refuse_other(tmp_path)


# Sums


def measured(images: int, slower: float = 1.0) -> sweep_tables.Measured:
    """Two temperatures and one seed: 2 students, 1 baseline, 3 plain ones, 1 of the Distiller."""
    seconds = {"precompute": 60, "soften": 6, "first student": 90, "student": 30, "baseline": 30, "plain": 100}
    parts = parts_of((1, 4), (1,), "kl")
    taken = {
        part: Taken(slower * seconds.get(part.kind, 600.0), 2 * slower * seconds.get(part.kind, 600.0))
        for part in parts
    }
    return sweep_tables.Measured(Sweep(images, (1, 4), (1,)), 35, taken, 10**6)


def test_sums_of_a_sweep_by_hand():
    """Ours: 60 + 2 x 6 + 90 + 30 + 30 = 222 s; plain: 3 x 100 s; the Distiller: 600 s for each of two temperatures."""
    _, header, rows = sweep_tables.of_the_sweep(measured(128))
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    ours, online = found["ours, all"], found["keras Distiller (1 of them measured)"]
    assert (ours["minutes"], ours["of processor time"], ours["processes"]) == ("3.70", "7.40", "6")
    assert (ours["of plain"], ours["of the Distiller"]) == ("0.740", "0.185")
    assert (online["processes"], online["minutes"]) == ("2", "20.00")
    assert found["plain trainings (3 of them measured)"]["minutes"] == "5.00"
    assert sweep_tables.as_many([Taken(10.0, 20.0)] * 6, 21) == sweep_tables.Total(21, 210.0, 420.0)
    assert ours["images through the teacher"] == f"{128 * 35 + 23 + 2:,}"
    assert online["images through the teacher"] == f"{2 * 35 * (128 + 23):,}"


def test_each_training_is_compared_with_the_one_beside_it():
    """90, 30 and 30 s beside 100 s each: the median is 0.3."""
    _, _, rows = sweep_tables.of_one_training(measured(128))
    assert rows[-1][3].startswith("0.300 (0.300 to 0.600)")


def test_the_record_holds_the_sweep_and_its_tables(tmp_path, monkeypatch):
    """The whole command with times that are made up: a process of each image takes a second, and 10 seconds more."""
    monkeypatch.setattr(benchmark_record, "commit", lambda: "")
    ran = []

    def made(project, which, tiles, weights):
        assert (tiles, weights) == (None, None)
        project.mkdir(parents=True)
        write_params("mhist", which.params("backbone.weights.h5"), project / "params.yaml")
        (project / "dvc.yaml").touch()
        (project / "images").write_text(str(which.images))
        return read_params(project / "params.yaml")

    def took(project, name, words):
        ran.append((project.name, name))
        seconds = 10.0 + int((project / "images").read_text())
        return Taken(seconds, seconds)

    monkeypatch.setattr(sweep, "make_sweep", made)
    monkeypatch.setattr(sweep, "timed", took)
    output = tmp_path / "sweep.json"
    command = ["sweep", "--images", "64", "--work", str(tmp_path / "work"), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", command)
    sweep.main()
    record = json.loads(output.read_text())
    whole = 1 + 1 + 6 + 21 + 6 + 3  # split, precompute, soften, trainings, the plain ones, and the Distiller
    assert [folder for folder, _ in ran] == ["all"] * whole
    assert record["command"] == "python -m benchmarks.sweep --images 64"
    plain = dict(zip(record["tables"][0]["header"], record["tables"][0]["rows"][5], strict=True))
    assert plain["minutes"] == f"{21 * (10 + 64) / 60:.2f}"
    assert len(record["tables"]) == 2
    assert record["measured"]["counts"] == {"train": 64, "val": 11, "test": 2}


@pytest.mark.slow
def test_plain_training_is_that_of_the_baseline(tmp_path):
    """From the same weights, on the same batches: two phases lead to the weights of the stage's own training."""
    from benchmarks.epochs import MEMORY, data_of
    from benchmarks.variants import PLAIN as OF_PAIR
    from benchmarks.variants import Pair, plain
    from benchmarks.whole_graph import fit_phases
    from pipeline.training import fit
    from pipeline.training.hard_loss import HardLoss
    from pipeline.training.state import TrainingState

    pair = Pair("params.yaml", classes=10)
    phases = [replace(pair.recipe.phases[0], epochs=epochs, learning_rate=0.01) for epochs in (1, 1)]
    recipe = replace(pair.recipe, phases=phases, batch_size=8)
    ours, theirs = (pair.described_student.build(classes=10, seed=1) for _ in range(2))
    with data_of(pair, None, 20) as data:
        examples = data.examples(MEMORY, OF_PAIR)
        last = TrainingState(tmp_path / "state.npz")
        fit.train(ours, examples, examples, HardLoss(), recipe, last)
        fit_phases(theirs, examples, examples, recipe, plain)
    for number, weights in enumerate(theirs.get_weights()):
        np.testing.assert_allclose(weights, last.arrays[f"weight{number}"], rtol=1e-4, atol=1e-5)
