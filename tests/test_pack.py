"""A pack of soft labels: what is in it and what is not, and that `softlabel verify` names every kind of damage."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from real_project import ROOT, change, inside
from ruamel.yaml import YAML
from soft_label_files import INDEX, VIEWS, edit, logits_of, write_both

from pipeline.cli.main import main
from pipeline.images.index import Index, write_index
from pipeline.soft_labels.writing import soften_file
from pipeline.tools import pack as tool
from pipeline.tools import pack_card
from pipeline.tools.pack_card import size_category

LOGITS = Path("data/soft_labels/teacher_logits.h5")
TARGETS = Path("data/soft_labels/soft_targets_T4.h5")
PARTS = ["README.md", "checksums.sha256", "index.csv", "soft_targets_T4.h5", "teacher_logits.h5"]
PACK = Path("pack")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with params.yaml, the index, soft-label files that agree with both, and a pack of them."""
    folder = tmp_path_factory.mktemp("made")
    with inside(folder):
        shutil.copy(ROOT / "params.yaml", "params.yaml")
        change(Path("params.yaml"), "views", VIEWS.as_json())
        write_project(INDEX)
        packed("--license", "MIT")
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """The current folder: a copy of the project, without its pack."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PACK.name))
    return INDEX


def write_project(index):
    shutil.rmtree("data", ignore_errors=True)
    write_both(LOGITS.parent, index=index)
    write_index(Path("data/index.csv"), index)


def softlabel(*arguments):
    return CliRunner().invoke(main, [str(word) for word in arguments])


def packed(*options, folder=PACK):
    done = softlabel("pack", folder, *options)
    assert done.exit_code == 0, done.output
    return done


def refused(*options, folder=PACK):
    done = softlabel("pack", folder, *options)
    assert (done.exit_code, type(done.exception)) == (1, SystemExit), done.output
    assert done.stdout == ""
    return done.stderr


def contents(folder):
    return {path.name: path.read_bytes() if path.is_file() else None for path in sorted(folder.iterdir())}


def found(folder=PACK):
    """The checks of a pack that are wrong: what each says, by name."""
    checks = json.loads(softlabel("verify", folder, "--json").stdout)["checks"]
    return {check["name"]: check["detail"] for check in checks if check["ok"] is False}


def head(folder=PACK):
    _, metadata, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return YAML(typ="safe").load(metadata)


# ---- what is written


@pytest.mark.usefixtures("project")
def test_a_pack_has_the_files_byte_for_byte_and_no_others():
    told = packed("--license", "CC-BY-4.0")
    assert [path.name for path in sorted(PACK.iterdir())] == PARTS
    assert told.stdout == f"wrote pack: {', '.join(PARTS)}\n"
    assert told.stderr == "pack: starting\n"
    for path in (LOGITS, TARGETS):
        assert (PACK / path.name).read_bytes() == path.read_bytes()


def test_the_index_has_ids_and_labels_and_nothing_else(project):
    packed()
    lines = ["id,split,label,class_name,sha256"]
    for image in sorted(project.images, key=lambda image: image.id):
        label = {"HP": 0, "SSA": 1, "tumeur à part": 2}[image.class_name]
        lines.append(f"{image.id},{image.split},{label},{image.class_name},{image.sha256}")
    assert (PACK / "index.csv").read_text(encoding="utf-8").splitlines() == lines


@pytest.mark.usefixtures("project")
def test_paths_and_votes_of_the_index_stay_at_home():
    private = [image._replace(path=f"/home/secret/{image.id}", votes="7") for image in INDEX.images]
    write_project(Index(private, INDEX.class_names))
    packed()
    assert not [name for name, content in contents(PACK).items() if b"secret" in content]
    rows = list(csv.reader(io.StringIO((PACK / "index.csv").read_text(encoding="utf-8"))))
    assert {len(row) for row in rows} == {5}


@pytest.mark.usefixtures("project")
def test_an_index_with_columns_of_its_own_is_refused():
    index = Path("data/index.csv")
    lines = index.read_text(encoding="utf-8").splitlines()
    index.write_text("\n".join([f"{lines[0]},name_of_patient", *(f"{line},Jane" for line in lines[1:])]))
    assert "name_of_patient" in refused()
    assert not PACK.exists()


@pytest.mark.usefixtures("project")
def test_an_image_without_a_label_has_empty_cells():
    free = [image._replace(class_name="") if image.id == "é.png" else image for image in INDEX.images]
    write_project(Index(free, INDEX.class_names))
    packed()
    assert "\né.png,train,,," in (PACK / "index.csv").read_text(encoding="utf-8")
    assert "| without a label | 1 train |" in (PACK / "README.md").read_text(encoding="utf-8")
    assert found() == {}


@pytest.mark.usefixtures("project")
def test_checksums_are_those_of_sha256sum():
    packed()
    lines = (PACK / "checksums.sha256").read_text().splitlines()
    names = ["index.csv", "soft_targets_T4.h5", "teacher_logits.h5"]
    assert lines == [f"{hashlib.sha256((PACK / name).read_bytes()).hexdigest()}  {name}" for name in names]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("", "it is empty"),
        (f"{'0' * 64} one space.h5\n", "such as '0+ "),
        (f"{'0' * 64}  ../out.h5\n", "such as"),
    ],
    ids=["empty", "one space", "a name that leads out"],
)
@pytest.mark.usefixtures("project")
def test_lines_that_are_no_checksums_are_told(content, shown):
    packed()
    (PACK / "checksums.sha256").write_text(content)
    assert re.search(f"has lines that are no checksums of a pack's files: {shown}", found()["checksums"])


@pytest.mark.usefixtures("project")
def test_the_same_inputs_give_the_same_bytes():
    packed("--license", "MIT", "--title", "Ours")
    packed("--license", "MIT", "--title", "Ours", folder=Path("elsewhere/other"))
    assert contents(PACK) == contents(Path("elsewhere/other"))


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["", "symlink", "hardlink"])
@pytest.mark.usefixtures("project")
def test_writing_into_a_pack_changes_nothing_outside(link):
    """Neither the project's files, nor DVC's cache, to which they may be links that nobody may write to."""
    kept = [LOGITS, TARGETS]
    if link is not None:
        kept = [Path("cache", path.name).absolute() for path in kept]
        kept[0].parent.mkdir()
        for path, cached in zip([LOGITS, TARGETS], kept, strict=True):
            path.rename(cached)
            cached.chmod(0o444)
            link(cached, path)
    before = [path.read_bytes() for path in kept]
    packed()
    for path in kept:
        with h5py.File(PACK / path.name, "r+") as file:
            file.attrs["mine"] = 1
        assert not (PACK / path.name).is_symlink()
        assert (PACK / path.name).stat().st_mode & 0o200
    assert [path.read_bytes() for path in kept] == before
    assert "checksums" in found()


@pytest.mark.usefixtures("project")
def test_every_temperature_of_params_yaml_is_packed():
    change(Path("params.yaml"), "distill.temperatures", [4, "8to2"])
    assert "there is no data/soft_labels/soft_targets_T8to2.h5" in refused()
    soften_file(LOGITS, TARGETS.with_name("soft_targets_T8to2.h5"), 8.0)
    packed()
    assert (PACK / "soft_targets_T8to2.h5").is_file()
    assert found() == {}


# ---- the card


@pytest.mark.usefixtures("project")
def test_of_very_many_classes_the_card_names_the_file(monkeypatch):
    names = INDEX.class_names
    monkeypatch.setattr(pack_card, "MOST_CLASSES", len(names) - 1)
    packed()
    text = (PACK / "README.md").read_text(encoding="utf-8")
    assert f"{len(names)} classes, in the order of `label` in `index.csv`." in text
    assert "| label | class |" not in text
    assert "card" not in found()


@pytest.mark.parametrize(
    ("stated", "metadata"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("ODbL-1.0", {"license": "odbl"}),
        ("EUPL-1.2", {"license": "other", "license_name": "eupl-1.2"}),
        ("For our partners: ask!", {"license": "other", "license_name": "for-our-partners-ask"}),
        (None, {"license": "unknown"}),
        (" ", {"license": "unknown"}),
    ],
)
@pytest.mark.usefixtures("project")
def test_the_licence_has_the_name_that_the_hub_knows(stated, metadata):
    told = packed(*([] if stated is None else ["--license", stated]))
    assert {name: value for name, value in head().items() if name.startswith("license")} == metadata
    is_known = metadata["license"] != "unknown"
    assert ("**To fill in.** No licence" in (PACK / "README.md").read_text()) is not is_known
    assert ("no licence is stated" in told.stderr) is not is_known
    assert ("Warning: card." in softlabel("verify", PACK).stdout) is not is_known


@pytest.mark.usefixtures("project")
def test_the_head_is_what_the_hub_reads_of_a_data_set():
    packed("--title", 'Ours: "soft" # labels | of\n2026')
    assert head() == {
        "license": "unknown",
        "pretty_name": 'Ours: "soft" # labels | of 2026',
        "task_categories": ["image-classification"],
        "size_categories": ["n<1K"],
        "tags": ["knowledge-distillation", "soft-labels"],
        "configs": [{"config_name": "default", "data_files": "index.csv"}],
    }


@pytest.mark.parametrize(
    ("images", "name"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (5000, "1K<n<10K"), (10_000, "10K<n<100K"), (10**7, "n>10M")],
)
def test_a_size_has_the_name_of_its_decade(images, name):
    assert size_category(images) == name


@pytest.mark.usefixtures("project")
def test_the_card_tells_what_the_pack_was_made_from():
    packed()
    told = (PACK / "README.md").read_text(encoding="utf-8")
    with h5py.File(LOGITS) as file:
        right = [
            np.mean(file[f"{split}/logits"][0].argmax(1) == file[f"{split}/label"][:]) for split in ("val", "test")
        ]
    for row in (
        f"| file of the teacher | {'ab' * 32} |",
        f"| fingerprint of the data set | {INDEX.fingerprint()} |",
        f"| the teacher is right on | {right[0]:.4f} of val, {right[1]:.4f} of test |",
        "| soft labels | T = 4 |",
        "| images | 5 train, 2 val, 3 test |",
        "| 2 | tumeur à part | 1 | 1 | 1 |",
    ):
        assert f"\n{row}\n" in told


@pytest.mark.usefixtures("project")
def test_names_of_classes_cannot_break_the_card():
    names = dict(zip(INDEX.class_names, ["a|b", "<img src=x>\n# c", "`d` *e* _f_ [g](h)"], strict=True))
    hostile = Index([image._replace(class_name=names[image.class_name]) for image in INDEX.images], [*names.values()])
    write_project(hostile)
    packed()
    lines = (PACK / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| label | class | train | val | test |")
    for line in lines[start + 2 : start + 5]:
        assert line.count("|") == 6
        assert not re.search(r"[<>`*_\[\]]", line)
    assert found() == {}


# ---- what is refused


def of_other_logits(_):
    other = write_both(Path("other"), logits=lambda *sizes: logits_of(*sizes) * 2)
    TARGETS.write_bytes(other[1].read_bytes())


def of_fewer_images():
    write_project(Index(INDEX.images[1:], INDEX.class_names))


def of_other_images(_):
    Path("data/index.csv").unlink()
    write_index(Path("data/index.csv"), Index(INDEX.images[1:], INDEX.class_names))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


REFUSED = {
    "other logits": (of_other_logits, "soft_targets_T4.h5 is not packed, .*softened from other logits"),
    "other images": (of_other_images, "teacher_logits.h5 is not packed, .*data set: .*does not know"),
    "older views": (lambda _: change(Path("params.yaml"), "views.seed", 6), "not packed, .*seed 5, expected 6"),
    "damaged": (lambda _: flip(TARGETS), "soft_targets_T4.h5 is not packed, .*do not match their digest"),
    "no logits": (lambda _: LOGITS.unlink(), "there is no data/soft_labels/teacher_logits.h5, .*dvc repro"),
    "no index": (lambda _: Path("data/index.csv").unlink(), "there is no index at data/index.csv"),
    "a file": (lambda _: PACK.write_text("mine"), "pack is a file"),
    "other files": (lambda _: (PACK.mkdir(), (PACK / "mine.txt").write_text("mine")), "no pack: 'mine.txt'"),
    "a folder in a pack": (
        lambda _: (packed(), (PACK / "README.md").unlink(), (PACK / "README.md").mkdir()),
        "no pack: 'README.md'",
    ),
    "half a pack": (lambda _: (PACK.mkdir(), (PACK / "README.md").write_text("mine")), "no pack: 'README.md'"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("options", [[], ["--force"]], ids=["", "force"])
def test_what_does_not_belong_together_is_refused(project, case, options):
    change_it, message = REFUSED[case]
    change_it(project)
    before = PACK.read_bytes() if PACK.is_file() else contents(PACK) if PACK.exists() else None
    assert re.search(message, refused(*options).replace("\n", " "))
    assert (PACK.read_bytes() if PACK.is_file() else contents(PACK) if PACK.exists() else None) == before
    assert not list(Path().glob("*.partial"))


@pytest.mark.usefixtures("project")
def test_only_force_replaces_a_pack_and_only_a_pack():
    packed()
    before = contents(PACK)
    assert "Replace it with --force" in refused("--license", "MIT")
    assert contents(PACK) == before
    packed("--license", "MIT", "--force")
    assert head()["license"] == "mit"
    (PACK / ".git").mkdir()
    assert "no pack: '.git'" in refused("--force")


@pytest.mark.parametrize("change_it", [None, of_fewer_images], ids=["same files", "other files"])
@pytest.mark.usefixtures("project")
def test_force_keeps_licence_and_title_that_were_stated(change_it):
    title = 'Ours & "theirs" | &#38;'
    packed("--license", "For <us> & our *partners*", "--title", title)
    before = contents(PACK)
    if change_it is not None:
        change_it()
    told = packed("--force")
    assert "no licence" not in told.stderr
    assert (contents(PACK)["README.md"] == before["README.md"]) is (change_it is None)
    assert (head()["license_name"], head()["pretty_name"]) == ("for-us-our-partners", title)
    assert "\nFor &#60;us&#62; &#38; our &#42;partners&#42;. It is that of" in (PACK / "README.md").read_text()
    assert found() == {}
    packed("--license", "MIT", "--force")
    assert (head()["license"], head()["pretty_name"]) == ("mit", title)


def fill_in(folder=PACK):
    """What a publisher does: the text names a source, the head a licence."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8").replace('license: "unknown"', 'license: "mit"')
    card.write_text(text.replace("- Where the images come from", "- From our clinic, in 2026."), encoding="utf-8")
    return card.read_bytes()


@pytest.mark.usefixtures("project")
def test_force_keeps_a_card_that_was_edited():
    packed()
    edited = fill_in()
    flip(PACK / "index.csv")
    told = packed("--force")
    assert "no licence" not in told.stderr
    assert (PACK / "README.md").read_bytes() == edited
    assert found() == {}


@pytest.mark.parametrize(
    ("options", "change_it", "message"),
    [
        (["--license", "MIT"], None, "edited, and --license and --title would write a new one. .* by hand, or move"),
        (["--title", "Ours"], None, "edited, and --license and --title would write a new one"),
        ([], of_fewer_images, r"edited, and no longer fits: .*lacks 5 line.*left as it is\. Move the card"),
    ],
)
@pytest.mark.usefixtures("project")
def test_an_edited_card_that_does_not_fit_is_not_lost(options, change_it, message):
    packed()
    fill_in()
    before = contents(PACK)
    if change_it is not None:
        change_it()
    assert re.search(message, refused("--force", *options).replace("\n", " "))
    assert contents(PACK) == before
    (PACK / "README.md").unlink()
    packed("--force", *options)
    assert found() == {}


@pytest.mark.parametrize("folder", ["data/split/mine", "models/exports", "data/soft_labels/x", "results/pictures/x"])
@pytest.mark.usefixtures("project")
def test_an_output_of_a_stage_is_no_place_for_a_pack(folder):
    assert "no place for a pack: a stage writes" in refused(folder=Path(folder))
    assert not Path(folder).exists()


@pytest.mark.usefixtures("project")
def test_a_pack_that_fails_leaves_the_earlier_one(monkeypatch):
    packed("--license", "MIT")
    before = contents(PACK)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tool, "write_checksums", full)
    assert "No space left" in refused("--force")
    assert contents(PACK) == before
    assert not list(Path().glob("*.partial"))


# ---- what `verify` finds


@pytest.fixture
def alone(made, tmp_path, monkeypatch):
    """The current folder: it has a pack and nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / PACK, PACK)


@pytest.mark.usefixtures("alone")
def test_a_sound_pack_is_sound_anywhere():
    told = softlabel("verify", PACK)
    assert told.exit_code == 0
    *lines, verdict = told.stdout.splitlines()
    assert verdict == "pack is sound. Not compared: teacher, images."
    assert {line.split()[0] for line in lines[:-2]} == {"ok"}
    for name in ("pack", "checksums", "teacher_logits.h5: data set", "soft_targets_T4.h5: logits", "card"):
        assert re.search(rf"^ok +{re.escape(name)} ", told.stdout, re.MULTILINE), name


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("part", [name for name in PARTS if name != "README.md"])
def test_a_flipped_bit_is_found_in_every_file(part):
    flip(PACK / part)
    wrong = found()
    assert "checksums" in wrong
    assert softlabel("verify", PACK).exit_code == 1
    if part != "checksums.sha256":
        assert f"other bytes than were packed: {part}" in wrong["checksums"]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("part", PARTS)
def test_a_missing_file_is_named(part):
    (PACK / part).unlink()
    wrong = found()
    assert ("soft_targets_T<T>.h5" if "T4" in part else part) in wrong["pack"]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("part", PARTS)
def test_a_folder_in_place_of_a_file_is_named(part):
    (PACK / part).unlink()
    (PACK / part).mkdir()
    assert softlabel("verify", PACK).exit_code == 1
    assert f"files of others: '{part}'" in found()["pack"]


@pytest.mark.usefixtures("alone")
def test_another_file_is_named_but_not_those_of_git_and_the_hub():
    (PACK / ".gitattributes").write_text("*.h5 filter=lfs\n")
    (PACK / ".git").mkdir()
    assert found() == {}
    (PACK / "notes.txt").write_text("mine")
    assert found() == {"pack": "files of others: 'notes.txt'"}
    flip(PACK / "teacher_logits.h5")
    (PACK / "soft_targets_T9.h5").write_bytes(b"")
    assert "does not name: soft_targets_T9.h5" in found()["checksums"]


def sealed_again():
    """New checksums, as someone makes them who changed a file on purpose."""
    names = ["index.csv", "soft_targets_T4.h5", "teacher_logits.h5"]
    lines = [f"{hashlib.sha256((PACK / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (PACK / "checksums.sha256").write_text("".join(lines))


def in_the_index(old, new):
    def act():
        path = PACK / "index.csv"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return act


def targets_of_other_logits():
    _, other = write_both(Path("other"), logits=lambda *sizes: logits_of(*sizes) * 2)
    shutil.copy(other, PACK)


def targets_of_another_temperature():
    (PACK / "soft_targets_T4.h5").unlink()
    soften_file(PACK / "teacher_logits.h5", PACK / "soft_targets_T4.h5", 2.0)


def another_label():
    edit(PACK / "teacher_logits.h5", lambda file: file["test/label"].__setitem__(0, 2))


INDEX_OF = ["teacher_logits.h5: data set", "soft_targets_T4.h5: data set"]
DAMAGE = {
    "digest of an image": (in_the_index("10" * 32, "f0" * 32), INDEX_OF, "was made from other content of 1"),
    "split": (in_the_index("g.png,val", "g.png,test"), INDEX_OF, "has no soft labels for 1 test image"),
    "id": (in_the_index("g.png", "G.png"), INDEX_OF, "that the index does not know"),
    "class": (in_the_index("val,0,HP", "val,1,SSA"), INDEX_OF, "has other labels than the index for 1 val"),
    "label alone": (in_the_index("val,0,HP", "val,1,HP"), INDEX_OF, "1 row.* that are no images of the classes"),
    "an image twice": (in_the_index("\ng.png", "\nh.png"), INDEX_OF, "names an image more than once"),
    "column": (in_the_index("class_name", "name"), INDEX_OF, "has the columns"),
    "other logits": (targets_of_other_logits, ["soft_targets_T4.h5: logits"], "softened from other logits"),
    "temperature": (targets_of_another_temperature, ["soft_targets_T4.h5: name"], "but its name says 4"),
    "label of logits": (
        another_label, ["teacher_logits.h5: data set", "soft_targets_T4.h5: logits"], "other labels|other logits",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("case", DAMAGE)
def test_damage_with_new_checksums_is_found_where_it_is(case):
    act, names, message = DAMAGE[case]
    act()
    sealed_again()
    wrong = found()
    assert list(wrong) == names
    for name in names:
        assert re.search(message, wrong[name])


CARDS = {
    "no head": (r"\A---\n", "", "does not begin with metadata"),
    "head is no YAML": ("license:", "license: [", "does not begin with metadata"),
    "licence of no name": ("license: .*", "license: {mit: 1}", "license is {'mit': 1}, expected the Hub's name"),
    "another task": ("image-classification", "image-segmentation", r"task_categories is \['image-segmentation'\]"),
    "another size": ('"n<1K"', '"1K<n<10K"', "size_categories is"),
    "another teacher": ("file of the teacher . a", "file of the teacher | b", "lacks 1 line"),
    "another class": ("tumeur", "tumour", "lacks 2 line"),
}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("case", CARDS)
def test_a_card_that_tells_of_other_files_is_wrong(case):
    pattern, new, message = CARDS[case]
    card = PACK / "README.md"
    text = card.read_text(encoding="utf-8")
    assert re.search(pattern, text)
    card.write_text(re.sub(pattern, new, text), encoding="utf-8")
    wrong = found()
    assert list(wrong) == ["card"]
    assert re.search(message, wrong["card"])


@pytest.mark.usefixtures("alone")
def test_the_fields_of_a_card_may_be_filled_in():
    card = PACK / "README.md"
    text = card.read_text(encoding="utf-8").replace("license: ", "annotations_creators: [found]\nlicense: ")
    card.write_text(text.replace("- Where the images come from", "- From our clinic."), encoding="utf-8")
    assert found() == {}


@pytest.mark.parametrize(("license_", "is_stated"), [("[mit, cc-by-4.0]", True), ("[]", False), ("[unknown]", False)])
@pytest.mark.usefixtures("alone")
def test_the_hub_also_takes_a_list_of_licences(license_, is_stated):
    card = PACK / "README.md"
    card.write_text(re.sub("license: .*", f"license: {license_}", card.read_text(encoding="utf-8")), encoding="utf-8")
    assert found() == {}
    assert ("states no licence" in softlabel("verify", PACK).stdout) is not is_stated


@pytest.mark.usefixtures("alone")
def test_a_folder_that_is_no_pack_is_told_without_traceback():
    Path("empty").mkdir()
    told = softlabel("verify", "empty")
    assert (told.exit_code, type(told.exception)) == (1, SystemExit)
    assert "there is no teacher_logits.h5, index.csv, README.md, checksums.sha256" in told.stdout
