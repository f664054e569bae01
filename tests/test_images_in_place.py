"""`split.copy: false`: the images are read where they are, and everything comes out as with copies."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import mhist_in, write_data_set
from documents import blocks
from layouts import files_below
from real_project import LOGITS, ROOT, change, copy_without, run, sha256, stages_run
from ruamel.yaml import YAML

from pipeline.datasets import copying
from pipeline.datasets.links import LIST
from pipeline.images import index as images_index
from pipeline.images.index import read_index, refuse_changed
from pipeline.runtime import seen_files
from pipeline.runtime.errors import MismatchError, ParameterError
from pipeline.stages import split

FOLDER, INDEX, LINKS = Path("data/split"), Path("data/index.csv"), Path("data/links")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data_set(Path("raw"))
    return tmp_path


def run_split(data=Path("raw"), **settings):
    split.run(layout="mhist", settings=mhist_in(data), split_folder=FOLDER, index=INDEX, links_folder=LINKS, **settings)
    return read_index(INDEX).images


def linked(folder):
    """The content behind each link, by its place."""
    return {name: content for name, content in files_below(folder).items() if name != LIST}


def test_the_index_names_the_images_where_they_are(project):
    """With the keys that docs/scale.md shows."""
    (shown,) = blocks(ROOT / "docs/scale.md", "Images where they are", "yaml")
    before = files_below(Path("raw"))
    copied = run_split()
    kept = run_split(**YAML(typ="safe").load(shown)["split"])
    assert [image._replace(path="") for image in kept] == [image._replace(path="") for image in copied]
    assert [image.path for image in kept] == [f"raw/images/{image.id}" for image in kept]
    assert list(FOLDER.iterdir()) == []
    assert not LINKS.exists()
    assert files_below(Path("raw")) == before
    refuse_changed(kept)


def test_data_elsewhere_are_named_by_their_absolute_path(project, tmp_path):
    """As `split.data` names them: a relative name would be wrong in every copy of the repository."""
    kept = run_split(tmp_path / "raw", copy=False, links=True)
    assert [image.path for image in kept] == [f"{tmp_path.as_posix()}/raw/images/{image.id}" for image in kept]
    assert {Path(os.readlink(file)) for file in LINKS.rglob("*.png")} == {Path(image.path) for image in kept}


def test_each_image_is_read_once(project, monkeypatch):
    """`split` has read it; the stages after it trust size, times and inode."""
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", -1.0)
    kept = run_split(copy=False)
    read = []
    monkeypatch.setattr(images_index, "digest_of", lambda place: read.append(place) or sha256(Path(place)))
    refuse_changed(kept)
    assert read == []
    Path(kept[3].path).write_bytes(Path(kept[4].path).read_bytes())
    with pytest.raises(MismatchError, match=f"1 image file.*{kept[3].path}"):
        refuse_changed(kept)
    assert read == [kept[3].path]


def test_a_change_while_split_reads_is_seen_later(project, monkeypatch):
    """The state that is noted is that of before the reading."""
    monkeypatch.setattr(seen_files, "SETTLED_SECONDS", -1.0)
    real = copying.read_bytes

    def read_and_change(place):
        content = real(place)
        Path(place).write_bytes(content + b"x")
        return content

    with monkeypatch.context() as patch:
        patch.setattr(copying, "read_bytes", read_and_change)
        kept = run_split(copy=False)
    with pytest.raises(MismatchError, match=f"{len(kept)} image file"):
        refuse_changed(kept)


def test_links_lie_where_the_folder_really_is(project, tmp_path):
    (tmp_path / "far/away").mkdir(parents=True)
    Path("data").symlink_to("far/away")
    kept = run_split(copy=False, links=True)
    assert len(linked(tmp_path / "far/away/links")) == len(kept)


def test_links_lie_where_the_copies_the_copies_would(project):
    run_split()
    copies = files_below(FOLDER)
    run_split(copy=False, links=True)
    assert files_below(FOLDER) == {}
    assert linked(LINKS) == copies
    assert all(file.is_symlink() for file in LINKS.rglob("*.png"))


def test_links_of_relative_data_outlive_a_move(project, tmp_path):
    kept = run_split(copy=False, links=True)
    (tmp_path / "moved").mkdir()
    for name in ("raw", "data"):
        shutil.move(name, tmp_path / "moved" / name)
    assert len(linked(tmp_path / "moved/data/links")) == len(kept)


def test_links_of_an_earlier_run_are_replaced_or_removed(project):
    run_split(copy=False, links=True)
    few = run_split(copy=False, links=True, limit=10)
    assert len(linked(LINKS)) == len(few) == 10
    run_split(copy=False)
    assert not LINKS.exists()
    run_split(copy=False, links=True)
    run_split()
    assert not LINKS.exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_with_other_things_than_links_stays(project, links):
    run_split(copy=False, links=True)
    (LINKS / "train/mine.txt").write_text("mine")
    before = files_below(Path("data"))
    with pytest.raises(MismatchError, match=r"data/links .* holds data/links/train/mine\.txt"):
        run_split(copy=False, links=links)
    assert files_below(Path("data")) == before


def link_to_a_file():
    Path("mine").write_text("mine")
    LINKS.mkdir(parents=True)
    (LINKS / "one").symlink_to("../../mine")


def link_to_a_folder():
    LINKS.mkdir(parents=True)
    (LINKS / "mnist").symlink_to("../../raw")


def file_of_the_user():
    LINKS.parent.mkdir()
    LINKS.write_text("mine")


def link_in_its_place():
    run_split(copy=False, links=True)
    LINKS.rename("mine")
    LINKS.symlink_to("../mine")


@pytest.mark.parametrize("make", [link_to_a_file, link_to_a_folder, file_of_the_user, link_in_its_place])
def test_what_the_user_made_at_data_links_stays(project, make):
    make()
    before = everything_at(LINKS)
    run_split()
    run_split(copy=False)
    assert everything_at(LINKS) == before
    with pytest.raises(MismatchError, match=r"split has not made what is there.*split\.links: false"):
        run_split(copy=False, links=True)
    assert everything_at(LINKS) == before


def everything_at(path):
    return [(str(file), os.path.islink(file) and os.readlink(file)) for file in [path, *sorted(path.rglob("*"))]]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("target", ["/etc", "/etc/hosts"])
def test_links_of_the_user_among_those_of_split_stay(project, links, target):
    run_split(copy=False, links=True)
    (LINKS / "train/mine").symlink_to(target)
    with pytest.raises(MismatchError, match=r"data/links .* holds data/links/train/mine, which is none"):
        run_split(copy=False, links=links)
    (LINKS / "train/mine").unlink()
    of_split = next(file for file in LINKS.rglob("*.png"))
    of_split.unlink()
    of_split.symlink_to(target)
    with pytest.raises(MismatchError, match=of_split.name):
        run_split(links=links, copy=False)


def test_data_in_the_folder_of_links_are_refused(project):
    shutil.move("raw", LINKS)
    with pytest.raises(ParameterError, match=r"split\.data is data/links"):
        run_split(LINKS, copy=False)


def test_missing_data_are_named_with_the_remedy(project):
    """What a colleague sees who has pulled the outputs and not the data."""
    kept = run_split(copy=False)
    shutil.rmtree("raw")
    with pytest.raises(MismatchError, match=rf"{len(kept)} image file.*raw/images/.*split\.copy: false"):
        refuse_changed(kept)


@pytest.mark.slow
def test_soft_labels_are_those_of_copies(reproduced, tmp_path):
    """By the real `dvc`, which keeps no image in its cache."""
    made = (".work", "data/soft_labels", "data/split", "models", "results", ".dvc/cache", ".dvc/tmp")
    project = copy_without(reproduced, tmp_path / "project", *made)
    change(project / "params.yaml", "split.copy", False)
    change(project / "params.yaml", "split.links", True)
    (project / "results").mkdir()
    assert stages_run(run("dvc", "repro", "soften", cwd=project)) == [
        "split",
        "train_teacher",
        "precompute",
        "soften@4",
    ]
    for file in (LOGITS, LOGITS.with_name("soft_targets_T4.h5")):
        assert sha256(project / file) == sha256(reproduced / file)
    assert linked(project / "data/links") == files_below(reproduced / "data/split")
    images = {sha256(file) for file in (project / "data/raw").rglob("*.png")}
    assert images.isdisjoint(map(sha256, filter(Path.is_file, (project / ".dvc/cache").rglob("*"))))
    assert "up to date" in run("dvc", "status", "split", "soften", cwd=project)
