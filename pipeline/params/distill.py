"""The section `distill` of `params.yaml`: soft labels and losses."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.distillation.descriptions import NAME, AnySoftLoss, with_kinds
from pipeline.params.section import Section, distinct
from pipeline.runtime.ranges import Flag, Number, Share
from pipeline.runtime.temperatures import changing, in_range

Temperature = (
    Annotated[Annotated[int, Field(strict=True)] | Number, AfterValidator(in_range)]
    | Annotated[str, Field(strict=True), AfterValidator(changing)]
)


def _named(losses: dict[str, AnySoftLoss]) -> dict[str, AnySoftLoss]:
    for name in losses:
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
        temperatures: the temperatures T, each from 0.000001 to 1000000, or two, as 8to2, for one that changes from the
            first to the last epoch; one student for each, and for each loss and seed.
        losses: the losses, by their names in distill.loss; one student for each, and for each temperature and seed.
        hard_label_weight: the weight of the hard labels; the soft labels have the rest.
        scale_by_temperature_squared: whether the soft term is multiplied by T^2, with the losses that need it.
        loss: the losses that can be named, each with its parameters.
    """

    temperatures: Annotated[list[Temperature], Field(min_length=1), AfterValidator(distinct)]
    losses: Annotated[list[Annotated[str, Field(strict=True)]], Field(min_length=1), AfterValidator(distinct)]
    hard_label_weight: Share
    scale_by_temperature_squared: Flag
    loss: Losses

    @model_validator(mode="after")
    def _losses_are_there(self) -> "Distill":
        for name in self.losses:
            if name not in self.loss:
                raise ValueError(
                    f"losses names {name!r}, but loss has no such entry: write `{name}: {{}}` below loss, or name one "
                    f"of those that are there: {', '.join(self.loss)}"
                )
        return self
