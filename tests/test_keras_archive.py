"""Hostile `.keras` files: refused from their configuration and their members, before Keras builds anything."""

import io
import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from pipeline.models import keras_archive
from pipeline.models.ensembles import save_ensemble
from pipeline.models.keras_archive import LONGEST_LIST, MOST_NESTED, weights_within
from pipeline.models.keras_files import load, save
from pipeline.models.records import RECORD, read_record
from pipeline.runtime.errors import DamagedError, UnusableError
from pipeline.runtime.limits import DEFAULT, VARIABLE, in_environment


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A small classifier's file."""
    path = tmp_path_factory.mktemp("sound") / "sound.keras"
    layers = [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3, name="logits")]
    save(keras.Sequential(layers), path, {"class_names": ["a", "b", "c"]})
    return path


@pytest.fixture
def no_keras(monkeypatch):
    """Lets a test fail if Keras is asked."""
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras was asked"))


def changed(sound: Path, to: Path, member: str, content: bytes | str, compression: int = zipfile.ZIP_STORED) -> Path:
    """A copy of a file with another content of one member, which may be new."""
    path = to / "changed.keras"
    with zipfile.ZipFile(sound) as source, zipfile.ZipFile(path, "w", compression) as target:
        for name in {*source.namelist(), member}:
            target.writestr(name, content if name == member else source.read(name))
    return path


def config_of(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def with_layers(sound: Path, to: Path, *layers: dict) -> Path:
    config = config_of(sound)
    config["config"]["layers"][1:1] = layers
    return changed(sound, to, "config.json", json.dumps(config))


def layer(kind: str, module: str = "keras.layers", **settings: object) -> dict:
    return {"module": module, "class_name": kind, "config": {"name": "new", **settings}, "registered_name": None}


def test_a_sound_file_is_loaded(sound):
    assert load(sound).output_shape == (None, 3)


def test_a_model_of_more_weights_than_the_file_holds(sound, tmp_path):
    config = config_of(sound)
    config["config"]["layers"][2]["config"]["units"] = 2_000_000
    with pytest.raises(UnusableError, match=r"declares a model of 96,000,000 weights or more, and holds at most"):
        load(changed(sound, tmp_path, "config.json", json.dumps(config)))
    assert keras.layers.Layer.add_weight.__name__ == "add_weight"


def test_weights_are_counted_up_to_the_last():
    with weights_within(12, Path("model")):
        keras.layers.Dense(3).build((None, 3))  # 3 x 3 weights and a bias of 3
    told = "declares a model of 12 weights or more, and holds at most 11"
    with pytest.raises(UnusableError, match=told), weights_within(11, Path("model")):
        keras.layers.Dense(3).build((None, 3))


def test_weights_of_another_thread_are_not_counted():
    with weights_within(1, Path("model")):
        other = threading.Thread(target=lambda: keras.layers.Dense(3).build((None, 3)))
        other.start()
        other.join()


def test_two_threads_count_one_after_the_other():
    inside, go_on = threading.Event(), threading.Event()
    add_weight = keras.layers.Layer.add_weight

    def counts():
        with weights_within(12, Path("model")):
            inside.set()
            go_on.wait(60)

    def counts_too():
        with weights_within(12, Path("model")):
            go_on.wait(60)

    threads = [threading.Thread(target=counts)]
    threads[0].start()
    inside.wait(60)
    threads.append(threading.Thread(target=counts_too))
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert keras.layers.Layer.add_weight is add_weight


HONEST = {
    "normalization": [keras.layers.Flatten(), keras.layers.Normalization(mean=[0.5] * 6144, variance=[1.0] * 6144)],
    "augmentation": [keras.layers.AugMix(), keras.layers.Flatten()],
}


@pytest.mark.parametrize("kind", HONEST)
def test_what_honest_classifiers_have_is_loaded(tmp_path, kind):
    keras.Sequential([keras.Input((64, 32, 3)), *HONEST[kind], keras.layers.Dense(3)]).save(tmp_path / "m.keras")
    assert load(tmp_path / "m.keras").output_shape == (None, 3)


def test_an_error_in_the_block_is_the_blocks_own():
    with pytest.raises(ZeroDivisionError), weights_within(1, Path("model")):
        raise ZeroDivisionError


def test_too_many_layers(sound, tmp_path, no_keras):
    model = layer("Functional", "keras.src.models.functional", layers=[layer("Identity")] * 2999, output_layers=[])
    with pytest.raises(UnusableError, match=r"has 3,003 layers.*more than 3,000.*limits.model_layers"):
        load(with_layers(sound, tmp_path, model))


def test_an_ensemble_of_too_many_layers_is_not_written(sound, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, in_environment(replace(DEFAULT, model_layers=8))[VARIABLE])  # each has four
    with pytest.raises(UnusableError, match=r"has \d+ layers.*limits.model_layers"):
        save_ensemble([sound, sound], "logits", ["a", "b", "c"], tmp_path / "ensemble.keras")
    assert not any(tmp_path.iterdir())


def test_layers_of_a_sequential_model_are_built_again_and_again(sound, tmp_path, no_keras):
    with pytest.raises(UnusableError, match=r"has 4,848 layers \(those of a Sequential model count more\)"):
        load(with_layers(sound, tmp_path, *[layer("Identity")] * 300))  # 303 layers, 16 times


def test_a_model_that_calls_another_twice_and_so_on(sound, tmp_path, no_keras):
    inner = layer("Identity")
    for _ in range(MOST_NESTED - 2):
        settings = {"layers": [inner | {"inbound_nodes": [{}] * 6}], "output_layers": []}
        inner = layer("Functional", "keras.src.models.functional", **settings)
    with pytest.raises(UnusableError, match=r"layers \(those"):
        load(with_layers(sound, tmp_path, inner))


def test_models_inside_models(sound, tmp_path, no_keras):
    inner = layer("Identity")
    for _ in range(MOST_NESTED):
        inner = layer("Sequential", "keras", layers=[inner])
    with pytest.raises(DamagedError, match="more than 12 models lie inside each other"):
        load(with_layers(sound, tmp_path, inner))


FAULTS = {
    "a long list": (layer("Normalization", mean=[0.0] * (LONGEST_LIST + 1)), "a list of 65,537 values"),
    "a deep list": (layer("Identity", a=json.loads("[" * 200 + "]" * 200)), "more than 100 lists or maps"),
    "a long text": (layer("Identity", a="a" * 200_000), "a text has 200,000 characters"),
    "a long number": (layer("Dense", units=10**40), "a whole number has 41 digits"),
    "an array of long texts": (
        layer("Dense", units={"class_name": "__numpy__", "config": {"dtype": "S999999"}}),
        "S999",
    ),
    "a layer for sounds": (layer("MelSpectrogram"), "a layer MelSpectrogram"),
    "a layer of many steps": (layer("AugMix", num_chains=10**6), "a layer AugMix"),
    "an unrolled layer": (layer("LSTM", units=1, unroll=True), "LSTM that is unrolled.*unroll=False"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_settings_that_cost_too_much(sound, tmp_path, no_keras, fault):
    added, told = FAULTS[fault]
    with pytest.raises((DamagedError, UnusableError), match=told) as error:
        load(with_layers(sound, tmp_path, added))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("content", ["", "{", "[]", "nul", "{}", '{"config": 3}', "\0", '{"a": NaN}', "[" * 100_000])
def test_other_configurations_end_in_one_message(sound, tmp_path, content):
    with pytest.raises(DamagedError, match="cannot be loaded as a Keras model") as error:
        load(changed(sound, tmp_path, "config.json", content))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:/evil", "..\\evil"])
def test_members_outside_of_the_archive(sound, tmp_path, no_keras, name):
    with pytest.raises(DamagedError, match="lies outside of the archive"):
        load(changed(sound, tmp_path, name, b"evil"))


def test_a_member_that_unpacks_to_far_more(sound, tmp_path, no_keras):
    with pytest.raises(DamagedError, match="unpacks to 10,000,000 bytes"):
        load(changed(sound, tmp_path, "assets/zeros", bytes(10**7), zipfile.ZIP_DEFLATED))


def test_an_archive_that_was_compressed_again_is_loaded(sound, tmp_path):
    weights = zipfile.ZipFile(sound).read("model.weights.h5")
    path = changed(sound, tmp_path, "model.weights.h5", weights, zipfile.ZIP_DEFLATED)
    expected = load(sound).get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(load(path).get_weights(), expected, strict=True))


def test_weights_that_hdf5_would_fill(sound, tmp_path, no_keras):
    content = io.BytesIO(zipfile.ZipFile(sound).read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        place = next(f"layers/{name}/vars" for name in file["layers"] if len(file[f"layers/{name}/vars"]))
        del file[place]["0"]
        file[place].create_dataset("0", (30_000, 30_000), "f4", chunks=(100, 100), compression="gzip")
    with pytest.raises(DamagedError, match="3,600,000,000 bytes, which are not in the file"):
        load(changed(sound, tmp_path, "model.weights.h5", content.getvalue()))


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"text"])
def test_weights_that_are_no_hdf5_file(sound, tmp_path, no_keras, content):
    with pytest.raises(DamagedError, match="cannot be loaded as a Keras model"):
        load(changed(sound, tmp_path, "model.weights.h5", content))


def test_an_error_of_tensorflow_is_told_as_one(sound, tmp_path):
    """Values for 5 channels of images that have 3."""
    wrong = layer("Normalization", axis=-1, mean=[0.0] * 5, variance=[1.0] * 5)
    with pytest.raises(DamagedError, match="cannot be loaded as a Keras model"):
        load(with_layers(sound, tmp_path, wrong))


RECORDS = [
    "", "[]", "3", "{}", "[" * 5000, '{"class_names": 3}', '{"class_names": ["a"]}', '{"class_names": ["a", 2]}',
    '{"class_names": ["a", "b"], "validation": {}}', '{"class_names": ["a", "b"], "members": [{"name": "m"}]}',
    '{"class_names": ["a", "b"], "frozen": {"a": [3]}}', '{"class_names": ["a", "b"], "given": [3]}',
    '{"class_names": ["a", "b"], "given": {"accuracy": NaN}}', '{"class_names": ["a", "b"], "files": "abc"}',
    '{"class_names": ["a", "b"], "answers": {}}', '{"class_names": ["a", "b"], "average": "logits"}',
    '{"class_names": ["a", "b"], "average": "logits", "members": []}',
    '{"class_names": ["a", "b"], "members": [{"name": "m", "sha256": "0", "record": null}]}',
    '{"class_names": ["a", "b"], "class_names": ["c", "d"]}', '{"class_names": ["a", "%s"]}' % ("b" * 200_000),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(RECORDS)))
def test_a_record_of_another_form_is_refused(sound, tmp_path, number):
    with pytest.raises(DamagedError, match=r"softlabel\.json\) cannot be read: ") as error:
        read_record(changed(sound, tmp_path, RECORD, RECORDS[number]))
    assert len(str(error.value)) < 600


def test_a_record_that_unpacks_to_more_is_refused(sound, tmp_path):
    with pytest.raises(DamagedError, match="unpacks to"):
        read_record(changed(sound, tmp_path, RECORD, " " * 10**6, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("place", ["bytes", "encrypted"])
def test_a_record_that_cannot_be_unpacked_is_refused(sound, tmp_path, place):
    record = json.dumps({"class_names": ["a", "b", "c"], "files": [f"{number:064x}" for number in range(9)]})
    path = changed(sound, tmp_path, RECORD, record, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    if place == "bytes":
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo(RECORD).header_offset + 30 + len(RECORD)
        content[start : start + 2] = b"\xff\xff"  # a kind of block that DEFLATE does not have
    else:
        content[content.rindex(RECORD.encode()) - 38] |= 1  # the flags in the table of members
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"softlabel\.json\) cannot be read: "):
        read_record(path)


MEMBER = {"name": "m", "sha256": "0" * 64, "record": None}


@pytest.mark.parametrize(
    "record",
    [
        {"frozen": {"zz/yy": ["q"]}},
        {"average": "logits", "members": [MEMBER, MEMBER]},
    ],
    ids=["frozen layers", "members"],
)
def test_a_record_of_another_model_is_refused(sound, tmp_path, record):
    path = changed(sound, tmp_path, RECORD, json.dumps({"class_names": ["a", "b", "c"], **record}))
    with pytest.raises(DamagedError, match=r"softlabel\.json\) is of another model: "):
        load(path)


def test_a_record_may_name_as_many_images_as_the_file_holds(sound, tmp_path, monkeypatch):
    answers = {"ids": [f"image{number}" for number in range(1000)], "views": None, "rendering": None}
    record = {"class_names": ["a", "b", "c"], "answers": answers}
    path = changed(sound, tmp_path, RECORD, json.dumps(record))
    monkeypatch.setenv(VARIABLE, in_environment(replace(DEFAULT, text_bytes=1000, items=1000))[VARIABLE])
    assert read_record(path) == record


def test_all_records_of_this_program_are_read(tmp_path):
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    of_one = {
        "class_names": ["a", "b"],
        "validation": {"images": "0" * 64, "accuracy": 1.0},
        "files": ["0" * 64],
        "given": {"sha256": None, "accuracy": None, "preprocessing": "none", "classes": {"a": 0, "b": 1}},
    }
    members = [{"name": "m", "sha256": "0" * 64, "record": one} for one in (of_one, None)]
    record = {"class_names": ["a", "b"], "average": "logits", "members": members, "frozen": {}}
    record["answers"] = {"ids": ["x"], "views": None, "rendering": {"seed": 1}}
    save(model, tmp_path / "model.keras", record)
    assert read_record(tmp_path / "model.keras") == record


LARGE = {
    "input": [keras.Input((20_000, 20_000, 3)), keras.layers.GlobalAveragePooling2D()],
    "middle": [keras.Input((4, 4, 3)), keras.layers.UpSampling2D(2000), keras.layers.GlobalAveragePooling2D()],
    "repeated": [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.RepeatVector(10**9)],
}


@pytest.mark.parametrize("nested", ["not nested", "nested", "operation"])
@pytest.mark.parametrize("kind", LARGE)
def test_layers_that_give_too_many_numbers(tmp_path, kind, nested):
    model = keras.Sequential(LARGE[kind])
    if nested != "not nested":
        pixels = keras.Input(model.input_shape[1:])
        model = keras.Model(pixels, model(pixels) if nested == "nested" else model(pixels) + 1.0)
    model.save(tmp_path / "large.keras")
    with pytest.raises(UnusableError, match=r"more than 100,000,000 numbers\..*limits.layer_megaoutputs"):
        load(tmp_path / "large.keras")


ATTENTION = {  # of 150 x 150 tokens: 22,500 squared are half a billion pairs
    "multi-head": (keras.layers.MultiHeadAttention(1, 1), (22_500, 1)),
    "multi-head over two axes": (keras.layers.MultiHeadAttention(1, 1), (150, 150, 1)),
    "grouped": (keras.layers.GroupQueryAttention(1, 2, 1), (22_500, 1)),
    "dot product": (keras.layers.Attention(), (22_500, 1)),
    "additive": (keras.layers.AdditiveAttention(), (400, 1000)),  # 400 x 400 pairs, of 1,000 numbers each
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_pairs_of_tokens_count_as_numbers(tmp_path, kind):
    layer, shape = ATTENTION[kind]
    tokens = keras.Input(shape)
    called = layer([tokens, tokens]) if isinstance(layer, keras.layers.Attention) else layer(tokens, tokens)
    keras.Model(tokens, keras.layers.Flatten()(called)).save(tmp_path / "m.keras")
    with pytest.raises(UnusableError, match=r"makes .* for each image, more than 100,000,000 numbers"):
        load(tmp_path / "m.keras")


def test_pairs_count_wherever_query_and_value_were_given(tmp_path):
    """By keyword, in the order of the alphabet behind a mask; and a value that is no tensor of the model."""
    tokens, mask = keras.Input((22_500, 1)), keras.Input((1, 1), dtype="bool")
    masked = keras.layers.MultiHeadAttention(1, 1)(query=tokens, value=tokens, attention_mask=mask)
    keras.Model([tokens, mask], keras.layers.Flatten()(masked)).save(tmp_path / "masked.keras")
    constant = keras.layers.MultiHeadAttention(1, 1)(tokens, keras.ops.zeros((1, 22_500, 1)))
    keras.Model(tokens, keras.layers.Flatten()(constant)).save(tmp_path / "constant.keras")
    for name in ("masked", "constant"):
        with pytest.raises(UnusableError, match=r"makes \((None|1), 1, 22500, 22500\) for each image"):
            load(tmp_path / f"{name}.keras")


def test_attention_along_one_axis_has_few_pairs(tmp_path):
    """150 rows of 150 x 150 pairs, and not 22,500 squared."""
    tokens = keras.Input((150, 150, 1))
    along = keras.layers.MultiHeadAttention(1, 1, attention_axes=(2,))(tokens, tokens)
    keras.Model(tokens, keras.layers.GlobalAveragePooling2D()(along)).save(tmp_path / "m.keras")
    model = load(tmp_path / "m.keras")
    shapes = [shape for _, shape in keras_archive._shapes(model)]
    assert (None, 150, 1, 150, 150) in shapes


def test_an_operation_that_gives_too_many_numbers(tmp_path):
    pixels = keras.Input((4, 4, 3))
    keras.Model(pixels, keras.ops.mean(keras.ops.tile(pixels, (1, 3000, 3000, 1)), axis=(1, 2))).save(
        tmp_path / "m.keras"
    )
    with pytest.raises(UnusableError, match="more than 100,000,000 numbers"):
        load(tmp_path / "m.keras")


def test_the_limit_of_weights_can_be_raised(sound, monkeypatch):
    monkeypatch.setenv(VARIABLE, in_environment(replace(DEFAULT, model_parameters=100))[VARIABLE])
    with pytest.raises(UnusableError, match=r"has more than 100 weights.*limits.model_megaparameters"):
        load(sound)
