"""Puts the tables of `benchmarks/results/*.json` into docs/benchmarks.md, between `<!-- NAME -->` and `<!-- end -->`.

python -m benchmarks.document
"""

import json
import re
from pathlib import Path

from benchmarks.record import RESULTS, as_text

DOCUMENT = Path(__file__).parents[1] / "docs/benchmarks.md"
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, results: Path) -> str:
    """The document with the command and the tables of each block's record.

    Raises:
        FileNotFoundError: a block has no record.
    """
    return BLOCK.sub(lambda block: block[1] + _block(results / f"{block[2]}.json") + block[3], text)


def _block(path: Path) -> str:
    record = json.loads(path.read_text(encoding="utf-8"))
    tables = "\n\n".join(as_text(table) for table in record["tables"])
    return f"`{record['command']}`\n\n```text\n{tables}\n```\n"


def main() -> None:
    """Rewrites the document."""
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
