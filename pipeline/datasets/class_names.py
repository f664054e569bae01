"""The classes of a data set: their names, and the order of the class axis.

Labels that are whole numbers are in the order of the numbers; others are in the order of `class_names` if there is one,
and else sorted. `class_names` is a list or a map. If a map gives several labels the same name, they are one class.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.datasets.labelled import composed, refuse_labels, refuse_leaving
from pipeline.images.index import in_order
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError, nearest, one_line, quoted
from pipeline.runtime.text_files import parsed_json, read_text

ClassNames = Sequence[str] | Mapping[str, str] | Path | None
WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,18})(\.0*)?")
EXPECTED = 'Expected JSON such as ["healthy", "ill"] or {"0": "healthy", "1": "ill"}, or text with one name a line.'


def name_classes(
    labels: Sequence[str],
    class_names: ClassNames,
    *,
    data: Path,
    source: Path,
    place: str,
    stated: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """The class of each image, and the class axis.

    Args:
        labels: the labels of the N images.
        class_names: a list of the names of labels 0, 1, ..., or of the labels themselves in order; a map from label to
            name; a file of such a list or map, relative to `data`; None takes the labels as names.
        data: the folder of the data set.
        source: the file or folder that holds the labels, for messages.
        place: where the user can change the labels, for messages.
        stated: all labels in the order of the class axis if the data state that order; else empty.

    Returns:
        The class name of each of the N images, and the class names that occur, in the order of the class axis.

    Raises:
        MissingError: there is no such file of names.
        DamagedError: the file of names cannot be read.
        MismatchError: a label has no name.
        UnusableError: the file holds other things than names, or the names cannot name two or more folders.
    """
    names, order = _names_and_order(set(labels), class_names, data, source, stated)
    if class_names is not None:
        place = f"{data / class_names if isinstance(class_names, Path) else 'split.class_names'} and {place}"
    refuse_labels(order, source, place)
    return [names[label] for label in labels], order


def _names_and_order(
    labels: set[str], class_names: ClassNames, data: Path, source: Path, stated: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    known = read_class_names(data, class_names) if isinstance(class_names, Path) else class_names
    if isinstance(known, Mapping):
        known = {composed(label): composed(name) for label, name in known.items()}
    elif known is not None:
        known = [composed(name) for name in known]
    ordered = [label for label in stated if label in labels] or in_order(labels)
    if known is None:
        return {label: label for label in ordered}, ordered
    # Numbers come before the order of a map: networks trained elsewhere have their outputs in the order of the numbers,
    # and JSON maps are often sorted as text (0, 1, 10, 2).
    are_numbers = not stated and all(map(WHOLE_NUMBER.fullmatch, labels))
    if isinstance(known, Mapping):
        mapped, remedy = known, "Correct the labels, or add them."
    elif are_numbers and not labels <= set(known):
        mapped = {str(number): name for number, name in enumerate(known)}
        remedy = "A list names labels from 0 on: lengthen it, or write a map, such as {1: healthy, 2: ill}."
    else:
        mapped, are_numbers = {name: name for name in known}, False
        remedy = "A list puts the labels themselves in order: add them; to rename them, write a map of label and name."
    names = _by_number(labels, mapped) if are_numbers else {label: mapped[label] for label in labels & set(mapped)}
    _refuse_unknown(labels, names, mapped, source, remedy)
    order = ordered if are_numbers else [label for label in mapped if label in labels]
    return names, list(dict.fromkeys(names[label] for label in order))


def _by_number(labels: set[str], names: Mapping[str, str]) -> dict[str, str]:
    """The names of labels that are numbers. 1, 01 and 1.0 are one number."""
    by_number = {whole_number(label): name for label, name in names.items()}
    return {label: by_number[whole_number(label)] for label in labels if whole_number(label) in by_number}


def _refuse_unknown(
    labels: set[str], names: Mapping[str, str], mapped: Mapping[str, str], source: Path, remedy: str
) -> None:
    unknown = in_order(labels - set(names))
    if unknown:
        near = nearest(unknown[0], mapped)
        hint = f"; the nearest to {unknown[0]!r} is {near!r}" if near else ""
        raise MismatchError(
            f"{source} has {len(unknown)} label(s) that split.class_names does not know: {quoted(unknown)}; "
            f"known are {quoted(mapped)}{hint}. {remedy}"
        )


def whole_number(label: str) -> int | None:
    """The value of a text such as 7 or 7.0, as pandas writes 7 beside empty fields; None for any other text."""
    match = WHOLE_NUMBER.fullmatch(label)
    return int(match[1]) if match else None


def labels_in(data: Path, class_names: ClassNames) -> list[str]:
    """The labels of a map, or the names of a list; none if there are no names.

    Raises:
        MissingError, DamagedError, UnusableError: as `read_class_names`.
    """
    known = read_class_names(data, class_names) if isinstance(class_names, Path) else class_names
    return [composed(label) for label in known or ()]


def read_class_names(data: Path, file: Path) -> list[str] | dict[str, str]:
    """Reads a JSON file of a list or a map of names, or a text file with a name in each line.

    Args:
        data: the folder of the data set.
        file: relative to `data`.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read.
        UnusableError: it is neither.
    """
    path = data / file
    if not path.is_file():
        raise MissingError(f"there is no class_names file at {path}. Put it there, or set split.class_names: null.")
    refuse_leaving(data, path, "class_names")
    content = read_text(path, EXPECTED)
    is_json = path.suffix.lower() == ".json" or content.lstrip()[:1] in {"{", "["}
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    try:
        names = parsed_json(content) if is_json else lines
    except ValueError as error:
        raise DamagedError(f"{path} cannot be read as JSON or text in UTF-8: {one_line(error)}. {EXPECTED}") from None
    if isinstance(names, dict):
        if not all(isinstance(name, str) for name in names.values()):
            raise UnusableError(f"{path} maps labels to values that are no text. {EXPECTED}")
        return names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnusableError(f"{path} holds no list or map of texts. {EXPECTED}")
    _refuse_repeated(names, path)
    return names


def _refuse_repeated(names: Sequence[str], path: Path) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise UnusableError(f"{path} uses {quoted(repeated)} more than once. {EXPECTED}")
