"""The section `card` of `params.yaml`: what the model card says and no file knows."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.section import Section

Text = Annotated[str, Field(pattern=r"\S", strict=True, description="a text that is not blank")]
Licence = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$",
        strict=True,
        description="an identifier such as apache-2.0, cc-by-nc-4.0 or other",
    ),
]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$", strict=True, description="a code such as en")]


class Card(Section):
    """What the model card says and no file knows; a text may contain Markdown.

    Attributes:
        license: the licence of the student's files; null: a field of the card to fill in.
        domain: what the images are; medical adds that the student is for research use only and no medical device;
            null: a field to fill in.
        data: the name, the source and the licence of the data set; null: a field to fill in.
        authors: who made the student; null: a field to fill in.
        contact: where to ask; null: a field to fill in.
        intended_use: what the student is for, and what not; null: a field to fill in.
        limits: what is known of its mistakes, beside what the card says itself; null: a field to fill in.
        language: the language of the class names; null: not told.
    """

    license: Licence | None = None
    domain: Literal["general", "medical"] | None = None
    data: Text | None = None
    authors: Text | None = None
    contact: Text | None = None
    intended_use: Text | None = None
    limits: Text | None = None
    language: Language | None = None
