"""`softlabel predict`: the answers of a student whose logits are known, in every format; and what is refused."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner
from exported_files import CLASSES, LOGITS, METADATA, PIXELS, write_litert
from real_project import ROOT, softlabel

from pipeline.cli import predict as command
from pipeline.cli.main import main
from pipeline.runtime.errors import MismatchError, MissingError, UnusableError
from pipeline.runtime.publish import replace_given
from pipeline.tools import label_formats
from pipeline.tools import predict as tool
from pipeline.tools.named_images import named_images

NAMES = ["a.png", "b/c, d.png", "b/e\r.png"]
"""Of the images, in the order of a folder; one cannot be a cell of CSV without quotes."""


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_litert(tmp_path_factory.mktemp("model") / "student.tflite")


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """The current folder: it holds the images, as PNG files, in the folder photos."""
    monkeypatch.chdir(tmp_path)
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        file = Path("photos", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels[..., 0]).save(file)
    return tmp_path


def predict(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def of_csv(text):
    return [*csv.DictReader(io.StringIO(text, newline=""))]


def refusal(*arguments):
    refused = predict(*arguments)
    assert (refused.exit_code, refused.stdout) == (1, "")
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("Error: ")]
    return line


def test_answers_are_those_by_pencil_in_every_format(model, images):
    rows = of_csv(predict(model, "photos", "--format", "csv").stdout)
    objects = [json.loads(line) for line in predict(model, "photos", "--format", "jsonl").stdout.splitlines()]
    header, *lines = predict(model, "photos").stdout.splitlines()
    for number, name in enumerate(NAMES):
        expected = softmax(LOGITS[number])
        row, told = rows[number], objects[number]
        assert row["path"] == told["path"] == f"photos/{name}"
        assert row["predicted"] == told["predicted"] == CLASSES[expected.argmax()]
        assert list(told["probabilities"]) == list(CLASSES)
        from_csv = [float(row[f"probability_{label}"]) for label in CLASSES]
        assert from_csv == list(told["probabilities"].values())  # the same numbers, bit for bit
        assert from_csv == pytest.approx(expected, abs=1e-5)
        assert sum(from_csv) == pytest.approx(1, abs=1e-12)
        *_, path = lines[number].split("  ")
        assert lines[number].startswith(row["predicted"] + " ")
        assert [f"{value:.4f}" in lines[number] for value in from_csv] == [True] * 3
        assert path == f"photos/{name}".replace("\r", "\\r")
    assert header.split("  ")[-1] == "image"
    assert all(len(line) - len(line.split("  ")[-1]) == len(header) - 5 for line in lines)


def test_calibrated_answers_are_softened_by_the_temperature(model, images):
    rows = of_csv(predict(model, "photos", "--format", "csv", "--calibrated").stdout)
    found = [[float(row[f"probability_{label}"]) for label in CLASSES] for row in rows]
    np.testing.assert_allclose(found, softmax(LOGITS / METADATA.temperature), atol=1e-5)


def test_a_file_of_probabilities_gives_the_same_answers(tmp_path, images, model):
    other = write_litert(tmp_path / "other.tflite", output="probabilities")
    for options in ([], ["--calibrated"]):
        rows = [of_csv(predict(file, "photos", "--format", "csv", *options).stdout) for file in (model, other)]
        for one, another in zip(*rows, strict=True):
            assert float(one["probability_cat"]) == pytest.approx(float(another["probability_cat"]), abs=1e-5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["photos"], NAMES),
        (["photos/b", "photos/a.png"], [*NAMES[1:], NAMES[0]]),
        (["photos/**/*.png"], NAMES),
        (["photos/*"], NAMES[:1]),
        (["photos/a.png", "photos/a.png"], [NAMES[0]] * 2),
        (["photos/[odd].dat"], ["[odd].dat"]),
    ],
)
def test_images_are_named_by_files_folders_and_patterns(model, images, given, expected):
    """What systems leave in a folder, and what is no image by its name, is not in it; a file that is named, is."""
    (images / "photos/.hidden.png").write_bytes(b"")
    (images / "photos/notes.txt").write_text("")
    PIL.Image.fromarray(PIXELS[0][..., 0]).save(images / "photos/[odd].dat", format="PNG")
    rows = of_csv(predict(model, *given, "--format", "csv").stdout)
    assert [row["path"] for row in rows] == [f"photos/{name}" for name in expected]


@pytest.mark.parametrize("name", ["train-0.tar", "train-0.parquet", "shards", "shards/*"])
def test_shards_are_told_to_hold_images_that_cannot_be_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shards").mkdir()
    for file in ("train-0.tar", "train-0.parquet", "shards/train-0.tar"):
        Path(file).write_bytes(b"x")
    with pytest.raises(MissingError, match=r"Images in shards \(\.tar, \.parquet\) cannot be named: unpack them"):
        named_images([name])


def test_links_to_folders_are_not_entered(model, images):
    """Else two links to a folder above have more paths than any disk has files."""
    for name in ("up", "above"):
        (images / "photos/b" / name).symlink_to("..")
    (images / "other/a.png").mkdir(parents=True)
    (images / "photos/link").symlink_to("../other")
    PIL.Image.fromarray(PIXELS[0][..., 0]).save(images / "other/d.png")
    for given in ("photos", "photos/**/*.png", "photos/**", "**/photos/**/*.png", "photos/**/**/*", "p*/**/*.png"):
        rows = of_csv(predict(model, given, "--format", "csv").stdout)
        assert [row["path"] for row in rows] == [f"photos/{name}" for name in NAMES], given
    for given, expected in {
        "photos/link": ["photos/link/d.png"],
        "photos/*/[cd]*.png": ["photos/b/c, d.png", "photos/link/d.png"],
        "other/*": ["other/d.png"],
        "**/d.png": ["other/d.png"],
        str(images / "**/d.png"): [str(images / "other/d.png")],
    }.items():
        assert [row["path"] for row in of_csv(predict(model, given, "--format", "csv").stdout)] == expected


def test_a_named_file_that_is_not_there_is_told_at_once(model, images):
    Path("photos/a.png").write_bytes(b"no image")  # which its batch would tell first
    assert "Error: there is no image gone.png." in refusal(model, "photos", "gone.png")
    for options in ([], ["--keep-going"]):
        assert "Error: the name of an image is empty." in refusal(model, "", *options)


def test_a_bad_image_ends_it_with_one_message(model, images):
    (images / "photos/b/bad.png").write_bytes(b"no image")
    refused = predict(model, "photos", "--output", "labels.csv", "--format", "csv")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "Error: photos/b/bad.png cannot be used: not an image that Pillow can read." in refused.stderr
    assert "--keep-going" in refused.stderr
    assert sorted(os.listdir()) == ["photos"]


def test_bad_images_are_told_and_skipped_if_that_is_wished(model, images):
    (images / "photos/b/bad.png").write_bytes(b"no image")
    Path("labels.csv").write_text("of an earlier run")
    done = predict(model, "photos", "gone.png", "--keep-going", "--output", "labels.csv", "--format", "csv")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.splitlines()[1:] == [
        "skipped photos/b/bad.png: not an image that Pillow can read",
        "skipped gone.png: No such file or directory",
        "skipped 2 of 5 images",
    ]
    assert [row["path"] for row in of_csv(Path("labels.csv").read_bytes().decode())] == [
        f"photos/{name}" for name in NAMES
    ]


@pytest.mark.parametrize("given", [".", "*.png"])
def test_names_that_were_found_are_no_formulas(model, images, given):
    for name in ("=cmd|'C calc'!A0.png", "-1.png"):
        shutil.copy("photos/a.png", name)
    paths = [row["path"] for row in of_csv(predict(model, given, "--format", "csv").stdout)]
    assert paths[:2] == ["-1.png", "./=cmd|'C calc'!A0.png"]
    (row,) = of_csv(predict(model, "=cmd|'C calc'!A0.png", "--format", "csv").stdout)
    assert row["path"] == "=cmd|'C calc'!A0.png"


@pytest.mark.parametrize("given", ["photos", "photos/*"])
def test_names_that_were_found_are_no_commands(model, images, given):
    os.rename("photos/a.png", "photos/\x1b]0;x\x07.png")
    assert r"1 image(s) have control characters in their names: 'photos/\x1b]0;x\x07.png'" in refusal(model, given)
    assert predict(model, "photos/\x1b]0;x\x07.png").exit_code == 0


def test_a_name_that_is_told_moves_no_cursor(model, images):
    told = predict(model, "gone\x1b2J\n.png", "--keep-going").stderr
    assert "skipped gone\\x1b2J\\n.png: No such file or directory\n" in told


def test_all_images_may_be_bad(model, images):
    done = predict(model, "gone.png", "--keep-going", "--format", "csv")
    assert (done.exit_code, of_csv(done.stdout)) == (3, [])


def test_an_output_is_written_whole(model, images):
    printed = predict(model, "photos", "--format", "csv").stdout
    done = predict(model, "photos", "--output", "new/labels.csv", "--format", "csv")
    assert (done.exit_code, done.stdout) == (0, "")
    assert Path("new/labels.csv").read_bytes().decode() == printed
    assert sorted(os.listdir()) == ["new", "photos"]  # and no lock or other file beside it


def test_nothing_beside_an_output_is_touched(model, images):
    """Also a link stays one: the file behind it is replaced."""
    Path("labels.csv.partial").mkdir()
    Path("labels.csv.partial/mine").touch()
    Path("real.csv").write_text("earlier")
    Path("labels.csv").symlink_to("real.csv")
    assert predict(model, "photos", "--output", "labels.csv", "--format", "csv").exit_code == 0
    assert len(of_csv(Path("real.csv").read_text())) == len(NAMES)
    assert Path("labels.csv").readlink() == Path("real.csv")
    assert sorted(os.listdir()) == ["labels.csv", "labels.csv.partial", "photos", "real.csv"]
    assert os.listdir("labels.csv.partial") == ["mine"]


def test_an_output_may_be_a_pipe(model, images):
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert predict(model, "photos", "--output", "pipe", "--format", "csv").exit_code == 0
    assert len(of_csv(os.read(reader, 2**16).decode())) == len(NAMES)
    os.close(reader)
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("lost", ["photos/a.png", "link.png", "student.tflite"])
def test_an_output_never_replaces_what_is_read(model, images, lost):
    Path("link.png").symlink_to("photos/a.png")
    shutil.copy(model, ".")
    before = Path(lost).read_bytes()
    assert f"--output {lost} is the model or one of the images" in refusal("student.tflite", "photos", "--output", lost)
    assert Path(lost).read_bytes() == before


def test_two_may_write_one_output(tmp_path):
    """As two processes do, of which each begins before the other ends."""
    output = tmp_path / "labels.csv"
    with replace_given(output) as one, replace_given(output) as other:
        one.write_text("one")
        other.write_text("other")
    assert output.read_text() == "one"  # its block ended last


def test_each_line_is_printed_when_it_is_known(monkeypatch):
    seen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(seen))
    with command._stream(None) as stream:
        stream.write("a line\n")
        assert seen.getvalue() == b"a line\n"


@pytest.mark.parametrize(("asked", "expected"), [([], None), (["--threads", 2], 2), (["--threads", 100_000], 3)])
def test_there_is_at_most_one_thread_a_core(model, images, monkeypatch, asked, expected):
    seen, as_it_is = [], command._opened
    monkeypatch.setattr(command, "usable_threads", lambda: 3)
    monkeypatch.setattr(command, "_opened", lambda *given: seen.append(given[1]) or as_it_is(*given))
    assert predict(model, "photos", *asked).exit_code == 0
    assert seen == [expected]


def test_a_name_that_is_no_text_keeps_its_bytes(model, images):
    name = os.fsencode("photos/a.png")[:-5] + b"\xff.png"
    os.rename("photos/a.png", name)
    for form in ("table", "csv", "jsonl"):
        predict(model, name.decode(errors="surrogateescape"), "--output", "labels", "--format", form)
        expected = b"photos/\\udcff.png" if form == "jsonl" else b"photos/\\udcff.png" if form == "table" else name
        assert expected in Path("labels").read_bytes()


@pytest.mark.parametrize(
    "named", [",".join(CLASSES[:2]), ",".join(f"class {number}" for number in range(100)), "names.txt"]
)
def test_other_classes_are_refused(model, images, named):
    Path("names.txt").write_text("\n".join(reversed(CLASSES)))
    error = refusal(model, "photos", "--classes", named)
    assert "student.tflite was made for the classes 'cat', 'dog'," in error
    assert ("the same in another order: " in error) == (named == "names.txt")


def test_the_same_classes_are_accepted(model, images):
    Path("names.txt").write_text("\n".join(CLASSES) + "\n")
    assert predict(model, "photos", "--classes", "names.txt").exit_code == 0


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("windows.txt", b"\xef\xbb\xbf" + "\r\n".join(CLASSES).encode()),
        ("names.json", json.dumps(CLASSES).encode()),
    ],
)
def test_a_file_of_classes_may_come_from_elsewhere(model, images, file, content):
    Path(file).write_bytes(content)
    assert predict(model, "photos", "--classes", file).exit_code == 0


def test_only_a_newline_ends_the_name_of_a_class(tmp_path):
    (tmp_path / "names.txt").write_text("a\u2028b\x0b\x85\nc\n")
    assert command._names_in(str(tmp_path / "names.txt")) == ["a\u2028b\x0b\x85", "c"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("names.txt", b"caf\xe9", "names.txt cannot be read as text in UTF-8: 'utf-8' codec can't decode"),
        ("names.json", b"[", "names.json cannot be read as JSON: Expecting value"),
        ("names.json", b'["a", 1]', "--classes names.json: expected a JSON list of names"),
        ("names.txt", None, "--classes names.txt: there is no such file"),
    ],
)
def test_a_bad_file_of_classes_is_one_message(model, images, file, content, message):
    if content is not None:
        Path(file).write_bytes(content)
    assert f"Error: {message}" in refusal(model, "photos", "--classes", file)


def damaged(content):
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("student.tflite", damaged, "student.tflite is damaged: its bytes are not those that were written"),
        ("student.onnx", bytes, "student.onnx is named as a .onnx file, but its content is that of .tflite"),
        ("student.tflite", lambda content: content.replace(b'"digest"', b'"diges_"'), "is no file of the stage export"),
        ("student.bin", bytes, "student.bin is no model that can be asked: its name does not end in .tflite or"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(model, images, name, change, message):
    Path(name).write_bytes(change(model.read_bytes()))
    assert message in refusal(name, "photos")


def test_a_missing_runtime_is_named_with_its_extra(model, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert "`pip install './FILE.whl[runtime]'`" in refusal(model, "photos")


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"decoder": "TensorFlow"},
        {"resize": {"method": "gaussian", "antialias": True, "fit": "stretch"}},
        {"resize": {"method": "area", "antialias": True}},
        {"resize": {"method": ["area"], "antialias": True, "fit": "stretch"}},
    ],
)
def test_a_file_for_other_pixels_is_refused(tmp_path, images, preprocessing):
    """A later version of this program may write such a file."""
    file = write_litert(tmp_path / "new.tflite", preprocessing={**METADATA.preprocessing, **preprocessing})
    assert "Install the version of softlabel that wrote the file." in refusal(file, "photos")


class Answers:
    """A model that gives what a test wants."""

    def __init__(self, logits, classes=2):
        self.asked = []
        self._logits = np.array(logits, np.float32)
        self.metadata = replace(METADATA, class_names=tuple(f"class {number}" for number in range(classes)))

    def logits(self, pixels):
        self.asked.append(len(pixels))
        return np.repeat(self._logits[None], len(pixels), axis=0)


def labelled(model, paths, batch_size=32):
    return tool.labelled(model, paths, temperature=1.0, batch_size=batch_size, threads=1)


def test_another_number_of_answers_than_classes_is_refused(images):
    with pytest.raises(MismatchError, match=r"gives \(3,\) numbers for an image, .* knows 2 classes"):
        next(labelled(Answers([1, 2, 3]), ["photos/a.png"]))


@pytest.mark.parametrize("logits", [[np.nan, 0], [np.inf, 0], [-np.inf, -np.inf]])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_answers_that_are_no_numbers_are_refused(images, logits):
    with pytest.raises(UnusableError, match=r"gives no number for photos/a\.png"):
        next(labelled(Answers(logits), ["photos/a.png"]))


def test_large_logits_are_no_overflow(images):
    (label,) = labelled(Answers([1e30, -1e30]), ["photos/a.png"])
    assert label.probabilities.tolist() == [1, 0]


def test_images_are_read_when_their_batch_is_asked_for(images):
    """So the memory does not grow with their number."""
    model, paths = Answers([1, 2]), ["photos/a.png"] * 7
    answers = labelled(model, paths, batch_size=3)
    next(answers)
    assert model.asked == [3]
    assert len([*answers]) == 6
    assert model.asked == [3, 3, 1]


def test_a_batch_without_one_usable_image_is_not_asked(images):
    model = Answers([1, 2])
    found = [*labelled(model, ["gone.png", "gone.png", "photos/a.png"], batch_size=2)]
    assert [type(each) for each in found] == [tool.Skipped, tool.Skipped, tool.Labelled]
    assert model.asked == [1]


def test_a_table_of_many_classes_shows_the_predicted_one():
    names = [f"species {number}" for number in range(11)]
    label = tool.Labelled("a.png", 10, np.arange(11) / 55)
    assert [*label_formats.as_table([label], names)] == [
        "predicted   probability  image\n",
        "species 10       0.1818  a.png\n",
    ]


@pytest.mark.slow
def test_a_reader_that_has_read_enough_ends_it_quietly(model, images):
    command = [sys.executable, "-m", "pipeline", "predict", str(model), *["photos"] * 2000]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout.readline().startswith("predicted")
        started.stdout.close()
        assert started.stderr.read() == "predict: starting\n"
    assert started.returncode == 141


def probabilities_of(files, options, project, folder):
    """What `predict` says of the test images, from each file, in one process: by the name of an image, (C,)."""
    outputs = [folder / f"{number}.csv" for number in range(len(files))]
    softlabel(
        *(
            ["predict", file, "data/split/test", "--format", "csv", "--output", str(output), *options]
            for file, output in zip(files, outputs, strict=True)
        ),
        cwd=project,
    )
    return [
        {Path(row["path"]).name: numbers_of(row) for row in of_csv(output.read_text(encoding="utf-8"))}
        for output in outputs
    ]


def numbers_of(row):
    return np.array([float(value) for name, value in row.items() if name.startswith("probability_")])


def test_an_image_gets_the_answer_that_it_got_in_evaluate(reproduced, tmp_path):
    """From the student's own file and from the exported ones; softened, if that is asked for, by one temperature."""
    exported = reproduced / "models/exports/best"
    told = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    group, _, seed = told["student"].removeprefix("student_").rpartition("_")
    own = f"models/baselines/{seed}.keras" if group == "baseline" else f"models/students/{group}_{seed}.keras"
    files = [own, "models/exports/best/student_float32.tflite", "models/exports/best/student.onnx"]
    rows = of_csv((reproduced / f"results/predictions/{told['student']}.csv").read_text(encoding="utf-8"))
    evaluated = {row["id"]: numbers_of(row) for row in rows}
    assert len(evaluated) == told["test_images"]
    softened = {name: softmax(np.log(values) / told["temperature"]) for name, values in evaluated.items()}
    for options, expected in (([], evaluated), (["--calibrated"], softened)):
        for found in probabilities_of(files, options, reproduced, tmp_path):
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_allclose(found[name], values, rtol=0, atol=5e-5)
