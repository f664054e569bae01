"""What the documents show is run, and where they point is something."""

import inspect
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import MODEL
from dvc.utils.hydra import apply_overrides
from either_backend import run_on_jax
from exported_files import LOGITS, METADATA, PIXELS, write_litert
from layouts import as_read, documented_sections, write_params
from PIL import Image as PngImage
from ruamel.yaml import YAML
from soft_label_files import CLASS_NAMES, IDS, INDEX, TOP2, logits_of, write_both, write_logits

from pipeline.datasets.layouts import LAYOUTS
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import write_index
from pipeline.images.resize import DEFAULT_RESIZE
from pipeline.inference.forward import all_logits
from pipeline.models import keras_files
from pipeline.params.reading import read_params
from pipeline.params.split import DataSection
from pipeline.soft_labels.logit_storage import TopK
from pipeline.soft_labels.writing import soften_file

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
READING = (ROOT / "docs/reading.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", READING, re.DOTALL)
SOFT_TARGETS = Path("data/soft_labels/soft_targets_T4.h5")
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
RUN_BY = {
    ("README.md", "sh"): "test_readme.py",
    ("guide.md", "sh"): "test_readme.py",
    ("guide.md", "yaml"): "test_readme.py",
    ("data.md", "yaml"): "layouts.py",
    ("experiments.md", "sh"): "documents.py",
    ("extending.md", "python"): "test_quickstart.py",
    ("experiments.md", "yaml"): "test_experiments.py",
    ("reading.md", "python"): "test_docs.py",
    ("scale.md", "sh"): "test_sweep.py",
    ("scale.md", "yaml"): "test_images_in_place.py",  # and test_cluster_labeller
    ("sharing.md", "sh"): "test_sharing.py",
    ("teachers.md", "python"): "test_other_formats.py",
    ("teachers.md", "yaml"): "test_params.py",
    (
        "guide.md",
        "python",
    ): "test_docs.py",  # and test_own_network, test_onnx_from_pytorch, test_render_views, …from_a_pack
    ("sharing.md", "python"): "test_use_elsewhere.py",
}
"""Which test runs the blocks of a document."""

LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def the_block_with(word):
    (block,) = [block for block in BLOCKS if word in block]
    return block


def shipped(word):
    (block,) = re.findall(rf"```python\n((?:(?!```).)*{word}.*?)```", GUIDE.partition("## Ship")[2], re.DOTALL)
    return block


def run_block(block, **variables):
    exec(compile(block, "docs/reading.md", "exec"), variables)  # noqa: S102
    return variables


def links(document):
    """The relative links of a document: (file, place in it)."""
    targets = LINK.findall(document.read_text(encoding="utf-8"))
    return [target.partition("#")[::2] for target in targets if "://" not in target]


def anchors(document):
    """The places that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return set(map(place_of, headings))


def place_of(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_example_prints_the_soft_labels_of_the_first_image(folder, capsys):
    write_both(SOFT_TARGETS.parent)
    found = run_block(BLOCKS[0])
    with h5py.File(SOFT_TARGETS) as file:
        first = np.round(file["train/soft"][0, 0], 3).tolist()
        np.testing.assert_array_equal(found["soft"], file["train/soft"][0])
        np.testing.assert_array_equal(found["affine"], file["train/affine"][0])
    assert capsys.readouterr().out == f"{IDS['train'][0]} {dict(zip(CLASS_NAMES, first, strict=True))}\n"
    assert list(found["row_of"]) == IDS["train"]
    assert sum(first) == pytest.approx(1, abs=2e-3)


def test_the_guides_comparison_leaves_unlabelled_images_out(folder):
    """DVC sets only keys that are in the file; the folder stays named, so that it is no class."""
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if "unlabelled:" in block]
    (change,) = re.findall(r"dvc exp run --set-param (split\.unlabelled\S*?)`", GUIDE)
    write_params(next(section for section in documented_sections() if section["layout"] == "csv"))
    content = YAML(typ="safe").load(Path("params.yaml"))
    content["split"] |= YAML(typ="safe").load(block)["split"]
    YAML().dump(content, Path("params.yaml"))
    before = read_params(Path("params.yaml")).split
    apply_overrides(Path("params.yaml"), [change])
    after = read_params(Path("params.yaml")).split
    assert (before.unlabelled.use, after.unlabelled.use) == (True, False)
    assert after.unlabelled.folder == Path("unlabelled")
    unlabelled = after.unlabelled.model_copy(update={"use": True})
    assert after.model_copy(update={"unlabelled": unlabelled}) == before


def test_the_example_is_about_ten_lines():
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert 5 <= len(lines) <= 11


def test_the_example_needs_h5py_and_numpy_only():
    assert re.findall(r"^(?:import|from) (\w+)", BLOCKS[0], re.MULTILINE) == ["h5py", "numpy"]


@pytest.mark.slow
def test_the_jax_example_trains_on_the_files_pixels_and_labels(folder):
    write_both(SOFT_TARGETS.parent)
    write_index(folder / "data/index.csv", INDEX)
    images = INDEX.split("train")
    expected = np.random.default_rng(1).integers(0, 256, (len(images), 28, 28, 1)).astype(np.uint8)
    for image, pixels in zip(images, expected, strict=True):
        Path(image.path).parent.mkdir(parents=True, exist_ok=True)
        PngImage.fromarray(pixels[..., 0]).save(image.path)
    model = replace(MODEL, input_shape=(28, 28, 1))
    student = model.build(classes=len(CLASS_NAMES), seed=1)
    before = student.get_weights()
    keras_files.save(student, folder / "models/students/kl_T4_seed1.keras")
    keep = "np.savez('after.npz', *student.get_weights(), pixels=pixels, targets=targets)"
    run_on_jax(f"{the_block_with('.fit(')}{keep}", folder)
    after = np.load(folder / "after.npz")
    np.testing.assert_array_equal(after["pixels"], expected)
    with h5py.File(SOFT_TARGETS) as file:
        both = np.concatenate([file["train/hard"][:], file["train/soft"][0]], axis=1)
    np.testing.assert_array_equal(after["targets"], both)
    for number, weight in enumerate(before):  # Adam's first step is its learning rate, unless there is no slope
        moved = np.abs(after[f"arr_{number}"] - weight)
        assert moved.max() == pytest.approx(0.002, rel=1e-2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_example_reads_the_pixels_that_our_models_see(tmp_path, kind, channels):
    """Noise in all colors: a JPEG file of it shows every way of decoding, and grey every way of rounding."""
    noise = np.random.default_rng(5).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    PngImage.fromarray(noise).save(tmp_path / "image", kind)
    found = run_block(the_block_with("def pixels_of"), np=np)["pixels_of"](tmp_path / "image", channels)
    expected = DecodedImages([tmp_path / "image"], (64, 48, channels), keep=False).rows([0])[0]
    np.testing.assert_array_equal(found, expected)


def test_the_documented_resizing_is_the_one_of_params_yaml():
    (block,) = re.findall(r"```yaml\n(images:.*?)```", (ROOT / "docs/data.md").read_text(encoding="utf-8"), re.DOTALL)
    shown = YAML(typ="safe").load(block)["images"]["resize"]
    assert shown == YAML(typ="safe").load(ROOT / "params.yaml")["images"]["resize"] == DEFAULT_RESIZE.as_json()


def test_the_topk_illustration_gives_what_students_learn_from(folder):
    """Three of seven classes are kept; every row of every view."""
    classes, kind = [f"class {number}" for number in range(7)], TopK(3, "float16")
    logits, targets = folder / "teacher_logits.h5", folder / "soft_targets_T4.h5"
    write_logits(logits, class_names=tuple(classes), stored_as=kind, logits=logits_of)
    soften_file(logits, targets, 4.0)
    with h5py.File(targets) as file:
        views = [{name: file["train"][name][view] for name in ("index", "probability", "tail")} for view in range(3)]
    for columns in views:
        for row, expected in enumerate(kind.probabilities(columns, 7)):
            found = run_block(the_block_with("top-k file"), np=np, classes=classes, row=row, **columns)["dense"]
            np.testing.assert_array_equal(found.astype(np.float32), expected)
            assert found.sum() == pytest.approx(1, abs=1e-6)


def test_the_document_names_the_datasets_of_a_topk_file(folder):
    _, targets = write_both(folder, stored_as=TOP2)
    (sentence,) = re.findall(r"with `topk`, (.*) take the place of `soft`", READING)
    with h5py.File(targets) as file:
        assert set(re.findall(r"`(\w+)`", sentence)) < set(file["train"])
        assert "soft" not in file["train"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_is_run_or_marked_as_illustration(document):
    """Output, and what is only shown, is `text`, or begins with the word."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    assert document.read_text(encoding="utf-8").count("```") == 2 * len(blocks)
    for kind in {kind for kind, content in blocks if kind != "text" and not content.startswith("# illustration")}:
        assert document.name in (ROOT / "tests" / RUN_BY[document.name, kind]).read_text(encoding="utf-8")


def test_all_blocks_are_valid_python():
    for block in BLOCKS:
        assert compile(block, "docs/reading.md", "exec")


@pytest.mark.slow
def test_the_shell_line_computes_the_digest_in_the_file(folder):
    compute, last = "head -c LENGTH FILE | sha256sum", "tail -n 1 FILE"
    for document in (READING, (ROOT / "docs/format.md").read_text(encoding="utf-8")):
        assert f"`{compute}`" in document
        assert f"`{last}`" in document
    for path in write_both(folder):

        def said(command, path=path):
            command = command.replace("FILE", str(path))
            return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout

        _, _, digest, _, length, _ = said(last).split(" ")
        assert said(compute.replace("LENGTH", length)).split()[0] == digest


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file(document):
    for file, _ in links(document):
        assert (document.parent / file).exists(), f"{document.name} links to {file}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_a_document_leads_to_a_heading(document):
    for file, place in links(document):
        target = document.parent / file if file else document
        assert not place or place in anchors(target), f"{document.name} links to {file}#{place}"


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_code_that_a_document_names_is_there(document):
    named = re.findall(r"`((?:pipeline|tests|benchmarks)/[\w/]+(?:\.py|/))", document.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_layout_is_shown_with_all_its_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [section["layout"] for section in documented_sections()] == list(LAYOUTS)
    for section in documented_sections():
        values = as_read(section)
        layout, settings = values["layout"], values["settings"]
        assert {"layout": layout, **settings}.keys() == section.keys()
        assert settings.keys() == inspect.signature(LAYOUTS[layout]).parameters.keys()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_shipped_student_gives_the_probabilities_of_evaluate(folder, capsys, channels):
    student = replace(MODEL, input_shape=(8, 6, channels)).build(classes=3, seed=2)
    keras_files.save(student, folder / "models/students/kl_T4_seed1.keras")
    noise = np.random.default_rng(3).integers(0, 256, (8, 6, channels), dtype=np.uint8)
    PngImage.fromarray(noise.squeeze()).save("image.png")
    run_block(shipped("keras.saving"))
    pixels = DecodedImages([folder / "image.png"], (8, 6, channels), keep=False)
    logits = all_logits(student, pixels, 1, "student")[0].astype(np.float64)
    shown = np.array(capsys.readouterr().out.strip("[]\n").split(), float)
    np.testing.assert_allclose(shown, np.exp(logits) / np.exp(logits).sum(), atol=6e-4)


def test_the_guides_program_without_tensorflow_labels_an_image(folder, capsys):
    """Of a grey image of 2 x 2 pixels, calibrated."""
    Path("models/exports/best").mkdir(parents=True)
    write_litert(folder / "models/exports/best/student_float32.tflite")
    PngImage.fromarray(PIXELS[1].squeeze()).save("image.png")
    run_block(shipped("open_exported"))
    predicted, _, numbers = capsys.readouterr().out.rstrip("]\n").partition(" [")
    logits = LOGITS[1] / METADATA.temperature
    assert predicted == METADATA.class_names[1]
    np.testing.assert_allclose(np.array(numbers.split(), float), np.exp(logits) / np.exp(logits).sum(), atol=1e-5)


def test_the_keys_of_every_layout_are_shown_once():
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert all(text.count(f"\n  {key}: ") == 1 for key in DataSection.model_fields)


def test_there_are_links_to_check():
    assert {document.name for document in DOCUMENTS} >= {"README.md", "format.md", "reading.md", "decisions.md"}
    assert sum(len(links(document)) for document in DOCUMENTS) >= 5
    assert ("guide.md", "the-loss-of-a-student") in links(ROOT / "docs/reading.md")


def test_every_promise_is_shown_by_a_test_that_there_is():
    """`docs/reliability.md` names a test, or a file of tests, for each, and for each file that is defended."""
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", text)
    assert len(named) > 15
    for file, name in named:
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), (file, name)
    tables = re.findall(r"^\|.* \| (?:tests?|shown by) \|\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 50
    assert [row for row in rows if "`tests/" not in row.rpartition(" | ")[2]] == []


def test_decisions_has_seven_heads_and_a_complete_index():
    headings = re.findall(r"^(##+) (.*)$", (ROOT / "docs/decisions.md").read_text(encoding="utf-8"), re.MULTILINE)
    index = [place for _, place in links(ROOT / "docs/decisions.md")]
    assert sum(level == "##" for level, _ in headings) == 7
    assert [place for place in map(place_of, (text for _, text in headings)) if place not in index] == []
