"""Command `init-remote`: where DVC keeps what clones of a project share."""

import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.runtime.errors import DamagedError, MissingError, ParameterError

NEEDS = {
    "s3": ("dvc_s3", "softlabel[s3]"),
    "ssh": ("dvc_ssh", "softlabel[ssh]"),
    "gs": ("dvc_gs", "dvc[gs]"),
    "azure": ("dvc_azure", "dvc[azure]"),
    "webdav": ("dvc_webdav", "dvc[webdav]"),
    "webdavs": ("dvc_webdav", "dvc[webdav]"),
    "http": ("dvc_http", "dvc"),
    "https": ("dvc_http", "dvc"),
}
"""For each scheme, the module by which DVC speaks it, and what to install for that module."""


@dataclass(frozen=True)
class Remote:
    """A remote of DVC.

    Attributes:
        url: a URL, or the absolute path of a folder.
        scheme: of the URL; None for a folder.
    """

    url: str
    scheme: str | None

    @property
    def name(self) -> str:
        """Two names, so that the options of one are never mixed with the URL of the other."""
        return "shared" if self.scheme else "folder"

    @property
    def config_file(self) -> str:
        """A path is that of one machine, a URL is everybody's: `.dvc/config` is in git, the other is not."""
        return ".dvc/config" if self.scheme else ".dvc/config.local"


def init_remote(root: Path, url: str | None, *, replace: bool = False) -> Remote:
    """Makes a folder or a URL the default remote of DVC.

    Args:
        root: the project's folder, with `.dvc` in it.
        url: a URL without credentials, or a path; None for a folder in the user's cache directory.
        replace: whether it may take the place of another default remote.

    Raises:
        PipelineError: there is no DVC repository, the URL or the folder cannot be used, what DVC needs for it is not
            installed, or there is another default remote.
    """
    if not (root / ".dvc").is_dir():
        raise MissingError(
            f"there is no DVC repository in {root.absolute()}: it has no folder .dvc. "
            "Run this in the project's folder; `dvc init` makes a new repository."
        )
    remote = _parsed(root, url)
    _refuse_another(root, remote, replace)
    if remote.scheme:
        _refuse_missing_module(remote.scheme)
    else:
        _refuse_unfit(Path(remote.url), root)
    _write(root, remote)
    return remote


def as_text(remote: Remote) -> str:
    """What was written, and what to do next."""
    push = "dvc push -A" if remote.scheme in ("http", "https") else "dvc push --run-cache -A"
    if remote.scheme:
        whose = "which git shares; credentials go elsewhere: the environment, or `dvc remote modify --local`"
        share = "git commit .dvc/config", "so that other clones have it"
    else:
        whose = "which is this clone's alone"
        share = f"softlabel init-remote {shlex.quote(remote.url)}", "in another clone"
    steps = [
        (push, "the files of all commits, and which inputs gave them"),
        share,
        ("dvc pull soften", "in another clone: the soft labels (docs/sharing.md)"),
    ]
    lines = [f"  {command}   # {comment}" for command, comment in steps]
    return "\n".join(
        [f"The default remote is {remote.url}", f"It is '{remote.name}' in {remote.config_file}, {whose}.", "", *lines]
    )


def _parsed(root: Path, url: str | None) -> Remote:
    if url is None:
        return Remote(str(_cache_folder(root)), None)
    scheme, separator, place = url.partition("://")
    if separator:
        scheme, url = scheme.lower(), f"{scheme.lower()}://{place}"
        _refuse_bad_url(scheme, url)
        return Remote(url, scheme)
    if re.match(r"[\w.-]+@[\w.-]+:", url):
        raise ParameterError(f"{url} is no path. If it is a server's, write ssh://USER@HOST/FOLDER.")
    return Remote(str(Path(url).expanduser().resolve()), None)


def _cache_folder(root: Path) -> Path:
    """Named after the project: as the repository that it was cloned from, or as its own folder."""
    import platformdirs

    asked = ["git", "config", "--get", "remote.origin.url"]
    origin = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    name = re.split(r"[/:\\]", origin.rstrip("/"))[-1].removesuffix(".git") or root.resolve().name
    return platformdirs.user_cache_path("softlabel") / name


def _refuse_bad_url(scheme: str, url: str) -> None:
    if scheme not in NEEDS:
        known = ", ".join(f"{scheme}://" for scheme in NEEDS)
        raise ParameterError(
            f"{scheme}:// is not known here. Expected the path of a folder, or a URL that begins with one of {known}. "
            "For another one that DVC knows: `dvc remote add --default`."
        )
    user, host, folder = _parts(url)
    password = re.match(r"\w+://[^/@]*:(?!\d+/)[^@]*@", unquote(url))  # not a port, and an @ in the path
    if password or (user and scheme != "ssh") or "?" in url:
        raise ParameterError(
            f"the {scheme}:// URL holds what looks like a password or a token, and .dvc/config is in git. Give it "
            "without. Credentials go into the environment or, by `dvc remote modify --local`, into .dvc/config.local."
        )
    if not host or (scheme == "ssh" and not folder):
        example = "ssh://USER@HOST:PORT/FOLDER" if scheme == "ssh" else f"{scheme}://NAME/FOLDER"
        raise ParameterError(f"{url} is not complete: expected {example}.")


def _parts(url: str) -> tuple[str | None, str | None, str]:
    """User, host and path; no host if the URL is malformed."""
    try:
        parts = urlsplit(url)
        return parts.username, parts.hostname if parts.port != 0 else None, parts.path.strip("/")
    except ValueError:
        return None, None, ""


def _refuse_missing_module(scheme: str) -> None:
    module, package = NEEDS[scheme]
    if find_spec(module) is None:
        raise MissingError(
            f"{scheme}:// needs {module.replace('_', '-')}, which is not installed. Run `pip install '{package}'`, "
            "then this again."
        )


def _refuse_unfit(folder: Path, root: Path) -> None:
    """Makes the folder, and a file in it that goes again."""
    if folder.is_relative_to(root.resolve()):
        raise ParameterError(f"{folder} lies in the project, where git and DVC look for files. Choose one outside.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ParameterError(f"{folder} cannot be written: {error.strerror}. Choose another folder.") from None


def _refuse_another(root: Path, remote: Remote, replace: bool) -> None:
    from dvc.config import Config, ConfigError

    try:
        config = Config(str(root / ".dvc"))
    except ConfigError as error:
        raise DamagedError(f"DVC cannot read its configuration in {root / '.dvc'}: {error}") from None
    default = config["core"].get("remote")
    for name in filter(None, (default, remote.name)):
        there = config["remote"].get(name, {}).get("url")
        if there not in (None, remote.url) and not replace:
            shown = re.sub("//[^/]*@", "//", there)  # a password of .dvc/config.local is nobody's business
            raise ParameterError(
                f"there is a remote already: '{name}', {shown}. Nothing was changed. To replace it: "
                f"softlabel init-remote --force {shlex.quote(remote.url)}"
            )


def _write(root: Path, remote: Remote) -> None:
    from dvc.config import Config, ConfigError

    config = Config(str(root / ".dvc"))
    try:
        if remote.scheme and (root / ".dvc/config.local").is_file():
            with config.edit("local") as local:
                local["core"].pop("remote", None)
                if config["remote"].get(remote.name, {}).get("url") != remote.url:
                    local["remote"].pop(remote.name, None)
        with config.edit("repo" if remote.scheme else "local") as written:
            if written["remote"].get(remote.name, {}).get("url") != remote.url:
                written["remote"][remote.name] = {"url": remote.url}
            written["core"]["remote"] = remote.name
    except ConfigError as error:
        raise ParameterError(f"DVC does not take {remote.url} as a remote: {error}") from None
