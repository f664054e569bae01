"""Stage `describe_teacher`: notes the teacher's costs, so that a comparison with students does not need its file."""

import json
from pathlib import Path

from pipeline.images.index import read_index
from pipeline.inference.cost import cost
from pipeline.models import keras_files
from pipeline.models.ensembles import load_teacher
from pipeline.models.onnx_layer import graphs_in
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.publish import publish
from pipeline.runtime.workspace import forget_finished


def run(*, index: Path, teacher: Path, output: Path) -> None:
    """Writes the description of a teacher as JSON.

    Args:
        index: `data/index.csv`.
        teacher: the `.keras` file.
        output: the JSON file to write.

    Raises:
        MissingError: a file is missing.
        DamagedError: a file cannot be read.
        MismatchError: the teacher does not belong to this data set.
        UnusableError: it is no classifier of images.
    """
    class_names = read_index(index).class_names
    model = load_teacher(teacher, class_names).model
    document = {
        "sha256": sha256_file(teacher),
        "cost": cost(model, teacher),
        "architecture": None if model is None or graphs_in(model) else keras_files.architecture(teacher),
        "classes": len(class_names),
    }
    with publish(output) as partial, partial.open("x", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    forget_finished(teacher)
    print(f"wrote {output}")
