"""The command that writes a pack of soft labels."""

from pathlib import Path

import click

from pipeline.cli import arguments
from pipeline.cli.interruption import Announced
from pipeline.cli.paths import AFTER_SPLIT, INDEX, LOGITS, SPLIT_FOLDER, TEACHER, soft_targets_file
from pipeline.runtime.errors import MismatchError


@click.command(cls=Announced)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--license", "license_", metavar="ID", default="", help="An SPDX identifier such as CC-BY-4.0, or a sentence."
)
@click.option(
    "--title", metavar="TEXT", default="", help="The title of the card.  [default: it names teacher and classes]"
)
@click.option("--force", is_flag=True, help="Replace the pack that FOLDER holds; an edited card is kept.")
def pack(folder: Path, license_: str, title: str, force: bool) -> None:
    """Gather the soft labels in a FOLDER for others.

    A new FOLDER gets teacher_logits.h5, the soft labels of distill.temperatures, index.csv (ids and labels, no images
    and no paths), checksums, and README.md, a dataset card as the Hugging Face Hub reads it. What is damaged, or does
    not belong to the data, the teacher and params.yaml as they are now, is refused. `softlabel verify FOLDER` checks
    a pack, also outside of a project.
    """
    params = arguments.all_params()
    from pipeline.tools import pack as tool
    from pipeline.tools.pack_card import Stated
    from pipeline.tools.pack_files import CARD
    from pipeline.tools.verify_pack import licenses_in, metadata_in

    _refuse_output(folder)
    written = tool.pack(
        folder,
        index=INDEX,
        teacher=TEACHER,
        logits=LOGITS,
        targets=[soft_targets_file(str(temperature)) for temperature in params.distill.temperatures],
        params=arguments.of_soft_labels(params),
        stated=Stated(license_, title),
        replace=force,
    )
    click.echo(f"wrote {folder}: {', '.join(written)}")
    card = folder / CARD
    if not licenses_in(metadata_in(card.read_text(encoding="utf-8", errors="replace")) or {}):
        click.echo(
            f"no licence is stated, and without one others may not use the pack. Write it into {card}, "
            "or run again with --license ID --force.",
            err=True,
        )


def _refuse_output(folder: Path) -> None:
    """Refuses a folder that the next `dvc repro` would remove."""
    from pipeline.runtime.publish import overlap

    for output in (SPLIT_FOLDER, INDEX, *AFTER_SPLIT):
        if overlap(folder, output):
            raise MismatchError(f"{folder} is no place for a pack: a stage writes {output}. Name another folder.")
