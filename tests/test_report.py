"""The report of a small project with hostile names, as a real browser shows it, and of what `dvc repro` wrote."""

import html
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from browser import DESKTOP, PHONE, browser, needs_browser, opened
from click.testing import CliRunner
from conftest import MODEL
from matplotlib.figure import Figure
from shipped import FILES, SETTINGS, export, write_shipped

from pipeline.cli.main import main
from pipeline.distillation.loss import DistillationLoss
from pipeline.evaluation.dvc_plots import read_plot
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.names import student
from pipeline.evaluation.predictions import read_predictions, write_predictions
from pipeline.evaluation.speed import Speed, read_speed, write_speed
from pipeline.images.index import read_index
from pipeline.images.views import Augmentation, Views
from pipeline.models import keras_files
from pipeline.report.hardest_images import LARGEST_SIDE, embedded, most_surely_wrong, most_unlike_teacher
from pipeline.report.panels import few_classes
from pipeline.report.sources import teacher_name
from pipeline.report.style import svg
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.soft_labels.reading import Provenance
from pipeline.stages import (
    describe_teacher,
    evaluate,
    precompute,
    report,
    soften,
    split,
    train_baseline,
    train_student,
)
from pipeline.training.recipe import Phase, Recipe

CLASSES = ["<img src=x onerror=alert(1)>", '$x_1$ & "two" ' + "very" * 20, "None"]
"""None of them is markup, a formula or nothing."""

PARAMS = {"split": {"data": "</pre><script>alert('params')</script>", "layout": "csv"}, "views": {"count": 1}}
UNTOUCHED = Views(1, 0, Augmentation())
SEEDS = (1, 2)
SPEED = Speed("2 CPU cores (x86_64)", "2026-01-31", [1, 32], {"teacher": [90.0, 400.0], "student": [200.0, 3000.0]})


def image_name(number):
    return f'"><script>alert({number})<!--.png'


def write_hostile_data(folder):
    random = np.random.default_rng(5)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(90):
        pixels = np.clip(random.normal(50 + 70 * (number % 3), 45, (12, 12, 3)), 0, 255).astype(np.uint8)
        (folder / "images" / image_name(number)).write_bytes(tf.io.encode_png(pixels).numpy())
        rows.append([image_name(number), CLASSES[number % 3]])
    pd.DataFrame(rows, columns=["image", "label"]).to_csv(folder / "labels.csv", index=False)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder in which all stages ran, two temperatures and two seeds; its page is report.html."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        run_all_stages()
    return folder


def run_all_stages():
    index, teacher, logits, history = Path("index.csv"), Path("teacher.keras"), Path("logits.h5"), Path("history")
    write_hostile_data(Path("raw"))
    split.run(
        layout="csv",
        settings={
            "data": Path("raw"),
            "annotations": Path("labels.csv"),
            "images": Path("images"),
            "image_column": "image",
            "label_column": "label",
            "class_names": sorted(CLASSES),
            "validation_ids": None,
            "test_ids": None,
            "val_fraction": 0.2,
            "test_fraction": 0.4,
        },
        split_folder=Path("split"),
        index=index,
    )
    keras_files.save(MODEL.build(classes=3, seed=3), teacher)
    describe_teacher.run(index=index, teacher=teacher, output=Path("teacher.json"))
    precompute.run(
        index=index,
        teacher=teacher,
        views=UNTOUCHED,
        stored_as=Dense("float32"),
        batch_size=16,
        previous=[],
        output=logits,
    )
    history.mkdir()
    Path("history/teacher.csv").write_text("epoch,phase,learning_rate,loss,val_loss\n")  # not trained here
    training = {"index": index, "model": MODEL, "views": UNTOUCHED}
    students: dict[str, dict[int, Path]] = {"2": {}, "4": {}}
    baselines = {}
    for seed in SEEDS:
        recipe = Recipe([Phase(2, 0.01, "all")], batch_size=8, seed=seed)
        for temperature, files in students.items():
            targets = Path(f"T{temperature}.h5")
            soften.run(logits=logits, soft_targets=targets, temperature=float(temperature))
            files[seed] = Path(f"kl_T{temperature}_seed{seed}.keras")
            train_student.run(
                **training,
                recipe=recipe,
                soft_targets=targets,
                logits=logits,
                loss=DistillationLoss(float(temperature), 0.5),
                output=files[seed],
                history=history / f"student_kl_T{temperature}_seed{seed}.csv",
            )
        baselines[seed] = Path(f"baseline{seed}.keras")
        train_baseline.run(
            **training, recipe=recipe, output=baselines[seed], history=history / f"baseline_seed{seed}.csv"
        )
    evaluate.run(
        index=index,
        teacher=Path("teacher.json"),
        logits=logits,
        students={student("kl", temperature): files for temperature, files in students.items()},
        baselines=baselines,
        history=history,
        batch_size=8,
        params=PARAMS,
        output=Path("metrics.json"),
        plots=Path("plots"),
        predictions=Path("predictions"),
    )
    write_speed(SPEED, Path("speed.json"))
    test_images = json.loads(Path("metrics.json").read_text())["test_images"]
    shown = {"test_images": test_images, "files": FILES | {CLASSES[0]: FILES["student.onnx"]}}
    made_from = {"dataset": read_index(index).fingerprint(), "export": SETTINGS}
    write_shipped(Path(), best=export(**shown, made_from=made_from))
    write_report(students)


def write_report(temperatures, output="report.html", exported=("best",), student_file=Path("not here"), **settings):
    report.run(
        index=Path("index.csv"),
        metrics=Path("metrics.json"),
        plots=Path("plots"),
        predictions=Path("predictions"),
        history=Path("history"),
        teacher=Path("teacher.json"),
        logits=Path("logits.h5"),
        students=[student("kl", temperature) for temperature in temperatures],
        speeds=Path("speed.json"),
        exported=SETTINGS | {"students": [*exported]} | settings,
        exports=Path("results/exports"),
        export_speeds=Path("results/export_speed.json"),
        student_file=lambda *_: student_file,
        params=PARAMS,
        output=Path(output),
        pictures=Path(output).with_suffix(""),
    )


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


# In a browser


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_asks_for_nothing_and_nothing_sticks_out(hostile, chromium, size, scheme):
    with opened(chromium, hostile / "report.html", size, scheme) as found:
        assert [url for url in found.asked if not url.startswith("data:")] == [(hostile / "report.html").as_uri()]
        assert found.failed == []
        assert found.said == []
        assert found.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        sticking_out = found.page.evaluate(
            """width => [...document.querySelectorAll('body *')]
                .filter(e => !e.closest('.wide, pre, svg') && e.getBoundingClientRect().right > width + 0.5)
                .map(e => e.outerHTML.slice(0, 80))""",
            size[0],
        )
        assert sticking_out == []
        pictures = found.page.evaluate("[...document.images].map(e => [e.complete, e.naturalWidth])")
        assert pictures
        assert all(complete and width == 12 for complete, width in pictures)


@needs_browser
def test_a_table_says_that_it_scrolls_where_it_does(hostile, chromium):
    """On a phone, in its view also after scrolling; not where the table fits, and not on paper."""
    shown = "[...document.querySelectorAll('.hint')].map(e => [e.offsetWidth, e.getBoundingClientRect().left])"
    with opened(chromium, hostile / "report.html", PHONE) as found:
        wide = found.page.evaluate("[...document.querySelectorAll('.wide')].map(e => e.scrollWidth > e.clientWidth)")
        assert sum(wide) >= 2
        before = found.page.evaluate(shown)
        assert [width > 200 for width, _ in before] == wide
        assert all(width == 0 for (width, _), scrolls in zip(before, wide, strict=True) if not scrolls)
        found.page.evaluate("document.querySelectorAll('.wide').forEach(e => e.scrollLeft = 200)")
        assert found.page.evaluate(shown) == before
        found.page.emulate_media(media="print")
        assert all(width == 0 for width, _ in found.page.evaluate(shown))
    with opened(chromium, hostile / "report.html", DESKTOP) as found:
        spare = """[...document.querySelectorAll('.wide')].map(
            e => [e.scrollWidth - e.clientWidth, e.clientHeight - e.querySelector('table').offsetHeight])"""
        assert all(box == [0, 0] for box in found.page.evaluate(spare))
        assert all(width == 0 for width, _ in found.page.evaluate(shown))


@needs_browser
def test_names_from_the_data_are_shown_as_they_are(hostile, chromium):
    with opened(chromium, hostile / "report.html") as found:
        text = found.page.evaluate("document.body.textContent")
        words = found.page.evaluate("[...document.querySelectorAll('[aria-label]')].map(e => e.ariaLabel).join()")
        for name in CLASSES:
            assert name in words
        assert re.search(r'"><script>alert\(\d+\)<!--\.png', text)
        assert "</pre><script>alert('params')</script>" in text
        assert found.page.evaluate("document.scripts.length") == 0
        assert found.page.evaluate("document.querySelectorAll('[onerror]').length") == 0


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_background(hostile, chromium, scheme):
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3); what lies on a colored cell is looked at by eye."""
    with opened(chromium, hostile / "report.html", scheme=scheme) as found:
        colors = found.page.evaluate(
            """() => [...document.querySelectorAll('p, td, th, h1, h2, h3, dt, dd, li, .interval, .id, .caption, pre')]
                .map(e => {
                    let at = e;
                    while (getComputedStyle(at).backgroundColor === 'rgba(0, 0, 0, 0)') at = at.parentElement;
                    return [getComputedStyle(e).color, getComputedStyle(at).backgroundColor];
                })"""
        )
    assert len(set(map(tuple, colors))) >= 3
    for ink, paper in colors:
        assert contrast(ink, paper) >= 4.5, (ink, paper)


def contrast(first, second):
    """WCAG's contrast ratio of two colors, "rgb(r, g, b)"."""
    lighter, darker = sorted(map(luminance, (first, second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color):
    shares = np.array([int(number) / 255 for number in re.findall(r"\d+", color)[:3]])
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_contrast_of_known_colors():
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)


# Its text


class Outline(HTMLParser):
    """Headings, figures, images, ids and links."""

    def __init__(self, page):
        super().__init__()
        self.headings, self.alts, self.ids, self.addresses = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" or given.get("role") == "img":
            self.alts.append(given.get("alt") or given.get("aria-label"))
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[name] for name in ("src", "href", "xlink:href") if name in given]


@pytest.fixture(scope="module")
def outline(hostile):
    return Outline((hostile / "report.html").read_text(encoding="utf-8"))


def test_headings_skip_no_level(outline):
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))


def test_every_figure_and_image_has_words(outline):
    assert len(outline.alts) >= 10
    assert all(alt and len(alt) > 20 for alt in outline.alts)


def test_ids_are_unique_and_nothing_points_outside(outline):
    assert len(outline.ids) == len(set(outline.ids))
    assert all(address.startswith(("#", "data:image/")) for address in outline.addresses)


def test_sections_come_in_the_order_in_which_questions_do(hostile):
    page = (hostile / "report.html").read_text(encoding="utf-8")
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [
        "Comparison", "What ships", "Temperature", "Training", "Where they are right, and how sure they are",
        "Images to look at", "What made this",
    ]  # fmt: skip
    assert page.index('class="verdict"') < page.index("<h2>Comparison")


def test_what_ships_is_on_the_page_with_its_times(hostile):
    page = (hostile / "report.html").read_text(encoding="utf-8")
    part = page.partition("<h2>What ships")[2].partition("<h2>")[0]
    cells = re.findall(r"<td>(.*?)</td>", part)
    assert [value in cells for value in ("1.9e-06", "0.43", "2.500", "12,346", "not measured")] == [True] * 5
    assert html.escape(CLASSES[0], quote=False) in part
    assert "best: student kl T=4, seed 1, the best of 3 students by validation accuracy (0.962)." in part


def test_an_export_of_something_else_is_named_without_numbers(hostile, monkeypatch):
    """Of a student that was trained again, and of settings that were edited."""
    monkeypatch.chdir(hostile)
    write_report(["2", "4"], "again.html", student_file=Path("index.csv"))
    write_report(["2", "4"], "edited.html", softmax=True)
    again, edited = (
        Path(name).read_text(encoding="utf-8").partition("<h2>What ships")[2].partition("<h2>")[0]
        for name in ("again.html", "edited.html")
    )
    assert "the student kl T=4, seed 1 was trained again since" in again
    assert "it was made with export.softmax false (now true)" in edited
    assert "<td>" not in again + edited


def test_without_exports_the_page_says_nothing_of_them(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    write_report(["2", "4"], "alone.html", exported=[])
    whole, alone = (Path(name).read_text(encoding="utf-8") for name in ("report.html", "alone.html"))
    before, _, rest = whole.partition("<h2>What ships")
    assert alone == before + rest[rest.index("<h2>Temperature") :]


def test_the_page_and_the_table_tell_the_same(reproduced, monkeypatch):
    """Every mean that `softlabel table` prints, and every interval of `--markdown`, in the page of a real run."""
    monkeypatch.chdir(reproduced)
    table, markdown = (CliRunner().invoke(main, ["table", *more]).stdout for more in ([], ["--markdown"]))
    page = (reproduced / "results/report.html").read_text(encoding="utf-8").partition("What the models cost")[0]
    cells = [re.sub(r"\s*<.*?>\s*", " ", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", page)]
    means = re.findall(r"[+ -]\d\.\d{3}", table.partition("parameters")[0])
    assert len(means) >= 4 * len(METRICS)
    assert [mean.strip() for mean in means] == [cell.split()[0] for cell in cells if re.match(r"[+-]?\d\.\d{3}", cell)]
    shown = markdown.partition("What the models cost")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in shown.splitlines() if line[:1] == "|"]
    assert [cell for row in rows for cell in row if "(" in cell and " to " in cell] == [
        cell for cell in cells if " to " in cell
    ]


def test_a_real_run_shows_its_own_export(reproduced, monkeypatch):
    """What the stage `export` says it was made from is what table, page and card expect."""
    monkeypatch.chdir(reproduced)
    table = CliRunner().invoke(main, ["table"]).stdout
    page, card = (Path("results", name).read_text(encoding="utf-8") for name in ("report.html", "MODEL_CARD.md"))
    assert ["student.onnx" in table, "student.onnx" in page, "student.onnx" in card] == [True] * 3
    assert "is not shown" not in table + page + card


def test_data_set_teacher_and_date_stand_first(hostile):
    page = html.unescape((hostile / "report.html").read_text(encoding="utf-8"))
    first = page.partition('<p class="about">')[2].partition("</p>")[0]
    for value in (PARAMS["split"]["data"], "layout csv", "90 images", "3 classes", "cnn", SPEED.date):
        assert value in first


def test_what_to_bear_in_mind_stands_below_the_verdict(hostile):
    """Two epochs are too few; the teacher was not trained here."""
    page = (hostile / "report.html").read_text(encoding="utf-8")
    notes = html.unescape(page[page.index('<ul class="notes"') : page.index("<h2>Comparison")])
    models = json.loads((hostile / "metrics.json").read_text())["models"]
    assert "best_epochs" not in models["teacher"]
    for group in ("baseline", "student_kl_T2", "student_kl_T4"):
        for seed in SEEDS:
            history = pd.read_csv(hostile / f"history/{group}_seed{seed}.csv")
            ranked = history.sort_values(["val_accuracy", "val_cross_entropy"], ascending=[False, True])
            assert models[group]["best_epochs"][f"{group}_seed{seed}"] == [ranked["epoch"].iloc[0], 2]
    assert f"was the last one: {'; '.join(unfinished(models))}. More epochs" in notes


def unfinished(models):
    for group, found in models.items():
        seeds = [name[-1] for name, (best, last) in found.get("best_epochs", {}).items() if best == last]
        if seeds:
            yield f"{group.replace('_T', ' T=').replace('_', ' ')} ({', '.join(f'seed {seed}' for seed in seeds)})"


def test_every_class_has_its_roc_curve(hostile):
    page = html.unescape((hostile / "report.html").read_text(encoding="utf-8"))
    (words,) = re.findall(r'aria-label="ROC of the student, class by class\. (.*?)\.">', page)
    tables = [read_plot(hostile / "plots", "roc", f"student_kl_T{page_temperature(page)}_seed{seed}") for seed in SEEDS]
    for name in CLASSES:
        areas = [
            np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)
            for x, y in (
                table.loc[table["class"] == name, ["false_positive_rate", "true_positive_rate"]].to_numpy().T
                for table in tables
            )
        ]
        assert f"{name}: area {np.mean(areas):.3f}" in words


def page_temperature(page):
    return re.search(r"about the student kl T=(\d)", page)[1]


def test_its_provenance_is_that_of_the_files(hostile):
    page = (hostile / "report.html").read_text(encoding="utf-8")
    assert json.loads((hostile / "teacher.json").read_text())["sha256"] in page
    assert tf.__version__ in page


def test_the_same_inputs_give_the_same_page_and_pictures(hostile, monkeypatch):
    """Also from files that were fetched on other days."""
    monkeypatch.chdir(hostile)
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    for day, path in enumerate(before, 1):
        os.utime(path, (day * 86_400, day * 86_400))
    try:
        write_report(["2", "4"], "again.html")
    finally:
        for path, time in before.items():
            os.utime(path, ns=(time, time))
    assert Path("again.html").read_bytes() == Path("report.html").read_bytes()
    first, again = ({path.name: path.read_bytes() for path in Path(name).iterdir()} for name in ("report", "again"))
    assert sorted(first) == ["samples.png", "soft_labels.png", "views.png"]
    assert first == again
    assert all(keras.utils.load_img(f"report/{name}").width >= 300 for name in first)


def test_missing_speeds_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(MissingError, match=r"speed\.json.*measure_speed`"):
        read_speed(tmp_path / "speed.json")


@pytest.mark.parametrize("content", ["{", "{}", '{"device": "", "date": "", "batch_sizes": [1]}', "[]"])
def test_speeds_that_cannot_be_read_are_refused_with_the_remedy(tmp_path, content):
    (tmp_path / "speed.json").write_text(content)
    with pytest.raises(DamagedError, match=r"speed\.json.*measure_speed`"):
        read_speed(tmp_path / "speed.json")


def test_the_warning_of_hard_labels_names_the_top_temperature(hostile, monkeypatch):
    assert "Warning: " not in (hostile / "report.html").read_text(encoding="utf-8")
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(report, "doubt_about", lambda file, temperature: f"<i> at T = {temperature:g} in {file.path}")
    for draw in ("draw_samples", "draw_views", "draw_softening"):  # no picture shows it
        monkeypatch.setattr(report, draw, lambda *_: None)
    write_report(["2", "4"], "warned.html")
    page = Path("warned.html").read_text(encoding="utf-8")
    assert "<li>Warning: &lt;i&gt; at T = 4 in logits.h5</li>" in page


def test_a_class_of_any_name_is_in_the_curves(hostile):
    tables = [read_plot(hostile / "plots", "roc", name) for name in ("teacher", "student_kl_T4_seed1")]
    assert all(set(table["class"]) == set(CLASSES) for table in tables)


def test_text_in_a_figure_is_left_alone():
    """Only what is drawn in black takes the page's color."""
    figure = Figure()
    figure.text(0.1, 0.1, '#000000 id="text_1"')
    drawn = svg(figure, "one")
    assert '#000000 id="text_1"' in html.unescape(drawn)
    figure.add_subplot()
    assert "currentColor" in svg(figure, "one")


def test_other_temperatures_than_those_compared_are_refused(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    with pytest.raises(
        MismatchError, match=r"student_kl_T2, student_kl_T4, but params\.yaml has student_kl_T8\. .*dvc repro evaluate"
    ):
        write_report({"8": Path("kl_T2_seed1.keras")}, "other.html")
    assert not Path("other.html").exists()


def refused(said):
    """Nothing is written."""
    with pytest.raises(MismatchError, match=said):
        write_report(["2", "4"], "other.html")
    assert not Path("other.html").exists()


def test_numbers_of_other_parameters_are_refused(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    monkeypatch.setitem(PARAMS, "views", {"count": 2})
    refused(r"no numbers yet for params\.yaml as it is now.*views\.count 1 \(now 2\)")


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("metrics.json", '"dataset": [\n      "', '"dataset": [\n      "0', "of other images, labels or splits"),
        ("metrics.json", '"teacher": [\n      "', '"teacher": [\n      "0', "with another teacher"),
        ("predictions/teacher.csv", "alert(", "alert(9", "predictions is of other test images than the index"),
    ],
    ids=["data set", "teacher", "predictions"],
)
def test_inputs_that_do_not_belong_together_are_refused(hostile, monkeypatch, file, before, after, said):
    monkeypatch.chdir(hostile)
    content = Path(file).read_text(encoding="utf-8")
    assert before in content
    try:
        Path(file).write_text(content.replace(before, after), encoding="utf-8")
        refused(said)
    finally:
        Path(file).write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, MissingError),
        ("", DamagedError),
        ("id,actual\n", DamagedError),
        ("id,actual,predicted,confidence,nll,teacher_kl\na,x,x,1.5,0,0\n", DamagedError),
        ("id,actual,predicted,confidence,nll,teacher_kl\na,x,x,0.5,1e301,0\n", DamagedError),
    ],
)
def test_damaged_predictions_are_refused_with_the_remedy(tmp_path, content, error):
    if content is not None:
        (tmp_path / "m.csv").write_text(content)
    with pytest.raises(error, match=r"predictions.*m\.csv.*dvc repro evaluate"):
        read_predictions(tmp_path, "m")


@pytest.mark.parametrize("points", ["0,0", "0,0 1,0.5 0.5,1", "0,0 0.5,1 1,0.5"])
def test_points_that_are_no_roc_curve_are_refused(tmp_path, points):
    (tmp_path / "roc").mkdir()
    lines = [f"cat,{point}" for point in points.split()]
    (tmp_path / "roc/m.csv").write_text("\n".join(["class,false_positive_rate,true_positive_rate", *lines, ""]))
    with pytest.raises(
        DamagedError, match=r"m\.csv .*the points of the class 'cat' are no ROC curve.*dvc repro evaluate"
    ):
        read_plot(tmp_path, "roc", "m")


def test_an_ensemble_is_named_by_its_members():
    members = [{"teacher": "cnn"}, {"teacher": "mobilenetv2"}]
    made = Provenance((), "ensemble", "", "", {}, 1, {}, {}, {"average": "logits", "members": members})
    assert teacher_name(made) == "cnn, mobilenetv2: the average of their logits"


def test_with_many_classes_the_worst_curves_keep_class_order():
    areas = {f"class {number}": 0.9 if number % 2 else 0.5 for number in range(20)}
    assert list(few_classes(areas)) == [f"class {number}" for number in range(0, 20, 2)]


# Images to look at


def said(*rows):
    return pd.DataFrame(rows, columns=["id", "actual", "predicted", "confidence", "nll", "teacher_kl"])


STUDENT = said(
    ("a", "cat", "cat", 0.9, 0.1, 0.02),
    ("b", "cat", "dog", 0.6, 0.9, 0.70),
    ("c", "dog", "cat", 0.8, 1.6, 0.30),
    ("d", "dog", "dog", 0.7, 0.4, 0.30),
)
TEACHER = said(
    ("d", "dog", "cat", 0.51, 0.8, 0.0),
    ("c", "dog", "dog", 0.95, 0.1, 0.0),
    ("b", "cat", "cat", 0.99, 0.0, 0.0),
    ("a", "cat", "cat", 0.98, 0.0, 0.0),
)


def test_images_on_which_the_student_departs_most_come_first():
    found = most_unlike_teacher(STUDENT, TEACHER, 3)
    assert [image.id for image in found] == ["b", "c", "d"]
    assert (found[0].actual, found[0].teacher, found[0].student) == ("cat", ("cat", 0.99), ("dog", 0.6))


def test_of_the_wrong_ones_the_surest_come_first():
    assert [image.id for image in most_surely_wrong(STUDENT, TEACHER, 6)] == ["c", "b"]


def test_predictions_are_those_of_the_model(hostile, monkeypatch):
    """Computed again by Keras from the image files."""
    import keras

    monkeypatch.chdir(hostile)
    table = read_predictions(Path("predictions"), "student_kl_T4_seed1").set_index("id")
    index = pd.read_csv("index.csv", keep_default_na=False).query("split == 'test'").set_index("id")
    assert sorted(table.index) == sorted(index.index)
    assert (table["actual"] == index["class_name"].loc[table.index]).all()
    pixels = np.array([keras.utils.img_to_array(keras.utils.load_img(path)) for path in index["path"].loc[table.index]])
    model = keras.saving.load_model("kl_T4_seed1.keras")
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(pixels, verbose=0)))
    names = np.array(sorted(CLASSES))
    assert (table["predicted"] == names[probabilities.argmax(axis=1)]).all()
    np.testing.assert_allclose(table["confidence"], probabilities.max(axis=1), rtol=1e-4)
    actual = probabilities[np.arange(len(table)), np.searchsorted(names, table["actual"])]
    np.testing.assert_allclose(table["nll"], -np.log(actual), rtol=1e-4, atol=1e-5)
    written = pd.read_csv("predictions/student_kl_T4_seed1.csv", dtype={"id": str}).set_index("id").loc[table.index]
    assert list(written)[5:] == [f"probability_{name}" for name in sorted(CLASSES)]
    np.testing.assert_allclose(written.iloc[:, 5:], probabilities, rtol=1e-4, atol=1e-7)


def test_probabilities_of_many_classes_keep_class_order(tmp_path):
    """Of 1,000 classes named by numbers, softmax(log(1 + c)) is (1 + c) / 500,500."""
    names, logits = [str(number) for number in range(1000)], np.log(np.arange(1.0, 1001.0))[None]
    write_predictions(tmp_path / "said", ["a"], np.array([0]), names, {"teacher": logits})
    written = pd.read_csv(tmp_path / "said/teacher.csv")
    assert list(written)[6:] == [f"probability_{name}" for name in names]
    np.testing.assert_allclose(written.iloc[0, 6:].astype(float), np.arange(1, 1001) / 500_500, rtol=1e-5)
    assert read_predictions(tmp_path / "said", "teacher")["predicted"].tolist() == ["999"]


def test_ids_that_look_like_numbers_or_nothing_stay_as_they_are(tmp_path):
    (tmp_path / "m.csv").write_text("id,actual,predicted,confidence,nll,teacher_kl\n007,NA,null,0.5,0.7,0.1\n")
    row = read_predictions(tmp_path, "m").iloc[0]
    assert (row["id"], row["actual"], row["predicted"]) == ("007", "NA", "null")


@pytest.mark.parametrize(("size", "kind", "shown"), [((20, 30), "png", (20, 30)), ((300, 600), "jpeg", (96, 192))])
def test_pictures_in_the_page_keep_their_shape_and_content(tmp_path, size, kind, shown):
    import base64

    path = tmp_path / "image.png"
    path.write_bytes(tf.io.encode_png(np.full((*size, 3), (200, 100, 50), np.uint8)).numpy())
    head, content = embedded(path).uri.split(",")
    assert head == f"data:image/{kind};base64"
    pixels = tf.io.decode_image(base64.b64decode(content)).numpy()
    assert pixels.shape == (*shown, 3)
    assert max(pixels.shape) <= LARGEST_SIDE
    np.testing.assert_allclose(pixels.mean(axis=(0, 1)), (200, 100, 50), atol=2)


@pytest.mark.parametrize(
    ("students", "shown"),
    [
        ([4.0], [1, 4, 5, 10, 20, 35, 50]),
        ([0.3, 5.0], [0.3, 1, 5, 10, 20, 35, 50]),
        ([1.0, 2.0, 4.0, 16.0, 32.0, 64.0], [1, 2, 4, 16, 32, 64]),
    ],
)
def test_few_temperatures_are_shown_among_those_of_a_ladder(students, shown):
    assert report._shown_temperatures(students) == shown
