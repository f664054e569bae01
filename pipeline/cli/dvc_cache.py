"""Earlier versions of an output: DVC removes it before its stage runs, but keeps it in its cache."""

from pathlib import Path

from pipeline.runtime.errors import DamagedError
from pipeline.runtime.yaml_files import read_yaml


def earlier_versions(output: Path, lock: Path = Path("dvc.lock")) -> list[Path]:
    """The files that hold earlier contents of `output`: that file itself, and the one in DVC's cache.

    Args:
        output: the file, as dvc.lock spells it.
        lock: the lock file, beside `.dvc`, which names the file in the cache.
    """
    md5 = _md5_in(lock, output)
    cached = None if md5 is None else _cached(lock.absolute().parent, md5)
    return [file for file in (output, cached) if file is not None and file.is_file()]


def _md5_in(lock: Path, output: Path) -> str | None:
    """The hash by which DVC names an output; None if dvc.lock cannot be read or does not name it."""
    if not lock.is_file():
        return None
    try:
        stages = read_yaml(lock, "").get("stages", {})
        outs = [out for stage in stages.values() for out in stage.get("outs") or []]
        return next((str(out["md5"]) for out in outs if out.get("path") == output.as_posix()), None)
    except (DamagedError, AttributeError, KeyError, TypeError):  # a broken dvc.lock costs only the earlier rows
        return None


def _cached(root: Path, md5: str) -> Path | None:
    """The path of a file in DVC's cache; None if this is no DVC repository."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return Path(repo.cache.local.oid_to_path(md5))
    except DvcException:
        return None
