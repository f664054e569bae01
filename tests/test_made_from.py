"""Numbers are shown only where they are those of params.yaml and the index as they are now."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from real_project import ROOT, change
from shipped import export, made_now, write_shipped

from pipeline.cli.main import main
from pipeline.evaluation.made_from import made_from, refuse_other_files, refuse_other_teacher, refuse_others
from pipeline.images.index import Image, Index, write_index
from pipeline.params.reading import load_params, read_params, with_effect
from pipeline.runtime.errors import MismatchError

METRICS = Path("results/metrics.json")
INDEX = Path("data/index.csv")
IMAGES = [
    Image("a.png", "data/split/train/0/a.png", "0", "train", "", "aa"),
    Image("b.png", "data/split/test/1/b.png", "1", "test", "", "bb"),
]
METRICS_OF_A_MODEL = ("accuracy", "auc", "nll", "brier", "ece", "teacher_agreement", "teacher_kl")
QUALITY = {metric: {"mean": 0.5} for metric in METRICS_OF_A_MODEL}
COST = {"parameters": {"total": 1, "trainable": 1}, "flops": 1, "file_bytes": 1}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder whose metrics were made from its params.yaml and its index."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    for file in (METRICS, INDEX):
        file.parent.mkdir()
    write_index(INDEX, Index(IMAGES))
    made = made_from(Index(IMAGES).fingerprint(), "teacher" * 9, with_effect(read_params(Path("params.yaml"))))
    METRICS.write_text(
        json.dumps(
            {
                "made_from": made,
                "test_images": 1500,
                "models": {"teacher": {"quality": QUALITY, "intervals": {"quality": {}}} | COST},
            }
        )
    )
    return tmp_path


def table(*options):
    return CliRunner().invoke(main, ["table", *options])


def refusal(*options):
    """What is said in place of the table."""
    result = table(*options)
    assert (result.exit_code, result.stdout) == (1, "")
    first, message = result.stderr.splitlines(keepends=True)
    assert first == "table: starting\n"
    return message


def test_numbers_of_these_parameters_are_shown_without_a_warning(project):
    result = table()
    assert result.exit_code == 0
    assert result.stdout.startswith("On 1,500 test images: mean over seeds.\n")


@pytest.mark.parametrize("options", [[], ["--markdown"]])
def test_numbers_of_other_parameters_are_not_shown(project, options):
    change(Path("params.yaml"), "split.data", "data/raw/mine")
    change(Path("params.yaml"), "student.seeds", [1, 2])
    message = refusal(*options)
    assert "results/metrics.json" in message
    assert " split.data data/raw/mnist (now data/raw/mine), student.seeds [1, 2, 3] (now [1, 2]). " in message
    assert message.endswith("`dvc repro`.\n")


def test_the_data_set_is_the_first_of_many_differences_told(project):
    """As with a preset in place of the default."""
    shutil.copy(ROOT / "presets/cifar10_cnn.yaml", "params.yaml")
    said = refusal()
    assert "split.data data/raw/mnist (now data/raw/cifar10/cifar10.npz), split.layout mhist (now cifar10), " in said
    assert re.search(r" and \d+ more\. ", said)


def test_a_value_that_is_gone_or_new_is_told(project):
    metrics = json.loads(METRICS.read_text())
    lines = metrics["made_from"]["params"]
    lines[lines.index("views.count: 1")] = "views.number: 1"
    METRICS.write_text(json.dumps(metrics))
    assert "views.count not there (now 1), views.number 1 (now not there)" in refusal()


@pytest.mark.parametrize(
    "other", [{"sha256": "cc"}, {"class_name": "2"}, {"split": "val"}], ids=lambda other: next(iter(other))
)
def test_numbers_of_other_images_labels_or_splits_are_not_shown(project, other):
    INDEX.unlink()
    write_index(INDEX, Index([IMAGES[0], IMAGES[1]._replace(**other)]))
    said = refusal()
    assert "data/index.csv" in said
    assert f": data/raw/mnist, fingerprint {Index(IMAGES).fingerprint()[:12]}" in said
    assert "`dvc repro`" in said


@pytest.mark.parametrize("options", [[], ["--markdown"]])
def test_without_an_index_the_table_says_whose_numbers_it_has(project, options):
    """As in a fresh clone."""
    shown = table(*options).stdout
    INDEX.unlink()
    result = table(*options)
    assert result.exit_code == 0
    first, second, empty, *rest = result.stdout.splitlines()
    fingerprint = Index(IMAGES).fingerprint()[:12]
    assert re.search(rf"results/metrics\.json.* data/raw/mnist, fingerprint {fingerprint}\.$", first)
    assert "data/index.csv" in second
    assert "`dvc repro`" in second
    assert (empty, rest) == ("", shown.splitlines())


def test_numbers_without_their_origin_are_not_shown(project):
    metrics = json.loads(METRICS.read_text())
    del metrics["made_from"]
    METRICS.write_text(json.dumps(metrics))
    message = refusal()
    assert "results/metrics.json" in message
    assert "`dvc repro`" in message


def test_what_changes_no_result_changes_nothing(project):
    change(Path("params.yaml"), "images.cache", "none")
    assert table().exit_code == 0


def test_another_teacher_is_told():
    document = {"made_from": made_from("data", "a" * 64, {"split": {}})}
    refuse_other_teacher(METRICS, document, "a" * 64)
    with pytest.raises(MismatchError, match=r"another teacher, aaaaaaaaaaaa, .* bbbbbbbbbbbb.*dvc repro evaluate"):
        refuse_other_teacher(METRICS, document, "b" * 64)


def test_a_network_under_the_name_of_another_is_told(project):
    """Its name in params.yaml is the same, so the file itself is compared."""
    change(Path("params.yaml"), "student.model", {"architecture": "net.keras"})
    Path("net.keras").write_bytes(b"first")
    document = json.loads(METRICS.read_text())
    params = with_effect(read_params(Path("params.yaml")))
    digest = hashlib.sha256(b"first").hexdigest()
    document["made_from"] = made_from(Index(IMAGES).fingerprint(), "teacher", params, [digest, digest])
    METRICS.write_text(json.dumps(document))
    assert table().exit_code == 0
    Path("net.keras").write_bytes(b"second")
    assert "net.keras. Train all of them again with `dvc repro --single-item --force train_student" in refusal()
    Path("net.keras").unlink()
    assert table().exit_code == 0, "in a clone without the file there is nothing to compare"
    Path("net.keras").write_bytes(b"first")
    document["made_from"]["files"] += ["f" * 64]  # one student was trained from another
    METRICS.write_text(json.dumps(document))
    assert "Train all of them again" in refusal()
    with pytest.raises(MismatchError, match=r"net\.keras"):
        refuse_other_files(METRICS, document, [Path("net.keras")])


def test_the_parameters_are_a_line_for_each_value():
    params = {"a": {"b": 4.0, "c": None, "d": {}}, "e": [{"f": True}, {"f": "é x"}], "g": [1, 2]}
    assert made_from("data", "teacher", params) == {
        "dataset": ["data"],
        "teacher": ["teacher"],
        "params": ["a.b: 4.0", "a.c: null", "a.d: {}", "e[0].f: true", 'e[1].f: "é x"', "g: [1, 2]"],
    }


def test_a_number_and_the_same_as_text_are_not_the_same():
    document = {"made_from": made_from("data", "teacher", {"a": 4})}
    refuse_others(METRICS, document, {"a": 4}, "data")
    with pytest.raises(MismatchError):
        refuse_others(METRICS, document, {"a": "4"}, "data")


@pytest.mark.parametrize("stage", ["evaluate", "report"])
@pytest.mark.parametrize("preset", ["mnist", "mhist", "cifar10_cnn"])
def test_a_stage_sees_every_parameter_that_the_table_compares(stage, preset):
    """Else numbers that were just made would be taken for those of other parameters."""
    file = ROOT / "presets" / f"{preset}.yaml"
    assert with_effect(load_params(stage, file, ROOT / "dvc.yaml")) == with_effect(read_params(file))


def test_numbers_made_before_there_was_a_key_still_belong(project):
    """Without images without a label, the key is not named; with some, it is."""
    assert not [line for line in json.loads(METRICS.read_text())["made_from"]["params"] if "unlabelled" in line]
    change(Path("params.yaml"), "split.unlabelled", None)
    assert table().exit_code == 0
    change(Path("params.yaml"), "split.unlabelled", {"rows": True})
    assert "split.unlabelled.folder not there (now null), split.unlabelled.rows not there (now true)" in refusal()


@pytest.mark.parametrize("options", [[], ["--markdown"]])
def test_the_command_shows_exports_of_the_present_students(project, options):
    metrics = json.loads(METRICS.read_text())
    metrics["models"]["student_kl_T4"] = metrics["models"]["teacher"] | {
        "seeds": {"1": {}}, "gain": metrics["models"]["teacher"]["quality"],
        "intervals": {"quality": {}, "gain": {}, "less_teacher": {}},
    }  # fmt: skip
    METRICS.write_text(json.dumps(metrics))
    before, of_none = table(*options).stdout.split("There is no export 'best' yet.")
    assert of_none == " Make it with `dvc repro export`.\n"
    of_now = export(made_from=made_now(Index(IMAGES).fingerprint()))
    write_shipped(project, best=of_now, old=of_now)
    shown = table(*options)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(before.rstrip("\n"))
    assert shown.stdout.count("student\\_int8.tflite" if options else "student_int8.tflite") == 2
    student = Path("models/students/kl_T4_seed1.keras")
    student.parent.mkdir(parents=True)
    student.write_bytes(b"another")
    told = table(*options).stdout
    assert "int8" not in told
    assert "The export 'best' is not shown" in told
    student.unlink()
    change(Path("params.yaml"), "export.softmax", True)
    told = table(*options).stdout
    assert "int8" not in told.partition("The export")[0]
    assert "it was made with export.softmax false (now true)" in " ".join(told.split())
