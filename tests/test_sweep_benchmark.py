"""`benchmarks.sweep`: what it runs, how it goes on after a kill, and its sums; nothing is timed here."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import record as benchmark_record
from benchmarks import sweep, sweep_project, sweep_tables, timed_parts
from benchmarks.projects import write_params
from benchmarks.sweep_parts import DISTILLER, LABELS, OURS, PLAIN, parts_of
from benchmarks.sweep_project import QUICK, Sweep, place_images
from benchmarks.timed_parts import Taken, timed
from pipeline.params.reading import read_params, read_yaml
from pipeline.runtime.errors import DamagedError

ROOT = Path(__file__).parents[1]

# What is run


def test_plain_and_online_ones_stand_in_the_turn_of_their_seed():
    """6 temperatures and 3 seeds: the labels, and for each seed one run of dvc, two plain trainings, one online."""
    labels, *turns = parts_of((1, 2, 4, 16, 32, 64), (1, 2, 3))
    assert (labels.kind, labels.words) == (LABELS, ("dvc", "repro", "soften"))
    orders = []
    for number, seed in enumerate((1, 2, 3)):
        turn = turns[4 * number : 4 * number + 4]
        assert sorted(part.kind for part in turn) == [DISTILLER, OURS, PLAIN, PLAIN]
        assert {part.seeds for part in turn} == {(1, 2, 3)[: number + 1]}
        for part in turn:
            if part.kind == OURS:
                assert part.words == ("dvc", "repro")
            else:
                assert part.words[part.words.index("--seed") + 1] == str(seed)
        orders.append([part.kind for part in turn])
    assert len({str(order) for order in orders}) > 1  # no kind always comes first
    assert len({part.name for part in [labels, *turns]}) == 13


def test_dvc_runs_what_the_sweep_needs_and_nothing_else(tmp_path):
    """One line of the stages' own file for each; what it says is theirs."""
    sweep_project.make_project(tmp_path)
    sweep_project._keep_stages(tmp_path / "dvc.yaml")
    kept, whole = (read_yaml(folder / "dvc.yaml", DamagedError)["stages"] for folder in (tmp_path, ROOT))
    assert [*kept] == ["split", "precompute", "soften", "train_student", "train_baseline"]
    assert all(kept[name] == whole[name] for name in kept)


def test_seeds_are_added_to_the_params(tmp_path):
    write_params("mhist", Sweep(128).params("backbone.weights.h5"), tmp_path / "params.yaml")
    before = read_params(tmp_path / "params.yaml")
    sweep_project.use_seeds(tmp_path, (1, 2))
    after = read_params(tmp_path / "params.yaml")
    assert (before.student.seeds, after.student.seeds) == ([1, 2, 3], [1, 2])
    assert vars(after.student) | {"seeds": [1, 2, 3]} == vars(before.student)
    assert after.views == before.views


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


SECONDS = {LABELS: (60, 30), OURS: (90, 150), PLAIN: (100, 160), DISTILLER: (600, 1100)}
"""Of a part of each kind, on the clock and of the processor, with the first seed; with the second, twice as many."""


def measured(images: int) -> sweep_tables.Measured:
    """Two temperatures and two seeds: 4 students and 2 baselines."""
    parts = parts_of((1, 4), (1, 2))
    taken = {part: Taken(*(float(part.seed * seconds) for seconds in SECONDS[part.kind])) for part in parts}
    return sweep_tables.Measured(Sweep(images, (1, 4), (1, 2)), 35, taken, 10**6)


def test_sums_of_a_sweep_by_hand():
    """Ours: 60 + 90 + 180 = 330 s, of the processor 30 + 150 + 300 = 480; plain: 6 x 150 s and 6 x 240 s.

    The Distiller: 4 x 900 s, and 2 baselines of 150 s.
    """
    _, header, rows = sweep_tables.of_the_sweep(measured(128))
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    ours = found["ours, all"]
    plain = found["plain trainings (4 of them measured)"]
    online = found["keras Distiller (2 measured) and baselines"]
    assert (ours["minutes"], ours["of processor time"], ours["trainings"]) == ("5.50", "8.00", "6")
    assert (ours["minutes, of plain"], ours["of the Distiller"], ours["of plain's"]) == ("0.367", "0.085", "0.333")
    assert found["ours: students and baselines"]["minutes, of plain"] == "0.300"
    assert (plain["minutes"], plain["minutes, of plain"], plain["trainings"]) == ("15.00", "1.000", "6")
    assert (online["minutes"], online["trainings"]) == ("65.00", "6")
    assert ours["images through the teacher"] == f"{128 * 35 + 23 + 2:,}"
    assert online["images through the teacher"] == f"{4 * 35 * (128 + 23):,}"


def test_a_training_of_each_seed_by_hand():
    """90 s for three trainings are 30 s each, beside 100 s; with the second seed, twice as much of everything."""
    _, header, rows = sweep_tables.of_each_seed(measured(128))
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["seed"] for row in found] == ["1, which keeps the features", "2"]
    assert [row["ours, 3 by one `dvc repro`"] for row in found] == ["30.0 (50.0)", "60.0 (100.0)"]
    assert [row["plain"] for row in found] == ["100.0 (160.0)", "200.0 (320.0)"]
    assert [row["keras Distiller"] for row in found] == ["600.0 (1100.0)", "1200.0 (2200.0)"]
    assert {row["ours, of plain"] for row in found} == {"0.300 (0.312)"}


def test_the_record_holds_the_sweep_and_its_tables(tmp_path, monkeypatch):
    """The whole command with times that are made up: a process of each image takes a second, and 10 seconds more."""
    monkeypatch.setattr(benchmark_record, "commit", lambda: "")
    ran, seeds = [], []

    def made(project, which, tiles, weights):
        assert (tiles, weights) == (None, None)
        project.mkdir(parents=True)
        write_params("mhist", which.params("backbone.weights.h5"), project / "params.yaml")
        (project / "dvc.yaml").touch()
        (project / "images").write_text(str(which.images))
        return read_params(project / "params.yaml")

    def took(project, name, words):
        ran.append((project.name, name))
        seeds.append(read_params(project / "params.yaml").student.seeds)
        seconds = 10.0 + int((project / "images").read_text())
        return Taken(seconds, seconds)

    monkeypatch.setattr(sweep, "make_sweep", made)
    monkeypatch.setattr(sweep, "timed", took)
    output = tmp_path / "sweep.json"
    command = ["sweep", "--images", "64", "--work", str(tmp_path / "work"), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", command)
    sweep.main()
    record = json.loads(output.read_text())
    whole = 1 + 1 + 3 * 4  # split, the labels, and for each seed ours, two plain ones, and the Distiller
    assert [folder for folder, _ in ran] == ["all"] * whole
    assert seeds[1:] == [[1]] * 5 + [[1, 2]] * 4 + [[1, 2, 3]] * 4
    assert record["command"] == "python -m benchmarks.sweep --images 64"
    plain = dict(zip(record["tables"][0]["header"], record["tables"][0]["rows"][3], strict=True))
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
