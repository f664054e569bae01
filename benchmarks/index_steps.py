"""The steps of `benchmarks.large_index`: commands, in a project whose images have no files.

What would read an image gets grey pixels or drawn logits in its place, or ends. Files are not compared with the index.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import large_steps
from benchmarks.large_run import TOP_10
from benchmarks.large_steps import AUGMENTATION, INDEX, LOGITS, TARGETS, Size
from benchmarks.made_answers import logits_of, made_index
from pipeline.cli import paths
from pipeline.cli.main import main as softlabel
from pipeline.cli.tensorflow_start import start_tensorflow
from pipeline.images.index import Index, read_index, write_index

Step = Callable[[Size], object]

PARAMS = {
    "views": {"count": 1, "seed": 1, "augmentation": {"horizontal_flip": True, "rotation": AUGMENTATION.rotation}},
    "precompute.storage": TOP_10.as_json(),
    "student.seeds": [1],
    "student.phases.0.class_weight": "balanced",
    "export.students": [],
}
EPOCH = dict.fromkeys(["accuracy", "cross_entropy", "val_loss", "val_accuracy", "val_cross_entropy"], 0.5)
A_STUDENT = ("--temperature", "4", "--loss", "kl", "--seed", "1")


RAW, LINKS_OF_A_FILE = Path("images"), 50_000


class NoImageError(Exception):
    """Here an image file would be read, and nothing can stand in its place."""


def make(size: Size) -> None:
    """The index, params.yaml, and the speeds, which no step measures."""
    from benchmarks.projects import ROOT, write_params
    from pipeline.evaluation.exports import ExportSpeed, write_export_speed
    from pipeline.evaluation.speed import Speed, write_speed

    INDEX.parent.mkdir(parents=True)
    index = made_index(size.train, size.others, size.classes)
    write_index(INDEX, index)
    make_files(index)
    write_params("mnist", PARAMS, Path("params.yaml"))
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    write_speed(Speed("none", "2026-01-01", [1], {"student": [1.0]}), paths.SPEED)
    write_export_speed(ExportSpeed(), paths.EXPORT_SPEED)


def make_files(index: Index) -> None:
    """A file for each image in the folder of its class: a link to one of a few, since a disk allows a file so many."""
    for class_name in index.class_names:
        (RAW / class_name).mkdir(parents=True)
    for number, image in enumerate(index.images):
        source = f"{RAW}_{number // LINKS_OF_A_FILE}"
        if number % LINKS_OF_A_FILE == 0:
            Path(source).touch()
        os.link(source, f"{RAW}/{image.class_name}/{image.id}")


def split(size: Size) -> None:
    """Stage `split` of files in class folders, of which each has its path as content."""
    start_tensorflow()
    from pipeline.stages import split as stage

    def sound(contents: Iterable[bytes]) -> Iterator[None]:
        return (None for _ in contents)

    shares = {"val_fraction": size.others / size.images, "test_fraction": size.others / size.images}
    with (
        patch("pipeline.datasets.copying.read_bytes", str.encode),
        patch("pipeline.datasets.copying.problems_of", sound),
        patch("pipeline.datasets.copying._write", lambda *_: None),
    ):
        stage.run(
            layout="folders",
            settings={"data": RAW, "train": Path(), "val": None, "test": None, **shares},
            split_folder=paths.SPLIT_FOLDER,
            index=INDEX.with_name("of_split.csv"),
        )


def read(size: Size) -> None:
    """The index, and its fingerprint."""
    read_index(INDEX).fingerprint()


def write(size: Size) -> None:
    """The index, read and written again."""
    write_index(INDEX.with_name("again.csv"), read_index(INDEX))


def command(*words: str) -> Step:
    """A command of the program."""
    return lambda size: softlabel(words, standalone_mode=False)


def inspect_sample(size: Size) -> None:
    """The picture of the first image."""
    first = f"class{0:0{len(str(size.classes - 1))}}_000000000.JPEG"
    command("inspect", str(LOGITS), "--sample", first)(size)


STEPS: dict[str, Step] = {
    "split, without decoding and writing": split,
    "the index, read and fingerprinted": read,
    "the index, read and written": write,
    "train-teacher": command("train-teacher"),
    "describe-teacher": command("describe-teacher"),
    "precompute, to the first image": command("precompute"),
    "precompute, a teacher that answers at once": large_steps.label,
    "soften": command("soften", "--temperature", "4"),
    "train-student": command("train-student", *A_STUDENT),
    "train-baseline": command("train-baseline", "--seed", "1"),
    "evaluate": command("evaluate"),
    "export, to the conversion": command("export", "--student", "best"),
    "report": command("report"),
    "model-card": command("model-card"),
    "table": command("table"),
    "plan": command("plan"),
    "parity": command("parity"),
    "render-views, to the first image": command("render-views", "views"),
    "inspect --sample": inspect_sample,
    "inspect": command("inspect", str(TARGETS)),
    "pack": command("pack", "pack"),
    "verify": command("verify", "pack"),
}
WITHOUT_MODELS = (
    *("split, without decoding and writing", "the index, read and fingerprinted", "the index, read and written"),
    *("soften", "model-card", "table", "inspect", "pack", "verify"),
)


@contextmanager
def no_images(has_models: bool) -> Iterator[None]:
    """Makes what would read image files do without, and end at `NoImageError`."""
    with ExitStack() as stack:
        stack.enter_context(suppress(NoImageError))
        stack.enter_context(patch("pipeline.images.index.differing", none_differs))
        if has_models:
            stack.enter_context(patch("pipeline.images.image_files.read_original", lambda place: GREY))
            stack.enter_context(patch("pipeline.images.decoded_images.DecodedImages.load"))
            stack.enter_context(patch("pipeline.images.decoded_images.DecodedImages.rows", grey))
            stack.enter_context(patch("pipeline.images.rendered_views.rendered_views", side_effect=NoImageError))
            stack.enter_context(patch("pipeline.exports.calibration_images.pixels", side_effect=NoImageError))
            stack.enter_context(patch("pipeline.inference.forward.all_logits", drawn_logits))
            stack.enter_context(patch("pipeline.training.fit.train", one_batch))
        yield


GREY = np.full((32, 32, 3), 128, np.uint8)


def grey(images: Any, rows: Any) -> Any:
    """In the place of `DecodedImages.rows`."""
    import tensorflow as tf

    return tf.fill((tf.size(rows), *images.input_shape), tf.constant(128, tf.uint8))


def none_differs(expected: Iterable[Any], **_: Any) -> list[str]:
    """In the place of `seen_files.differing`, which looks at every file."""
    return [place for place, _ in expected if not place]


def drawn_logits(model: Any, images: Any, *_: Any) -> Any:
    """In the place of `all_logits`."""
    keys = np.arange(len(images))
    return logits_of(keys, keys % model.output_shape[-1], model.output_shape[-1])


def one_batch(model: Any, train_on: Any, validate_on: Any, loss: Any, recipe: Any, state: Any, *_: Any) -> Any:
    """In the place of `fit.train`: all of the first batch of a training but its pixels; the model stays as it is."""
    from pipeline.images.transforms import Pictures
    from pipeline.training.input_pipeline import shown_by

    view, rows = shown_by(train_on, recipe.batch_size, recipe.seed)(0)
    train_on.supervision.targets(view, rows)
    Pictures.of(train_on.supervision.transforms(view), rows).arrays(train_on.supervision.augmentation)
    state.keep(model, SimpleNamespace(variables=[]), {"epoch": 1, "phase": 1, "learning_rate": 0.1, "loss": 1, **EPOCH})
    return model
