"""The ranges of numbers that params.yaml may hold, as types: pydantic checks them where the file is read.

They take no other type in a number's place: 1 is no flag, "1" no number, and True no whole number.
"""

from typing import Annotated

from pydantic import Field

Flag = Annotated[bool, Field(strict=True)]
"""true or false."""
Positive = Annotated[int, Field(ge=1, strict=True)]
"""A whole number from 1."""
Number = Annotated[float, Field(strict=True)]
"""Any number."""
Rate = Annotated[float, Field(gt=0, strict=True)]
"""A number above 0."""
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
"""A number from 0 to below 1."""
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
"""A number from 0 to 1."""
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
"""A whole number from 0 to 2^32 - 1."""
