"""Layout `folders`: a folder for each split, which holds a folder of images for each class."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.class_names import ClassNames, name_classes
from pipeline.datasets.image_names import IMAGE_EXTENSIONS, files_below, is_left_by_a_system
from pipeline.datasets.labelled import (
    Annotation,
    DataSet,
    composed,
    ids_of,
    refuse_escapes,
    refuse_labels,
    refuse_leaving,
    refuse_unsafe_labels,
    shares_to_draw,
)
from pipeline.runtime.errors import MissingError, UnusableError, all_named, nearest, quoted

USUAL_NAMES = {"val": {"val", "valid", "validation"}, "test": {"test", "testing"}}
"""Of folders of splits, in lower case."""


@dataclass
class _Found:
    """What lies in the folder of one split.

    Attributes:
        images: (folder of the class, file name) of each image.
        left_out: files in no folder of a class, relative to the folder of the split.
    """

    images: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_folders(
    *,
    data: Path,
    train: Path,
    val: Path | None,
    test: Path | None,
    val_fraction: float | None,
    test_fraction: float | None,
    class_names: ClassNames = None,
) -> DataSet:
    """Reads and checks folders of classes.

    An image's id is `<folder>/<file>`, with `val/` or `test/` before it where the data name that split.

    Args:
        data: the folder of the data set; every other path is relative to it.
        train: the folder of all images that `val` and `test` do not hold; "." is `data` itself.
        val: the folder of the validation images, or None.
        test: the folder of the test images, or None.
        val_fraction: share of the training images to draw for validation, or None where `val` is given.
        test_fraction: share of all of `train` to draw for testing, or None where `test` is given.
        class_names: names and order of the classes, as `name_classes` takes them; the labels are the folders' names.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        PipelineError: a folder is missing or cannot be used; no image was decoded.
    """
    given = {"train": train, "val": val, "test": test}
    folders = {split: data / path for split, path in given.items() if path is not None}
    _refuse_folders(data, folders)
    found = {split: _look(folder, list(folders.values())) for split, folder in folders.items()}
    classes = {label for label, _ in found["train"].images}
    if not classes:
        raise MissingError(
            f"{folders['train']} holds no folders of classes. Put the images of each class into a folder of its name "
            "there, or correct split.data and split.train."
        )
    place = "a folder for each class"
    refuse_labels(classes, folders["train"], place)
    for split, folder in folders.items():
        _refuse_unknown_classes(found[split], folder, sorted(classes), folders["train"])
    images = [(split, label, name) for split in folders for label, name in found[split].images]
    labels = [composed(label) for _, label, _ in images]
    named, order = name_classes(labels, class_names, data=data, source=folders["train"], place=place)
    left_out = [folder / name for split, folder in folders.items() for name in found[split].left_out]
    unstated = {} if folders["train"] == data else _unstated(data, list(folders.values()))
    stated = ", ".join(f"split.{split}" for split in folders)
    return DataSet(
        source=data,
        rows=sorted(_rows(folders, images, named), key=lambda row: row.id),
        drawn=shares_to_draw(val_fraction, test_fraction),
        left_out=sorted(path.relative_to(data).as_posix() for path in left_out)
        + [f"{name}/ ({count} images)" for name, count in unstated.items()],
        because=f"they are in no folder of a class{f' of {stated}' if unstated else ''}, in {data}",
        class_names=order,
        hints=[
            f"If {name!r} holds {'validation' if split == 'val' else 'test'} images, set split.{split}: {name} and "
            f"split.{split}_fraction: null."
            for split in USUAL_NAMES
            for name in unstated
            if split not in folders and name.rpartition("/")[2].lower() in USUAL_NAMES[split]
        ],
    )


def _rows(
    folders: Mapping[str, Path], images: Sequence[tuple[str, str, str]], classes: Sequence[str]
) -> Iterator[Annotation]:
    """Of each (split, folder of the class, file name); where several folders are one class, a copy's name begins with
    its folder's."""
    merged = defaultdict(set)
    for (_, label, _), class_name in zip(images, classes, strict=True):
        merged[class_name].add(label)
    ids = ids_of([_id(*image) for image in images])
    for image_id, (split, label, name), class_name in zip(ids, images, classes, strict=True):
        yield Annotation(
            id=image_id,
            class_name=class_name,
            partition=split,
            votes=None,
            image=folders[split] / label / name,
            drawn_by=name,
            file_name=f"{label}__{name}" if len(merged[class_name]) > 1 else name,
        )


def _refuse_folders(data: Path, folders: Mapping[str, Path]) -> None:
    for split, folder in folders.items():
        if not folder.is_dir():
            raise MissingError(
                f"there is no folder {folder}. Put the images there, or correct split.data and split.{split}."
            )
        refuse_leaving(data, folder, split)
    if len({folder.resolve() for folder in folders.values()}) < len(folders):
        raise UnusableError(
            f"two of {quoted(map(str, folders.values()))} are the same folder by a link. "
            "An image is in one split only: give each split a folder of its own."
        )


def _unstated(data: Path, stated: Sequence[Path]) -> dict[str, int]:
    """The folders of images beside those of the splits, relative to `data`, with the number of their images."""
    above = {parent for folder in stated for parent in folder.parents if parent.is_relative_to(data)}
    beside = [
        entry
        for folder in above
        if not any(folder.is_relative_to(split) for split in stated)
        for entry in folder.iterdir()
        if entry.is_dir() and entry not in above and entry not in stated and not is_left_by_a_system(entry.name)
    ]
    counts = {
        folder.relative_to(data).as_posix(): sum(
            Path(name).suffix.lower() in IMAGE_EXTENSIONS for name in files_below(folder)
        )
        for folder in sorted(beside)
    }
    return {name: count for name, count in counts.items() if count}


def _id(split: str, label: str, name: str) -> str:
    return f"{label}/{name}" if split == "train" else f"{split}/{label}/{name}"


def _look(folder: Path, split_folders: Sequence[Path]) -> _Found:
    """Finds the images in the class folders of a split; the folder of another split is no class."""
    found = _Found()
    classes = []
    for entry in sorted(folder.iterdir()):
        if entry in split_folders or is_left_by_a_system(entry.name):
            continue
        if entry.is_dir():
            classes.append(entry.name)
        else:
            found.left_out.append(entry.name)
    _refuse_names(classes, folder)
    for label in classes:
        images = sorted(entry.name for entry in (folder / label).iterdir() if not is_left_by_a_system(entry.name))
        _refuse_no_files(folder / label, images)
        found.images += [(label, name) for name in images]
    return found


def _refuse_names(classes: list[str], folder: Path) -> None:
    refuse_unsafe_labels(classes, folder, "the folders of the classes")
    links = [name for name in classes if (folder / name).is_symlink()]
    if links:
        raise UnusableError(
            f"{len(links)} folder(s) of classes in {folder} are links: {all_named([*map(repr, links)])}. DVC follows "
            "none and would not see a change there. Put the folders there themselves."
        )


def _refuse_no_files(folder: Path, names: list[str]) -> None:
    if not names:
        raise UnusableError(f"{folder} holds no images. Put the images of that class there, or remove the folder.")
    refuse_escapes(names, folder)
    other = [name for name in names if not (folder / name).is_file()]
    if len(other) == len(names):
        raise UnusableError(
            f"{folder} holds only folders: {quoted(other)}. If these are the classes, correct split.data, or "
            "split.train, split.val and split.test, so that they name the folder above them. If they are parts of one "
            "class, put their images into that class's folder, each under a name of its own."
        )
    if other:
        raise UnusableError(
            f"{folder} holds what is no file: {all_named([*map(repr, other)])}. Expected images alone: a class has no "
            "folders below its own. Put their images into it, each under a name of its own, or move these folders out "
            "of the data set."
        )


def _refuse_unknown_classes(found: _Found, folder: Path, classes: list[str], train: Path) -> None:
    known = set(map(composed, classes))
    unknown = sorted({label for label, _ in found.images if composed(label) not in known})
    if unknown:
        near = nearest(unknown[0], classes)
        said = f" The name nearest to {unknown[0]!r} there is {near!r}." if near else ""
        raise UnusableError(
            f"{folder} has the class(es) {quoted(unknown)}, which {train} lacks; it has {quoted(classes)}.{said} "
            "Every class needs training images: add them, or rename these folders, or move them out of the data set."
        )
