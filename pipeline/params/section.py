"""A section of `params.yaml`: unknown keys are refused, and so is reading what a stage does not declare."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.runtime.errors import ParameterError


class Section(BaseModel):
    """A part of params.yaml: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __getattr__(self, name: str) -> Any:
        """Explains why a declared field is not there: `restrict` has taken it away."""
        if name in type(self).model_fields:
            raise ParameterError(
                f"this stage reads the parameter {name!r} of {type(self).__name__}, but dvc.yaml does not declare "
                "it for the stage. Add it to the stage's params, so that DVC knows when to run it again."
            )
        raise AttributeError(name)
