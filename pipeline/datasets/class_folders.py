"""Layout `folders`: a folder for each split, and in it a folder of images for each class."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.class_names import ClassNames, labels_in, name_classes
from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below, is_left_by_a_system
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
from pipeline.datasets.unlabelled import NONE_EXPECTED, Unlabelled, read_folder
from pipeline.datasets.unlabelled import USUAL_NAMES as UNLABELLED_NAMES
from pipeline.images.index import SplitName
from pipeline.runtime.errors import MissingError, UnusableError, all_named, nearest, quoted

USUAL_NAMES: dict[SplitName, set[str]] = {"val": {"val", "valid", "validation"}, "test": {"test", "testing"}}
"""Usual names of the folders of these splits, in lower case."""


@dataclass
class _Content:
    """The content of the folder of one split.

    Attributes:
        images: (folder of the class, file name) of each image.
        left_out: files outside the folders of classes, relative to the folder of the split.
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
    unlabelled: Unlabelled = NONE_EXPECTED,
) -> DataSet:
    """Reads and checks folders of classes.

    An image's id is `<folder>/<file>`, with `val/` or `test/` before it if the data name that split.

    Args:
        data: the folder of the data set; every other path is relative to it.
        train: the folder of all images that `val` and `test` do not hold; "." is `data` itself.
        val: the folder of the validation images, or None.
        test: the folder of the test images, or None.
        val_fraction: share of the training images to draw for validation, or None if `val` is a folder.
        test_fraction: share of all images of `train` to draw for testing, or None if `test` is a folder.
        class_names: names and order of the classes, as `name_classes` takes them; the labels are the folders' names.
        unlabelled: the folder of images without a label, which is no class.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        MissingError: a folder is missing.
        UnusableError: a folder or a name in it cannot be used.
        MismatchError: a folder of a class has no name in `class_names`.
    """
    paths: dict[SplitName, Path | None] = {"train": train, "val": val, "test": test}
    folders = {split: data / path for split, path in paths.items() if path is not None}
    _refuse_folders(data, folders)
    apart = [*folders.values(), *([] if unlabelled.folder is None else [data / unlabelled.folder])]
    known = labels_in(data, class_names)
    contents = {split: _content_of(folder, apart, data, known) for split, folder in folders.items()}
    labels = {label for label, _ in contents["train"].images}
    if not labels:
        raise MissingError(
            f"{folders['train']} holds no folders of classes. Put the images of each class into a folder of its name "
            "there, or correct split.data and split.train."
        )
    place = "a folder for each class"
    refuse_labels(labels, folders["train"], place)
    for split, folder in folders.items():
        _refuse_unknown_classes(contents[split], folder, sorted(labels), folders["train"])
    images = [(split, label, name) for split in folders for label, name in contents[split].images]
    classes, order = name_classes(
        [composed(label) for _, label, _ in images], class_names, data=data, source=folders["train"], place=place
    )
    rows = list(_rows(folders, images, classes))
    more, no_images = read_folder(data, unlabelled.folder, rows)
    left_out = [folder / name for split, folder in folders.items() for name in contents[split].left_out]
    unstated = {} if folders["train"] == data else _unstated(data, apart)
    stated = ", ".join(f"split.{split}" for split in folders)
    return DataSet(
        source=data,
        rows=sorted([*rows, *more], key=lambda row: row.id),
        drawn=shares_to_draw(val_fraction, test_fraction),
        left_out=sorted([*(path.relative_to(data).as_posix() for path in left_out), *no_images])
        + [f"{name}/ ({count} images)" for name, count in unstated.items()],
        because=f"they are in no folder of a class{f' of {stated}' if unstated else ''}, in {data}",
        class_names=order,
        hints=[
            f"If {name!r} holds {'validation' if split == 'val' else 'test'} images, set split.{split}: {name} and "
            f"split.{split}_fraction: null."
            for split in USUAL_NAMES
            for name in unstated
            if split not in folders and name.rpartition("/")[2].lower() in USUAL_NAMES[split]
        ]
        + [
            f"If {name!r} holds images without a label, set split.unlabelled: {{folder: {name}}}."
            for name in unstated
            if unlabelled.folder is None and name.rpartition("/")[2].lower() in UNLABELLED_NAMES
        ],
    )


def _rows(
    folders: Mapping[SplitName, Path], images: Sequence[tuple[SplitName, str, str]], classes: Sequence[str]
) -> Iterator[Annotation]:
    """The annotation of each (split, folder of the class, file name).

    If several folders are one class, the names of their copies begin with the folder's name, so that they differ.
    """
    merged = defaultdict(set)
    for (_, label, _), class_name in zip(images, classes, strict=True):
        merged[class_name].add(label)
    ids = ids_of(
        [f"{label}/{name}" if split == "train" else f"{split}/{label}/{name}" for split, label, name in images]
    )
    of_classes = {(split, label) for split, label, _ in images}
    place_of = {(split, label): (folders[split] / label).as_posix() for split, label in of_classes}
    for image_id, (split, label, name), class_name in zip(ids, images, classes, strict=True):
        yield Annotation(
            id=image_id,
            class_name=class_name,
            partition=split,
            votes=None,
            image=f"{place_of[split, label]}/{name}",
            drawn_by=name,  # without the class, so that renaming a class or correcting a label moves no image
            file_name=f"{label}__{name}" if len(merged[class_name]) > 1 else name,
        )


def _refuse_folders(data: Path, folders: Mapping[SplitName, Path]) -> None:
    for split, folder in folders.items():
        if not folder.is_dir():
            raise MissingError(
                f"there is no folder {folder}. Put the images there, or correct split.data and split.{split}."
            )
        refuse_leaving(data, folder, split)
    if len({folder.resolve() for folder in folders.values()}) < len(folders):
        raise UnusableError(
            f"two of {quoted(map(str, folders.values()))} are the same folder by a link. "
            "An image can be in one split only: give each split a folder of its own."
        )


def _unstated(data: Path, stated: Sequence[Path]) -> dict[str, int]:
    """The folders of images beside the folders of the splits, relative to `data`, with the number of their images."""
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


def _content_of(folder: Path, apart: Sequence[Path], data: Path, known: Sequence[str]) -> _Content:
    """Lists the images in the class folders of a split.

    The folder of another split, or of images without a label, is no class. Neither is an empty folder with the usual
    name of the latter.
    """
    content = _Content()
    labels = []
    for entry in sorted(folder.iterdir()):
        if entry in apart or is_left_by_a_system(entry.name):
            continue
        if entry.is_dir() and entry.name.lower() in UNLABELLED_NAMES and composed(entry.name) not in known:
            _refuse_unlabelled(entry, data)
        elif entry.is_dir():
            labels.append(entry.name)
        else:
            content.left_out.append(entry.name)
    _refuse_names(labels, folder)
    for label in labels:
        with os.scandir(folder / label) as entries:
            images = sorted((one for one in entries if not is_left_by_a_system(one.name)), key=lambda one: one.name)
        _refuse_no_files(folder / label, images)
        content.images += [(label, image.name) for image in images]
    return content


def _refuse_unlabelled(folder: Path, data: Path) -> None:
    if files_below(folder):
        name = folder.relative_to(data).as_posix()
        raise UnusableError(
            f"{folder} would be a class called {folder.name!r}. If these are images without a label, set "
            f"split.unlabelled: {{folder: {name}}}, with use: false to leave them out; if another folder is named "
            "there, move these images into that one. If it is a class, name all classes in split.class_names."
        )


def _refuse_names(labels: list[str], folder: Path) -> None:
    refuse_unsafe_labels(labels, folder, "the folders of the classes")
    links = [name for name in labels if (folder / name).is_symlink()]
    if links:
        raise UnusableError(
            f"{len(links)} folder(s) of classes in {folder} are links: {all_named([*map(repr, links)])}. DVC follows "
            "no links and would not see changes there. Replace each link with the folder itself."
        )


def _refuse_no_files(folder: Path, entries: Sequence[os.DirEntry[str]]) -> None:
    if not entries:
        raise UnusableError(f"{folder} holds no images. Put the images of that class there, or remove the folder.")
    refuse_escapes(entries, folder)
    other = [entry.name for entry in entries if not (entry.is_file(follow_symlinks=False) or os.path.isfile(entry))]
    if len(other) == len(entries):
        raise UnusableError(
            f"{folder} holds only folders: {quoted(other)}. If these are the classes, set split.data, or split.train, "
            "split.val and split.test, to the folder that holds them. If they are parts of one class, move their "
            "images into the folder of the class, each under a name of its own."
        )
    if other:
        raise UnusableError(
            f"{folder} holds what is no file: {all_named([*map(repr, other)])}. Expected image files alone in the "
            "folder of a class. Move the images of these folders into it, each under a name of its own, or move the "
            "folders out of the data set."
        )


def _refuse_unknown_classes(content: _Content, folder: Path, labels: list[str], train: Path) -> None:
    known = set(map(composed, labels))
    unknown = sorted({label for label, _ in content.images if composed(label) not in known})
    if unknown:
        near = nearest(unknown[0], labels)
        hint = f" The name nearest to {unknown[0]!r} there is {near!r}." if near else ""
        raise UnusableError(
            f"{folder} has the class(es) {quoted(unknown)}, which {train} lacks; it has {quoted(labels)}.{hint} "
            "Every class needs training images: add them, or rename these folders, or move them out of the data set."
        )
