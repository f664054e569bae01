"""`softlabel parity` compares soft losses that have the gradient of the KL divergence, and refuses any other."""

from pathlib import Path

import pytest
from conftest import MODEL

from pipeline.distillation.loss import SOFT_LOSSES, DistillationLoss, kl_divergence
from pipeline.images.views import Augmentation, Views
from pipeline.runtime.errors import MissingError, ParameterError
from pipeline.tools import parity
from pipeline.training.recipe import Phase, Recipe

ABSENT = Path("absent")


def compare(soft_loss):
    return parity.run(
        index=ABSENT,
        teacher=ABSENT,
        soft_targets=ABSENT,
        logits=ABSENT,
        views=Views(1, 0, Augmentation()),
        loss=DistillationLoss(4.0, 0.5, soft_loss=soft_loss),
        model=MODEL,
        recipe=Recipe([Phase(1, 0.01, "all")], batch_size=8, seed=1),
        steps=1,
    )


def test_a_soft_loss_that_the_distiller_lacks_is_refused(monkeypatch):
    monkeypatch.setitem(SOFT_LOSSES, "squared_error", kl_divergence)
    with pytest.raises(ParameterError, match=r"soft_loss is 'squared_error'.*kl_divergence and cross_entropy"):
        compare("squared_error")


@pytest.mark.parametrize("soft_loss", ["kl_divergence", "cross_entropy"])
def test_losses_of_the_same_gradient_are_compared(soft_loss):
    """What is refused is the missing index."""
    with pytest.raises(MissingError, match="absent"):
        compare(soft_loss)
