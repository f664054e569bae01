"""Stage `train_teacher`: one large model or several, trained on the hard labels or given as files."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.images.index import Index, read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.models import keras_files
from pipeline.models.ensembles import refuse_other_sizes, save_ensemble
from pipeline.models.given_teacher import completed, refuse_missing
from pipeline.models.teacher_file import Average, GivenTeacher
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import ParameterError
from pipeline.runtime.publish import publish, replace_whole
from pipeline.runtime.workspace import forget_work_of_others, workspace
from pipeline.training import fit
from pipeline.training.fit import Trained
from pipeline.training.hard_labels import trained_on_hard_labels
from pipeline.training.recipe import Cache, TeacherToTrain

NO_CURVES = "epoch,phase,learning_rate\n"
"""The history of a teacher that was trained elsewhere."""


def run(
    *,
    index: Path,
    teachers: Sequence[TeacherToTrain | GivenTeacher],
    average: Average,
    output: Path,
    history: Path,
    resize: Resize = DEFAULT_RESIZE,
    cache: Cache = "memory",
) -> None:
    """Writes the teacher's `.keras` file and its training curves.

    Args:
        index: `data/index.csv`.
        teachers: one, or the members of an ensemble. What is trained of an ensemble stays in the work folder, so that
            a change of one member trains no other again.
        average: of an ensemble's members, as `ensembles.save_ensemble` takes it.
        output: the `.keras` file to write; a byte-identical copy of a `.keras` file that is given if nothing is stated
            of it and nothing must be changed.
        history: the CSV file to write, as `fit.Trained` has it; of an ensemble with the column `member` before.
        resize: how images are resized.
        cache: where decoded pixels are kept; changes no result.

    Raises:
        PipelineError: the index, a file or weights are missing or do not fit, or training diverged.
    """
    data = read_index(index)
    if len(teachers) == 1:
        with _ready(teachers[0], data, output, resize, cache) as result:
            result.publish(output, history)
        return
    _refuse_unlike(teachers, data)
    names = [fingerprint(**_named(teacher))[:16] for teacher in teachers]
    if len(set(names)) < len(names):
        raise ParameterError("two teachers of the ensemble are the same. Give them other seeds, or leave one out.")
    places = [output.with_name(f"{output.stem}_of_{name}{output.suffix}") for name in names]
    with ExitStack() as held:  # nobody removes the first member while the last is trained; what is finished stays
        in_one_order = sorted(zip(places, teachers, strict=True), key=lambda pair: pair[0])  # so nobody waits in a ring
        made = {
            place: held.enter_context(_ready(teacher, data, place, resize, cache)) for place, teacher in in_one_order
        }
        results = [made[place] for place in places]
        tables = [pd.read_csv(result.curves) for result in results]
        for number, table in enumerate(tables):
            table.insert(0, "member", number)
        with publish(history) as partial:
            pd.concat(tables).to_csv(partial, index=False, mode="x", lineterminator="\n")
        with publish(output) as partial:
            save_ensemble([result.model for result in results], average, data.class_names, partial)
    forget_work_of_others(places, str(output.with_name(f"{output.stem}_of_*{output.suffix}")))
    print(f"wrote {output} and {history}")


def _named(teacher: TeacherToTrain | GivenTeacher) -> dict[str, Any]:
    """What tells a teacher from others, JSON-serialisable."""
    if isinstance(teacher, GivenTeacher):
        stated = asdict(teacher)
        del stated["model"]  # its content counts, and not its name
        refuse_missing(teacher.file)
        return stated | {"file": sha256_file(teacher.file)}
    return asdict(teacher)


def _refuse_unlike(teachers: Sequence[TeacherToTrain | GivenTeacher], data: Index) -> None:
    """Finds what would make an ensemble impossible before its first member is trained."""
    shapes: list[tuple[int, ...]] = []
    for teacher in teachers:
        described = teacher.model if isinstance(teacher, TeacherToTrain) else teacher.weights_of
        if described is not None:
            shapes.append(tuple(described.input_shape))
        elif isinstance(teacher, GivenTeacher):
            shapes.append(completed(teacher, data.class_names).model.input_shape[1:])
    refuse_other_sizes(shapes)


@contextmanager
def _ready(
    teacher: TeacherToTrain | GivenTeacher, data: Index, output: Path, resize: Resize, cache: Cache
) -> Iterator[Trained]:
    """One teacher, trained, in the work folder of `output`."""
    if isinstance(teacher, GivenTeacher):
        with workspace(output, packages=fit.PACKAGES, class_names=data.class_names, **_named(teacher)) as work:
            yield _given(teacher, data, work)
        return
    with trained_on_hard_labels(
        data,
        model=teacher.model,
        recipe=teacher.recipe,
        augmentation=teacher.augmentation,
        view_seed=teacher.recipe.seed,
        view_count=None,
        resize=resize,
        cache=cache,
        output=output,
    ) as result:
        yield result


def _given(teacher: GivenTeacher, data: Index, work: Path) -> Trained:
    """Checks a given teacher, and copies it, with what is stated of it."""
    result = Trained(work / "finished.keras", work / "finished.csv")
    found = completed(teacher, data.class_names)
    if found.record is None and teacher.weights_of is None:
        with replace_whole(result.model) as partial:
            shutil.copyfile(teacher.file, partial)
    else:
        keras_files.save(found.model, result.model, found.record)
    with replace_whole(result.curves) as partial:
        partial.write_text(NO_CURVES, encoding="utf-8")
    as_it_is = " as it is" if not found.notes else ""
    print("; ".join([f"{teacher.file} is taken{as_it_is}: nothing is trained", *found.notes]))
    return result
