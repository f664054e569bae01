"""The model card of a small project whose names are hostile, made by hand and not trained."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from real_project import ROOT, change
from ruamel.yaml import YAML
from shipped import EXPORT, FILES, export, made_now, write_shipped
from soft_label_files import write_logits

from pipeline.cli import paths
from pipeline.cli.main import main
from pipeline.evaluation.made_from import made_from
from pipeline.evaluation.model_reports import model_reports
from pipeline.evaluation.names import BASELINE, student
from pipeline.images.index import Image, Index, write_index
from pipeline.params.card import Card
from pipeline.params.reading import read_params, with_effect
from pipeline.report.card import TO_FILL_IN, settings, stated
from pipeline.report.card_metadata import as_head

CLASSES = ["a|b", "<script>alert(1)</script>", "no\n---\n# [x](y) *b* `c` $m$ &lt;"]
GROUP = student("kl", "4")
COUNTS = {"train": 5, "val": 2, "test": 4}
"""So many images of each class."""

IMAGES = [
    Image(f"{split}{label}{number}.png", "data/split/x.png", name, split, "", f"{label}{number}" * 32)
    for split, count in COUNTS.items()
    for label, name in enumerate(CLASSES)
    for number in range(count)
]
COST = {"parameters": {"total": 9098, "trainable": 9098}, "flops": 160_730, "file_bytes": 68_048}


def reports():
    """Of a teacher, two students and two baselines with random logits."""
    labels = np.repeat(np.arange(3), COUNTS["test"])
    random = np.random.default_rng(1)

    def logits():
        return (random.normal(size=(len(labels), 3)) + 3 * np.eye(3)[labels]).astype(np.float32)

    groups = {BASELINE: {1: logits(), 2: logits()}, GROUP: {1: logits(), 2: logits()}}
    made = model_reports(logits(), groups, labels, CLASSES, None)
    best = {group: {"best_epochs": {group.model(seed): [2, 3] for seed in (1, 2)}} for group in groups}
    return {group.key: report | COST | best.get(group, {}) for group, report in made.items()}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that holds what the stage reads; nothing was exported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for file in ("params.yaml", "dvc.yaml"):
        Path(file).write_bytes((ROOT / file).read_bytes())
    change(Path("params.yaml"), "student.seeds", [1, 2])
    change(Path("params.yaml"), "split.data", str(tmp_path / "secret" / "my data"))
    index = Index(IMAGES, CLASSES)
    for file in (paths.INDEX, paths.TEACHER_DESCRIPTION, paths.HISTORY / "x", paths.EXPORT_REPORTS / "x"):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_index(paths.INDEX, index)
    write_logits(paths.LOGITS, index=index)
    description = {"sha256": "ab" * 32, "cost": {}, "architecture": None, "classes": 3}
    paths.TEACHER_DESCRIPTION.write_text(json.dumps(description))
    origin = made_from(index.fingerprint(), "ab" * 32, with_effect(read_params(Path("params.yaml"))))
    metrics = {"made_from": origin, "test_images": 12, "models": reports()}
    paths.METRICS.write_text(json.dumps(metrics))
    for seed in (1, 2):
        curve = "epoch,phase,learning_rate,loss,val_loss,val_accuracy\n" + "".join(
            f"{n},1,1,1,1,1\n" for n in (1, 2, 3)
        )
        paths.student_history(GROUP, seed).write_text(curve)
    return tmp_path


def made_card():
    result = CliRunner().invoke(main, ["model-card"])
    assert result.exit_code == 0, result.output
    return paths.MODEL_CARD.read_text(encoding="utf-8")


def head_of(card):
    """The metadata as a parser of YAML 1.1 reads them, which is what the Hub has."""
    begin, head, body = re.split(r"^---\n", card, maxsplit=2, flags=re.MULTILINE)
    assert begin == ""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return yaml.load(head), body


def section(card, title):
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    return text


def shipped(project, **changes):
    """An export of the index and the settings of now."""
    of_now = {"test_images": 12, "made_from": made_now(Index(IMAGES, CLASSES).fingerprint())}
    write_shipped(project, best=export(**of_now | changes))


def test_the_head_is_what_the_hub_reads(project):
    change(Path("params.yaml"), "card.license", "Apache-2.0")
    shipped(project)
    values, _ = head_of(made_card())
    assert values["license"] == "apache-2.0"
    assert (values["library_name"], values["pipeline_tag"]) == ("keras", "image-classification")
    assert {"tflite", "onnx", "knowledge-distillation"} <= set(values["tags"])
    (model,) = values["model-index"]
    assert model["name"] == "student_kl_T4_seed1"
    (result,) = model["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "my data", "type": "my-data", "split": "test"}
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "accuracy": 0.9627, "roc_auc": 0.9991, "nll": 0.1187, "brier_score": 0.056, "ece": 0.0117,
    }  # fmt: skip
    assert values["metrics"] == ["accuracy", "brier_score", "ece", "nll", "roc_auc"]


def test_huggingface_hub_takes_the_card(project):
    hub = pytest.importorskip("huggingface_hub")
    shipped(project)
    card = hub.ModelCard(made_card())
    assert card.data.pipeline_tag == "image-classification"
    assert {(result.metric_type, result.metric_value) for result in card.data.eval_results} >= {("accuracy", 0.9627)}
    assert card.text.lstrip().startswith("# Student kl T=4, seed 1\n")


@pytest.mark.parametrize(
    "text", ["no", "1e5", "a: b", "- x", "a\n---\nb", '"q"', "{x}", "# x", "é 😀\u2028", " x ", "~", ""]
)
def test_every_text_of_the_head_stays_what_it_is(text):
    values, body = head_of(as_head({"name": text, "list": [{"inner": text}], "number": 0.5}) + "body")
    assert values == {"name": text, "list": [{"inner": text}], "number": 0.5}
    assert body == "body"


def test_a_card_without_exports_is_of_the_best_students(project):
    values, body = head_of(made_card())
    (model,) = values["model-index"]
    quality = json.loads(paths.METRICS.read_text())["models"]["student_kl_T4"]["quality"]
    assert model["name"] == "student_kl_T4"
    (accuracy,) = [metric["value"] for metric in model["results"][0]["metrics"] if metric["type"] == "accuracy"]
    assert accuracy == pytest.approx(quality["accuracy"]["mean"], abs=5e-5)
    assert body.lstrip().startswith("# Student kl T=4\n")
    assert "softlabel predict" not in body
    assert section(body, "Files").strip() == r"There is no export 'best' yet. Make it with \`dvc repro export\`."
    assert "there is no export of this student" in section(body, "Calibration")


def test_counts_by_class_and_split_are_those_of_the_index(project):
    rows = [line for line in section(made_card(), "Data").splitlines() if line.startswith("| ")]
    assert rows[0] == "| class | training | validation | test |"
    assert [row.rsplit(" | ", 3)[1:] for row in rows[2:]] == [["5", "2", "4 |"]] * 3 + [["15", "6", "12 |"]]


def test_hostile_class_names_are_shown_and_do_nothing(project):
    """Outside of code, each sign that might be markup has a backslash; no name makes a heading or a second line."""
    shipped(project)
    _, body = head_of(made_card())
    assert "a\\|b" in body
    assert "\\<script\\>alert(1)\\</script\\>" in body
    assert "no --- # \\[x\\](y) \\*b\\* \\`c\\` \\$m\\$ \\&lt;" in body
    assert "# [x]" not in re.findall(r"^#.*", body, re.MULTILINE)
    assert not re.search(r"(?<!\\)<", body)
    assert len(re.findall(r"^#", body, re.MULTILINE)) == 11


def test_the_exports_are_shown_with_how_to_use_them(project):
    shipped(project)
    card = made_card()
    assert "softlabel predict models/exports/best/student_float32.tflite IMAGES --calibrated" in section(card, "Use")
    assert "| student\\_int8.tflite | int8 |" in section(card, "Files")
    assert "the best of 3 students by validation accuracy (0.962)" in section(card, "How the student was trained")
    calibration = section(card, "Calibration")
    assert "T = 1.234" in calibration
    assert "ECE of 0.008 on the test images in place of 0.012" in calibration
    assert "NLL of 0.101 in place of 0.119" in calibration


def test_a_saved_model_alone_has_no_example(project):
    """`softlabel predict` reads none."""
    shipped(project, files={"saved_model": FILES["student.onnx"]})
    card = made_card()
    assert "softlabel predict" not in card
    assert "| saved\\_model | float32 |" in section(card, "Files")


def test_quality_has_intervals_beside_baseline_and_teacher(project):
    quality = section(made_card(), "Quality")
    report = json.loads(paths.METRICS.read_text())["models"]["student_kl_T4"]
    low, high = report["intervals"]["quality"]["accuracy"]
    assert f"| student kl T=4 | 2 | {report['quality']['accuracy']['mean']:.3f} ({low:.3f} to {high:.3f}) |" in quality
    assert "| teacher | 1 |" in quality
    assert "| baseline | 2 |" in quality
    assert "| gain over baseline |" in quality


def test_provenance_names_every_fingerprint(project):
    shipped(project)
    told = section(made_card(), "Where it comes from")
    for digest in (Index(IMAGES, CLASSES).fingerprint(), "ab" * 32, EXPORT["sha256"]):
        assert digest in told
    assert "Format of the soft labels: version 2\n- Format of the exported files: softlabel-export, version 1" in told


def test_a_temperature_of_one_is_called_so(project):
    """As of a student that is right on all validation images."""
    shipped(project, temperature=1.0, temperature_note="all answers are right, so it is 1")
    told = section(made_card(), "Calibration")
    assert "temperature is 1 (all answers are right, so it is 1), so its probabilities are used as they are" in told
    assert "their ECE is 0.012, and their NLL 0.119" in told


def test_a_temperature_at_an_end_of_its_range_is_called_so(project):
    shipped(project, temperature=20.0, temperature_note="it lies at an end")
    told = section(made_card(), "Calibration")
    assert "its own temperature T = 20.000 (it lies at an end; Guo et al." in told
    assert "which the validation images gave" not in told


def test_the_students_own_accuracy_has_its_own_interval(project):
    """Wilson's for 11 of 12 right, by hand: of 12 - 1 images, with Student's quantile for 11 degrees, 2.201."""
    shipped(project, keras=EXPORT["keras"] | {"accuracy": 11 / 12})
    told = made_card().partition("## ")[0]
    own = "seed 1, is right on 91.7 % of the 12 test images (95 % interval 59.0 to 98.8 %).\n"
    assert told.partition(own)[2].startswith("\nOn average over 2 seeds:\nThe student kl T=4")


def test_one_student_under_two_names_is_told_once(project):
    change(Path("params.yaml"), "export.students", ["best", "student_kl_T4_seed1"])
    shipped(project)
    written = paths.EXPORT_REPORTS / "best.json"
    (paths.EXPORT_REPORTS / "student_kl_T4_seed1.json").write_bytes(written.read_bytes())
    card = made_card()
    assert "\n# Student kl T=4, seed 1\n" in card
    assert section(card, "Calibration").count("T = 1.234") == 1
    assert section(card, "Where it comes from").count(EXPORT["sha256"]) == 1
    for item in ("best", "student\\_kl\\_T4\\_seed1"):
        assert f"| {item}/student\\_int8.tflite | int8 |" in card


@pytest.mark.parametrize(
    ("stated", "of_hub"),
    [
        ("GPL-3.0-only", {"license": "gpl-3.0"}),
        ("MIT", {"license": "mit"}),
        ("other", {"license": "other", "license_name": "other"}),
        ("apache-2", {"license": "other", "license_name": "apache-2"}),
    ],
)
def test_the_hub_gets_a_licence_that_it_knows(project, stated, of_hub):
    change(Path("params.yaml"), "card.license", stated)
    values, body = head_of(made_card())
    assert {key: value for key, value in values.items() if key.startswith("license")} == of_hub
    assert f"Licence of its files: {stated}\n" in body


def test_no_path_of_the_machine_is_in_the_card(project):
    card = made_card()
    assert str(project) not in card
    assert "secret" not in card
    assert "Data set: my data (layout mhist)" in card


def test_settings_name_files_without_folders_in_a_safe_block():
    outside = ["/home/me/w.keras", "../../me/w.keras", "~/me/w.keras", "C:\\Users\\me\\w.keras", "a/../../me/w.keras"]
    values = {"model": {"weights": outside, "other": ["a/b.keras", "```\n# x"]}, "seeds": [1]}
    first, *lines, last = settings(values).splitlines()
    assert (first, last) == ("````yaml", "````")
    shown = YAML(typ="safe").load("\n".join(lines))
    assert shown == {"model": {"weights": ["w.keras"] * 5, "other": ["a/b.keras", "```\n# x"]}, "seeds": [1]}


def test_equal_inputs_give_equal_bytes(project):
    shipped(project)
    first = made_card()
    paths.MODEL_CARD.unlink()
    assert made_card() == first


def test_empty_keys_are_fields_to_fill_in(project):
    """The card names the key of params.yaml that fills each, since the next run writes the card anew."""
    change(Path("params.yaml"), "card", {})
    card = made_card()
    assert head_of(card)[0]["license"] == "unknown"
    assert re.findall(r"^- `card\.(\w+)`: ", card, re.MULTILINE) == list(TO_FILL_IN)
    assert "7 keys of `card` in `params.yaml` have no value" in card
    assert "lost by the next run" in card
    assert card.count("*To be filled in (`card.") == 6  # the domain is told in the list alone


def test_what_the_keys_state_is_in_the_card_as_markdown(project):
    stated = {
        "license": "cc-by-4.0", "domain": "general", "data": "See [the *source*](https://example.org).",
        "authors": "A & B", "contact": "<a@example.org>", "intended_use": "- one\n- two", "limits": "None | known.",
        "language": "en",
    }  # fmt: skip
    change(Path("params.yaml"), "card", stated)
    values, body = head_of(made_card())
    assert (values["license"], values["language"]) == ("cc-by-4.0", "en")
    for name, text in stated.items():
        assert name in ("domain", "language") or text in body
    assert "illed in" not in body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>x</script>", "&#60;script>x&#60;/script>"),
        (r"\<script>", r"\&#60;script>"),
        ("<IMG src=x onerror=y>", "&#60;IMG src=x onerror=y>"),
        ("<!-- x", "&#60;!-- x"),
        ("<https://a.org onclick=x>", "&#60;https://a.org onclick=x>"),
        ("<a@b/onclick=x>", "&#60;a@b/onclick=x>"),
        ("<javascript:x>", "&#60;javascript:x>"),
        ("[a](javascript:x)", "[a&#93;(javascript:x)"),
        ("[a]( \n<JavaScript:x>)", "[a&#93;( \n&#60;JavaScript:x>)"),
        ("[a](java&#115;cript:x)", "[a&#93;(java&#115;cript:x)"),
        (r"[a](javascript\:x)", r"[a&#93;(javascript\:x)"),
        ("[a]: data:text/html,x", "[a&#93;: data:text/html,x"),
    ],
)
def test_html_and_scripts_of_a_statement_are_text(text, shown):
    assert stated(dict.fromkeys(TO_FILL_IN, text))["data"] == shown


@pytest.mark.parametrize(
    "text",
    [
        "p < 0.05, <5 mm", "<https://a.org>", "<a+b@c.org>", "[a](https://a.org/b_(c))", "[a](b/c.md)", "[a](#b)",
        "[a](https://a.org 'title')", "[a](mailto:b@c.org)", "- [x] *done*", "[a]: https://a.org", "a -> b", "R&D <3",
    ],
)  # fmt: skip
def test_markdown_of_a_statement_stays(text):
    assert stated(dict.fromkeys(TO_FILL_IN, text))["data"] == text


def test_the_guides_card_leaves_nothing_to_fill_in(project):
    part = (ROOT / "docs/guide.md").read_text(encoding="utf-8").partition("### The model card\n")[2]
    (block, *_) = re.findall(r"```yaml\n(.*?)```", part, re.DOTALL)
    change(Path("params.yaml"), "card", YAML(typ="safe").load(block)["card"])
    card = made_card()
    assert "illed in" not in card
    assert "A. Author, B. Author" in card


@pytest.mark.parametrize(("domain", "times"), [("general", 0), ("medical", 2), (None, 0)])
def test_a_medical_student_is_for_research_use_only(project, domain, times):
    change(Path("params.yaml"), "card.domain", domain)
    card = made_card()
    assert len(re.findall(r"[Ff]or research use only; not a medical device", card)) == times
    assert ("medical" in head_of(card)[0]["tags"]) == bool(times)


def test_keys_to_fill_in_are_those_of_the_section():
    assert set(TO_FILL_IN) == {*Card.model_fields} - {"language"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"student": "student_kl_T9_seed1"}, "there is no student kl T=9, seed 1 any more"),
        ({"made_from": None}, "it does not say from which images and with which settings it was made"),
    ],
)
def test_an_export_of_something_else_is_told_and_not_shown(project, changes, reason):
    shipped(project, **changes)
    card = made_card()
    assert "| int8 |" not in card
    assert card.count(reason) == 1


@pytest.mark.parametrize("group", [GROUP, BASELINE])
def test_an_export_of_a_student_trained_again_is_not_shown(project, group):
    shipped(project, student=group.model(1))
    file = paths.model_file(group, 1)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"another student")
    assert f"the {group.words}, seed 1 was trained again since" in section(made_card(), "Files")


def test_a_baseline_that_ships_has_no_verdict_on_its_teacher(project):
    shipped(project, student="baseline_seed2", files={"student.onnx": FILES["student.onnx"]})
    card = made_card()
    assert "# Baseline, seed 2\n" in card
    assert "It learned from labels alone" in card
    assert "kept as soft labels" not in card
    assert "The baseline, seed 2, is right on 96.3 % of the 12 test images" in card
    assert "On average over" not in card
    assert "knowledge-distillation" not in head_of(card)[0]["tags"]
    assert "softlabel predict models/exports/best/student.onnx" in card


@pytest.mark.parametrize("other", ["teacher", "params", "numbers"])
def test_numbers_of_something_else_are_refused(project, other):
    if other == "params":
        change(Path("params.yaml"), "distill.hard_label_weight", 0.25)
    elif other == "numbers":
        metrics = json.loads(paths.METRICS.read_text())
        metrics["made_from"]["teacher"] = ["cd" * 32]
        paths.METRICS.write_text(json.dumps(metrics))
    else:
        description = json.loads(paths.TEACHER_DESCRIPTION.read_text()) | {"sha256": "cd" * 32}
        paths.TEACHER_DESCRIPTION.write_text(json.dumps(description))
    result = CliRunner().invoke(main, ["model-card"])
    assert result.exit_code == 1
    assert "`dvc repro" in result.output
    assert not paths.MODEL_CARD.exists()
