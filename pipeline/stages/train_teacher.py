"""Stage `train_teacher`: trains the teacher, one large model or several, on the hard labels, or takes what is given."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from pipeline.images.index import Index, read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.votes import ANNOTATORS, counted_class, logits_of_votes
from pipeline.models import hub, keras_files
from pipeline.models.ensembles import refuse_other_sizes, save_ensemble
from pipeline.models.given_logits import refuse_missing_table, taken_in
from pipeline.models.given_teacher import completed, digest_of
from pipeline.models.stored_answers import StoredAnswers
from pipeline.models.teacher_file import Annotators, Average, GivenLogits, GivenTeacher, NotTrainedHere
from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import ParameterError, UnusableError, all_named
from pipeline.runtime.publish import publish, replace_whole
from pipeline.runtime.workspace import forget_work_of_others, workspace
from pipeline.training import fit
from pipeline.training.fit import Trained
from pipeline.training.hard_labels import trained_on_hard_labels
from pipeline.training.kept_features import ALONE, FrozenCache
from pipeline.training.recipe import Cache, TeacherToTrain

CODE = ("stages/train_teacher.py", *fit.PACKAGES)
"""The code that decides what a teacher learns."""

GIVEN_LOGITS, VOTES = "given_logits", "votes"
"""The names of teachers without a model."""

NO_CURVES = "epoch,phase,learning_rate\n"
"""The history of a teacher that was trained elsewhere."""


def run(
    *,
    index: Path,
    teachers: Sequence[TeacherToTrain | NotTrainedHere],
    average: Average,
    output: Path,
    history: Path,
    resize: Resize = DEFAULT_RESIZE,
    cache: Cache = "memory",
    cache_frozen: FrozenCache = ALONE,
) -> None:
    """Writes the teacher's `.keras` file and its training curves.

    Args:
        index: `data/index.csv`.
        teachers: one teacher, or the members of an ensemble. Trained members stay in the work folder, so that a change
            of one member does not train the others again.
        average: what is averaged of an ensemble's members, as `ensembles.save_ensemble` takes it.
        output: the `.keras` file to write. If params.yaml states nothing of a given `.keras` file and nothing in it
            must be changed, this is a byte-identical copy.
        history: the CSV file to write, as `fit.Trained` has it; for an ensemble, `member` is its first column.
        resize: how images are resized.
        cache: where decoded pixels are kept; changes no result.
        cache_frozen: how what leaves frozen layers is kept; changes no result.

    Raises:
        MissingError: the index, a file or weights are missing.
        DamagedError: one of them cannot be read.
        MismatchError: a given teacher has other classes than the data set, or weights do not fit their model.
        ParameterError: what is stated of a given teacher does not fit it, two members are the same, or training
            diverged.
        UnusableError: a given teacher is no classifier of images that ends in logits, or there are no votes.
    """
    data = read_index(index)
    if len(teachers) == 1:
        with _ready(teachers[0], data, output, resize, cache, cache_frozen) as result:
            result.publish(output, history)
        return
    _refuse_unlike(teachers, data)
    names = [fingerprint(**_named(teacher, data))[:16] for teacher in teachers]
    if len(set(names)) < len(names):
        raise ParameterError("two teachers of the ensemble are the same. Give them different seeds, or remove one.")
    places = [output.with_name(f"{output.stem}_of_{name}{output.suffix}") for name in names]
    with ExitStack() as held:  # holds every work folder, so that no other process removes a finished member
        # Sorted, so that two runs with the same members do not wait for each other's locks.
        ordered = sorted(zip(places, teachers, strict=True), key=lambda pair: pair[0])
        trained = {
            place: held.enter_context(_ready(teacher, data, place, resize, cache, cache_frozen))
            for place, teacher in ordered
        }
        results = [trained[place] for place in places]
        tables = [pd.read_csv(result.curves) for result in results]
        for number, table in enumerate(tables):
            table.insert(0, "member", number)
        with publish(history) as partial:
            pd.concat(tables).to_csv(partial, index=False, mode="x", lineterminator="\n")
        with publish(output) as partial:
            save_ensemble([result.model for result in results], average, data.class_names, partial)
    forget_work_of_others(places, str(output.with_name(f"{output.stem}_of_*{output.suffix}")))
    print(f"wrote {output} and {history}")


def _named(teacher: TeacherToTrain | NotTrainedHere, data: Index) -> dict[str, Any]:
    """All that distinguishes a teacher from others, as JSON values."""
    if isinstance(teacher, Annotators):
        return {
            "votes": asdict(teacher.votes),
            "of": [(image.id, image.class_name, image.votes) for image in data.images],
        }
    if isinstance(teacher, GivenLogits):
        refuse_missing_table(teacher.file)
        stated = {name: value for name, value in asdict(teacher).items() if name != "logits"}
        return stated | {"table": sha256_file(teacher.file), "of": [image.id for image in data.images]}
    if isinstance(teacher, GivenTeacher):
        stated = asdict(teacher)
        if teacher.application is not None:
            return stated | {"keras": keras.__version__}
        content = digest_of(teacher)
        if content is None:
            return stated | {"keras_hub": hub.version()}
        del stated["model"]  # the content of the file or folder counts, not its name
        return stated | {"file": content}
    return asdict(teacher)


def _refuse_unlike(teachers: Sequence[TeacherToTrain | NotTrainedHere], data: Index) -> None:
    """Refuses members of different input sizes before the first one is trained."""
    shapes: list[tuple[int, ...]] = []
    for teacher in teachers:
        if not isinstance(teacher, TeacherToTrain | GivenTeacher):
            continue
        described = teacher.model if isinstance(teacher, TeacherToTrain) else teacher.weights_of
        if described is not None:
            shapes.append(tuple(described.input_shape))
        elif isinstance(teacher, GivenTeacher):
            shapes.append(completed(teacher, data.class_names).model.input_shape[1:])
    refuse_other_sizes(shapes)


@contextmanager
def _ready(
    teacher: TeacherToTrain | NotTrainedHere,
    data: Index,
    output: Path,
    resize: Resize,
    cache: Cache,
    cache_frozen: FrozenCache,
) -> Iterator[Trained]:
    """One finished teacher, trained or given, in the work folder of `output`."""
    if not isinstance(teacher, TeacherToTrain):
        with workspace(output, code=CODE, class_names=data.class_names, **_named(teacher, data)) as work:
            yield _not_trained(teacher, data, work)
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
        code=CODE,
        cache_frozen=cache_frozen,
    ) as result:
        yield result


def _not_trained(teacher: NotTrainedHere, data: Index, work: Path) -> Trained:
    """Writes the file of a teacher that is given, and a history without epochs."""
    result = Trained(work / "finished.keras", work / "finished.csv")
    if isinstance(teacher, GivenTeacher):
        said = _given_model(teacher, data, result.model)
    elif isinstance(teacher, GivenLogits):
        said = _given_logits(teacher, data, result.model)
    else:
        said = _votes(teacher, data, result.model)
    with replace_whole(result.curves) as partial:
        partial.write_text(NO_CURVES, encoding="utf-8")
    print(said)
    return result


def _given_model(teacher: GivenTeacher, data: Index, output: Path) -> str:
    """Checks a given teacher, and copies it with what params.yaml states of it; says what was done."""
    whole = completed(teacher, data.class_names)
    if whole.record is None and teacher.weights_of is None:
        with replace_whole(output) as partial:
            shutil.copyfile(teacher.file, partial)
    else:
        keras_files.save(whole.model, output, whole.record)
    as_it_is = " as it is" if not whole.notes else ""
    return "; ".join([f"{teacher.model} is taken{as_it_is}: nothing is trained", *whole.notes])


def _given_logits(teacher: GivenLogits, data: Index, output: Path) -> str:
    """Takes in the answers of another program's teacher; says what was done."""
    taken = taken_in(teacher, data.class_names, [image.id for image in data.images])
    given = {"sha256": sha256_file(teacher.file), "accuracy": teacher.accuracy, "kind": taken.kind}
    record = {"class_names": data.class_names, "given": given | {"classes": teacher.classes}}
    taken.answers.save(output, GIVEN_LOGITS, record)
    return "; ".join([f"{teacher.file} is taken: nothing is trained", *taken.notes])


def _votes(teacher: Annotators, data: Index, output: Path) -> str:
    """Turns the annotators' votes into answers; says what was done.

    Raises:
        UnusableError: there are not two classes, or an image has no votes.
    """
    without, problem = [image.id for image in data.images if not image.votes], None
    if without:
        problem = f"{len(without)} of {len(data.images)} images have no votes: {all_named(without, 'without-votes')}"
    elif len(data.class_names) != 2:
        problem = f"the data set has {len(data.class_names)} classes, and votes are between two"
    if problem:
        raise UnusableError(
            f"{problem}. `train_teacher: {{votes: …}}` needs two classes and the votes of all images, as the layout "
            "mhist has them; describe another teacher."
        )
    votes = np.array([int(image.votes) for image in data.images])
    counted = counted_class(votes, np.array(data.labels(data.images)))
    logits = logits_of_votes(votes, counted, teacher.votes.smoothing)
    answers = StoredAnswers([image.id for image in data.images], None, logits)
    answers.save(output, VOTES, {"class_names": data.class_names, "votes": asdict(teacher.votes)})
    return (
        f"the votes of {ANNOTATORS} annotators on {len(votes):,} images are the teacher: nothing is trained; they "
        f"count {data.class_names[counted]!r}"
    )
