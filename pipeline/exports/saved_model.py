"""Writes a student as TensorFlow's SavedModel, with its metadata in `assets.extra/`."""

from pathlib import Path

import tensorflow as tf

from pipeline.deployed.metadata import Metadata
from pipeline.deployed.seal import IN_FOLDER, seal_folder
from pipeline.exports.graph import Graph

FINGERPRINT = "fingerprint.pb"
"""TensorFlow writes a random number into this file; it loads a SavedModel without it."""


def float32(graph: Graph, metadata: Metadata, folder: Path) -> None:
    """Writes a SavedModel whose signature `serving_default` takes uint8 pixels.

    Args:
        graph: the student.
        metadata: what the folder says of itself.
        folder: is made by this function.
    """
    tf.saved_model.save(graph, str(folder), signatures={"serving_default": graph.serve})
    (folder / FINGERPRINT).unlink(missing_ok=True)
    about = folder / IN_FOLDER
    about.parent.mkdir(exist_ok=True)
    about.write_text(metadata.as_json(), encoding="ascii")
    seal_folder(folder)
