"""Presets of keras_hub in a folder, as far as the program reads them in its own process: their documents."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hypothesis import strategies as st

from benchmarks.fuzz.structure import changed_json
from benchmarks.fuzz.target import Target

SIDE = 16


@cache
def _documents() -> dict[str, dict[str, bytes]]:
    """Of two small classifiers, one of Keras' own layers and one of keras_hub's: name of preset, of file, content."""
    from keras_hub import layers, models

    residual = models.ResNetBackbone([64], [3], [64], [1], [1], "basic_block")
    vision = models.ViTBackbone((SIDE, SIDE, 3), (8, 8), 1, 2, 4, 4)
    scaled = layers.ViTImageConverter((SIDE, SIDE), scale=[0.1, 0.2, 0.3], offset=[-1.0, -0.5, 0.0])
    classifiers = {
        "residual": models.ResNetImageClassifier(
            residual, 3, models.ResNetImageClassifierPreprocessor(layers.ResNetImageConverter())
        ),
        "vision": models.ViTImageClassifier(vision, 3, models.ViTImageClassifierPreprocessor(scaled)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, classifier in classifiers.items():
            classifier.save_to_preset(f"{folder}/{name}")
        return {
            name: {file.name: file.read_bytes() for file in sorted(Path(folder, name).glob("*.json"))}
            for name in classifiers
        }


def seeds() -> list[bytes]:
    """Each document, behind a line that says which one of which preset it is."""
    presets = _documents().items()
    return [f"{preset}/{file}\n".encode() + content for preset, files in presets for file, content in files.items()]


def run(path: Path) -> None:
    """Puts the document in its place, looks at the preset, and reads how it preprocesses pixels."""
    from pipeline.models.hub_models import preprocessing
    from pipeline.models.hub_trial import refuse_costly
    from pipeline.runtime.errors import DamagedError

    place, _, content = path.read_bytes().partition(b"\n")
    preset, _, name = place.decode("latin-1").partition("/")
    files = _documents().get(preset, {})
    if name not in files:
        raise DamagedError("no preset has this document")
    shutil.rmtree(folder := path.with_name("preset"), ignore_errors=True)
    folder.mkdir()
    for each in files:
        (folder / each).write_bytes(content if each == name else files[each])
    refuse_costly(folder)
    preprocessing(str(folder))


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A document that was changed, or that stands in the place of another."""
    places, contents = zip(*(seed.split(b"\n", 1) for seed in seeds), strict=True)
    documents = [json.loads(content) for content in contents]
    changed = [st.tuples(st.just(place), changed_json([one])) for place, one in zip(places, documents, strict=True)]
    elsewhere = st.tuples(st.sampled_from(places), changed_json(documents))
    return st.one_of(*changed, elsewhere).map(b"\n".join)


TARGETS = (
    {"hub_preset": Target(seeds=seeds, run=run, inputs=inputs, words=(b"keras_hub>", b"[[", b"null", b"1e999"))}
    if find_spec("keras_hub")
    else {}
)
