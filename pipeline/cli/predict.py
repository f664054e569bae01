"""The command that labels new images."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from pipeline.cli import arguments, paths
from pipeline.cli.interruption import Announced
from pipeline.cli.printing import Printable
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.runtime.cores import usable_threads
from pipeline.runtime.errors import DamagedError, ParameterError
from pipeline.runtime.text_files import read_json, read_text

if TYPE_CHECKING:
    from pipeline.deployed.files import Exported
    from pipeline.tools.predict import Labelled, Skipped

SKIPPED = 3
"""The exit code if images were skipped."""

AS_THEY_ARE = "surrogateescape"
"""How Python keeps the bytes of a path that are no UTF-8."""


@click.command(cls=Announced)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    show_default=True,
    help="How the labels are written; jsonl is a JSON object in each line.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write them to this file, at the end.")
@click.option("--keep-going", is_flag=True, help="Skip files that are no usable images; the exit code is then 3.")
@click.option("--calibrated", is_flag=True, help="Divide the logits by the student's own temperature.")
@click.option("--classes", metavar="A,B,…|FILE", help="Refuse a model of other classes, or of another order of them.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="How many threads compute.  [default, and at most: one a core]"
)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images at a time.")
def predict(
    model: Path,
    images: tuple[str, ...],
    form: str,
    output: Path | None,
    keep_going: bool,
    calibrated: bool,
    classes: str | None,
    threads: int | None,
    batch_size: int,
) -> None:
    """Label IMAGES with MODEL, a .tflite, .onnx or .keras file.

    IMAGES are files; folders, with all images below them; and quoted patterns such as 'photos/**/*.jpg'. Prints the
    predicted class and the probabilities of each image. Images of a .keras file are resized as params.yaml says.
    """
    from pipeline.tools import predict as tool
    from pipeline.tools.label_formats import FORMATS
    from pipeline.tools.named_images import named_images

    threads = min(threads, usable_threads()) if threads else None  # thousands of them end in a crash
    chosen = named_images(images, may_be_missing=keep_going)
    if output is not None:
        tool.refuse_lost(output, [model, *chosen])
    opened = _opened(model, threads, batch_size, calibrated)
    class_names = opened.metadata.class_names
    if classes is not None:
        tool.refuse_other_classes(class_names, _names_in(classes), model)
    temperature = opened.metadata.temperature if calibrated else 1.0
    answers = tool.labelled(opened, chosen, temperature=temperature, batch_size=batch_size, threads=threads)
    with closing(answers):
        skipped = _written(answers, len(chosen), output, keep_going, lambda labels: FORMATS[form](labels, class_names))
    if skipped:
        print(f"skipped {skipped} of {len(chosen)} images", file=sys.stderr)
        raise SystemExit(SKIPPED)


def _written(
    answers: "Iterator[Labelled | Skipped]",
    count: int,
    output: Path | None,
    keep_going: bool,
    as_lines: "Callable[[Iterator[Labelled]], Iterator[str]]",
) -> int:
    """Writes a line for each image, and tells of those that are skipped; returns how many these are."""
    from pipeline.runtime.progress import Progress
    from pipeline.tools.label_formats import on_one_line
    from pipeline.tools.predict import usable

    skipped = 0
    with Progress("predict", count, "images", short_is_silent=True) as progress, _stream(output) as stream:

        def skip(image: "Skipped") -> None:
            nonlocal skipped
            skipped += 1
            progress.tell(on_one_line(f"skipped {image.path}: {image.reason}"))

        # Where people watch the lines as they come, a bar would break them.
        counted = answers if stream.isatty() else progress.counted(answers)
        for line in as_lines(usable(counted, skip if keep_going else None)):
            stream.write(line)
    return skipped


def _opened(model: Path, threads: int | None, batch_size: int, calibrated: bool) -> "Exported":
    from pipeline.deployed.files import KINDS, open_exported

    if model.suffix.lower() != ".keras":
        endings = " or ".join([*KINDS, ".keras"])
        if model.suffix.lower() not in KINDS:
            raise ParameterError(f"{model} is no model that can be asked: its name does not end in {endings}.")
        return open_exported(model, threads)
    resize = arguments.all_params().images.resize
    from pipeline.tools.student_resize import refuse_other_resize

    refuse_other_resize(model, resize, paths.EXPORTS, paths.METRICS if _is_measured(model) else None)
    start_tensorflow(threads)
    from pipeline.tools.keras_student import KerasStudent

    return KerasStudent(model, resize, batch_size, paths.EXPORTS if calibrated else None)


def _is_measured(model: Path) -> bool:
    """Whether `metrics.json` has numbers of this file."""
    from pipeline.evaluation.comparison import read_metrics
    from pipeline.evaluation.names import TEACHER, parsed

    if not paths.METRICS.is_file():
        return False
    groups = {parsed(key)[0]: report for key, report in read_metrics(paths.METRICS)["models"].items()}
    files = [paths.model_file(group, seed) for group in groups if group != TEACHER for seed in groups[group]["seeds"]]
    return model.resolve() in [file.resolve() for file in files]


def _names_in(value: str) -> list[str]:
    """The names behind --classes: a `.json` file has a list of them, another file one in each line.

    Raises:
        ParameterError: it is one name, of no file.
        DamagedError: the file holds no names in UTF-8.
    """
    if not os.path.isfile(value):  # `Path.is_file` raises an error for a long list of names
        if "," not in value:
            raise ParameterError(
                f"--classes {value}: there is no such file, and one class is none to choose from. Expected a file, or "
                "the names of all classes with commas between them."
            )
        return value.split(",")
    file, remedy = Path(value), "Save it in UTF-8."
    is_json = value.lower().endswith(".json")
    names = read_json(file, remedy) if is_json else read_text(file, remedy).removesuffix("\n").split("\n")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DamagedError(f'--classes {value}: expected a JSON list of names, such as ["cat", "dog"].')
    return names


@contextmanager
def _stream(output: Path | None) -> Iterator[TextIO]:
    """Where the lines go. Bytes of paths that are no UTF-8 come out as they are."""
    if output is not None and output.exists() and not output.is_file():  # a pipe or a device
        with _ending_quietly(), output.open("w", encoding="utf-8", errors=AS_THEY_ARE, newline="\n") as file:
            yield file
        return
    if output is not None:
        from pipeline.runtime.publish import replace_given

        with (
            replace_given(output) as partial,
            partial.open("w", encoding="utf-8", errors=AS_THEY_ARE, newline="\n") as file,
        ):
            yield file
        return
    stdout = sys.stdout.stream if isinstance(sys.stdout, Printable) else sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(encoding="utf-8", errors=AS_THEY_ARE, newline="\n", line_buffering=True)
    with _ending_quietly():
        try:
            yield stdout
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # what Python writes as it ends
            raise


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """Ends the command without a message if who reads the lines has read enough."""
    try:
        yield
    except BrokenPipeError:
        raise SystemExit(128 + signal.SIGPIPE) from None
