"""The options that several commands have."""

import click

SEED = click.IntRange(min=0, max=2**32 - 1)


def checked_temperature(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Checks a temperature, or two of one that changes, but keeps the text as it is: it is part of file names."""
    from pipeline.runtime.temperatures import CHANGING, changing

    if value is not None and CHANGING.fullmatch(value):
        try:
            return changing(value)
        except ValueError as error:
            raise click.BadParameter(f"{value} is none: {error}.") from None
    if value is not None:
        _temperature(value)
    return value


def checked_temperatures(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[float, ...]:
    """As `checked_temperature`, for an option that may be given several times and names no file."""
    return tuple(map(_temperature, values))


def _temperature(value: str) -> float:
    from pipeline.runtime.temperatures import RANGE, is_in_range

    try:
        number = float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a number.") from None
    if not is_in_range(number):
        raise click.BadParameter(f"{value} is not {RANGE}.")
    return number


temperature_option = click.option(
    "--temperature",
    metavar="T",
    callback=checked_temperature,
    required=True,
    help="One of distill.temperatures, as it is written there.",
)
loss_option = click.option(
    "--loss",
    "loss_name",
    metavar="NAME",
    required=True,
    help="One of distill.losses.",
)
seed_option = click.option(
    "--seed",
    type=SEED,
    required=True,
    help="The seed of initial weights, order and dropout: one of student.seeds.",
)
leave_option = click.option(
    "--leave-finished",
    is_flag=True,
    hidden=True,
    help="For a training that another one starts: leave its files in .work/ for its stage.",
)
