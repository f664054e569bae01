"""Commands that run no stage: they show and check."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import arguments
from pipeline.cli.interruption import Announced
from pipeline.cli.options import SEED, checked_temperature, checked_temperatures
from pipeline.cli.paths import (
    EXPORT_REPORTS,
    EXPORT_SPEED,
    INDEX,
    LOGITS,
    METRICS,
    TEACHER,
    model_file,
    soft_targets_file,
)
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.runtime.errors import MissingError, ParameterError, PipelineError

if TYPE_CHECKING:
    from pipeline.params.sections import Params


@click.command(cls=Announced)
@click.option("--markdown", is_flag=True, help="Print Markdown with 95 % intervals, for a pull request.")
def table(markdown: bool) -> None:
    """Print the comparison of teacher, students and baselines.

    Exported files come behind it. If it was made from another params.yaml or data/index.csv than the present ones, it
    is refused, with exit code 1.
    """
    from pipeline.evaluation import made_from
    from pipeline.evaluation.comparison import comparison, comparison_in_markdown, read_metrics
    from pipeline.evaluation.current_exports import Now
    from pipeline.evaluation.export_tables import read_shipped
    from pipeline.images.index import read_index
    from pipeline.params.reading import with_effect

    document = read_metrics(METRICS)
    dataset = read_index(INDEX).fingerprint() if INDEX.is_file() else None
    params = arguments.all_params()
    made_from.refuse_others(METRICS, document, with_effect(params), dataset)
    made_from.refuse_other_files(METRICS, document, params.student.model.files)
    now = Now(document, params.export.model_dump(), dataset, model_file)
    shipped = read_shipped(EXPORT_REPORTS, EXPORT_SPEED, now)
    text = (comparison_in_markdown if markdown else comparison)(METRICS, shipped)
    click.echo(text if dataset else f"{made_from.of_unknown_images(METRICS, document)}\n\n{text}")


@click.command(cls=Announced)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(file: Path, as_json: bool) -> None:
    """Check everything about a soft-label FILE.

    This checks its bytes, structure and values, and that it belongs to the index, the teacher, the logits and the
    views of params.yaml, if these are there. FILE may be a folder of `softlabel pack`: then each of its files is
    checked, and that they belong together. Exit code 0 if it is sound, 1 if not.
    """
    import json

    from pipeline.tools import verify
    from pipeline.tools.verify_pack import verify_pack

    if file.is_dir():
        checks = verify_pack(file)
    else:
        params = _params_or_error()
        expected = params if isinstance(params, PipelineError) else arguments.of_soft_labels(params)
        checks = verify.verify(file, INDEX, TEACHER, LOGITS, expected, _largest_temperature(params))
    if as_json:
        click.echo(json.dumps(verify.as_json(file, checks), indent=2))
    else:
        click.echo(verify.as_text(file, checks))
    if any(check.ok is False for check in checks):
        raise SystemExit(1)


def _params_or_error() -> "Params | PipelineError":
    try:
        return arguments.all_params()
    except (MissingError, ParameterError) as error:
        return error


def _largest_temperature(params: "Params | PipelineError") -> float:
    """The largest of distill.temperatures; 1 without a valid params.yaml."""
    return 1.0 if isinstance(params, PipelineError) else arguments.largest_temperature(params.distill)


def _png(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() != ".png":
        raise click.BadParameter(f"'{path}' does not end in .png, and the picture is a PNG file. Give such a name.")
    return path


@click.command(cls=Announced)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sample", metavar="ID", help="Draw this image's views and soft labels instead, as a PNG file.")
@click.option(
    "--temperature",
    "temperatures",
    metavar="T",
    multiple=True,
    callback=checked_temperatures,
    help="With --sample, of a file of logits: the bars to draw. May be given several times.  [default: 1, 2, 4, 8]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_png,
    help="With --sample: the PNG file.  [default: results/samples/<ID>.png]",
)
def inspect(file: Path, sample: str | None, temperatures: tuple[float, ...], output: Path | None) -> None:
    """Show what is inside a soft-label FILE."""
    if sample is None:
        for name, value in (("--temperature", temperatures), ("--output", output)):
            if value:
                raise click.UsageError(f"{name} needs --sample ID.")
        from pipeline.tools.inspect_file import describe

        click.echo(describe(file, _largest_temperature(_params_or_error())))
        return
    start_tensorflow()
    from pipeline.tools.sample_picture import draw_sample

    picture = output or Path("results/samples") / f"{Path(sample).stem}.png"
    draw_sample(file, sample, INDEX, temperatures, picture)
    click.echo(f"wrote {picture}")


@click.command(cls=Announced)
@click.option("--steps", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="In each phase.")
@click.option(
    "--temperature", metavar="T", callback=checked_temperature, help="[default: the first of distill.temperatures]"
)
@click.option("--loss", "loss_name", metavar="NAME", help="[default: the first of distill.losses]")
@click.option("--seed", type=SEED, help="[default: the first of student.seeds]")
def parity(steps: int, temperature: str | None, loss_name: str | None, seed: int | None) -> None:
    """Prove that offline training equals online training.

    Trains the student of params.yaml on your data for N steps of each phase, once from the soft labels and once with
    the teacher in the loop (keras.distillation.Distiller), and prints both loss curves and the largest difference. The
    exit code is 0 if they differ by rounding alone, and 1 if they differ by more or if rounding hides the difference.
    If the file holds rounded logits (float16, the k largest, mixed precision), this shows how far the student drifts,
    and the exit code is 0. Nothing is written.
    """
    params = arguments.all_params()
    start_tensorflow()
    from pipeline.tools import parity as proof

    temperatures = [str(value) for value in params.distill.temperatures]
    chosen = temperature or temperatures[0]
    if chosen not in temperatures:
        raise click.UsageError(
            f"T = {chosen} is not in distill.temperatures, as written there: {', '.join(temperatures)}."
        )
    result = proof.run(
        index=INDEX,
        teacher=TEACHER,
        soft_targets=soft_targets_file(chosen),
        logits=LOGITS,
        views=params.views,
        loss=arguments.loss(params.distill, loss_name or params.distill.losses[0], chosen),
        model=params.student.model,
        recipe=arguments.recipe(params.student, params.student.seeds[0] if seed is None else seed),
        resize=params.images.resize,
        steps=steps,
    )
    click.echo(proof.as_text(result))
    if not proof.is_equal(result) and result.held_as == proof.EXACT:
        raise SystemExit(1)


@click.command(cls=Announced)
def params() -> None:
    """Print params.yaml whole, with each key's meaning.

    Shows the keys that the file leaves out, too, with their defaults, and which values each key may have. What is
    printed is a params.yaml.
    """
    from pipeline.params.listing import as_text
    from pipeline.params.reading import PARAMS_FILE, read_yaml

    click.echo(as_text(arguments.all_params(), read_yaml(PARAMS_FILE, ParameterError)))


@click.command(cls=Announced)
@click.argument("names", metavar="[NAME]...", nargs=-1)
def models(names: tuple[str, ...]) -> None:
    """List the architectures that params.yaml can name.

    Shows their parameters, the size of their images, and which of their ImageNet weights are on this machine. With
    NAMEs, those alone. The name keras_hub lists the presets of that package.
    """
    start_tensorflow()
    from pipeline.tools import model_list

    if "keras_hub" in names:
        click.echo(model_list.presets_as_text(model_list.listed_presets(names)))
        return
    click.echo(model_list.as_text(model_list.listed(names)))


@click.command(cls=Announced)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--split", type=click.Choice(["train", "val", "test", "all"]), help="The images of this split.  [default: all]"
)
@click.option(
    "--ids", metavar="FILE", type=click.Path(path_type=Path), help="The images that FILE names, an id in each line."
)
@click.option(
    "--size",
    metavar="H W C",
    type=(click.IntRange(min=1), click.IntRange(min=1), click.Choice(["1", "3"])),
    help="Height and width in pixels, and 1 (grey) or 3 (RGB) channels.  [default: the teacher's, if params.yaml "
    "describes one model, or the student's]",
)
@click.option("--transforms", is_flag=True, help="Write transforms.npz instead of pictures.")
@click.option("--force", is_flag=True, help="Replace the views that FOLDER holds.")
def render_views(
    folder: Path,
    split: str | None,
    ids: Path | None,
    size: tuple[int, int, str] | None,
    transforms: bool,
    force: bool,
) -> None:
    """Write the views of images for a program that labels them.

    A new FOLDER gets a PNG file for each view of params.yaml (training images) and each untouched image (validation,
    test); views.csv, which names the image and view of each file; and views.json, with what a table of logits should
    say of them: class names and rendering.
    """
    if ids is not None and split is not None:
        raise click.UsageError("--ids names the images, and --split does so, too. Give one of them.")
    params = arguments.all_params()
    start_tensorflow()
    from pipeline.images.index import SPLITS, read_index
    from pipeline.tools import chosen_views
    from pipeline.tools import render_views as tool

    tool.refuse_taken(folder, replace=force)
    height, width, channels = size or arguments.size_of_views(params)
    rendering = chosen_views.Rendering((height, width, int(channels)), params.images.resize, params.views)
    data = read_index(INDEX)
    images = chosen_views.chosen(data, [name for name in SPLITS if split in (None, "all", name)], ids)
    write = tool.write_transforms if transforms else tool.write_pictures
    count = write(folder, data, images, rendering)
    what = "transforms" if transforms else f"pictures of {height} x {width} x {channels}"
    click.echo(f"wrote {count:,} views of {len(images):,} images to {folder}: {what}, and {tool.TABLE} names each")


@click.command()
@click.argument("url", metavar="[URL]", required=False)
@click.option("--force", is_flag=True, help="Replace another default remote.")
def init_remote(url: str | None, force: bool) -> None:
    """Set up DVC's default remote.

    Through it, clones share what was computed. URL is the path of a folder, or a URL that DVC knows, such as
    s3://BUCKET/PROJECT or ssh://USER@HOST/FOLDER. The default is a folder in your cache directory. A path is noted in
    .dvc/config.local, for this clone alone; a URL in .dvc/config, which git shares.
    """
    from pipeline.tools import init_remote

    click.echo(init_remote.as_text(init_remote.init_remote(Path(), url, replace=force)))
