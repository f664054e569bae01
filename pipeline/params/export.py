"""The section `export` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from pipeline.params.section import Section


class Export(Section):
    """The files of students.

    Attributes:
        students: the students.
    """

    students: list[Annotated[str, Field(strict=True)]] = ["best"]  # noqa: RUF012
