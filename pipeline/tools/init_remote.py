"""Command `init-remote`: sets up the DVC remote through which clones of a project share files.

It does more than `dvc remote add --default`:
- A path is made absolute. It is noted for this clone alone, and `dvc push -A` resolves a relative one wrongly.
- A path and a URL get different names, because DVC merges the options of one name over both of its configuration files.
- Another default remote is replaced only if the user asks for it.
"""

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.runtime.errors import MismatchError, MissingError, ParameterError


@dataclass(frozen=True)
class Remote:
    """A remote of DVC.

    Attributes:
        url: a URL, or the absolute path of a folder.
    """

    url: str

    @property
    def is_shared(self) -> bool:
        """Whether other machines can reach it."""
        return "://" in self.url

    @property
    def name(self) -> str:
        """The remote's name in DVC."""
        return "shared" if self.is_shared else "folder"


def init_remote(root: Path, url: str | None, *, replace: bool = False) -> Remote:
    """Makes a folder or a URL the default remote of DVC.

    Args:
        root: the project's folder, which contains `.dvc`.
        url: a URL without credentials, or a path; None for a folder in the user's cache directory.
        replace: whether another default remote may be replaced.

    Raises:
        MissingError: there is no DVC repository.
        MismatchError: there is another default remote.
        ParameterError: the URL contains a password, the folder lies in the project, or DVC refuses the remote.
    """
    if not (root / ".dvc").is_dir():
        raise MissingError(
            f"there is no DVC repository in {root.absolute()}: it has no folder .dvc. "
            "Run this in the project's folder; `dvc init` makes a new repository."
        )
    from dvc.config import Config, ConfigError

    remote = _remote(root, url)
    try:
        config = Config(str(root / ".dvc"))
        if not replace:
            _refuse_another(config, remote)
        _write(config, remote)
    except ConfigError as error:
        raise ParameterError(f"DVC refuses {remote.url}, or its own configuration in .dvc: {error}") from None
    return remote


def as_text(remote: Remote) -> str:
    """What was written and where, and what to read next."""
    # A path means nothing on other machines, so git does not hold it.
    shared, own = ".dvc/config, which git shares: commit it", ".dvc/config.local, which is this clone's alone"
    return (
        f"The default remote is {remote.url}\n"
        f"It is '{remote.name}' in {shared if remote.is_shared else own}.\n"
        "docs/sharing.md says how to push here, and pull in another clone."
    )


def _remote(root: Path, url: str | None) -> Remote:
    if url is None:
        return Remote(str(_cache_folder(root)))
    if "://" in url:
        parts = urlsplit(url)
        if parts.password or parts.query or (parts.username and parts.scheme != "ssh"):
            raise ParameterError(
                f"the {parts.scheme}:// URL seems to contain a password or a token, and .dvc/config is in git. "
                "Give the URL without it. Credentials belong into the environment or, with `dvc remote modify "
                "--local`, into .dvc/config.local."
            )
        return Remote(url)
    folder = Path(url).expanduser().resolve()
    if folder.is_relative_to(root.resolve()):
        raise ParameterError(
            f"{folder} lies in the project, where git and DVC look for files. Choose a folder outside, or one of a "
            "server: ssh://USER@HOST/FOLDER."
        )
    return Remote(str(folder))


def _cache_folder(root: Path) -> Path:
    """A folder named after the repository from which the project was cloned, or after the project's own folder."""
    import platformdirs

    command = ["git", "config", "--get", "remote.origin.url"]
    origin = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    name = re.split(r"[/:\\]", origin.rstrip("/"))[-1].removesuffix(".git") or root.resolve().name
    return platformdirs.user_cache_path("softlabel") / name


def _refuse_another(config: Any, remote: Remote) -> None:
    for name in filter(None, (config["core"].get("remote"), remote.name)):
        url = config["remote"].get(name, {}).get("url")
        if url not in (None, remote.url):
            shown = re.sub("//[^/]*@", "//", url)  # .dvc/config.local may hold a password, which must not be printed
            raise MismatchError(
                f"there is a remote already: '{name}', {shown}. Nothing was changed. To replace it: "
                f"softlabel init-remote --force {shlex.quote(remote.url)}"
            )


def _write(config: Any, remote: Remote) -> None:
    """Writes the remote. A URL also removes this clone's own default, which would be used in its place."""
    config.validate({"remote": {remote.name: {"url": remote.url}}})  # before anything is written
    is_new = config["remote"].get(remote.name, {}).get("url") != remote.url
    if remote.is_shared and Path(config.files["local"]).is_file():
        with config.edit("local") as local:
            local["core"].pop("remote", None)
            if is_new:  # options for another URL of the same name
                local["remote"].pop(remote.name, None)
    with config.edit("repo" if remote.is_shared else "local") as written:
        if is_new:
            written["remote"][remote.name] = {"url": remote.url}
        written["core"]["remote"] = remote.name
