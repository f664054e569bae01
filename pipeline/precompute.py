"""Stage `precompute`: the teacher's one pass; its logits of every image are kept in a file."""

from pathlib import Path

import numpy as np

from pipeline import model_files
from pipeline.images import Images
from pipeline.index import SPLITS, read_index, refuse_changed
from pipeline.inference import logits_in_blocks
from pipeline.progress import Progress
from pipeline.soft_labels import Provenance, add_split, create_logits
from pipeline.views import IDENTITY


def run(*, index: Path, teacher: Path, batch_size: int, output: Path) -> None:
    """Writes `teacher_logits.h5`: one untouched view of every image of every split.

    Args:
        index: `data/index.csv`.
        teacher: the `.keras` file of the teacher.
        batch_size: images in one forward pass.
        output: the file to write.

    Raises:
        PipelineError: the index or the teacher is missing, or the teacher knows other classes.
    """
    data = read_index(index)
    model = model_files.load_classifier(teacher, data.class_names)
    refuse_changed(data.images)
    input_shape = model.input_shape[1:]
    provenance = Provenance(
        class_names=tuple(data.class_names),
        teacher=model.name,
        teacher_sha256=model_files.weights_sha256(model),
        dataset=data.fingerprint(),
        preprocessing={"input_shape": input_shape, "resize": "bilinear, antialiased, rounded to uint8"},
        views={"count": 1, "augmentation": {}, "seed": None},
    )
    with (
        Progress("precompute", len(data.images), "images") as progress,
        create_logits(output, provenance) as file,
    ):
        for split in SPLITS:
            rows = data.split(split)
            images = Images([row.path for row in rows], input_shape, keep=False)
            affines = np.tile(IDENTITY, (1, len(rows), 1))
            blocks = logits_in_blocks(model, images, batch_size, progress)
            add_split(file, split, [row.id for row in rows], data.labels(rows), affines, blocks)
    print(f"wrote {output}")
