"""Layout `folders`: a folder for each split, which holds a folder of images for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.annotations import (
    Annotation,
    DataSet,
    quoted,
    refuse_escapes,
    refuse_labels,
    refuse_leaving,
    refuse_unsafe_labels,
    shares_to_draw,
)
from pipeline.errors import PipelineError, all_named
from pipeline.index import in_order

LEFT_BY_SYSTEMS = {"thumbs.db", "desktop.ini"}


@dataclass
class _Found:
    """What lies in the folder of one split.

    Attributes:
        images: (class, file name) of each image.
        left_out: what is no image, relative to the folder.
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
) -> DataSet:
    """Reads and checks folders of classes.

    An image's id is `<class>/<file>`, with `val/` or `test/` before it where the data name that split.

    Args:
        data: the folder of the data set; every other path is relative to it.
        train: the folder of all images that `val` and `test` do not hold; "." is `data` itself.
        val: the folder of the validation images, or None.
        test: the folder of the test images, or None.
        val_fraction: share of the training images to draw for validation, or None where `val` is given.
        test_fraction: share of all of `train` to draw for testing, or None where `test` is given.

    Returns:
        The data set, its rows sorted by id.

    Raises:
        PipelineError: a folder is missing or cannot be used; no image was decoded.
    """
    named = {"train": train, "val": val, "test": test}
    folders = {split: data / path for split, path in named.items() if path is not None}
    _refuse_folders(data, folders)
    found = {split: _look(folder, list(folders.values())) for split, folder in folders.items()}
    classes = {label for label, _ in found["train"].images}
    refuse_labels(classes, folders["train"], "a folder for each class")
    for split, folder in folders.items():
        _refuse_unknown_classes(found[split], folder, sorted(classes), folders["train"])
    rows = [
        Annotation(_id(split, label, name), label, split, None, folder / label / name, drawn_by=name)
        for split, folder in folders.items()
        for label, name in found[split].images
    ]
    left_out = [folder / name for split, folder in folders.items() for name in found[split].left_out]
    return DataSet(
        source=data,
        rows=sorted(rows, key=lambda row: row.id),
        drawn=shares_to_draw(val_fraction, test_fraction),
        left_out=sorted(path.relative_to(data).as_posix() for path in left_out),
        because=f"they are hidden, or in no folder of a class, in {data}",
        class_names=in_order(classes),
    )


def _refuse_folders(data: Path, folders: Mapping[str, Path]) -> None:
    for split, folder in folders.items():
        if not folder.is_dir():
            raise PipelineError(
                f"there is no folder {folder}. Put the images there, or correct split.data and split.{split}."
            )
        refuse_leaving(data, folder, split)
    if len({folder.resolve() for folder in folders.values()}) < len(folders):
        raise PipelineError(
            f"two of {quoted(map(str, folders.values()))} are the same folder by a link. "
            "An image is in one split only: give each split a folder of its own."
        )


def _id(split: str, label: str, name: str) -> str:
    return f"{label}/{name}" if split == "train" else f"{split}/{label}/{name}"


def _look(folder: Path, split_folders: Sequence[Path]) -> _Found:
    """Finds the images in the class folders of a split; the folder of another split is no class."""
    found = _Found()
    classes = []
    for entry in sorted(folder.iterdir()):
        if entry in split_folders:
            continue
        if not entry.is_dir() or _is_hidden(entry):
            found.left_out.append(entry.name)
        else:
            classes.append(entry.name)
    _refuse_names(classes, folder)
    for label in classes:
        entries = sorted(entry.name for entry in (folder / label).iterdir())
        hidden = [name for name in entries if _is_hidden(folder / label / name)]
        found.left_out += [f"{label}/{name}" for name in hidden]
        images = sorted(set(entries) - set(hidden))
        _refuse_no_files(folder / label, images)
        found.images += [(label, name) for name in images]
    return found


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in LEFT_BY_SYSTEMS


def _refuse_names(classes: list[str], folder: Path) -> None:
    refuse_unsafe_labels(classes, folder, "the folders of the classes")
    links = [name for name in classes if (folder / name).is_symlink()]
    if links:
        raise PipelineError(
            f"{len(links)} folder(s) of classes in {folder} are links: {all_named([*map(repr, links)])}. DVC follows "
            "none and would not see a change there. Put the folders there themselves."
        )


def _refuse_no_files(folder: Path, names: list[str]) -> None:
    if not names:
        raise PipelineError(f"{folder} holds no images. Put the images of that class there, or remove the folder.")
    refuse_escapes(names, folder)
    other = [name for name in names if not (folder / name).is_file()]
    if other:
        raise PipelineError(
            f"{folder} holds what is no file: {all_named(other)}. Expected images alone: a class has no folders "
            "below its own. Move their images up, or correct split.train, split.val and split.test."
        )


def _refuse_unknown_classes(found: _Found, folder: Path, classes: list[str], train: Path) -> None:
    unknown = sorted({label for label, _ in found.images} - set(classes))
    if unknown:
        raise PipelineError(
            f"{folder} has the class(es) {quoted(unknown)}, which {train} lacks; it has {quoted(classes)}. "
            "Every class needs training images: add them, or remove or rename these folders."
        )
