"""What imports what in `pipeline/`: by module and by package."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules() -> list[Path]:
    """Every module in a package, relative to the repository."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / "pipeline").glob("*/*.py"))


@cache
def imports(module: Path) -> set[Path]:
    """The modules of `pipeline` that one of its modules imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("pipeline.")]
        for name in names:
            found.add(_module(name) or _module(name.rpartition(".")[0]))
    assert None not in found, module
    return found


def _module(name: str) -> Path | None:
    path = Path(*name.split(".")).with_suffix(".py")
    return path if (ROOT / path).is_file() else None


def closure(module: Path) -> set[Path]:
    """A module with all that it imports, directly or not."""
    seen: set[Path] = set()
    waiting = {module}
    while waiting:
        seen.add(waiting.pop())
        waiting |= {other for known in seen for other in imports(known)} - seen
    return seen


def arrows() -> dict[str, set[str]]:
    """For each package the other packages of which it imports modules."""
    found: dict[str, set[str]] = {path.parent.name: set() for path in modules()}
    for module in modules():
        found[module.parent.name] |= {other.parent.name for other in imports(module)} - {module.parent.name}
    return found
