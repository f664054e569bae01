"""The ranges of the values in params.yaml, as types that pydantic checks when the file is read.

They are strict and convert nothing: 1 is not a flag, "1" is not a number, and true is not a whole number.
"""

from typing import Annotated

from pydantic import Field

Flag = Annotated[bool, Field(strict=True)]
"""true or false."""
Positive = Annotated[int, Field(ge=1, strict=True)]
"""A whole number of at least 1."""
Count = Annotated[int, Field(ge=0, strict=True)]
"""A whole number of at least 0."""
Number = Annotated[float, Field(strict=True)]
"""Any number."""
Rate = Annotated[float, Field(gt=0, strict=True)]
"""A number above 0."""
NotNegative = Annotated[float, Field(ge=0, strict=True)]
"""A number of at least 0."""
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
"""A number from 0 to 1, 1 excluded."""
Between = Annotated[float, Field(gt=0, lt=1, strict=True)]
"""A number between 0 and 1, both excluded."""
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
"""A number from 0 to 1."""
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
"""A whole number from 0 to 2^32 - 1."""
