"""A section of `params.yaml`: it refuses unknown keys, and the reading of parameters that a stage does not declare."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.runtime.errors import MismatchError

TAGS = ("architecture", "kind", "layout")
"""The keys whose value decides which other keys there are."""


class DeclaredEntries(dict[str, Any]):
    """The entries of a map of params.yaml, such as `distill.loss`, that dvc.yaml declares for a stage."""

    def __missing__(self, name: str) -> Any:
        """Explains why an entry is missing: `restrict` has removed it."""
        raise MismatchError(
            f"this stage reads the entry {name!r} of a map in params.yaml, but dvc.yaml does not declare it for the "
            f"stage, only {', '.join(self) or 'no entry'}. Add it to the stage's params."
        )


class Section(BaseModel):
    """A part of params.yaml, whose values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __getattr__(self, name: str) -> Any:
        """Explains why a field is missing: `restrict` has removed it."""
        if name in type(self).model_fields:
            raise MismatchError(
                f"this stage reads the parameter {name!r} of {type(self).__name__}, but dvc.yaml does not declare "
                "it for the stage. Add it to the stage's params, so that DVC knows when to run it again."
            )
        raise AttributeError(name)


def distinct(values: list[Any]) -> list[Any]:
    """The same list.

    Raises:
        ValueError: two of its values are equal.
    """
    if len(set(values)) < len(values):
        raise ValueError("expected values that all differ")
    return values
