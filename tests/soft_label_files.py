"""Small soft-label files of both formats, without TensorFlow, whose every number names its own place."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.images.index import SPLITS, Image, Index
from pipeline.images.views import Augmentation, Views
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import seal
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.soft_labels.reading import Provenance, Rows
from pipeline.soft_labels.writing import create_logits, soften_file

CLASS_NAMES = ["HP", "SSA", "tumeur à part"]
IDS = {
    "train": ["MHIST_aaa.png", "MHIST_eee.png", "d d.png", "é.png", "図.png"],
    "val": ["MHIST_f.png", "g.png"],
    "test": ["h.png", "j.png", "ü" * 30],
}
LABELS = {"train": [0, 1, 2, 1, 0], "val": [2, 0], "test": [1, 1, 2]}
VIEWS = Views(3, 5, Augmentation(rotation=0.25, translation=0.125, contrast=0.25))
VIEWS_OF = {"train": 3, "val": 1, "test": 1}
RESIZE = {"method": "bilinear", "antialias": True, "fit": "stretch"}
DENSE, TOP2 = Dense("float32"), TopK(2, "float16")


def image(split: str, row: int) -> Image:
    name, label = IDS[split][row], CLASS_NAMES[LABELS[split][row]]
    content = f"{SPLITS.index(split)}{row}" * 32
    return Image(name, f"data/split/{split}/{label}/{name}", label, split, "", content)


INDEX = Index(image(split, row) for split in SPLITS for row in range(len(IDS[split])))


def provenance_of(index: Index, views: Views, stored_as: logit_storage.Storage) -> Provenance:
    return Provenance(
        class_names=tuple(index.class_names),
        teacher="cnn",
        teacher_sha256="ab" * 32,
        dataset=index.fingerprint(),
        preprocessing={"input_shape": [28, 28, 1], "decoder": "Pillow", "resize": RESIZE},
        batch_size=16,
        views=views.as_json(),
        storage=stored_as.as_json(),
    )


def logits_of(views: int, count: int, classes: int = 3) -> np.ndarray:
    """(V, N, C) float32 that tell their own view, row and class apart, and so do their softmaxes.

    Eighths are exact in float16 too. The largest class goes from row to row.
    """
    steps = (1 + 6 * np.arange(views)[:, None] + np.arange(count)) / 4
    shapes = np.stack([np.roll([-1.0, 0.5, *[0.0] * (classes - 3), 2.0], row) for row in range(count)])
    return (steps[..., None] * shapes).astype(np.float32)


def write_logits(
    path: Path,
    *,
    index: Index = INDEX,
    views: Views = VIEWS,
    stored_as: logit_storage.Storage = DENSE,
    logits: Callable[..., np.ndarray] = logits_of,
    **made_by: Any,
) -> Path:
    """Writes a complete `teacher_logits.h5`; `made_by` replaces what its provenance says."""
    made = replace(provenance_of(index, views, stored_as), **made_by)
    rows = {}
    for split in SPLITS:
        images = index.split(split)
        rows[split] = Rows([entry.id for entry in images], index.labels(images), [entry.sha256 for entry in images])
    path.parent.mkdir(parents=True, exist_ok=True)
    create_logits(path, made, rows)
    with h5py.File(path, "r+") as file:
        for split in SPLITS:
            values = logits(views.of_split(split).count, len(rows[split].ids), len(made.class_names))
            for view, of_view in enumerate(values):
                for name, column in stored_as.encode(of_view).items():
                    file[split][name][view] = column
    seal(path)
    return path


def write_both(folder: Path, temperature: float = 4.0, **options: Any) -> tuple[Path, Path]:
    """Writes a `teacher_logits.h5`, as `write_logits`, and its soft targets."""
    logits, targets = folder / "teacher_logits.h5", folder / f"soft_targets_T{temperature:g}.h5"
    write_logits(logits, **options)
    soften_file(logits, targets, temperature)
    return logits, targets


def edit(path: Path, change: Callable[[h5py.File], Any]) -> None:
    """Changes a file as someone would who then names its new digest."""
    with h5py.File(path, "r+") as file:
        change(file)
    seal(path)
