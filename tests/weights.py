"""Names the weights of a model, to compare models."""

import hashlib

import keras


def weights_sha256(model):
    """SHA-256 over the path, dtype, shape and bytes of every weight, in the model's order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight.value)
        digest.update(f"{weight.path} {value.dtype} {value.shape}\0".encode() + value.tobytes())
    return digest.hexdigest()
