"""Stage `cifar10`: what is downloaded becomes one .npz file, and what is said where nothing can be."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from layouts import check_copies, run, write_params

from pipeline.cli.main import main
from pipeline.runtime.errors import MissingError
from pipeline.stages import cifar10

DATA = Path("data/raw/cifar10/cifar10.npz")
SECTION = {"layout": "cifar10", "data": str(DATA), "val_fraction": 0.25}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def pair(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return pixels, (np.arange(count) % 10).astype(np.uint8)[:, None]


@pytest.fixture
def downloaded(monkeypatch):
    """Keras' function, which would need a network, gives 100 training and 20 test images."""
    pairs = pair(100, 1), pair(20, 2)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: pairs)
    return pairs


def test_the_file_holds_what_keras_gives(downloaded, capsys):
    cifar10.run(data=DATA)
    with np.load(DATA, allow_pickle=False) as file:
        assert sorted(file.files) == ["x_test", "x_train", "y_test", "y_train"]
        for part, arrays in zip(("train", "test"), downloaded, strict=True):
            for name, array in zip("xy", arrays, strict=True):
                np.testing.assert_array_equal(file[f"{name}_{part}"], array)
    assert capsys.readouterr().out == f"wrote 100 training and 20 test images to {DATA}\n"
    assert [path.name for path in DATA.parent.iterdir()] == ["cifar10.npz"]


def test_split_reads_the_file(downloaded):
    cifar10.run(data=DATA)
    rows = run(SECTION)
    check_copies(rows)
    assert len(rows) == 120
    assert [rows[f"test_0000{number}.png"]["class_name"] for number in (0, 1, 9)] == ["airplane", "automobile", "truck"]


def test_a_second_run_writes_the_same_bytes_which_hold_no_time(downloaded):
    cifar10.run(data=DATA)
    first = DATA.read_bytes()
    cifar10.run(data=DATA)
    assert DATA.read_bytes() == first
    with zipfile.ZipFile(DATA) as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("older", [False, True], ids=["no file yet", "a file that was put there"])
def test_without_a_network_it_says_what_to_do_and_keeps_files(monkeypatch, older):
    def load_data():
        raise Exception("URL fetch failure on https://example.org: None -- Name or service not known")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    if older:
        DATA.parent.mkdir(parents=True)
        DATA.write_bytes(b"of the user")
    with pytest.raises(MissingError) as refused:
        cifar10.run(data=DATA)
    message = str(refused.value)
    assert "URL fetch failure on" in message
    assert "x_train, y_train, x_test and y_test" in message
    assert f"{DATA}, " in message
    assert "split.data" in message
    assert DATA.exists() == older
    if older:
        assert DATA.read_bytes() == b"of the user"


def test_the_command_writes_what_the_stage_declares(downloaded):
    write_params(SECTION)
    shown = CliRunner().invoke(main, ["cifar10"])
    assert shown.exit_code == 0, shown.output
    assert DATA.is_file()
