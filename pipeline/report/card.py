"""The model card: fills the template `card.md`, after the metadata of `card_metadata`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.evaluation.exports import Export
from pipeline.evaluation.text_table import Cell, Row, Table, as_markdown, escaped
from pipeline.images.index import SPLITS, Index
from pipeline.images.resize import Fit
from pipeline.report.page import as_yaml

TEMPLATE = Path(__file__).with_name("card.md")

TO_FILL_IN = {
    "license": "the licence of the student's files, by its identifier, such as apache-2.0",
    "domain": "general, or medical if the images are of people's health: the card then says what that forbids",
    "data": "the name, the source and the licence of the data set",
    "authors": "who made the student",
    "contact": "where to ask",
    "intended_use": "what the student is for, and what not",
    "limits": "what is known of its mistakes",
}
"""The keys of `card` in params.yaml that a card should have, and what each says."""

FITTED: Mapping[Fit, str] = {
    "stretch": "is stretched",
    "crop": "loses equal parts on both sides",
    "pad": "gets black margins",
}

ACTIVE = re.compile(
    r"<(?=[a-z/!?])(?!(?:(?:https?://|mailto:)[^\s<>]*|[\w.+-]+@[\w.-]+)>)"  # HTML
    r"|\](?=\s*[(:])(?![(:]\s*+<?(?:https?://|mailto:|[^\s:&\\<>()]*[\s)>]))",  # the end of a link's text
    re.IGNORECASE,
)
"""The first character of HTML, and of links to other things than pages, mail addresses and files beside the card."""

Statements = Mapping[str, str | None]


def filled_card(**content: Any) -> str:
    """Fills the template; all content but `Markup` is escaped, and shown as it is."""
    environment = Environment(  # noqa: S701 - this is no HTML: `_shown` escapes
        loader=FileSystemLoader(TEMPLATE.parent),
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(TEMPLATE.name).render(**content)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Markup) else escaped(str(value))


def missing(statements: Statements) -> dict[Markup, str]:
    """The keys of `TO_FILL_IN` without a value, and their meaning."""
    return {Markup(key): meaning for key, meaning in TO_FILL_IN.items() if statements[key] is None}  # noqa: S704


def stated(statements: Statements) -> dict[str, Markup]:
    """What the section `card` states, as Markdown; a field to fill in where it has no value.

    HTML, and links such as `javascript:`, are shown as text: the section may come from others.
    """
    texts = {key: statements[key] or f"*To be filled in (`card.{key}`).*" for key in TO_FILL_IN}
    return {key: Markup(ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text)) for key, text in texts.items()}  # noqa: S704


def counts_of(data: Index) -> Table:
    """How many images each class has in each split, in the order of the outputs."""
    names = [*data.class_names, *([""] if any(not image.is_labelled for image in data.images) else [])]
    counted = {name: dict.fromkeys(SPLITS, 0) for name in names}
    for image in data.images:
        counted[image.class_name][image.split] += 1
    rows = [
        Row(name or "without a label", [Cell(f"{counts[split]:,}") for split in SPLITS])
        for name, counts in counted.items()
    ]
    total = Row("all", [Cell(f"{len(data.split(split)):,}") for split in SPLITS])
    return Table(
        f"Images of the {len(data.class_names)} classes, in the order of the student's outputs.",
        ["class", "training", "validation", "test"],
        [*rows, total],
        [],
        numbers=True,
    )


def table(shown: Table) -> Markup:
    """A table as Markdown."""
    return Markup(as_markdown(shown))  # noqa: S704 - `as_markdown` escapes


def settings(values: Mapping[str, Any]) -> Markup:
    """Parameters as a block of YAML; of a file outside of the project, its name alone."""
    text = as_yaml(_without_folders(values))
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return Markup(f"{fence}yaml\n{text}{fence}")  # noqa: S704 - nothing in a block is markup


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    return file_name(value) if isinstance(value, str) and _is_outside(value) else value


def _is_outside(text: str) -> bool:
    """Whether a path leads out of the project, on any system; PureWindowsPath also knows the paths of the others."""
    path = PureWindowsPath(text)
    return bool(path.anchor) or text.startswith(("~", "file:")) or ".." in path.parts


def file_name(path: str) -> str:
    """The last part of a path, written as on any system."""
    return PureWindowsPath(path).name


def calibration(exports: Sequence[Export]) -> list[str]:
    """What is known of the probabilities of each exported student."""
    return [*map(_calibration, exports)] or [
        "No temperature is known, since there is no export of this student. The ECE is in the table above."
    ]


def _calibration(export: Export) -> str:
    before, after = export.keras, export.keras["calibrated"]
    if export.temperature == 1:
        why = f" ({export.temperature_note})" if export.temperature_note else ""
        return (
            f"{export.words}: its own temperature is 1{why}, so its probabilities are used as they are. On the test "
            f"images their ECE is {before['ece']:.3f}, and their NLL {before['nll']:.3f}."
        )
    origin = export.temperature_note or "which the validation images gave"
    return (
        f"{export.words}: divided by its own temperature T = {export.temperature:.3f} ({origin}; Guo et al., "
        f"arXiv:1706.04599), its logits have an ECE of {after['ece']:.3f} on the test images in "
        f"place of {before['ece']:.3f}, and an NLL of {after['nll']:.3f} in place of {before['nll']:.3f}. The "
        "temperature is kept in each file; which class is chosen stays the same."
    )


def input_and_output(preprocessing: Mapping[str, Any]) -> list[str]:
    """What goes into a file and what comes out, in sentences.

    Args:
        preprocessing: as `images.resize.preprocessing` gives it.
    """
    height, width, channels = preprocessing["input_shape"]
    resize = preprocessing["resize"]
    color = "grey" if channels == 1 else "RGB"
    smoothed = "with" if resize["antialias"] else "without"
    return [
        f"Input: {height} x {width} pixels, {color}, 0 to 255. An image of another size is resized "
        f"({resize['method']}, {smoothed} antialiasing), and one of another aspect ratio {FITTED[resize['fit']]}. All "
        "other preprocessing is inside.",
        "Output: a number for each class, in the order of the table below: its logit, or its probability if the file's "
        "metadata say so.",
    ]
