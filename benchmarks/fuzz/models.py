"""Files of models: `.keras`, ONNX, and what exported files say of themselves."""

import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st

from benchmarks.fuzz.forks import in_a_fork
from benchmarks.fuzz.structure import changed_json
from benchmarks.fuzz.target import Target

MEMBER = "config.json"


def keras_seeds() -> list[bytes]:
    """Three small classifiers: layers in a row, with a model inside, and with layers that are shared."""
    import keras
    from keras import layers

    from pipeline.models.keras_files import save

    pixels = keras.Input((6, 6, 3))
    row = [layers.Conv2D(2, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3, activation="softmax")]
    inner = keras.Sequential([keras.Input((6, 6, 3)), layers.DepthwiseConv2D(3), layers.GlobalAveragePooling2D()])
    shared = layers.Dense(3, kernel_regularizer="l2", kernel_initializer="he_normal", dtype="mixed_float16")
    twice = layers.Add()([shared(layers.Flatten()(pixels)), shared(layers.Flatten()(pixels))])
    models = [
        keras.Sequential([pixels, *row]),
        keras.Model(pixels, layers.Dense(3)(inner(pixels))),
        keras.Model(pixels, twice),
    ]
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(models):
            save(model, Path(folder, "seed.keras"), {"class_names": ["a", "b", "c"]} if number else None)
            contents.append(Path(folder, "seed.keras").read_bytes())
    return contents


def run_keras(path: Path) -> None:
    """Loads it as a teacher of the user's."""
    import keras

    from pipeline.models import keras_files
    from pipeline.models.last_activation import last_activation
    from pipeline.models.records import read_record

    keras.utils.clear_session()
    model = keras_files.load(path, keras_files.OF_THE_USER)
    keras_files.refuse_no_classifier(model, path)
    last_activation(model)
    read_record(path)


def keras_inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A seed whose configuration, or that of another seed in its place, was changed."""
    configurations = []
    for seed in seeds:
        with zipfile.ZipFile(io.BytesIO(seed)) as archive:
            configurations.append(json.loads(archive.read(MEMBER)))
    return st.builds(_with_configuration, st.sampled_from(seeds), changed_json(configurations))


def _with_configuration(seed: bytes, configuration: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as source, zipfile.ZipFile(content, "w") as target:
        for name in source.namelist():
            target.writestr(name, configuration if name == MEMBER else source.read(name))
    return content.getvalue()


def onnx_seeds() -> list[bytes]:
    """Two classifiers of images, with and without a softmax."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, shape: Sequence[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    contents = []
    for end in ("Softmax", "Identity"):
        nodes = [
            ("Conv", ["x", "k"], "a"),
            ("Relu", ["a"], "b"),
            ("GlobalAveragePool", ["b"], "c"),
            ("Flatten", ["c"], "d"),
        ]
        nodes += [("MatMul", ["d", "w"], "z"), (end, ["z"], "y")]
        kernel, weights = np.ones((2, 3, 3, 3), np.float32), np.eye(2, dtype=np.float32)
        graph = helper.make_graph(
            [helper.make_node(kind, taken, [given]) for kind, taken, given in nodes],
            "seed",
            [value("x", ["batch", 3, 8, 8])],
            [value("y", ["batch", 2])],
            [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(weights, "w")],
        )
        opsets = [helper.make_opsetid("", 17)]
        contents.append(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return contents


def run_onnx(path: Path) -> None:
    """Loads it as a teacher, in this process, which may crash or hang; the program tries it in another one first."""
    from pipeline.models import onnx_layer, onnx_teacher
    from pipeline.models.teacher_file import GivenTeacher

    with patch.object(onnx_layer, "refuse_harmful"):
        onnx_teacher.load(GivenTeacher(str(path)))


def metadata_seeds() -> list[bytes]:
    """What an exported student says of itself."""
    return [_metadata().as_json().encode()]


def _metadata() -> Any:
    from pipeline.deployed.metadata import Metadata
    from pipeline.images.resize import DEFAULT_RESIZE, preprocessing

    shape = preprocessing((2, 2, 1), DEFAULT_RESIZE)
    return Metadata("student_kl_T4_seed1", "5" * 64, ("cat", "dog"), shape, "logits", "float32", 1.5)


def run_metadata(path: Path) -> None:
    """Reads it as `predict` does."""
    from pipeline.deployed.metadata import from_json
    from pipeline.deployed.pixels import refuse_other_preprocessing

    refuse_other_preprocessing(from_json(path.read_bytes().decode("latin-1"), path))


def metadata_inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """The seed, changed as a document."""
    return changed_json([json.loads(seed) for seed in seeds])


def litert_seeds() -> list[bytes]:
    """A small student in LiteRT, whose metadata are those of `metadata_seeds`."""
    from pipeline.exports import litert
    from pipeline.exports.graph import Graph

    return [litert.float32(Graph(_student(), "logits"), _metadata())]


def exported_onnx_seeds() -> list[bytes]:
    """The same student in ONNX."""
    from pipeline.exports import onnx
    from pipeline.exports.graph import Graph

    return [onnx.float32(Graph(_student(), "logits"), _metadata())]


def _student() -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    pixels = keras.Input((2, 2, 1))
    return keras.Model(pixels, layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 2)(pixels))))


def run_exported(path: Path) -> None:
    """Makes the digest right again, and lets the file answer two images as `predict` does."""
    import numpy as np

    from pipeline.deployed.files import open_exported
    from pipeline.deployed.metadata import NO_DIGEST
    from pipeline.deployed.seal import DIGEST, sealed

    content = DIGEST.sub(NO_DIGEST.encode(), path.read_bytes())
    if len(DIGEST.findall(content)) == 1:
        content = sealed(content)
    path.write_bytes(content)
    with patch("pipeline.runtime.tried_files.run_separately", in_a_fork):
        open_exported(path, threads=1).logits(np.full((2, 2, 2, 1), 7, np.uint8))


TARGETS = {
    "exported_litert": Target(seeds=litert_seeds, run=run_exported, file="student.tflite", words=(b"\xff", b"\0")),
    "exported_onnx": Target(seeds=exported_onnx_seeds, run=run_exported, file="student.onnx", words=(b"Loop", b"\xff")),
    "keras": Target(seeds=keras_seeds, run=run_keras, inputs=keras_inputs, file="model.keras"),
    "onnx": Target(seeds=onnx_seeds, run=run_onnx, file="model.onnx", words=(b"Loop", b"Expand", b"\xff")),
    "deployed": Target(seeds=metadata_seeds, run=run_metadata, inputs=metadata_inputs, file="metadata.json"),
}
