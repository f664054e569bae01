"""The two trainings of docs/guide.md from a pack of soft labels, in plain Keras and in plain PyTorch.

PyTorch runs in a process of its own, because beside TensorFlow it may crash. It is no dependency; where it is not
installed (`pip install torch`), its test is skipped.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PngImage
from real_project import ROOT, change
from soft_label_files import image as image_of
from soft_label_files import write_both

from pipeline.cli.main import main
from pipeline.distillation.loss import DistillationLoss
from pipeline.images.index import SPLITS, Index, write_index
from pipeline.images.views import Augmentation, Views

GUIDE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
NAMES = ["dark", "grey", "light"]
COUNTS = {"train": 90, "val": 6, "test": 6}
VIEWS = Views(1, 1, Augmentation())


def shown(framework):
    return shown_in(f"# A student from a pack in plain {framework}")


def shown_in(title):
    section = GUIDE.partition(f"\n## {title}\n")[2] or GUIDE.partition(f"\n##{title}\n")[2]
    block, *_ = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return block


def answers(views, count, classes):
    """(V, N, C): the class of row n is n modulo 3, which the teacher knows, with doubt."""
    return np.tile(3 * np.eye(classes, dtype=np.float32)[np.arange(count) % classes], (views, 1, 1))


@pytest.fixture
def _with_pack(tmp_path, monkeypatch):
    """The current folder: `images`, which are as bright as their class, and a `pack` of their soft labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    rng, images = np.random.default_rng(1), []
    Path("images").mkdir()
    for split in SPLITS:
        for row in range(COUNTS[split]):
            name = f"{split}_{row:02}.png"
            pixels = rng.integers(0, 60, (28, 28)) + 90 * (row % 3)
            PngImage.fromarray(pixels.astype(np.uint8)).save(Path("images", name))
            images.append(image_of(split, 0)._replace(id=name, class_name=NAMES[row % 3]))
    index = Index(images, NAMES)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    write_index_and_files(index, VIEWS)


def write_index_and_files(index, views):
    shutil.rmtree("data", ignore_errors=True)
    change(Path("params.yaml"), "views", views.as_json())
    write_both(Path("data/soft_labels"), index=index, views=views, logits=answers)
    write_index(Path("data/index.csv"), index)
    done = CliRunner().invoke(main, ["pack", "pack", "--license", "MIT", "--force"])
    assert done.exit_code == 0, done.output


def loss_by_hand(hard, soft, logits, temperature, weight):
    """The mean of w CE(y, softmax(z)) + (1 - w) T^2 KL(p || softmax(z / T)), in float64."""

    def log_softmax(values):
        shifted = values - values.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    hard, soft, logits = (np.asarray(values, np.float64) for values in (hard, soft, logits))
    of_labels = -(hard * log_softmax(logits)).sum(axis=1)
    divergence = (soft * (np.log(soft) - log_softmax(logits / temperature))).sum(axis=1)
    return float(np.mean(weight * of_labels + (1 - weight) * temperature**2 * divergence))


@pytest.mark.parametrize("framework", ["Keras", "PyTorch"])
def test_a_training_has_at_most_25_lines_and_needs_little(framework):
    """Also where PyTorch is not installed."""
    block = shown(framework)
    assert compile(block, "docs/guide.md", "exec")
    assert len([line for line in block.splitlines() if line.strip()]) <= 25
    used = set(re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE))
    assert used == {"json", "pathlib", "h5py", "numpy", "PIL", "keras" if framework == "Keras" else "torch"}


@pytest.mark.slow
@pytest.mark.usefixtures("_with_pack")
def test_the_keras_training_has_the_loss_of_our_students():
    keras.utils.set_random_seed(1)
    found = {}
    exec(compile(shown("Keras"), "docs/guide.md", "exec"), found)  # noqa: S102
    pixels, both = found["pixels"][:64], found["both"][:64]
    logits = found["student"].predict(pixels, verbose=0)
    ours = float(DistillationLoss(temperature=4, hard_label_weight=0.5)(both, logits))
    assert float(np.mean(found["distillation_loss"](both, logits))) == pytest.approx(ours, rel=1e-6)
    assert found["training"].evaluate(pixels, both, verbose=0) == pytest.approx(ours, rel=1e-5)
    assert loss_by_hand(both[:, :3], both[:, 3:], logits, 4, 0.5) == pytest.approx(ours, rel=1e-5)
    assert np.mean(logits.argmax(axis=1) == both[:, :3].argmax(axis=1)) > 0.9, "it has learned the classes"
    lines = shown_in("Ship").replace("models/students/kl_T4_seed1.keras", "student.keras")
    exec(compile(lines.replace("image.png", "images/train_00.png"), "docs/guide.md", "exec"), found)  # noqa: S102
    np.testing.assert_allclose(found["probabilities"], keras.ops.softmax(logits[:1]), rtol=1e-4)


@pytest.mark.usefixtures("_with_pack")
def test_images_are_joined_to_soft_labels_by_id():
    """The training halts before its model is made: the arrays tell."""
    found = {}
    exec(compile(shown("Keras").partition("classes =")[0], "docs/guide.md", "exec"), found)  # noqa: S102
    brightness = found["pixels"].mean(axis=(1, 2, 3)) // 90
    np.testing.assert_array_equal(found["both"][:, 3:].argmax(axis=1), brightness)
    np.testing.assert_array_equal(found["both"][:, :3].argmax(axis=1), brightness)


@pytest.mark.parametrize("framework", ["Keras", "PyTorch"])
@pytest.mark.usefixtures("_with_pack")
def test_labels_of_augmented_views_are_refused(framework):
    images = [image_of(split, 0)._replace(id=f"{split}.png", class_name=NAMES[0]) for split in SPLITS]
    images += [image_of("train", 0)._replace(id=f"{name}.png", class_name=name) for name in NAMES[1:]]
    write_index_and_files(Index(images, NAMES), Views(1, 1, Augmentation(rotation=0.1)))
    lines = shown(framework).replace("import torch\n", "").replace("from torch import nn\n", "")
    with pytest.raises(AssertionError, match="augmented views"):
        exec(compile(lines, "docs/guide.md", "exec"), {})  # noqa: S102


KEEP = """
final = student(pixels).detach()
np.savez("last.npz", logits=logits.detach(), hard=hard[rows], soft=soft[rows], loss=loss.item(), final=final)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed (`pip install torch`)")
@pytest.mark.usefixtures("_with_pack")
def test_the_pytorch_training_has_the_loss_by_hand():
    """Of its last batch; and the student has learned the classes."""
    subprocess.run([sys.executable, "-c", f"import torch; torch.manual_seed(1)\n{shown('PyTorch')}{KEEP}"], check=True)
    with np.load("last.npz") as last, h5py.File("pack/soft_targets_T4.h5") as file:
        expected = loss_by_hand(last["hard"], last["soft"], last["logits"], 4, 0.5)
        assert float(last["loss"]) == pytest.approx(expected, rel=1e-5)
        assert np.mean(last["final"].argmax(1) == file["train/hard"][:].argmax(1)) > 0.9
    assert Path("student.pt").is_file()
