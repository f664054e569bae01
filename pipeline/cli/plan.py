"""The command that says what a run will cost."""

from typing import TYPE_CHECKING

import click

from pipeline.cli import arguments
from pipeline.cli.interruption import Announced
from pipeline.cli.paths import INDEX
from pipeline.cli.tensorflow_start import start_tensorflow

if TYPE_CHECKING:
    from pipeline.params.sections import Params
    from pipeline.tools.frozen_plan import Trainings
    from pipeline.tools.image_counts import ImageCounts


@click.command(cls=Announced)
@click.option("--measure", is_flag=True, help="Time a few batches of both models, and add hours to the plan.")
def plan(measure: bool) -> None:
    """Say what a run will cost before it runs.

    Shows rows, bytes, teacher passes and FLOPs: offline, and with the teacher in the students' training loops. For each
    phase with frozen layers, also what leaves them and is kept, and what that saves.
    """
    params = arguments.all_params()
    start_tensorflow()
    show_plan(params, measure)


def show_plan(params: "Params", measure: bool) -> None:
    """Prints the plan of a run; TensorFlow must be loaded."""
    from pipeline.tools import frozen_plan, plan
    from pipeline.tools.image_counts import count_images

    student = params.student
    recipe = arguments.recipe(student, seed=0)
    images = count_images(INDEX, **arguments.data_set(params.split))
    arguments.refuse_other_classes(params, images.class_names)
    teacher_model = plan.teacher_model(*arguments.teachers(params.train_teacher), images.class_names)
    student_model = student.model.untrained(images.classes)
    costs = plan.make_plan(
        images,
        params.views,
        params.precompute.storage,
        teacher=teacher_model,
        student=student_model,
        recipe=recipe,
        losses=len(params.distill.losses),
        temperatures=len(params.distill.temperatures),
        seeds=len(student.seeds),
    )
    speed = None
    if measure:
        from pipeline.tools.step_speed import images_a_second

        speed = images_a_second(
            teacher_model,
            student_model,
            teacher_batch=params.precompute.batch_size,
            student_batch=student.batch_size,
        )
    click.echo(plan.as_text(costs, speed))
    told = frozen_plan.frozen_layers(
        student_model,
        recipe,
        _trainings(params, images),
        views=params.views.count,
        validation=images.counts["val"],
        measure=measure,
    )
    if told:
        click.echo(f"\n{told}")
    if advice := params.views.advice:
        click.echo(f"\n{advice}")


def _trainings(params: "Params", images: "ImageCounts") -> "list[Trainings]":
    """Those of students and of baselines."""
    from pipeline.tools.frozen_plan import Trainings

    train, seeds = images.counts["train"], len(params.student.seeds)
    students = len(arguments.students(params.distill)) * seeds
    of_students, of_baselines = (arguments.frozen_cache(params, labelled_only=of) for of in (False, True))
    return [Trainings(students, train, of_students), Trainings(seeds, train - images.unlabelled, of_baselines)]
