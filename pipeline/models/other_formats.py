"""Models in other formats than `.keras`: their names, and how to convert them."""

from pathlib import Path, PurePath

from pipeline.models.json_members import CONFIG, member_if_any, names_if_any

HDF5 = b"\x89HDF\r\n\x1a\n"
STEPS = "docs/teachers.md shows how to convert it."
OF_KERAS_2 = f"Load it with Keras 2 (the package tf_keras) and save it as `.h5`, then load that with Keras 3. {STEPS}"

LEGACY = (
    "is a model in Keras' older format (HDF5). Convert it: `import keras; "
    "keras.saving.load_model('NAME.h5', compile=False).save('NAME.keras')`. "
    "Weights alone need their model first: build it, then `model.load_weights(...)` and `model.save('NAME.keras')`"
)
SAVED_MODEL = f"is a SavedModel of TensorFlow that Keras 2 wrote. {OF_KERAS_2.removesuffix('.')}"
EXPORTED = (
    "is a SavedModel of TensorFlow without Keras' layers, as `model.export(...)` of Keras 3 and tf.saved_model.save "
    "write it. It cannot be converted, and inside a `keras.layers.TFSMLayer` nobody can see whether it gives logits. "
    "Save the model from which it was made, with `model.save('NAME.keras')`"
)
ANY_SAVED_MODEL = (
    "a SavedModel of TensorFlow is refused. Save the model from which it was made, with `model.save('NAME.keras')`. "
    f"If Keras 2 wrote it (beside saved_model.pb is keras_metadata.pb), it can be converted. {STEPS.removesuffix('.')}"
)
ANOTHER_LIBRARY = (
    "Build the same model from Keras' layers, copy its weights with `layer.set_weights`, compare the outputs of both "
    "models for some images, and `model.save('NAME.keras')`"
)
TO_ONNX = (
    "As a teacher, export it to ONNX, or let its program write a table of logits (docs/guide.md shows both). "
    f"Or b{ANOTHER_LIBRARY[1:]}"
)
BY_SUFFIX = {
    ".h5": LEGACY,
    ".hdf5": LEGACY,
    ".pb": f"is a part of a SavedModel, and {ANY_SAVED_MODEL}",
    ".tflite": f"is a model of LiteRT (TensorFlow Lite). {ANOTHER_LIBRARY}",
    ".onnx": "is a model in ONNX. A teacher can be one (train_teacher.model); only networks of Keras are trained here",
    ".pt": f"is a model of PyTorch. {TO_ONNX}",
    ".pth": f"is a model of PyTorch. {TO_ONNX}",
    ".pt2": f"is a program that PyTorch exported. {TO_ONNX}",
    ".ckpt": f"is a checkpoint of PyTorch or TensorFlow. {TO_ONNX}",
    ".safetensors": f"holds weights without their model. {TO_ONNX}",
    ".pkl": f"is a pickle, which can run any code when it is loaded. {TO_ONNX}",
    ".joblib": f"is a pickle, which can run any code when it is loaded. {TO_ONNX}",
    ".json": "holds layers without their weights. Build the model, load its weights, and `model.save('NAME.keras')`",
    "": f"has no ending, and {ANY_SAVED_MODEL}",
}


TABLES = (".npz", ".csv", ".parquet")
"""The endings of tables of logits."""

IN_SMALL_LETTERS = (".keras", ".weights.h5")
"""The endings that Keras knows in small letters alone."""


def conversion_of(file: str) -> str:
    """The format that a file's name suggests, and how to convert it: the rest of a sentence after the name."""
    for ending in IN_SMALL_LETTERS:
        if file.lower().endswith(ending) and not file.endswith(ending):
            return f"cannot be loaded: Keras knows its ending in small letters alone. Rename it to end in {ending}"
    return BY_SUFFIX.get(PurePath(file).suffix.lower(), f"has another ending. {STEPS.removesuffix('.')}")


def is_of_a_file(name: str) -> bool:
    """Whether a name that could be an architecture's is that of a file with a model or answers, by its ending."""
    suffix = PurePath(name).suffix.lower()
    return suffix != "" and suffix in (*BY_SUFFIX, *IN_SMALL_LETTERS, *TABLES)


def no_network(name: str) -> str:
    """Why a network that is trained here cannot be such a file: the rest of a sentence after its name."""
    if PurePath(name).suffix.lower() in TABLES:
        return "has the ending of a table. A teacher can be one of logits (train_teacher.logits); a network cannot"
    return conversion_of(name)


def other_format(path: Path) -> str | None:
    """The format of a file or folder that is not a `.keras` file, and how to convert it; None if it is not known.

    The text is the rest of a sentence that begins with the name of the file.
    """
    if (path / "saved_model.pb").is_file():
        return f"{SAVED_MODEL if _is_of_keras_2(path) else EXPORTED}."
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(HDF5)) == HDF5:
            return f"{LEGACY}."
    if any(name.endswith("data.pkl") for name in names_if_any(path)):
        return f"{BY_SUFFIX['.pt']}."
    return None


def _is_of_keras_2(folder: Path) -> bool:
    """Whether Keras 2 wrote a SavedModel: it describes its layers in a file (since TensorFlow 2.5) or in the graph."""
    return (folder / "keras_metadata.pb").is_file() or b"_tf_keras_" in (folder / "saved_model.pb").read_bytes()


def keras_2_version(path: Path) -> str | None:
    """The version of Keras 2 that wrote a `.keras` file, such as "2.13.1"; None if Keras 3 did."""
    metadata = member_if_any(path, "metadata.json")
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) and version.startswith("2.") else None


def foreign_layers(path: Path) -> list[str]:
    """The layers of a `.keras` file that are not Keras' own, each with its module if the file names one."""
    names: set[str] = set()
    waiting = [member_if_any(path, CONFIG)]
    while waiting:
        node = waiting.pop()
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        if isinstance(node, dict) and isinstance(node.get("class_name"), str) and "module" in node:
            module, registered = node["module"], node.get("registered_name")
            if module not in ("keras", "builtins") and not str(module).startswith(("keras.", "pipeline.models.")):
                package = str(registered).rpartition(">")[0]  # of `register_keras_serializable`: PACKAGE>NAME
                names.add(".".join(str(part) for part in (module or package, node["class_name"]) if part))
    return sorted(names)
