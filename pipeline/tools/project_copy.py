"""What a copy of the project consists of, in which a training is run on another machine: a tar file."""

import io
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import MissingError, ParameterError


def packed(root: Path, paths: Iterable[Path]) -> bytes:
    """A tar file of a project's files, and of a configuration of DVC with the same default remote.

    The same files give the same bytes.

    Args:
        root: the project's folder.
        paths: files and folders, relative to it; those that are not there are left out.

    Raises:
        MissingError: DVC has no default remote.
        ParameterError: DVC refuses its own configuration.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive, tempfile.TemporaryDirectory() as folder:
        _write_config(root, Path(folder))
        for file in sorted(set(_files(root, paths))):
            archive.add(file, file.relative_to(root).as_posix(), filter=_without_owner)
        archive.add(Path(folder, ".dvc"), ".dvc", filter=_without_owner)
    return content.getvalue()


def _files(root: Path, paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if (root / path).is_file():
            yield root / path
        else:
            files = (file for file in (root / path).rglob("*") if file.is_file())
            yield from (file for file in files if "__pycache__" not in file.parts)


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def _write_config(root: Path, copy: Path) -> None:
    """Writes `.dvc` of the copy: the remote with all its options, a path made absolute, and no need of git."""
    from dvc.config import Config, ConfigError

    (copy / ".dvc").mkdir()
    try:
        config = Config(str(root / ".dvc"))
        name = config["core"].get("remote")
        if not name:
            raise MissingError(
                "DVC has no default remote, through which trainings on other machines are shared. Set one up with "
                "`softlabel init-remote` (docs/sharing.md)."
            )
        options: dict[str, Any] = config["remote"][name]
        with Config(str(copy / ".dvc")).edit("repo") as written:
            written["core"] |= {"remote": name, "no_scm": True, "analytics": False}
            written["cache"]["type"] = ["reflink", "hardlink", "copy"]
            # A relative path is a kind of str of DVC's, which it would write relative to the copy.
            written["remote"][name] = {
                option: str(value) if isinstance(value, str) else value for option, value in options.items()
            }
    except ConfigError as error:
        raise ParameterError(f"DVC refuses its configuration in .dvc: {error}") from None
