"""The section `distill` of `params.yaml`: soft labels and losses."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.distillation.descriptions import KINDS, NAME, AnySoftLoss, with_kinds
from pipeline.params.section import Section, distinct
from pipeline.runtime.errors import nearest
from pipeline.runtime.ranges import Flag, Number, Share
from pipeline.runtime.temperatures import Temperature as Course
from pipeline.runtime.temperatures import changing, in_range


def _one_or_two(value: Any) -> Any:
    """Says what is wrong with a value that is neither a temperature nor two of them."""
    if isinstance(value, str):
        if re.fullmatch(r"[0-9.]+", value):
            raise ValueError("expected a number without quotation marks")
        return changing(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number, as 4, or two, as 8to2, for a temperature that changes over the epochs")
    return in_range(value)


def _all_differ(temperatures: list[Any]) -> list[Any]:
    distinct([Course.parsed(str(temperature)) for temperature in temperatures])
    return temperatures


Temperature = (
    Annotated[Annotated[int, Field(strict=True)] | Number, AfterValidator(in_range)]
    | Annotated[str, Field(strict=True), AfterValidator(changing)]
)


def _named(losses: dict[str, AnySoftLoss]) -> dict[str, AnySoftLoss]:
    for name, loss in losses.items():
        if name in KINDS and loss.kind != name:
            raise ValueError(
                f"{name!r} is of the kind {loss.kind}, so files and tables would tell of another loss than it is: give "
                f"it another name, such as {loss.kind}_2, or leave kind out"
            )
        if not re.fullmatch(NAME, name):
            raise ValueError(
                f"{name!r} is no name of a loss, which is part of file names: expected a small letter, then small "
                "letters, digits and underscores"
            )
    return losses


Losses = Annotated[
    dict[str, Annotated[AnySoftLoss, Field(discriminator="kind")]],
    Field(min_length=1),
    BeforeValidator(with_kinds),
    AfterValidator(_named),
]


class Distill(Section):
    """The soft labels and the losses.

    Attributes:
        temperatures: the temperatures T, each from 0.001 to 1000, or two, as 8to2, for one that changes from the
            first to the last epoch; one student for each, and for each loss and seed.
        losses: the losses, by their names in distill.loss; one student for each, and for each temperature and seed.
        hard_label_weight: the weight of the hard labels; the soft labels have the rest.
        scale_by_temperature_squared: whether the soft term is multiplied by T^2, with the losses that need it.
        loss: the losses that can be named, each with its parameters.
    """

    temperatures: Annotated[
        list[Annotated[Temperature, BeforeValidator(_one_or_two)]], Field(min_length=1), AfterValidator(_all_differ)
    ]
    losses: Annotated[list[Annotated[str, Field(strict=True)]], Field(min_length=1), AfterValidator(distinct)]
    hard_label_weight: Share
    scale_by_temperature_squared: Flag
    loss: Losses

    @model_validator(mode="after")
    def _losses_are_there(self) -> "Distill":
        for name in self.losses:
            if name not in self.loss:
                near = nearest(name, [*self.loss, *KINDS])
                hint = f"write `{name}: {{}}` below loss, or name" if name in KINDS else "name"
                raise ValueError(
                    f"losses names {name!r}, but loss has no such entry: {hint} one of those that are there: "
                    f"{', '.join(self.loss)}" + (f". Did you mean {near!r}?" if near and near != name else "")
                )
        return self
