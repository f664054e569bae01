"""The whole sweep of system 1, end to end on fewer images: with kept features, plain, and with the teacher in the loop.

    python -m benchmarks.sweep [--quick] [--images N] [--colon FOLDER] [--weights FILE] [--work FOLDER]

System 1 is presets/mhist.yaml: ResNet50V2 -> MobileNetV2, 224x224 pixels, 10 epochs frozen and 25 fine-tuned, 35 views,
six temperatures; here with three seeds, so 18 students and 3 baselines. Start, reading and tracing are in all times:

- ours: `dvc repro` with the defaults of params.yaml, first up to the soft labels, then for one seed after another. It
  keeps what leaves frozen layers, and trains at the same time what one training leaves room for.
- plain: trainings on hard labels alone, of the whole graph, with the same model, views and epochs, one after another,
  each a process. Six stand for all.
- keras Distiller: one temperature with all seeds. All temperatures cost the same, so the whole sweep is computed. Its
  baselines are plain.

Ours, plain and the Distiller take turns for each seed, so that a machine whose speed drifts slows all alike.

Images are made, or tiles of a folder in MHIST's layout (--colon). The student's backbone has random weights from a
file, which all seeds share as they would share ImageNet's, or those of --weights. With --work, the same command
continues a run that was killed, with the part that was cut off.

Goals: at most 0.4 of plain, and 0.1 of the Distiller. Twenty minutes on two cores for 64 images; --quick two.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.record import Record, arguments
from benchmarks.sweep_parts import Part, parts_of
from benchmarks.sweep_project import QUICK, Sweep, make_sweep, use_seeds
from benchmarks.sweep_tables import Measured, of_each_seed, of_the_sweep
from benchmarks.timed_parts import Taken, timed
from pipeline.runtime.digests import fingerprint, sha256_file

FEW = 32
"""Images of the quick sweep."""

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--images", {"type": int, "default": 128, "metavar": "N", "help": "Training images.  [default: 128]"}),
    ("--colon", {"type": Path, "metavar": "FOLDER", "help": "annotations.csv and images/, as MHIST has them."}),
    ("--weights", {"type": Path, "metavar": "FILE", "help": "Weights of the student's backbone, without its head."}),
    ("--work", {"type": Path, "metavar": "FOLDER", "help": "Keeps everything here.  [default: a temporary folder]"}),
]


def measured(project: Path, sweep: Sweep, tiles: Path | None, weights: Path | None) -> Measured:
    """Measures all parts of a sweep, or reads what earlier runs of the same command have measured."""
    params = make_sweep(project, sweep, tiles, weights)
    refuse_other(project)
    timed(project, "split", ["dvc", "repro", "split"])
    taken: dict[Part, Taken] = {}
    for part in parts_of(sweep.temperatures, sweep.seeds):
        use_seeds(project, part.seeds)
        taken[part] = timed(project, part.name, part.words)
    features = sum(file.stat().st_size for file in (project / ".work/features").rglob("*") if file.is_file())
    return Measured(sweep, sum(phase.epochs for phase in params.student.phases), taken, features)


def refuse_other(project: Path) -> None:
    """Notes what a project measures, and refuses to go on with times of other code or params.

    Raises:
        SystemExit: they are others.
    """
    note = project / "measures.json"
    files = sorted([*project.glob("pipeline/**/*.py"), project / "params.yaml", project / "dvc.yaml"])
    made_of = fingerprint(files={str(file.relative_to(project)): sha256_file(file) for file in files})
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) != made_of:
        raise SystemExit(f"{project} has times of other code or options. Remove it, or give another folder to --work.")
    note.write_text(json.dumps(made_of), encoding="utf-8")


def main() -> None:
    """Measures the sweeps, and writes the record."""
    options = arguments(__doc__, *OPTIONS)
    sweep = Sweep(FEW, (4,), (1,), QUICK) if options.quick else Sweep(options.images)
    with tempfile.TemporaryDirectory() as temporary:
        project = (options.work or Path(temporary)).resolve() / ("quick" if options.quick else "all")
        run = measured(project, sweep, options.colon, options.weights)
    record = Record("sweep", options)
    record.table(*of_the_sweep(run))
    record.table(*of_each_seed(run))
    record.keep(**run.as_json())
    record.write()


if __name__ == "__main__":
    main()
