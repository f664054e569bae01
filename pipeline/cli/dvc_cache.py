"""Earlier versions of an output: DVC takes it from the workspace before its stage runs, but keeps it."""

from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def earlier_versions(output: Path, lock: Path = Path("dvc.lock")) -> list[Path]:
    """The files that hold `output` as it was: the file itself, and the one in DVC's cache that dvc.lock names.

    Args:
        output: the file, as dvc.lock spells it.
        lock: the lock file, beside `.dvc`.
    """
    found = [output] if output.is_file() else []
    md5 = _md5_in(lock, output)
    if md5 is not None:
        cached = _cached(lock.absolute().parent, md5)
        found += [cached] if cached and cached.is_file() else []
    return found


def _md5_in(lock: Path, output: Path) -> str | None:
    """The hash under which DVC keeps an output, if dvc.lock can be read and knows it."""
    if not lock.is_file():
        return None
    try:
        stages = YAML(typ="safe").load(lock).get("stages", {})
        outs = [out for stage in stages.values() for out in stage.get("outs") or []]
        return next((str(out["md5"]) for out in outs if out.get("path") == output.as_posix()), None)
    except (YAMLError, AttributeError, KeyError, TypeError):
        return None


def _cached(root: Path, md5: str) -> Path | None:
    """Where DVC keeps a file; None where there is no DVC."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return Path(repo.cache.local.oid_to_path(md5))
    except DvcException:
        return None
