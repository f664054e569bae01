"""The command line: one command a stage. Only the command line knows params.yaml and where files lie.

Each command imports what it needs when it runs, so that `--help` needs no TensorFlow.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import arguments
from pipeline.cli.interruption import Announced, open_stderr, sigterm_as_interruption, told
from pipeline.cli.options import SEED, checked_temperature
from pipeline.cli.paths import (
    HISTORY,
    INDEX,
    LOGITS,
    METRICS,
    PICTURES,
    PLOTS,
    PREDICTIONS,
    REPORT,
    SPEED,
    SPLIT_FOLDER,
    TEACHER,
    TEACHER_DESCRIPTION,
    TEACHER_HISTORY,
    baseline_file,
    baseline_history,
    soft_targets_file,
    student_file,
    student_history,
)
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.cli.tools import init_remote, inspect, parity, plan, table, verify
from pipeline.runtime.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.params.sections import Params


TOOLS = (table, verify, inspect, plan, parity, init_remote)
"""The commands that run no stage."""


class Program(click.Group):
    """Turns errors that the user can mend into one message and exit code 1, and an interruption into 130."""

    command_class = Announced

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the stages in the order in which they run, then the tools."""
        stages = [command for command in self.commands.values() if command not in TOOLS]
        room = formatter.width - 6 - max(map(len, self.commands))
        for heading, commands in (("Stages, in their order", stages), ("Tools", TOOLS)):
            with formatter.section(heading):
                formatter.write_dl([(str(command.name), command.get_short_help_str(room)) for command in commands])

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        open_stderr()
        try:
            with sigterm_as_interruption():
                return super().invoke(context)
        except KeyboardInterrupt as error:
            raise SystemExit(told(context.invoked_subcommand, error)) from None
        except PipelineError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            raise click.ClickException(f"the system refused: {error}. Check the disk and the permissions.") from error


temperature_option = click.option(
    "--temperature",
    metavar="T",
    callback=checked_temperature,
    required=True,
    help="One of distill.temperatures, as it is written there.",
)
seed_option = click.option(
    "--seed",
    type=SEED,
    required=True,
    help="Of initial weights, order and dropout; one of student.seeds.",
)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="softlabel")
def main() -> None:
    """Knowledge distillation from precomputed soft labels.

    Run `dvc repro` to run all stages in order, each only if something that it uses has changed. Each command
    works in the folder that holds params.yaml and dvc.yaml; that of a stage runs it by hand.
    """


@main.command()
def sample() -> None:
    """Write the embedded default data, 5,000 MNIST images, to data/raw/mnist."""
    from pipeline.params.reading import read_params

    read_params(Path("params.yaml"))
    start_tensorflow()
    from pipeline.stages import sample as stage

    stage.run(annotations=Path("data/raw/mnist/annotations.csv"), images=Path("data/raw/mnist/images"))


@main.command()
def cifar10() -> None:
    """Download CIFAR-10 to data/raw/cifar10/cifar10.npz."""
    from pipeline.params.reading import read_params

    read_params(Path("params.yaml"))
    start_tensorflow()
    from pipeline.stages import cifar10 as stage

    stage.run(data=Path("data/raw/cifar10/cifar10.npz"))


@main.command()
def split() -> None:
    """Copy labelled images into class folders and list them in data/index.csv."""
    section = _load("split").split
    start_tensorflow()
    from pipeline.stages import split as stage

    stage.run(
        **arguments.data_set(section),
        split_folder=SPLIT_FOLDER,
        index=INDEX,
    )


@main.command()
def train_teacher() -> None:
    """Train the teacher, or several, and keep the best epoch in models/teacher.keras."""
    values = _load("train_teacher")
    start_tensorflow()
    from pipeline.stages import train_teacher as stage

    teachers, average = arguments.teachers(values.train_teacher)
    stage.run(
        index=INDEX,
        teachers=teachers,
        average=average,
        output=TEACHER,
        history=TEACHER_HISTORY,
        resize=values.images.resize,
        cache=values.images.cache,
    )


@main.command()
def describe_teacher() -> None:
    """Note the teacher's size and FLOPs, so that nobody needs its file for a comparison."""
    _load("describe_teacher")
    start_tensorflow()
    from pipeline.stages import describe_teacher as stage

    stage.run(index=INDEX, teacher=TEACHER, output=TEACHER_DESCRIPTION)


@main.command()
def precompute() -> None:
    """Run the teacher once and keep its logits in data/soft_labels/teacher_logits.h5."""
    values = _load("precompute")
    start_tensorflow()
    from pipeline.cli.dvc_cache import earlier_versions
    from pipeline.params.reading import read_params
    from pipeline.stages import precompute as stage

    # They word a warning and change no byte of the output. dvc.yaml does not declare them for this stage, since a new
    # temperature must never run the teacher again; so they are read apart from what it declares.
    temperatures = read_params(Path("params.yaml")).distill.temperatures
    stage.run(
        index=INDEX,
        teacher=TEACHER,
        views=values.views,
        stored_as=values.precompute.storage,
        batch_size=values.precompute.batch_size,
        precision=values.precompute.precision,
        resize=values.images.resize,
        previous=earlier_versions(LOGITS),
        output=LOGITS,
        largest_temperature=float(max(temperatures)),
    )


@main.command()
@temperature_option
def soften(temperature: str) -> None:
    """Soften the teacher's logits at one temperature."""
    _load("soften")
    from pipeline.stages import soften as stage

    stage.run(logits=LOGITS, soft_targets=soft_targets_file(temperature), temperature=float(temperature))


@main.command()
@temperature_option
@seed_option
def train_student(temperature: str, seed: int) -> None:
    """Train one student on hard and soft labels; needs no teacher."""
    values = _load("train_student")
    start_tensorflow()
    from pipeline.stages import train_student as stage

    stage.run(
        index=INDEX,
        soft_targets=soft_targets_file(temperature),
        logits=LOGITS,
        views=values.views,
        loss=arguments.loss(values.distill, float(temperature)),
        model=values.student.model,
        recipe=arguments.recipe(values.student, seed),
        output=student_file(temperature, seed),
        history=student_history(temperature, seed),
        resize=values.images.resize,
        cache=values.images.cache,
    )


@main.command()
@seed_option
def train_baseline(seed: int) -> None:
    """Train the same student on the hard labels alone, for comparison."""
    values = _load("train_baseline")
    start_tensorflow()
    from pipeline.stages import train_baseline as stage

    stage.run(
        index=INDEX,
        model=values.student.model,
        recipe=arguments.recipe(values.student, seed),
        views=values.views,
        output=baseline_file(seed),
        history=baseline_history(seed),
        resize=values.images.resize,
        cache=values.images.cache,
    )


@main.command()
def evaluate() -> None:
    """Compare teacher, students and baselines on the test images."""
    values = _load("evaluate")
    start_tensorflow()
    from pipeline.params.reading import with_effect
    from pipeline.stages import evaluate as stage

    seeds = values.student.seeds
    stage.run(
        index=INDEX,
        teacher=TEACHER_DESCRIPTION,
        logits=LOGITS,
        students={str(t): {seed: student_file(str(t), seed) for seed in seeds} for t in values.distill.temperatures},
        baselines={seed: baseline_file(seed) for seed in seeds},
        history=HISTORY,
        batch_size=values.evaluate.batch_size,
        resize=values.images.resize,
        params=with_effect(values),
        output=METRICS,
        plots=PLOTS,
        predictions=PREDICTIONS,
    )


@main.command()
def measure_speed() -> None:
    """Time forward passes of teacher and student on this machine."""
    values = _load("measure_speed")
    start_tensorflow()
    from pipeline.stages import measure_speed as stage

    stage.run(teacher=TEACHER_DESCRIPTION, model=values.student.model, output=SPEED)


@main.command()
def report() -> None:
    """Write results/report.html, a page of everything that came out, and pictures."""
    values = _load("report")
    start_tensorflow()
    from pipeline.params.reading import with_effect
    from pipeline.stages import report as stage

    stage.run(
        index=INDEX,
        metrics=METRICS,
        plots=PLOTS,
        predictions=PREDICTIONS,
        history=HISTORY,
        teacher=TEACHER_DESCRIPTION,
        logits=LOGITS,
        temperatures=[str(t) for t in values.distill.temperatures],
        speeds=SPEED,
        params=with_effect(values),
        output=REPORT,
        pictures=PICTURES,
    )


for command in TOOLS:
    main.add_command(command)


def _load(stage: str) -> "Params":
    from pipeline.cli.orphan import stop_with_dvc
    from pipeline.params.reading import load_params

    stop_with_dvc()
    return load_params(stage)
