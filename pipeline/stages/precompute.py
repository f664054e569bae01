"""Stage `precompute`: the teacher's one pass, which keeps its logits of each view of each image in a file."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cluster.engine import ray_engine
from pipeline.cluster.settings import Cluster
from pipeline.cluster.worker import Order
from pipeline.images.index import SPLITS, Index, read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize, preprocessing
from pipeline.images.views import Views
from pipeline.models.ensembles import LoadedTeacher, Teacher, average_of
from pipeline.models.onnx_layer import runtimes
from pipeline.models.teacher_file import Average
from pipeline.runtime.devices import hide_gpus, numerics
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.publish import publish_copy
from pipeline.runtime.workspace import earlier_finished, forget_work_of_others, workspace
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import damage
from pipeline.soft_labels.reading import Precision, Provenance, open_logits, slabs
from pipeline.soft_labels.writing import rows_of_index
from pipeline.teacher_pass.compared import UnchangedSplits
from pipeline.teacher_pass.earlier_logits import open_earlier
from pipeline.teacher_pass.given_answers import refuse_unanswered
from pipeline.teacher_pass.labellers import Labellers, labellers_here
from pipeline.teacher_pass.labelling import TeacherPass
from pipeline.teacher_pass.precision import load_in_precision
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

CODE = ("stages/precompute.py", "cluster", "images", "inference", "models", "runtime", "soft_labels", "teacher_pass")
"""The code that decides the logits."""

LabellersOf = Callable[[Teacher], Labellers]
"""What gives the logits of a teacher, or of a member of an ensemble."""


def run(
    *,
    index: Path,
    teacher: Path,
    views: Views,
    stored_as: logit_storage.Storage,
    batch_size: int,
    precision: Precision = "float32",
    resize: Resize = DEFAULT_RESIZE,
    previous: Sequence[Path],
    output: Path,
    largest_temperature: float = 1.0,
    cluster: Cluster | None = None,
) -> None:
    """Writes `teacher_logits.h5`: the logits of V views of each training image, and of each other image untouched.

    The logits of an ensemble's members are kept in the work folder, each under its member's fingerprint. So if one
    member changes, those of the others are not computed again.

    Args:
        index: `data/index.csv`.
        teacher: the `.keras` file of the teacher.
        views: the views of the training images.
        stored_as: how the logits are stored.
        batch_size: images in one forward pass.
        precision: "float32" means as the teacher's file says; or "mixed_float16" or "mixed_bfloat16".
        resize: how images are resized.
        previous: earlier versions of the output. Their rows are used if they still hold.
        output: the file to write.
        largest_temperature: the largest one of the students; it words a warning and changes no byte of the output.
        cluster: the Ray cluster whose workers run the teacher; None runs it in this process. The bytes are the same on
            machines of one kind.

    Raises:
        MissingError: the index, the teacher, Ray or its cluster is missing.
        DamagedError: one of them cannot be read.
        MismatchError: the teacher has other classes, or is less accurate than its file says; or images have changed.
        ParameterError: `stored_as` keeps more classes than there are, or mixed precision is wanted of an ONNX graph.
        UnusableError: the teacher's outputs are no usable logits.
    """
    if cluster is not None:
        hide_gpus()  # they are the workers'
    data = read_index(index)
    loaded = load_in_precision(teacher, data.class_names, precision)
    teachers, average = loaded.members, loaded.average
    refuse_unanswered(teachers, data, views, resize)
    files = UnchangedSplits(data)
    if views.advice:
        print(views.advice, file=sys.stderr)
    stored_as.columns(len(data.class_names))  # refuses a k that is too large
    provenance = Provenance(
        class_names=tuple(data.class_names),
        teacher=loaded.name,
        teacher_sha256=sha256_file(teacher),
        dataset=data.fingerprint(),
        preprocessing=_pixels(loaded, resize),
        batch_size=batch_size,
        views=views.as_json(),
        storage=stored_as.as_json(),
        precision=None if precision == "float32" else precision,
    )
    with _engine(cluster, teacher, data, provenance, precision, resize) as engine:

        def labellers_of(member: Teacher) -> Labellers:
            return engine(member) if member.answers is not None else files.compared(engine(member))

        if average is None:
            work = _logits_of(teachers[0], labellers_of, data, provenance, previous, output, largest_temperature)
            with work as finished:
                publish_copy(finished, output)
        else:
            _ensemble(teachers, labellers_of, average, data, provenance, output, largest_temperature)
    print(f"wrote {output}")


@contextmanager
def _engine(
    cluster: Cluster | None,
    teacher: Path,
    data: Index,
    provenance: Provenance,
    precision: Precision,
    resize: Resize,
) -> Iterator[LabellersOf]:
    """What labels for a teacher: this process, or the workers of a cluster."""
    if cluster is None:
        yield lambda member: labellers_here(member, provenance.batch_size, data, resize)
        return
    order = Order(
        folder=str(Path.cwd()),
        teacher=str(teacher),
        teacher_sha256=provenance.teacher_sha256,
        class_names=provenance.class_names,
        batch_size=provenance.batch_size,
        precision=precision,
        resize=resize,
        threads=cluster.cpus_per_worker,
        gpus=cluster.gpus_per_worker,
    )
    with ray_engine(order, cluster, data) as engine:
        yield engine.labellers


def _pixels(teacher: LoadedTeacher, resize: Resize) -> dict[str, Any] | None:
    """The pixels that a teacher saw, as soft-label files note them; None if they are not known."""
    if teacher.input_shape is not None:
        return preprocessing(teacher.input_shape, resize)
    shown = [member.answers.pixels for member in teacher.members if member.answers is not None]
    return shown[0] if all(pixels == shown[0] for pixels in shown) else None


@contextmanager
def _logits_of(
    teacher: Teacher,
    labellers_of: LabellersOf,
    data: Index,
    provenance: Provenance,
    previous: Sequence[Path],
    output: Path,
    largest_temperature: float,
) -> Iterator[Path]:
    """The finished logits of one teacher, in the work folder of `output`."""
    views = Views.from_json(provenance.views)
    previous = [*previous, *earlier_finished(output)]
    numbers = [*numerics(), *runtimes(teacher.model)]
    with workspace(output, code=CODE, provenance=asdict(provenance), numerics=numbers) as folder:
        finished = folder / "finished.h5"
        if not finished.is_file() or damage(finished):
            unfinished = UnfinishedLogits(folder, provenance, rows_of_index(data))
            with unfinished, open_earlier(previous, provenance) as before:
                batch_size = provenance.batch_size
                labellers = labellers_of(teacher)
                work = TeacherPass(data, teacher, labellers, batch_size, unfinished, views, largest_temperature)
                work.run(before)
            unfinished.finish(finished)
        else:
            print(f"precompute: computed before, and kept in {folder}", file=sys.stderr, flush=True)
        yield finished


def _ensemble(
    teachers: Sequence[Teacher],
    labellers_of: LabellersOf,
    average: Average,
    data: Index,
    provenance: Provenance,
    output: Path,
    largest_temperature: float,
) -> None:
    """Writes the logits of each member in float32, then their average."""
    places = [output.with_name(f"{output.stem}_of_{teacher.sha256[:16]}{output.suffix}") for teacher in teachers]
    members = [{"teacher": teacher.name, "teacher_sha256": teacher.sha256} for teacher in teachers]
    ensemble = replace(provenance, ensemble={"average": average, "members": members})
    with ExitStack() as held:  # holds every work folder, so that no other process removes finished logits
        files = {}
        # Sorted, so that two runs with the same members do not wait for each other's locks.
        for place, teacher in sorted(zip(places, teachers, strict=True), key=lambda pair: pair[0]):
            print(f"precompute: {teacher.described}", file=sys.stderr)
            in_full = logit_storage.Dense("float32").as_json()
            own = replace(provenance, teacher=teacher.name, teacher_sha256=teacher.sha256, storage=in_full)
            if place not in files:
                files[place] = held.enter_context(
                    _logits_of(teacher, labellers_of, data, own, [], place, largest_temperature)
                )
        folder = held.enter_context(workspace(output, code=CODE, provenance=asdict(ensemble), numerics=numerics()))
        finished = folder / "finished.h5"
        unfinished = UnfinishedLogits(folder, ensemble, rows_of_index(data))
        with unfinished:
            _average([files[place] for place in places], average, unfinished)
        unfinished.finish(finished)
        publish_copy(finished, output)
    forget_work_of_others(places, str(output.with_name(f"{output.stem}_of_*{output.suffix}")))


def _average(files: Sequence[Path], average: Average, unfinished: UnfinishedLogits) -> None:
    with ExitStack() as stack:
        members = [stack.enter_context(open_logits(file)) for file in files]
        for split in SPLITS:
            views, count = unfinished.missing(split).shape
            for view in range(views):
                for part in slabs(count):
                    logits = np.stack([member.columns(split, view, part)["logits"] for member in members])
                    rows = np.arange(part.start, part.stop)
                    columns = unfinished.encode(average_of(logits, average))
                    unfinished.put(split, np.full(len(rows), view), rows, columns)
