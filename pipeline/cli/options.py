"""Options that several commands have."""

import click

SEED = click.IntRange(min=0, max=2**32 - 1)


def checked_temperature(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Keeps a temperature as it is written, because it is part of a file's name."""
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a number.") from None
    if not 0 < number < float("inf"):
        raise click.BadParameter(f"{value} is not above 0.")
    return value
