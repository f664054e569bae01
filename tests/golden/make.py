"""Writes the golden files of both formats, dense, top-k, and of mixed views, from numbers written down here.

    python tests/golden/make.py

They are what a version 2 file is. Change them only together with the version.
"""

import sys
from pathlib import Path

import numpy as np

from pipeline.images.augmentation import Augmentation, Erasing, Mixing, Operations
from pipeline.images.views import Views
from pipeline.runtime.publish import replace_whole
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.reading import Provenance, Rows
from pipeline.soft_labels.writing import soften_file
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

VIEWS = Views(2, 7, Augmentation(horizontal_flip=True, rotation=0.25, fill_mode="nearest", brightness=0.125))
ROWS = {
    "train": Rows(["a.png", "b.png", "é.png"], [0, 2, 1], ["0a" * 32, "0b" * 32, "0e" * 32]),
    "val": Rows(["c.png"], [2], ["0c" * 32]),
    "test": Rows(["d.png", "f.png"], [1, 0], ["0d" * 32, "0f" * 32]),
}
LOGITS = {
    "train": [
        [[4.0, 1.0, 0.5, -2.0], [-1.0, 0.25, 3.0, 0.0], [0.0, 6.0, -6.0, 1.5]],
        [[3.5, 1.5, 0.0, -2.5], [-0.5, 0.5, 2.0, 0.0], [1.0, 5.0, -5.0, 2.5]],
    ],
    "val": [[[-3.0, 0.0, 2.0, 1.0]]],
    "test": [[[0.5, 1.0, 0.0, -0.5], [2.0, -2.0, 1.0, 0.0]]],
}
RESIZE = {"method": "bilinear", "antialias": True, "fit": "stretch"}
DENSE = logit_storage.Dense("float32")
MIXED = Views(
    2,
    12,
    Augmentation(
        horizontal_flip=True,
        fill_mode="nearest",
        brightness=0.125,
        operations=Operations(2, of={"hue": 0.1, "blur": 0.05, "grayscale": 1.0}),
        erasing=Erasing(0.5),
        mixup=Mixing(1.0, 0.4),
        cutmix=Mixing(1.0, 0.4),
    ),
)
KINDS = {"dense": (DENSE, VIEWS), "topk": (logit_storage.TopK(2, "float16"), VIEWS), "mixed": (DENSE, MIXED)}


def write(folder: Path) -> None:
    """Writes the six files."""
    for name, (kind, views) in KINDS.items():
        provenance = Provenance(
            class_names=("adenoma", "hyperplasia", "normal", "sérrated"),
            teacher="cnn",
            teacher_sha256="7e" * 32,
            dataset="da" * 32,
            preprocessing={"input_shape": [8, 6, 3], "decoder": "Pillow", "resize": RESIZE},
            batch_size=2,
            views=views.as_json(),
            storage=kind.as_json(),
        )
        work = folder / f"work_{name}"
        work.mkdir(parents=True)
        unfinished = UnfinishedLogits(work, provenance, ROWS)
        with unfinished:
            for split, values in LOGITS.items():
                logits = np.array(values, np.float32)
                numbers, rows = np.indices(logits.shape[:2]).reshape(2, -1)
                unfinished.put(split, numbers, rows, kind.encode(logits.reshape(-1, 4)))
        with replace_whole(folder / f"teacher_logits_{name}.h5") as partial:
            unfinished.finish(partial)
        for left in work.iterdir():
            left.unlink()
        work.rmdir()
        soften_file(folder / f"teacher_logits_{name}.h5", folder / f"soft_targets_T2_{name}.h5", 2.0)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
