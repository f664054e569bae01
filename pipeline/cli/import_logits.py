"""The command that takes in the logits of a teacher that another program ran."""

from pathlib import Path

import click

from pipeline.cli import arguments, paths
from pipeline.cli.interruption import Announced
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.runtime.errors import ParameterError


@click.command(cls=Announced)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the teacher in models/teacher.keras.")
def import_logits(file: Path, force: bool) -> None:
    """Take in a teacher's logits from FILE, a table.

    FILE is an .npz, .csv or .parquet file of logits or probabilities by image and view (docs/guide.md). They are
    checked as a teacher's are, and written to teacher_logits.h5. `dvc repro` does the same where params.yaml says
    `train_teacher: {logits: FILE}`.
    """
    params = arguments.all_params()
    from pipeline.models.teacher_file import GivenLogits

    stated = params.train_teacher
    is_stated = isinstance(stated, GivenLogits) and stated.file == file
    try:
        teacher = stated if isinstance(stated, GivenLogits) and is_stated else GivenLogits(str(file))
    except ValueError as error:
        raise ParameterError(f"{error}. Convert or rename it.") from None
    start_tensorflow()
    from pipeline.cli.dvc_cache import earlier_versions
    from pipeline.models import keras_files
    from pipeline.models.teacher_file import are_stored
    from pipeline.stages import describe_teacher, precompute, train_teacher

    if paths.TEACHER.is_file() and not force and not are_stored(keras_files.read_record(paths.TEACHER)):
        raise ParameterError(
            f"{paths.TEACHER} holds another teacher, whose place this one would take. To replace it, add --force; to "
            "keep it, copy it first."
        )
    index, resize = paths.INDEX, params.images.resize
    train_teacher.run(
        index=index,
        teachers=[teacher],
        average="logits",
        output=paths.TEACHER,
        history=paths.TEACHER_HISTORY,
        resize=resize,
    )
    describe_teacher.run(index=index, teacher=paths.TEACHER, output=paths.TEACHER_DESCRIPTION)
    precompute.run(
        index=index,
        teacher=paths.TEACHER,
        views=params.views,
        stored_as=params.precompute.storage,
        batch_size=params.precompute.batch_size,
        resize=resize,
        previous=earlier_versions(paths.LOGITS),
        output=paths.LOGITS,
        largest_temperature=float(max(params.distill.temperatures)),
    )
    if not is_stated:
        click.echo(
            f"params.yaml names another teacher. So that `dvc repro` goes on from here, write there:\n"
            f"train_teacher: {{logits: {file.as_posix()}}}"
        )
