"""The command that takes in the logits of a teacher that another program ran."""

import io
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import arguments, paths
from pipeline.cli.interruption import Announced
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.runtime.errors import ParameterError

if TYPE_CHECKING:
    from pipeline.models.teacher_file import GivenLogits
    from pipeline.params.sections import Params


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
    stated, is_alone = _stated(params, file)
    start_tensorflow()
    from pipeline.models.records import are_stored, read_record
    from pipeline.runtime.publish import publish_copy
    from pipeline.runtime.workspace import work_folder

    if paths.TEACHER.is_file() and not force and not are_stored(read_record(paths.TEACHER)):
        raise ParameterError(
            f"{paths.TEACHER} holds another teacher, whose place this one would take. To replace it, add --force; to "
            "keep it, copy it first."
        )
    outputs = (paths.TEACHER, paths.TEACHER_HISTORY, paths.TEACHER_DESCRIPTION, paths.LOGITS)
    work_folder().mkdir(parents=True, exist_ok=True)
    # Nothing is replaced before all of it is made: a table may be refused at the last step.
    with tempfile.TemporaryDirectory(prefix="import_", dir=work_folder()) as folder:
        made = {path: Path(folder, path.name) for path in outputs}
        with redirect_stdout(io.StringIO()) as said:
            _run_stages(params, stated, made)
        for path, copy in made.items():
            publish_copy(copy, path)
    click.echo("\n".join(line for line in said.getvalue().splitlines() if not line.startswith("wrote ")))
    click.echo(f"wrote {', '.join(map(str, outputs))}")
    if is_alone:
        click.echo(
            "DVC does not watch the table. So that `dvc repro` takes it as it is now, and no earlier version from its "
            "cache, run `dvc repro --single-item --force train_teacher` first."
        )
    else:
        click.echo(
            "params.yaml names another teacher. So that `dvc repro` goes on from here, write there:\n"
            f"train_teacher: {{logits: {file.as_posix()}}}"
        )


def _run_stages(params: "Params", table: "GivenLogits", made: Mapping[Path, Path]) -> None:
    """Runs the teacher's stages on a table; `made` says where each of their outputs is written for now."""
    from pipeline.cli.dvc_cache import earlier_versions
    from pipeline.stages import describe_teacher, precompute, train_teacher

    index, teacher = paths.INDEX, made[paths.TEACHER]
    history = made[paths.TEACHER_HISTORY]
    train_teacher.run(index=index, teachers=[table], average="logits", output=teacher, history=history)
    describe_teacher.run(index=index, teacher=teacher, output=made[paths.TEACHER_DESCRIPTION])
    precompute.run(
        **arguments.of_precompute(params),
        index=index,
        teacher=teacher,
        previous=earlier_versions(paths.LOGITS),
        output=made[paths.LOGITS],
    )


def _stated(params: "Params", file: Path) -> "tuple[GivenLogits, bool]":
    """The table, with what params.yaml states of it; and whether it is the only teacher there."""
    from pipeline.models.teacher_file import GivenLogits

    try:
        plain = GivenLogits(str(file))
    except ValueError as error:
        raise ParameterError(f"{error}. Convert or rename it.") from None
    teachers, _ = arguments.teachers(params.train_teacher)
    same = [one for one in teachers if isinstance(one, GivenLogits) and one.file.resolve() == file.resolve()]
    return (same[0] if same else plain), len(same) == len(teachers) == 1
