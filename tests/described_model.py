"""A model from the keys of params.yaml, taken as they are: nothing checks their ranges."""

from pipeline.models.descriptions import Application, Cnn, Description, Mlp

KINDS = {"cnn": Cnn, "mlp": Mlp}


def described_model(**keys) -> Description:
    """The description that has these keys."""
    return KINDS.get(keys["architecture"], Application)(**keys)
