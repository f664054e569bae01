"""What several test files share: a small labelled data set in MHIST's layout, and a project that was reproduced."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.models.descriptions import Cnn

MODEL = Cnn(  # for the data set below
    input_shape=(12, 12, 3),
    weights=None,
    filters=[2],
    downsampling="stride",
    pooling="flatten",
    batch_normalization=False,
    dropout=0.0,
)
COLUMNS = ["Image Name", "Majority Vote Label", "Number of Annotators who Selected SSA (Out of 7)", "Partition"]


def write_data_set(folder: Path, per_class: int = 20, side: int = 12) -> None:
    """Writes annotations.csv and images/ with two classes that brightness tells apart, a little noisily."""
    import tensorflow as tf

    noise = np.random.default_rng(7)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(2 * per_class):
        label, brightness = [("HP", 90), ("SSA", 160)][number % 2]
        pixels = np.clip(noise.normal(brightness, 45, (side, side, 3)), 0, 255).astype(np.uint8)
        name = f"MHIST_{number:03d}.png"
        (folder / "images" / name).write_bytes(tf.io.encode_png(pixels).numpy())
        rows.append([name, label, str(number % 8), "test" if number % 10 >= 7 else "train"])
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "annotations.csv", index=False)


def mhist_in(folder: Path, val_fraction: float = 0.3) -> dict[str, object]:
    """The settings of `split` for a data set in MHIST's layout."""
    return {
        "data": folder,
        "annotations": Path("annotations.csv"),
        "images": Path("images"),
        "val_fraction": val_fraction,
    }


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A folder with annotations.csv and images/ of 40 small images in two classes."""
    folder = tmp_path / "raw"
    write_data_set(folder)
    return folder


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository on a small data set, after one `dvc repro` that nothing interrupted; to be copied."""
    from real_project import copy_repository, make_small, run, stages_run

    folder = tmp_path_factory.mktemp("reproduced") / "project"
    folder.mkdir()
    copy_repository(folder)
    make_small(folder)
    assert stages_run(run("dvc", "repro", cwd=folder)) == [
        "split", "train_teacher", "describe_teacher", "precompute", "soften@4", "train_student@4-1",
        "train_baseline@1", "evaluate", "measure_speed", "report",
    ]  # fmt: skip
    return folder
