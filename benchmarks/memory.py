"""The memory of a student's training process, with and without a teacher in it.

    python -m benchmarks.memory [--quick]

Each variant is trained in a process of its own, on the same batches, through the pipeline's own input; MobileNetV2
is fine-tuned from layer 100 at batch size 32, and the teacher is ResNet50V2. The peak resident memory of the processes
is compared, and on a GPU the peak that TensorFlow's allocator counts. "no model" is the same process before it builds
a model: libraries and images. "ours" trains the whole graph, "ours, kept on disk" over features that it also makes.

Three minutes; --quick 40 seconds (two variants).
"""

import json
import subprocess
import sys
from argparse import SUPPRESS
from typing import Any

from benchmarks.paired import ratios, spread
from benchmarks.process import peak_mib
from benchmarks.record import Record, arguments

NO_MODEL = "no model"
BATCHES = 3


def peaks_of(variant: str) -> dict[str, float]:
    """Trains one variant in this process for a few steps; returns the peaks in MiB, of the process and of a GPU."""
    import tensorflow as tf

    from benchmarks.epochs import MEMORY, data_of, epochs_of
    from benchmarks.kept_epochs import OF_DISK, ON_DISK, OverFeatures, in_a_folder
    from benchmarks.variants import OURS, PLAIN, Pair

    tf.config.experimental.enable_op_determinism()  # as the stages do
    pair = Pair("presets/mhist.yaml", classes=2)
    phase = pair.recipe.phases[-1]
    with data_of(pair, None, BATCHES * pair.recipe.batch_size) as data, in_a_folder():
        if variant == ON_DISK:
            training = OverFeatures(pair, phase, data)
            training.train(training.batches(OF_DISK, 1), 1)
        elif variant != NO_MODEL:
            examples = data.examples(MEMORY, OURS if variant == OURS else PLAIN)
            epochs_of(pair.variant(variant, phase), examples, pair.recipe.batch_size)()
    peaks = {"process": peak_mib()}
    if tf.config.list_physical_devices("GPU"):
        peaks["GPU"] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return peaks


def in_a_process(variant: str) -> dict[str, float]:
    """As `peaks_of`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--variant", variant]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    peaks: dict[str, float] = json.loads(output.splitlines()[-1])
    return peaks


def main() -> None:
    """Runs all variants, each in a process of its own; such a process gets `--variant` and runs one."""
    of_one_process: tuple[str, dict[str, Any]] = ("--variant", {"help": SUPPRESS})
    options = arguments(__doc__, of_one_process)
    if options.variant:
        print(json.dumps(peaks_of(options.variant)))
        return
    record = Record("memory", options)
    names = ["ours", "keras Distiller"]
    if not options.quick:
        names = [NO_MODEL, "plain", "ours", "ours, kept on disk", "keras Distiller", "train_step by hand"]
    peaks: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(1 if options.quick else 2):
        for name in names:
            peaks[name].append(in_a_process(name))
    for place in peaks["ours"][0]:
        values = {name: [of_process[place] for of_process in peaks[name]] for name in names}
        rows = [
            [name, spread(of_variant), spread(ratios(of_variant, values["ours"]))]
            for name, of_variant in values.items()
        ]
        record.table(f"Peak memory of the {place}", ["variant", "MiB", "of ours"], rows)
    record.keep(**peaks)
    record.write()


if __name__ == "__main__":
    main()
