"""The lines of docs/guide.md that export a model of PyTorch: the pipeline's logits are PyTorch's own.

PyTorch runs in a process of its own, because beside TensorFlow it may crash. It is no dependency; where it is not
installed (`pip install torch onnxscript`), the test is skipped.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from real_project import ROOT
from ruamel.yaml import YAML
from sklearn.datasets import load_sample_images

from pipeline.images.views import UNTOUCHED
from pipeline.models.parts import Standardization
from pipeline.models.teacher_file import GivenTeacher
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import precompute, split, train_teacher

GUIDE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
SIDE = 80
INDEX, TEACHER = Path("data/index.csv"), Path("models/teacher.keras")
PARTS = {"train": slice(0, 8), "val": slice(8, 20), "test": slice(20, 30)}

SMALL = """
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

torch.manual_seed(1)
files = sorted(Path("raw").glob("*/*/*.png"))
pixels = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files])).permute(0, 3, 1, 2) / 255
mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
labels = torch.tensor([int(file.parent.name == "flower") for file in files])
features = [nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.GELU()]
small = nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(small.parameters(), 0.01)
for _ in range(30):
    optimizer.zero_grad()
    nn.functional.cross_entropy(small((pixels - mean) / std), labels).backward()
    optimizer.step()
small.eval()
with torch.no_grad():
    logits = small((pixels - mean) / std).numpy()
np.savez("pytorch.npz", logits=logits, names=np.array(["/".join(file.parts[2:]) for file in files]))
"""
"""Trains a small network on images that are standardized as torchvision does it, and notes its logits."""


def shown(language, word):
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if word in block]
    return block


def stated():
    return YAML(typ="safe").load(shown("yaml", "teacher.onnx"))["train_teacher"]["preprocessing"]


def write_tiles():
    """Tiles of two photographs, a temple and a flower."""
    for label, photograph in zip(("china", "flower"), load_sample_images().images, strict=True):
        tiles = [
            photograph[row : row + SIDE, column : column + SIDE]
            for row in range(0, 427 - SIDE, 64)
            for column in range(0, 640 - SIDE, 106)
        ]
        assert len(tiles) == 36
        for part, numbers in PARTS.items():
            Path("raw", part, label).mkdir(parents=True)
            for number, tile in list(enumerate(tiles))[numbers]:
                Image.fromarray(tile).save(Path("raw", part, label, f"{number}.png"))


def test_the_lines_of_the_guide_are_whole():
    """Also where PyTorch is not installed."""
    assert compile(shown("python", "torch.onnx.export"), "guide", "exec")
    assert Standardization(**stated()).mean == [0.485, 0.456, 0.406]


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "onnxscript")),
    reason="PyTorch and onnxscript are not installed (`pip install torch onnxscript`)",
)
@pytest.mark.parametrize("exporter", ["as shown", "fixed batch", "TorchScript"])
def test_an_exported_model_has_the_logits_of_pytorch(exporter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write_tiles()
    lines = shown("python", "torch.onnx.export")
    for theirs, ours in {
        "import torchvision\n": "",
        'torchvision.models.resnet18(weights="DEFAULT")': "small",
        "224, 224": f"{SIDE}, {SIDE}",
    }.items():
        assert theirs in lines
        lines = lines.replace(theirs, ours)
    if exporter == "fixed batch":
        lines = re.sub(r"    dynamic_shapes=.*\n", "", lines)
    elif exporter == "TorchScript":
        lines = re.sub(r"dynamic_shapes=.*\n", 'dynamic_axes={"pixels": {0: "batch"}}, dynamo=False,\n', lines)
    script = SMALL.replace("MEAN", str(stated()["mean"])).replace("STD", str(stated()["std"])) + lines
    subprocess.run([sys.executable, "-c", script], check=True)

    settings = {"data": Path("raw"), **{part: part for part in PARTS}, "val_fraction": None, "test_fraction": None}
    split.run(layout="folders", settings=settings, split_folder=Path("data/split"), index=INDEX)
    teacher = GivenTeacher("teacher.onnx", preprocessing=Standardization(**stated()), accuracy=1.0)
    train_teacher.run(index=INDEX, teachers=[teacher], average="logits", output=TEACHER, history=Path("history.csv"))
    precompute.run(
        index=INDEX, teacher=TEACHER, views=UNTOUCHED, stored_as=Dense("float32"), batch_size=8, previous=[],
        output=Path("logits.h5"),
    )  # fmt: skip
    with np.load("pytorch.npz") as own, h5py.File("logits.h5") as file:
        expected = dict(zip(own["names"].tolist(), own["logits"], strict=True))
        assert len(expected) == 60
        for part in PARTS:
            ids = file[part]["id"].asstr()[:]
            by_pytorch = np.stack([expected["/".join(Path(name).parts[-2:])] for name in ids])
            assert by_pytorch.std() > 0.5
            np.testing.assert_allclose(file[part]["logits"][0], by_pytorch, rtol=0, atol=1e-4)
