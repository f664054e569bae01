"""The command that writes a first params.yaml."""

from pathlib import Path

import click

from pipeline.cli.interruption import Announced
from pipeline.cli.paths import AFTER_SPLIT, INDEX, LINKS, SPLIT_FOLDER
from pipeline.cli.plan import show_plan
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.runtime.errors import ParameterError


@click.command(cls=Announced)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--teacher", metavar="NAME", help="An architecture, a .keras or .onnx file, a table of logits, or votes.")
@click.option("--student", metavar="NAME", help="An architecture or a .keras file.")
@click.option("--image-column", metavar="NAME", help="The column of a table that names the images.")
@click.option("--label-column", metavar="NAME", help="The column that has the labels.")
@click.option("--group-column", metavar="NAME", help="The column whose equal values stay in one split: the patient.")
@click.option("--unlabelled", is_flag=True, help="Rows without a label are meant: students learn from their images.")
@click.option("--force", is_flag=True, help="Replace params.yaml.")
def init(
    data: Path,
    teacher: str | None,
    student: str | None,
    image_column: str | None,
    label_column: str | None,
    group_column: str | None,
    unlabelled: bool,
    force: bool,
) -> None:
    """Write a first params.yaml for the images in DATA.

    DATA is a folder or an .npz file. Its layout is found out; models, sizes and schedule suit the images, their number
    and this machine. Then the plan is shown, and the command that starts it.
    """
    from pipeline.datasets.labelled import refuse_data_among
    from pipeline.params.listing import as_text
    from pipeline.params.reading import PARAMS_FILE, checked
    from pipeline.runtime.publish import publish
    from pipeline.tools import first_params, layout_detection, table_detection

    options = {
        "teacher": teacher,
        "student": student,
        "image-column": image_column,
        "label-column": label_column,
        "group-column": group_column,
    }
    for name, value in options.items():
        if value is not None and not value.strip():
            raise ParameterError(f"--{name} is empty. Name one behind it, or leave it out for what suits.")
    if PARAMS_FILE.exists() and not force:
        raise ParameterError(
            f"there is a {PARAMS_FILE} already. To replace it, add --force; to keep it, rename it first."
        )
    refuse_data_among(data, [SPLIT_FOLDER, INDEX, LINKS, *AFTER_SPLIT])
    columns = table_detection.Columns(image_column, label_column, group_column)
    detected = layout_detection.detect(data, columns, unlabelled=unlabelled)
    first_params.refuse_no_votes(detected.data_set, teacher)
    start_tensorflow()
    pictures = first_params.look_at(detected.data_set)
    from pipeline.runtime.devices import device_names
    from pipeline.tools.image_counts import count_images

    images = count_images(INDEX, detected.layout, layout_detection.settings_of(detected.section))
    content = {
        "split": detected.section,
        **first_params.sections(
            pictures,
            images.counts["train"],
            teacher=teacher,
            student=student,
            on_gpu=device_names() != ["CPU"],
            unlabelled=images.unlabelled,
        ),
    }
    params = checked(content, PARAMS_FILE)
    notes = [*detected.notes, *first_params.about_weights(content)]
    for line in first_params.findings(detected.data_set, detected.section, pictures, notes):
        click.echo(line)
    click.echo()
    show_plan(params, measure=True)
    with publish(PARAMS_FILE) as partial:  # last: what fails or is stopped before leaves params.yaml as it was
        text = as_text(params, content, defaults=False)
        partial.write_text(
            f"{text}\n# Other keys have their defaults; `softlabel params` lists them all.\n", encoding="utf-8"
        )
    click.echo(f"\nwrote {PARAMS_FILE}. Start with `dvc repro`.")
