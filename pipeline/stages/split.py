"""Stage `split`: copies labelled images into class folders, others into one folder, and lists them in the index."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import floor
from pathlib import Path
from typing import Any

from pipeline.datasets.copying import take_images
from pipeline.datasets.duplicates import Duplicates, report_copies
from pipeline.datasets.labelled import DataSet, alike, refuse_data_among, refuse_formulas
from pipeline.datasets.layouts import LAYOUTS, Layout
from pipeline.datasets.links import refuse_others, remove_links, write_links
from pipeline.datasets.split_drawing import Drawn, draw, refuse_empty_splits
from pipeline.images.index import SPLITS, Index, SplitName, write_index
from pipeline.runtime.errors import all_named, first_few
from pipeline.runtime.publish import publish


def run(
    *,
    layout: Layout,
    settings: Mapping[str, Any],
    split_folder: Path,
    index: Path,
    duplicates: Duplicates = "warn",
    limit: int | None = None,
    use_unlabelled: bool = True,
    copy: bool = True,
    links: bool = False,
    links_folder: Path | None = None,
    other_outputs: Sequence[Path] = (),
) -> None:
    """Checks every image, then writes `data/split/<split>/<class>/<image>` and `data/index.csv`.

    Training images without a label become `data/split/unlabelled/<image>`. Images in shards are not copied: the index
    names their places.

    Args:
        layout: one of `LAYOUTS`.
        settings: the arguments of that layout's reader.
        split_folder: the folder to write the images to.
        index: the CSV file to write.
        duplicates: what to do about equal pictures in several splits: warn, refuse or keep_in_train.
        limit: how many images are used at most, or None for all.
        use_unlabelled: whether images without a label are used.
        copy: whether image files are copied; else the index names them where they are.
        links: whether links to images that are not copied are written in the same folders below `links_folder`.
        links_folder: the folder of links; those of an earlier run are removed.
        other_outputs: what later stages will write or replace.

    Raises:
        ParameterError: the data lie in an output, or an output in the data; nothing was written.
        MismatchError: `links_folder` would be replaced or removed, and holds what `split` has not made.
        MissingError, DamagedError, MismatchError, ParameterError: as the layout's reader; nothing was written.
        UnusableError: the labels or images cannot be used; nothing was written.
    """
    links_folders = [] if links_folder is None else [links_folder]
    refuse_data_among(settings["data"], [split_folder, index, *links_folders, *other_outputs])
    for folder in links_folders:
        refuse_others(folder, is_to_be_written=links)
    data_set = LAYOUTS[layout](**settings)
    refuse_formulas((row.id for row in data_set.rows), data_set.source)
    drawn = draw(
        data_set,
        keep_copies_in_train=duplicates == "keep_in_train",
        limit=limit,
        use_unlabelled=use_unlabelled,
    )
    missing, remarks = refuse_empty_splits(drawn, data_set), list(_remarks(drawn, data_set))
    rows, splits, class_names = [*drawn.rows], drawn.splits, data_set.class_names
    linked = [*rows] if links else []
    del drawn, data_set  # of millions of images, these and the rows of the index would not fit into 2 GiB
    with publish(split_folder) as folder:
        taken = Index(take_images(rows, splits, folder, split_folder, copy), class_names)
        if missing:
            print(missing)
        report_copies(taken.images, refuse=duplicates == "refuse")
    for folder in links_folders:
        if links:
            write_links(linked, splits, folder)
        else:
            remove_links(folder)
    with publish(index) as partial:
        write_index(partial, taken)
    _print_counts(taken)
    for remark in remarks:
        print(remark)


def _remarks(drawn: Drawn, data_set: DataSet) -> Iterator[str]:
    """What is said below the counts."""
    yield from _on_drawing(drawn, data_set)
    yield from _on_alike(
        "classes", data_set.class_names, "write one of them in the data, or give them one name in class_names"
    )
    yield from _on_left_out(drawn)
    yield from _on_alike("groups", [row.group for row in data_set.rows if row.group is not None], "write them alike")
    if data_set.left_out:
        names = all_named([repr(name) for name in data_set.left_out], "left-out")
        yield f"{len(data_set.left_out)} left out, because {data_set.because}: {names}"
    yield from data_set.hints


def _on_drawing(drawn: Drawn, data_set: DataSet) -> Iterator[str]:
    """Says how validation and test images were drawn, and which classes were filled up."""
    shares, hashed = data_set.drawn, "group" if data_set.is_grouped else "name"
    drawn_from: dict[SplitName, str] = {"val": "the training images", "test": "the images that are not named"}
    origins = {
        split: f"{shares[split]:g} of {images}, by a hash of the {hashed}" if split in shares else "as the data say"
        for split, images in drawn_from.items()
    }
    for split, class_names in drawn.filled.items():
        if class_names:
            enough = floor(1000 * drawn.enough[split] + 1) / 1000  # rounded up, so that this share is enough
            yield (
                f"split.{split}_fraction {shares[split]:g} gave no {split} image to {len(class_names)} of "
                f"{len(data_set.class_names)} classes, so each got the image that a larger share would take first"
                + (f"; {enough:g} would give every class one." if enough < 1 else ".")
            )
    if drawn.kept:
        yield f"split.duplicates: {drawn.kept} image(s) stay in training, because they have copies in other splits."
    available = len(data_set.rows) - len(drawn.copied) - len(drawn.in_groups) - drawn.unused
    if len(drawn.rows) < available:
        yield f"split.limit: {len(drawn.rows):,} of {available:,} images are used, for a try-out."
    yield f"Validation images: {origins['val']}. Test images: {origins['test']}."


def _on_left_out(drawn: Drawn) -> Iterator[str]:
    """Says how many images without a label are left out, and which ones, if that is not stated in params.yaml."""
    if drawn.unused:
        yield (
            f"{drawn.unused:,} image(s) without a label are left out, because split.unlabelled.use is false. "
            "The labelled images are the same as with them."
        )
    for names, why in (
        (drawn.copied, "are equal to a validation or test image"),
        (drawn.in_groups, "belong to a group with validation or test images"),
    ):
        if names:
            named = all_named([*map(repr, names)], "left-out-without-label")
            yield f"{len(names)} image(s) without a label are left out, because they {why}: {named}"


def _on_alike(what: str, names: Sequence[str], remedy: str) -> Iterator[str]:
    pairs = [" and ".join(map(repr, same)) for same in alike(names)]
    if pairs:
        yield f"Some {what} differ only in upper and lower case: {first_few(pairs)}. If they are the same, {remedy}."


def _print_counts(index: Index) -> None:
    counts = Counter((image.split, image.class_name) for image in index.images)
    names = {name: name for name in index.class_names} | ({"": "no label"} if counts["train", ""] else {})
    width = max(6, *map(len, names.values()))
    print(f"{'class':<{width}}" + "".join(f"{split:>8}" for split in SPLITS))
    for name, shown in names.items():
        print(f"{shown:<{width}}" + "".join(f"{counts[split, name]:>8}" for split in SPLITS))
    print(f"{'all':<{width}}" + "".join(f"{len(index.split(split)):>8}" for split in SPLITS))
