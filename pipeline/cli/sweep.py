"""The command that runs a matrix of trainings on other machines."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import arguments
from pipeline.cli.interruption import Announced
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, first_few, one_line

if TYPE_CHECKING:
    from pipeline.cli.pending import Stage, Values
    from pipeline.params.sections import Params
    from pipeline.tools.copied_training import Outcome, Project

CARRIED = (Path("dvc.yaml"), Path("dvc.lock"), Path("params.yaml"), Path(".dvcignore"), Path("pipeline"))
"""What a copy needs of a project, beside what its trainings depend on."""


def _checked(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """An address or a number of GPUs as `params.yaml` may give them."""
    from pipeline.cluster.settings import a_part_of_gpus, an_address

    if value is None:
        return None
    try:
        return an_address(value) if parameter.name == "address" else a_part_of_gpus(value)
    except ValueError as error:
        raise click.BadParameter(f"it {error}.") from None


@click.command(cls=Announced)
@click.option("--engine", type=click.Choice(["ray"]), help="Run all that are not up to date, as tasks of Ray.")
@click.option(
    "--address",
    metavar="ADDRESS",
    callback=_checked,
    help="Of a Ray cluster: HOST:PORT or auto.  [default: start Ray here]",
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Trainings at once.  [default: that have room]")
@click.option("--cpus", type=click.IntRange(1), default=1, help="Cores of a training.  [default: 1]")
@click.option(
    "--gpus",
    type=click.FloatRange(0),
    callback=_checked,
    help="GPUs of a training.  [default: 1 where the cluster has any]",
)
@click.option("--only", metavar="NUMBER", type=click.IntRange(0), help="Run one of those that --list shows, here.")
@click.option("--list", "show", is_flag=True, help="List the trainings, each with its number.")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, resolve_path=True, file_okay=False),
    help="Where each machine makes copies.  [default: its temporary files]",
)
def sweep(
    engine: str | None,
    address: str | None,
    workers: int | None,
    cpus: int,
    gpus: float | None,
    only: int | None,
    show: bool,
    scratch: Path | None,
) -> None:
    """Train students and baselines on many machines.

    Each training runs in a copy of the project, pulls what it needs from DVC's remote, and pushes what it makes.
    """
    if (engine is not None) + (only is not None) + show != 1:
        raise click.UsageError("give one of --engine ray, --only NUMBER and --list.")
    params = arguments.all_params()
    stages, lock = _trainings()
    if show:
        for number, stage in enumerate(stages):
            click.echo(f"{number} {stage.name}")
        return
    project = _project(stages, lock, params, scratch)
    if only is not None:
        _train_here(project, stages, only)
        return
    outcomes = _train_elsewhere(project, stages, lock, address=address, workers=workers, cpus=cpus, gpus=gpus)
    if _project(stages, lock, params, scratch).archive != project.archive:
        raise MismatchError(
            "params.yaml or the code was changed while the trainings ran, so nothing was taken from the remote. "
            "`dvc repro --pull` takes what still holds."
        )
    _take(outcomes)


def _trainings() -> "tuple[list[Stage], Values]":
    """All students and baselines, and dvc.lock."""
    from pipeline.cli.pending import trainings
    from pipeline.runtime.yaml_files import read_yaml

    missing = [name for name in ("dvc.yaml", "dvc.lock") if not Path(name).is_file()]
    if missing:
        raise MissingError(f"there is no {missing[0]} here. Run `dvc repro soften` in the project's folder first.")
    names = ("dvc.yaml", "params.yaml", "dvc.lock")
    remedy = "Restore it with git, or dvc.lock with `cp .work/dvc.lock dvc.lock`."
    pipeline, params, lock = (read_yaml(Path(name), remedy) for name in names)
    try:
        _ = list(_made(lock))
        return list(trainings(pipeline, params)), lock
    except (LookupError, TypeError, AttributeError) as error:
        raise DamagedError(f"{' or '.join(names)} has another form than DVC's: {one_line(repr(error))}.") from None


def _project(stages: "Sequence[Stage]", lock: "Values", params: "Params", scratch: Path | None) -> "Project":
    """The project as it is now."""
    from pipeline.tools.copied_training import Project
    from pipeline.tools.project_copy import packed

    made = set(_made(lock))
    depended = {dep for stage in stages for dep in stage.deps} - made
    if absent := [dep for dep in sorted(depended) if not Path(dep).exists()]:
        raise MismatchError(
            f"{first_few(absent)} does not exist, and no stage in dvc.lock has made it. Run `dvc repro soften` first."
        )
    Path(".work").mkdir(exist_ok=True)  # where a machine that sees this folder keeps unfinished epochs
    files = [file for file in params.student.model.files if not file.is_absolute()]
    archive = packed(Path.cwd(), [*CARRIED, *map(Path, depended), *files])
    return Project(Path.cwd(), archive, shown=[params.split.data], scratch=scratch)


def _made(lock: "Values") -> Iterator[str]:
    """What stages have made."""
    return (out["path"] for stage in (lock.get("stages") or {}).values() for out in stage.get("outs") or [])


def _train_here(project: "Project", stages: "Sequence[Stage]", number: int) -> None:
    from pipeline.tools.copied_training import train

    if number >= len(stages):
        raise ParameterError(
            f"--only {number} names no training: there are {len(stages)}, from 0 to {len(stages) - 1}. "
            "`softlabel sweep --list` lists them."
        )
    outcome = train(project, stages[number].name, tell=True)
    if not outcome.succeeded:
        raise MissingError(
            f"{outcome.stage} failed; the lines above say why. If the remote lacks what it needs, run "
            "`dvc push --run-cache split soften` first. The same command goes on with it."
        )
    _tell(f"{outcome.stage}: pushed")


def _train_elsewhere(
    project: "Project",
    stages: "Sequence[Stage]",
    lock: "Values",
    *,
    address: str | None,
    workers: int | None,
    cpus: int,
    gpus: float | None,
) -> dict[str, bool]:
    """Trains what is not up to date: which trainings, and whether each succeeded."""
    from pipeline.tools import dvc_runs
    from pipeline.tools.ray_trainings import trained

    names = [stage.name for stage in stages]
    stale = dvc_runs.stale(names)
    if before := [name for name in stale if name not in names]:
        raise MismatchError(f"{first_few(before)} must run before the trainings: run `dvc repro soften` first.")
    if not stale:
        _tell(f"all {len(names)} trainings are up to date")
        return {}
    made = set(_made(lock))
    dvc_runs.push(sorted({dep for stage in stages if stage.name in stale for dep in stage.deps} & made))
    outcomes = dict.fromkeys(stale, False)  # in DVC's order, which is that of dvc.lock
    running = trained(project, stale, address=address, workers=workers, cpus=cpus, gpus=gpus)
    for number, outcome in enumerate(running, start=1):
        outcomes[outcome.stage] = outcome.succeeded
        _tell(_as_text(outcome, number, len(stale)))
    return outcomes


def _take(outcomes: dict[str, bool]) -> None:
    """Takes the results of the trainings that succeeded from the remote."""
    from pipeline.tools import dvc_runs

    done = [name for name, succeeded in outcomes.items() if succeeded]
    dvc_runs.take(done)
    if failed := [name for name, succeeded in outcomes.items() if not succeeded]:
        raise MissingError(
            f"{first_few(failed)} failed; the lines above say why. {len(done)} of {len(outcomes)} trainings are done "
            "and here. Run the same command again: it goes on with the others."
        )
    if done:
        _tell("all trainings are done and here; `dvc repro` compares them")


def _as_text(outcome: "Outcome", number: int, count: int) -> str:
    if outcome.succeeded:
        return f"{outcome.stage}: done on {outcome.machine} ({number} of {count})"
    return f"{outcome.stage}: failed on {outcome.machine} ({number} of {count})\n{outcome.last_lines.rstrip()}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
