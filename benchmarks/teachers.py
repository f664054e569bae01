"""One student and many kinds of teachers, on tiles of histology: what each student learns, by real `dvc repro`.

The student is always the same small CNN, but for the one that is a network of its user's own. All variants run one
after another in one project, so the split and the baselines are made once. Each teacher is used as a user would do it:

- network: MobileNetV2 with ImageNet's weights, trained here;
- ONNX: that teacher, exported to ONNX by Keras, as a file from elsewhere;
- MobileNet: a quarter of its width, another architecture of keras.applications, from random weights;
- scikit-learn: a logistic regression on histograms of colors, which labels the pictures of `softlabel render-views`;
  its probabilities come back as a CSV file;
- votes: the annotators, with smoothing 1;
- network and votes: the mean of the logits of both;
- own student: the first teacher, and a student from a `.keras` file;
- unlabelled: 30 % of the training labels are taken away. The teacher is trained on the others, and labels all images.

    python -m benchmarks.teachers --mhist FOLDER [--weights FILE] [--work FOLDER]

FOLDER has annotations.csv and images/ as MHIST has them. FILE has ImageNet's weights of MobileNetV2's backbone; without
it, Keras downloads them. The export to ONNX needs `pip install tf2onnx`. About 30 minutes on two CPU cores for 1,000
tiles; with `--work`, the same command goes on.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.projects import differences, interval, make_project, quality_of, reproduce
from benchmarks.record import Record, arguments

DATA, SIDE = Path("data/raw/tiles"), 96
HIDDEN = 0.3
"""The share of the training labels that the last variant takes away."""

VOTES = {"votes": {"smoothing": 1}}
ONNX = {"model": "teacher.onnx"}
TABLE = {"logits": "probabilities.csv"}
OWN: dict[str, Any] = {"architecture": "network.keras", "weights": None}


def trained(architecture: str, weights: str | None, phases: list[dict[str, Any]]) -> dict[str, Any]:
    """A teacher that is trained here."""
    model = {"architecture": architecture, "input_shape": [SIDE, SIDE, 3], "weights": weights, "dropout": 0.2}
    return {"model": model, "augmentation": {"horizontal_flip": True, "vertical_flip": True}, "phases": phases}


NETWORK = trained(
    "mobilenetv2",
    "imagenet",
    [
        {"epochs": 5, "learning_rate": 0.001, "trainable_from": None},
        {"epochs": 5, "learning_rate": 0.0001, "trainable_from": 100, "backbone_in_inference_mode": True},
    ],
)
FROM_RANDOM = trained("mobilenet", None, [{"epochs": 40, "learning_rate": 0.001, "trainable_from": "all"}])
FROM_RANDOM["model"]["alpha"] = 0.25
PARAMS: dict[str, Any] = {
    "images": {"resize": {"method": "bilinear", "antialias": True, "fit": "stretch"}},
    "split": {
        "layout": "mhist",
        "data": DATA.as_posix(),
        "annotations": "annotations.csv",
        "images": "images",
        "val_fraction": 0.15,
    },
    "views": {"count": 10, "seed": 1, "augmentation": {"horizontal_flip": True, "vertical_flip": True}},
    "precompute": {},
    "distill": {
        "temperatures": [4],
        "hard_label_weight": 0.5,
        "losses": ["kl"],
        "scale_by_temperature_squared": True,
        "loss": {"kl": {}},
    },
    "student": {
        "model": {
            "architecture": "cnn",
            "input_shape": [SIDE // 2, SIDE // 2, 3],
            "filters": [16, 32, 64],
            "pooling": "avg",
        },
        "seeds": [1, 2, 3],
        "batch_size": 32,
        "validation_steps": None,
        "select_by": "accuracy",
        "phases": [{"epochs": 80, "learning_rate": 0.0005, "trainable_from": "all"}],
    },
    "evaluate": {},
    "export": {"students": []},
    "card": {},
}


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        teacher: `train_teacher` of params.yaml.
        changes: sections of params.yaml that replace others, by name.
        prepare: makes the files that the variant needs, in the project.
    """

    teacher: Any
    changes: Mapping[str, Any]
    prepare: Callable[[Path], None] | None = None


def export_to_onnx(project: Path) -> None:
    """Exports the trained teacher to ONNX."""
    teacher = keras.saving.load_model(project / "models/teacher.keras")
    teacher(np.zeros((1, *teacher.input_shape[1:]), np.float32))  # Keras exports no model that was never called
    teacher.export(project / ONNX["model"], format="onnx", verbose=False)


def label_by_histograms(project: Path) -> None:
    """Labels all stored views by another program, with probabilities in a CSV file."""
    folder = project / "rendered"
    size = [str(SIDE), str(SIDE), "3"]
    command = [sys.executable, "-m", "pipeline", "render-views", "rendered", "--size", *size, "--force"]
    subprocess.run(command, cwd=project, check=True)
    table = pd.read_csv(folder / "views.csv", dtype={"id": str})
    table["rendering"] = json.loads((folder / "views.json").read_text(encoding="utf-8"))["rendering"]
    index = pd.read_csv(project / "data/index.csv", dtype={"id": str}).set_index("id")
    features = np.stack([_histogram(folder / file) for file in table["file"]])
    learn = (table["split"] == "train").to_numpy()
    labels = table["id"].map(index["class_name"])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[learn], labels[learn])
    probabilities = classifier.predict_proba(features)
    result = table[["id", "view", "rendering"]].copy()
    for name, column in zip(classifier.classes_, probabilities.T, strict=True):
        result[f"probability:{name}"] = column
    result.to_csv(project / TABLE["logits"], index=False)


def _histogram(file: Path) -> Any:
    pixels = np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3)
    return np.concatenate([np.histogram(channel, bins=16, range=(0, 256), density=True)[0] for channel in pixels.T])


def save_network(project: Path) -> None:
    """Writes a network of the user's own: separable convolutions, which params.yaml cannot describe."""
    layers = [
        keras.Input((SIDE // 2, SIDE // 2, 3)),
        keras.layers.Rescaling(1 / 255),
        *(keras.layers.SeparableConv2D(filters, 3, strides=2, activation="relu") for filters in (32, 64, 128)),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2),
    ]
    keras.utils.set_random_seed(1)
    keras.Sequential(layers).save(project / OWN["architecture"])


def hide_labels(project: Path) -> None:
    """Copies the data set without some of the training labels, every n-th by name."""
    copy = project / f"{DATA}_hidden"
    shutil.copytree(project / DATA, copy, copy_function=shutil.copyfile, dirs_exist_ok=True)
    table = pd.read_csv(copy / "annotations.csv")
    training = table.index[table["Partition"] == "train"]
    hidden = np.random.default_rng(1).permutation(training)[: round(HIDDEN * len(training))]
    label, votes = table.columns[1:3]
    table[votes] = table[votes].astype("Int64")
    table.loc[hidden, label], table.loc[hidden, votes] = None, pd.NA
    table.to_csv(copy / "annotations.csv", index=False)


UNLABELLED = {"split": PARAMS["split"] | {"data": f"{DATA}_hidden", "unlabelled": {"rows": True}}}
VARIANTS = {
    "network": Variant(NETWORK, {}),
    "ONNX": Variant(ONNX, {}, export_to_onnx),
    "MobileNet": Variant(FROM_RANDOM, {}),
    "scikit-learn": Variant(TABLE, {}, label_by_histograms),
    "votes": Variant(VOTES, {}),
    "network and votes": Variant([NETWORK, VOTES], {}),
    "own student": Variant(NETWORK, {"student": PARAMS["student"] | {"model": OWN}}, save_network),
    "unlabelled": Variant(NETWORK, UNLABELLED, hide_labels),
}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--mhist", {"type": Path, "metavar": "FOLDER", "required": True, "help": "annotations.csv and images/."}),
    ("--weights", {"type": Path, "metavar": "FILE", "help": "ImageNet's weights of MobileNetV2, without its head."}),
    ("--work", {"type": Path, "metavar": "FOLDER", "help": "Keeps the project here.  [default: a temporary folder]"}),
]


def main() -> None:
    """Runs the variants and writes the record after each."""
    options = arguments(__doc__, *OPTIONS)
    if options.weights:
        NETWORK["model"]["weights"] = str(options.weights.resolve())
    record, rows = Record("teachers", options), []
    with tempfile.TemporaryDirectory() as temporary:
        project = (options.work or Path(temporary)).resolve()
        make_project(project, options.mhist, DATA)
        for name, variant in VARIANTS.items():
            if variant.prepare is not None:
                variant.prepare(project)
            params = {**PARAMS, "train_teacher": variant.teacher, **variant.changes}
            YAML(typ="safe").dump(params, project / "params.yaml")
            reproduce(project, name)
            quality = quality_of(json.loads((project / "results/metrics.json").read_text(encoding="utf-8")))
            record.keep(**{name: vars(quality)})
            of_students, of_baselines = (
                [metrics["accuracy"] for metrics in seeds.values()] for seeds in (quality.distilled, quality.baseline)
            )
            mean, low, high = interval(differences(quality.distilled, quality.baseline, "accuracy"))
            accuracies = [quality.teacher["accuracy"], float(np.mean(of_students)), float(np.mean(of_baselines))]
            gain = f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            rows.append([name, *(f"{100 * accuracy:.1f}" for accuracy in accuracies), gain])
    record.table(
        "Test accuracy in per cent: mean over 3 seeds; gain: paired seed by seed, with its 95 % interval",
        ["set-up", "teacher", "student", "baseline", "gain"],
        rows,
    )
    record.write()


if __name__ == "__main__":
    main()
