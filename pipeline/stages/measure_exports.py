"""Stage `measure_exports`: times the exported files on this machine, beside the teacher."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.evaluation.description import read_description
from pipeline.evaluation.exports import ExportSpeed, read_export, write_export_speed
from pipeline.evaluation.names import TEACHER
from pipeline.runtime.cores import usable_threads
from pipeline.runtime.devices import processor
from pipeline.timing.rounds import times_of
from pipeline.timing.subjects import Subject

BATCH_SIZE = 32


def run(*, exported: Sequence[str], exports: Path, files: Path, teacher: Path, output: Path) -> None:
    """Times every file of every export in its own runtime, on the processor.

    The teacher computes in Keras, with random weights, since its speed does not depend on them; one that is no network
    of Keras' layers is left out. Without exports nothing is measured.

    Args:
        exported: `export.students`.
        exports: the folder of the exports' numbers, which name the files.
        files: the folder of the exported files, with a folder for each export.
        teacher: the teacher's description.
        output: the JSON file to write.

    Raises:
        MissingError: a file is missing.
        DamagedError: a file cannot be read.
        UnusableError: a file cannot be run.
        MismatchError: it is another file than the one whose numbers are there.
    """
    groups = [
        {
            f"{item}/{name}": Subject(files / item / name, of_file["digest"])
            for name, of_file in read_export(exports, item).files.items()
        }
        for item in exported
    ]
    if not groups:
        write_export_speed(ExportSpeed(), output)
        print(f"wrote {output}: params.yaml exports no student (export.students)")
        return
    beside = {} if read_description(teacher).architecture is None else {TEACHER.key: Subject(teacher)}
    cores = usable_threads()
    times = times_of(groups, beside, BATCH_SIZE, cores)
    write_export_speed(ExportSpeed(processor(), datetime.now(UTC).date().isoformat(), cores, BATCH_SIZE, times), output)
    print(f"wrote {output}")
