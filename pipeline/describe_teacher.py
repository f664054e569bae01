"""Stage `describe_teacher`: what the teacher costs, so that whoever compares students with it needs not its file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pipeline import flops, model_files
from pipeline.artifacts import forget_finished, publish, sha256_file
from pipeline.errors import PipelineError
from pipeline.index import read_index


@dataclass(frozen=True)
class Description:
    """A teacher without its weights.

    Attributes:
        sha256: of its `.keras` file.
        cost: parameters (total, trainable), flops of one image's forward pass, and file_bytes.
        architecture: of its layers, as Keras serializes a model.
    """

    sha256: str
    cost: dict[str, Any]
    architecture: dict[str, Any]

    def untrained(self) -> Any:
        """A Keras model of these layers with weights that mean nothing, to be timed."""
        return keras.saving.deserialize_keras_object(self.architecture, safe_mode=True)


def run(*, index: Path, teacher: Path, output: Path) -> None:
    """Writes the description of a teacher as JSON.

    Args:
        index: `data/index.csv`.
        teacher: the `.keras` file.
        output: the JSON file to write.

    Raises:
        PipelineError: a file is missing, or the teacher does not belong to this data set.
    """
    model = model_files.load_classifier(teacher, read_index(index).class_names)
    document = {
        "sha256": sha256_file(teacher),
        "cost": cost(model, teacher),
        "architecture": model_files.architecture(teacher),
    }
    with publish(output) as partial, partial.open("x", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    forget_finished(teacher)
    print(f"wrote {output}")


def cost(model: Any, file: Path) -> dict[str, Any]:
    """What a model costs to store and to run."""
    return {
        "parameters": flops.parameters(model),
        "flops": flops.forward_flops(model),
        "file_bytes": file.stat().st_size,
    }


def read_description(path: Path) -> Description:
    """Reads what `run` wrote.

    Raises:
        PipelineError: there is no such file, or it is damaged.
    """
    remedy = "Make it again with `dvc repro --single-item --force describe_teacher`."
    if not path.is_file():
        raise PipelineError(f"there is no description of the teacher at {path}. {remedy}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Description(document["sha256"], document["cost"], document["architecture"])
    except (ValueError, LookupError, TypeError) as error:
        raise PipelineError(f"{path} is damaged ({error!r}). {remedy}") from None
