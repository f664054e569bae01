"""`softlabel init-remote`: what it writes is read back by the real `dvc`; what it refuses changes nothing."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from real_project import ROOT, attempt, run

from pipeline.cli.main import main
from pipeline.runtime.errors import MismatchError, MissingError, ParameterError
from pipeline.tools.init_remote import as_text, init_remote

SETTINGS = "[core]\n    analytics = false\n"
S3 = "s3://bucket/project"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository of git and DVC without a remote, in a home of its own."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text(SETTINGS)
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    run("git", "init", "--quiet", cwd=folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    return folder


def written(project):
    """What is in the two files of DVC's configuration: that of git, that of this clone."""
    files = [project / ".dvc/config", project / ".dvc/config.local"]
    return [file.read_text() if file.is_file() else "" for file in files]


def default_url(project):
    """The default remote's URL, as DVC sees it."""
    from dvc.config import Config

    config = Config(str(project / ".dvc"))
    return config["remote"][config["core"]["remote"]]["url"]


def test_a_folder_is_noted_for_this_clone_alone(project, tmp_path):
    folder = tmp_path / "a, b #1/remote"
    remote = init_remote(project, str(folder))
    assert (remote.name, remote.url) == ("folder", str(folder))
    assert written(project)[0] == SETTINGS
    settings = ("core.remote", "remote.folder.url")
    assert [run("dvc", "config", name, cwd=project) for name in settings] == ["folder\n", f"{folder}\n"]
    assert run("git", "status", "--porcelain", "--untracked-files=all", cwd=project).split() == [
        *("??", ".dvc/.gitignore"),
        *("??", ".dvc/config"),
    ]


@pytest.mark.parametrize("path", ["../shared/one", "~/one"])
def test_a_path_is_made_absolute(project, tmp_path, monkeypatch, path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    expected = tmp_path / ("home/one" if path.startswith("~") else "shared/one")
    assert init_remote(project, path).url == str(expected)
    assert f"url = {expected}\n" in written(project)[1]
    assert default_url(project) == str(expected)


def test_the_default_remote_is_a_cache_folder_of_the_project(project, tmp_path):
    assert init_remote(project, None).url == str(tmp_path / "cache/softlabel/project")


@pytest.mark.parametrize(
    "origin",
    ["https://host/you/mhist.git", "you@host:mhist.git", "you@host:deep/mhist", "/srv/mhist/", "C:\\git\\mhist"],
)
def test_a_clone_is_named_as_what_it_was_cloned_from(project, origin):
    run("git", "remote", "add", "origin", origin, cwd=project)
    assert Path(init_remote(project, None).url).name == "mhist"


def test_a_url_is_noted_where_git_shares_it(project):
    remote = init_remote(project, S3)
    shared, own = written(project)
    assert remote.name == "shared"
    assert shared == f"{SETTINGS}    remote = shared\n['remote \"shared\"']\n    url = {S3}\n"
    assert own == ""
    assert default_url(project) == S3


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ssh://you@host/home/you/project",
            "ssh://host:2222/srv/you@team/project",
            "gs://bucket",
            "azure://container/project",
        ),
        *("webdav://host/project", "webdavs://host:8443/project", "http://host/project", "https://host/project"),
    ],
)
def test_every_scheme_is_one_that_dvc_takes(project, url):
    init_remote(project, url)
    assert default_url(project) == url


def test_the_extras_of_this_package_are_declared():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name: extras[name] for name in ("s3", "ssh")} == {
        name: [f"dvc[{name}]", "softlabel[pipeline]"] for name in ("s3", "ssh")
    }


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ssh://you:secret@host/srv", "the ssh:// URL seems to contain a password"),
        ("https://secret@host/project", "`dvc remote modify --local`"),
        ("https://host/project?sig=secret", "`dvc remote modify --local`"),
        ("s3://key:secret@bucket", "the s3:// URL seems to contain a password"),
        ("ftp://host/project", "refuses ftp://host/project"),
        ("you@host:/srv/project", "ssh://USER@HOST/FOLDER"),
        ("remote", "lies in the project"),
        (".", "lies in the project"),
    ],
)
def test_what_is_no_remote_is_refused_and_nothing_is_written(project, url, message):
    with pytest.raises(ParameterError) as refused:
        init_remote(project, url)
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)
    assert written(project) == [SETTINGS, ""]
    assert sorted(path.name for path in project.iterdir()) == [".dvc", ".git"]


def test_the_same_again_changes_nothing(project, tmp_path):
    for url in (str(tmp_path / "remote"), None):
        init_remote(project, url, replace=True)
        before = written(project)
        init_remote(project, url)
        assert written(project) == before


def test_another_remote_is_only_replaced_when_told(project, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    init_remote(project, str(first))
    before = written(project)
    for url in (str(second), S3, None):
        with pytest.raises(MismatchError, match=f"'folder', {first}. Nothing was changed.*init-remote --force"):
            init_remote(project, url)
    assert written(project) == before
    assert not second.exists()
    init_remote(project, str(second), replace=True)
    assert default_url(project) == str(second)


def test_a_url_that_dvc_refuses_replaces_nothing(project, tmp_path):
    init_remote(project, str(tmp_path / "remote"))
    before = written(project)
    with pytest.raises(ParameterError, match="DVC refuses"):
        init_remote(project, "ftp://host/project", replace=True)
    assert written(project) == before


def test_a_remote_that_the_user_made_is_respected(project, tmp_path):
    run("dvc", "remote", "add", "--default", "mine", str(tmp_path / "mine"), cwd=project)
    with pytest.raises(MismatchError, match=f"'mine', {tmp_path / 'mine'}"):
        init_remote(project, None)
    init_remote(project, None, replace=True)
    assert default_url(project) == str(tmp_path / "cache/softlabel/project")
    assert "mine" in run("dvc", "remote", "list", cwd=project)


def test_a_remote_of_our_name_is_kept_if_not_the_default(project, tmp_path):
    run("dvc", "remote", "add", "folder", str(tmp_path / "mine"), cwd=project)
    with pytest.raises(MismatchError, match=f"'folder', {tmp_path / 'mine'}"):
        init_remote(project, None)


def test_a_shared_remote_takes_the_place_of_a_folder_and_back(project, tmp_path):
    """Each in a file of its own; the one that was chosen last holds, and no option of one is read with the other."""
    init_remote(project, S3)
    run("dvc", "remote", "modify", "shared", "endpointurl", "https://s3.example.org", cwd=project)
    init_remote(project, str(tmp_path / "remote"), replace=True)
    assert default_url(project) == str(tmp_path / "remote")
    init_remote(project, S3, replace=True)
    assert default_url(project) == S3
    assert "endpointurl" in written(project)[0]


def test_the_options_of_a_server_go_with_its_url(project):
    init_remote(project, S3)
    run("dvc", "remote", "modify", "--local", "shared", "secret_access_key", "secret", cwd=project)
    run("dvc", "remote", "modify", "shared", "region", "eu-north-1", cwd=project)
    init_remote(project, "ssh://host/srv", replace=True)
    assert default_url(project) == "ssh://host/srv"
    assert "secret" not in "".join(written(project))
    assert "region" not in "".join(written(project))


def test_without_a_repository_nothing_is_made(tmp_path):
    with pytest.raises(MissingError, match=r"no DVC repository in .*`dvc init`"):
        init_remote(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_dvc_refuses_is_told(project):
    (project / ".dvc/config").write_text("[core]\n    analytics = perhaps\n")
    with pytest.raises(ParameterError, match=r"DVC refuses .*\.dvc: .*analytics"):
        init_remote(project, None)


def test_the_command_prints_what_was_written_and_what_comes_next(project, tmp_path):
    shown = CliRunner().invoke(main, ["init-remote"])
    assert shown.exit_code == 0, shown.output
    folder = tmp_path / "cache/softlabel/project"
    first, second, third = shown.output.splitlines()
    assert first.endswith(str(folder))
    assert "'folder' in .dvc/config.local" in second
    assert third.startswith("docs/sharing.md ")
    refused = CliRunner().invoke(main, ["init-remote", "../elsewhere"])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: ")
    assert f"'folder', {folder}. " in refused.output
    assert "init-remote --force" in refused.output
    replaced = CliRunner().invoke(main, ["init-remote", "--force", "../elsewhere"])
    assert replaced.exit_code == 0, replaced.output


def test_a_shared_remote_is_to_be_committed(project):
    assert re.search(r"'shared' in \.dvc/config, .*commit it", as_text(init_remote(project, S3)))


def test_the_real_command_needs_no_tensorflow(project):
    """In a process of its own, as users run it."""
    done = attempt(sys.executable, "-X", "importtime", "-m", "pipeline", "init-remote", cwd=project)
    assert done.returncode == 0, done.stdout
    assert "The default remote is" in done.stdout
    for heavy in ("tensorflow", "keras", "h5py", "pandas"):
        assert f"| {heavy}\n" not in done.stdout
