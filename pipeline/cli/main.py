"""The command line: one command for each stage. Only the command line knows params.yaml and the paths of files.

Each command imports what it needs when it runs, so that `--help` needs no TensorFlow.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import arguments, paths
from pipeline.cli.import_logits import import_logits
from pipeline.cli.init import init
from pipeline.cli.options import leave_option, loss_option, seed_option, temperature_option
from pipeline.cli.pack import pack
from pipeline.cli.plan import plan
from pipeline.cli.predict import predict
from pipeline.cli.program import Program
from pipeline.cli.sweep import sweep
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.cli.tools import init_remote, inspect, models, params, parity, render_views, table, verify
from pipeline.evaluation import names

if TYPE_CHECKING:
    from pipeline.cli.beside import Course
    from pipeline.cli.left_files import Training
    from pipeline.params.sections import Params

TOOLS = (
    *(init, render_views, import_logits, table, verify, inspect, pack, predict),
    *(plan, sweep, parity, params, models, init_remote),
)
"""The commands beside those of the stages."""


@click.group(cls=Program, tools=TOOLS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="softlabel")
def main() -> None:
    """Knowledge distillation from precomputed soft labels.

    `dvc repro` runs all stages in their order, each only if something that it uses has changed. The command of a stage
    runs that stage by hand. Run every command in the folder that holds params.yaml and dvc.yaml.
    """


@main.command()
def sample() -> None:
    """Write the default data, 5,000 MNIST images."""
    arguments.all_params()
    start_tensorflow()
    from pipeline.stages import sample as stage

    stage.run(annotations=Path("data/raw/mnist/annotations.csv"), images=Path("data/raw/mnist/images"))


@main.command()
def cifar10() -> None:
    """Download CIFAR-10 to data/raw/cifar10/cifar10.npz."""
    arguments.all_params()
    start_tensorflow()
    from pipeline.stages import cifar10 as stage

    stage.run(data=Path("data/raw/cifar10/cifar10.npz"))


@main.command()
def split() -> None:
    """Copy images into class folders; list them in an index."""
    params = _start("split")
    from pipeline.stages import split as stage

    stage.run(
        **arguments.data_set(params.split),
        **arguments.copies(params.split),
        split_folder=paths.SPLIT_FOLDER,
        links_folder=paths.LINKS,
        index=paths.INDEX,
        other_outputs=paths.AFTER_SPLIT,
    )


@main.command()
def train_teacher() -> None:
    """Train the teacher, or several, and keep the best epoch."""
    params = _start("train_teacher")
    from pipeline.stages import train_teacher as stage

    teachers, average = arguments.teachers(params.train_teacher)
    stage.run(
        index=paths.INDEX,
        teachers=teachers,
        average=average,
        output=paths.TEACHER,
        history=paths.TEACHER_HISTORY,
        resize=params.images.resize,
        cache=params.images.cache,
        cache_frozen=arguments.frozen_cache_of_teacher(params.student),
    )


@main.command()
def describe_teacher() -> None:
    """Note the teacher's size and FLOPs for the comparison."""
    _start("describe_teacher")
    from pipeline.stages import describe_teacher as stage

    stage.run(index=paths.INDEX, teacher=paths.TEACHER, output=paths.TEACHER_DESCRIPTION)


@main.command()
def precompute() -> None:
    """Run the teacher once and keep its logits in a file."""
    params = _start("precompute")
    from pipeline.cli.dvc_cache import earlier_versions
    from pipeline.stages import precompute as stage

    stage.run(
        **arguments.of_precompute(params),
        index=paths.INDEX,
        teacher=paths.TEACHER,
        previous=earlier_versions(paths.LOGITS),
        output=paths.LOGITS,
    )


@main.command()
@temperature_option
def soften(temperature: str) -> None:
    """Soften the teacher's logits at one temperature."""
    arguments.params_of("soften")
    from pipeline.runtime.temperatures import softened_at
    from pipeline.stages import soften as stage

    file = paths.soft_targets_file(temperature)
    stage.run(logits=paths.LOGITS, soft_targets=file, temperature=softened_at(temperature))


@main.command()
@loss_option
@temperature_option
@seed_option
@leave_option
def train_student(loss_name: str, temperature: str, seed: int, leave_finished: bool) -> None:
    """Train one student on hard and soft labels."""
    from pipeline.cli import beside
    from pipeline.cli.left_files import Training

    read = partial(arguments.params_of, "train_student", loss=loss_name)
    group, soft_targets = names.student(loss_name, temperature), paths.soft_targets_file(temperature)
    training = Training(
        paths.student_file(group, seed),
        paths.student_history(group, seed),
        {"loss": loss_name, "temperature": temperature, "seed": str(seed)},
        paths.INDEX,
        (soft_targets, paths.LOGITS),
    )
    with beside.trained(training, read, leave_finished) as course:
        if course is None:
            return
        start_tensorflow()
        from pipeline.stages import train_student as stage

        stage.run(
            **_of_a_training(training, course, seed, labelled_only=False),
            soft_targets=soft_targets,
            logits=paths.LOGITS,
            loss=arguments.loss(course.params.distill, loss_name, temperature),
        )


@main.command()
@seed_option
@leave_option
def train_baseline(seed: int, leave_finished: bool) -> None:
    """Train the same student on the hard labels alone."""
    from pipeline.cli import beside
    from pipeline.cli.left_files import Training

    read = partial(arguments.params_of, "train_baseline")
    training = Training(paths.baseline_file(seed), paths.baseline_history(seed), {"seed": str(seed)}, paths.INDEX)
    with beside.trained(training, read, leave_finished) as course:
        if course is None:
            return
        start_tensorflow()
        from pipeline.stages import train_baseline as stage

        stage.run(**_of_a_training(training, course, seed, labelled_only=True))


def _of_a_training(training: "Training", course: "Course", seed: int, *, labelled_only: bool) -> dict[str, Any]:
    """The arguments that the stages of students and baselines share."""
    params = course.params
    return {
        "index": training.index,
        "model": params.student.model,
        "recipe": arguments.recipe(params.student, seed),
        "views": params.views,
        "output": training.output,
        "history": training.history,
        "resize": params.images.resize,
        "cache": params.images.cache,
        "cache_frozen": arguments.frozen_cache(arguments.all_params(), labelled_only=labelled_only),
        "watch": course.watch,
        "note": course.note,
    }


@main.command()
def evaluate() -> None:
    """Compare all models on the test images."""
    params = _start("evaluate")
    from pipeline.params.reading import with_effect
    from pipeline.stages import evaluate as stage

    seeds, groups = params.student.seeds, arguments.students(params.distill)
    stage.run(
        index=paths.INDEX,
        teacher=paths.TEACHER_DESCRIPTION,
        logits=paths.LOGITS,
        students={group: {seed: paths.student_file(group, seed) for seed in seeds} for group in groups},
        baselines={seed: paths.baseline_file(seed) for seed in seeds},
        history=paths.HISTORY,
        batch_size=params.evaluate.batch_size,
        resize=params.images.resize,
        select_by=params.student.select_by,
        teachers_select_by=arguments.teachers_select_by(params.train_teacher),
        params=with_effect(params),
        output=paths.METRICS,
        plots=paths.PLOTS,
        predictions=paths.PREDICTIONS,
    )


@main.command()
@click.option("--student", metavar="NAME", required=True, help="One of export.students.")
def export(student: str) -> None:
    """Write a student's files for phones, boards and servers."""
    params = arguments.params_of("export")
    chosen = arguments.exported(params, student)
    start_tensorflow()
    from pipeline.stages import export as stage

    stage.run(
        **chosen,
        index=paths.INDEX,
        history=paths.HISTORY,
        batch_size=params.evaluate.batch_size,
        all_validated=params.student.validation_steps is None,
        resize=params.images.resize,
        output=paths.EXPORTS / student,
        report=paths.EXPORT_REPORTS / f"{student}.json",
    )


@main.command()
def measure_speed() -> None:
    """Time teacher and student on this machine."""
    params = _start("measure_speed")
    from pipeline.stages import measure_speed as stage

    stage.run(teacher=paths.TEACHER_DESCRIPTION, model=params.student.model, output=paths.SPEED)


@main.command()
def measure_exports() -> None:
    """Time exported files and the teacher."""
    params = arguments.params_of("measure_exports")
    from pipeline.stages import measure_exports as stage

    stage.run(
        exported=params.export.students,
        exports=paths.EXPORT_REPORTS,
        files=paths.EXPORTS,
        teacher=paths.TEACHER_DESCRIPTION,
        output=paths.EXPORT_SPEED,
    )


@main.command()
def report() -> None:
    """Write results/report.html and pictures of all results."""
    params = _start("report")
    from pipeline.params.reading import with_effect
    from pipeline.stages import report as stage

    stage.run(
        index=paths.INDEX,
        metrics=paths.METRICS,
        plots=paths.PLOTS,
        predictions=paths.PREDICTIONS,
        history=paths.HISTORY,
        teacher=paths.TEACHER_DESCRIPTION,
        logits=paths.LOGITS,
        students=arguments.students(params.distill),
        speeds=paths.SPEED,
        exported=params.export.model_dump(),
        exports=paths.EXPORT_REPORTS,
        export_speeds=paths.EXPORT_SPEED,
        student_file=paths.model_file,
        params=with_effect(params),
        files=params.student.model.files,
        select_by=params.student.select_by,
        output=paths.REPORT,
        pictures=paths.PICTURES,
    )


@main.command()
def model_card() -> None:
    """Write results/MODEL_CARD.md, on the student."""
    params = arguments.params_of("model_card")
    from pipeline.params.reading import with_effect
    from pipeline.stages import model_card as stage

    stage.run(
        index=paths.INDEX,
        metrics=paths.METRICS,
        history=paths.HISTORY,
        teacher=paths.TEACHER_DESCRIPTION,
        logits=paths.LOGITS,
        students=arguments.students(params.distill),
        exported=params.export.model_dump(),
        exports=paths.EXPORT_REPORTS,
        files=paths.EXPORTS,
        speeds=paths.EXPORT_SPEED,
        student_file=paths.model_file,
        statements=params.card.model_dump(),
        input_shape=params.student.model.input_shape,
        resize=params.images.resize,
        params=with_effect(params),
        trained_from=params.student.model.files,
        select_by=params.student.select_by,
        output=paths.MODEL_CARD,
    )


def _start(stage: str, **item: str) -> "Params":
    params = arguments.params_of(stage, **item)  # before TensorFlow, so that a mistake is reported without a wait
    start_tensorflow()
    return params
