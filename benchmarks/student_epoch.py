"""A whole epoch of a student's training: where its images come from, and what kept features save.

    python -m benchmarks.student_epoch [--quick] [--images FOLDER] [--weights FILE]

Every variant runs `fit` as the stages do, several steps in one call of TensorFlow where they are short, and all take
turns in one process. "plain" is training on hard labels alone with the student's views, of the whole graph: frozen
layers run in every step. "untouched" is the same without views. Images are made (PNG files of smooth colors with a
little noise), or taken from your own folder.

System 1's pair has frozen layers, in both of its phases. Its images are read from memory, decoded. "ours, whole graph"
differs from plain by the soft labels alone. The stages split such a phase: the frozen layers give features, on which
the rest is trained. "Nothing kept" runs them in every epoch (`student.cache_frozen: none`), the "first pass" over a
view runs them and keeps what they give, and the other epochs read that. Goals, of plain: kept at most 0.05 where the
backbone is frozen, and 0.5 where it is fine-tuned. Then: the bytes, and what keeping float16 does to the student.

The small default pair has no frozen layer. Its images are kept in memory, decoded in every epoch (`images.cache: none`,
and data sets that do not fit into memory), or read from a file of pixels (`images.cache: disk`) that the system still
has in its memory. Goal: at most 1.00 of plain. One call of `fit` runs ten epochs where they are short.

The last table of each pair times the input alone: the batches of a training, and the parts that make them.

Ten minutes; --quick one.
"""

from itertools import product
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.epochs import DISK, FILES, MEMORY, UNTOUCHED, Data, batches_of, data_of, epochs_of, parts_of
from benchmarks.kept_epochs import OverFeatures, in_a_folder
from benchmarks.kept_tables import EPOCHS_COMPARED, KEPT_HEADER, ROUNDING_HEADER, rows_of_bytes, rows_of_rounding
from benchmarks.paired import interleaved, interval_of_median, ratios, spread
from benchmarks.record import Record, arguments
from benchmarks.student_step import PHASES
from benchmarks.variants import DISTILLER, OURS, PLAIN, Pair, plain
from pipeline.training.recipe import Phase

WHOLE = "ours, whole graph"
GOALS = dict(zip(PHASES, (0.05, 0.5), strict=True))
EPOCHS_IN_A_CALL = dict(zip(PHASES, (10, 2), strict=True))
"""Of `fit`, where features are kept."""

HEADER = ["variant", "s an epoch", "images/s", "of plain", "its median, 95 %"]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--images", {"type": Path, "metavar": "FOLDER", "help": "Image files.  [default: made ones]"}),
    ("--weights", {"type": Path, "metavar": "FILE", "help": "MobileNetV2's, without its head.  [default: random]"}),
]

Seconds = dict[str, list[float]]
"""Of one epoch in each round, by variant."""


def measure_phase(
    pair: Pair, name: str, phase: Phase, training: OverFeatures, data: Data, rounds: int, online: bool
) -> Seconds:
    """Seconds of an epoch of every variant in a phase with frozen layers, from pixels in memory.

    Args:
        pair: the models.
        name: of the phase.
        phase: the phase.
        training: the same, over features.
        data: the data set.
        rounds: counted rounds.
        online: whether Keras' Distiller is one of the variants.
    """
    batch_size, over_features = pair.recipe.batch_size, training.variants(EPOCHS_IN_A_CALL[name])
    whole = {PLAIN: PLAIN, WHOLE: OURS} | ({DISTILLER: DISTILLER} if online else {})
    variants = {
        shown: epochs_of(pair.variant(variant, phase), data.examples(MEMORY, variant), batch_size)
        for shown, variant in whole.items()
    }
    before = {shown: timed.before for shown, timed in over_features.items()} | dict.fromkeys(variants, _nothing)
    variants |= {shown: timed.run for shown, timed in over_features.items()}
    counts = dict.fromkeys(variants, 1) | {shown: timed.epochs for shown, timed in over_features.items()}
    taken = interleaved(variants, rounds, before=before)
    return {shown: [each / counts[shown] for each in of_variant] for shown, of_variant in taken.items()}


def _nothing() -> None:
    """What is done before an epoch whose batches are a part of it."""


def report_features(record: Record, title: str, pair: Pair, data: Data, rounds: int, quick: bool) -> None:
    """Measures the phases of system 1's pair, and adds their tables; of a quick run, the first phase offline."""
    number, kept, changed = len(data.images[MEMORY]), [], []
    for name, phase in zip(PHASES[:1] if quick else PHASES, pair.recipe.phases, strict=not quick):
        training = OverFeatures(pair, phase, data)
        seconds = measure_phase(pair, name, phase, training, data, rounds, online=not quick)
        rows = []
        for variant, taken in seconds.items():
            of_plain, speed = ratios(taken, seconds[PLAIN]), spread([number / value for value in taken])
            rows.append([variant, spread(taken), speed, spread(of_plain), interval_of_median(of_plain)])
        goal = f"goal: kept at most {GOALS[name]} of plain"
        record.table(f"{title}, {name}: an epoch of {number} images; {goal}", HEADER, rows)
        record.keep(**{f"{title}, {name}": seconds})
        kept += rows_of_bytes(name, training.part, phase.epochs)
        if not quick:
            changed += rows_of_rounding(name, pair, phase, data)
    record.table(f"{title}: what is kept", KEPT_HEADER, kept)
    if changed:
        against = f"a student's logits after {EPOCHS_COMPARED} epochs, against those over float32"
        record.table(f"{title}: {against}", ROUNDING_HEADER, changed)


def measure_epochs(pair: Pair, data: Data, rounds: int, epochs: int) -> Seconds:
    """Seconds of an epoch of every variant.

    Args:
        pair: the models.
        data: the data set.
        rounds: counted rounds.
        epochs: of one call of `fit`.

    Returns:
        The seconds, by variant and place.
    """
    phase, batch_size = pair.recipe.phases[0], pair.recipe.batch_size
    chosen = [(MEMORY, UNTOUCHED), (MEMORY, PLAIN), (MEMORY, OURS), (FILES, PLAIN), (FILES, OURS), (DISK, OURS)]
    chosen.append((MEMORY, DISTILLER))
    models = {UNTOUCHED: plain(pair.student(phase), phase)}
    models |= {name: pair.variant(name, phase) for name in dict.fromkeys(name for _, name in chosen[1:])}
    variants = {
        f"{variant}, {place}": epochs_of(models[variant], data.examples(place, variant), batch_size, epochs)
        for place, variant in chosen
    }
    return {name: [each / epochs for each in taken] for name, taken in interleaved(variants, rounds).items()}


def report_epochs(record: Record, title: str, pair: Pair, data: Data, *, rounds: int, epochs: int) -> None:
    """Measures one pair as `measure_epochs` does, and adds its tables."""
    number = len(data.images[MEMORY])
    seconds, rows = measure_epochs(pair, data, rounds, epochs), []
    for name, taken in seconds.items():
        speed = spread([number / value for value in taken])
        compared = ["", ""]
        if not name.endswith(DISK):
            of_plain = ratios(taken, seconds[f"{PLAIN}, {FILES if name.endswith(FILES) else MEMORY}"])
            compared = [spread(of_plain, 4), interval_of_median(of_plain)]
        rows.append([name, spread(taken), speed, *compared])
    header = ["variant", "s an epoch", "images/s", "of plain there", "its median, 95 %"]
    record.table(f"{title}: an epoch of {number} images", header, rows)
    rows = [
        [f"{name}, {place}", spread(ratios(seconds[f"{name}, {place}"], seconds[f"{name}, {MEMORY}"]))]
        for name, place in ((PLAIN, FILES), (OURS, FILES), (OURS, DISK))
    ]
    record.table(f"{title}: what pixels that are not in memory cost", ["variant", "of the same from memory"], rows)
    record.keep(**{title: seconds})


def measure_input(pair: Pair, data: Data, rounds: int) -> Seconds:
    """Seconds for the batches of one pass without a model, and for the parts that make them."""
    batch_size = pair.recipe.batch_size
    variants = {
        f"batches, {variant}, {place}": batches_of(data.examples(place, variant), batch_size)
        for place, variant in [*product((MEMORY, FILES), (UNTOUCHED, PLAIN, OURS)), (DISK, UNTOUCHED), (DISK, OURS)]
    }
    return interleaved(variants | parts_of(data, batch_size), rounds)


def report_input(record: Record, title: str, pair: Pair, data: Data, rounds: int) -> None:
    """Measures the input of one pair as `measure_input` does, and adds its table."""
    number, alone = len(data.images[MEMORY]), measure_input(pair, data, rounds)
    rows = [
        [name, spread([number / value for value in taken]), spread([1000 * value / number for value in taken])]
        for name, taken in alone.items()
    ]
    record.table(f"{title}: input alone", ["what", "images/s", "ms an image"], rows)
    record.keep(**{f"{title}: input": alone})


def main() -> None:
    """Measures both pairs."""
    options = arguments(__doc__, *OPTIONS)
    tf.config.experimental.enable_op_determinism()  # as the stages do
    record, quick = Record("student_epoch", options), options.quick
    pair, title, rounds = Pair("presets/mhist.yaml", 2, options.weights), "ResNet50V2 -> MobileNetV2", 2 if quick else 6
    with data_of(pair, options.images, 64 if quick else 192) as data, in_a_folder():
        report_features(record, title, pair, data, rounds, quick)
        report_input(record, title, pair, data, rounds)
    pair, title, rounds = Pair("params.yaml", classes=10), "CNN -> small CNN", 4 if quick else 10
    with data_of(pair, None, 640 if quick else 1280) as data:
        report_epochs(record, title, pair, data, rounds=rounds, epochs=1 if quick else 10)
        report_input(record, title, pair, data, rounds)
    record.write()


if __name__ == "__main__":
    main()
