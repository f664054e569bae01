"""The same forward pass on other kinds of processors, as far as one machine can play them.

oneDNN, which multiplies TensorFlow's matrices, can be told to use no more than some instruction set, or be turned off.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

KINDS = {  # what the process is told, and its number of threads
    "avx2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, 2),
    "sse4.1": ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, 1),
    "without onednn": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, 0),
}


@pytest.fixture(scope="module")
def found():
    """What the program found on each kind; all run at once."""
    program = Path(__file__).with_name("logits_in_any_order.py")
    path = os.pathsep.join(filter(None, [str(program.parent.parent), os.environ.get("PYTHONPATH")]))
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(program), str(threads)],
            env=os.environ | settings | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, (settings, threads) in KINDS.items()
    }
    told = {name: process.communicate() for name, process in processes.items()}
    for name, process in processes.items():
        assert process.returncode == 0, told[name][1]
    return {name: json.loads(said.splitlines()[-1]) for name, (said, _) in told.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_images_own_on_this_kind_of_processor(found, kind):
    assert found[kind]["not their own"] == []
    assert len(found[kind]["unsteady"]) < found[kind]["tried"]  # or nothing was shown


@pytest.mark.parametrize("model", ["cnn", "mlp", "mobilenetv2"])
def test_logits_of_other_processors_differ_by_rounding_alone(found, model):
    """A thousand units in the last place of the largest logit: sums of some thousand terms, in another order."""
    first, *others = (np.array(found[kind]["logits"][model]) for kind in KINDS)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1000 * 2.0**-23 * np.abs(first).max())
