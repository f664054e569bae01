"""Puts the tables of `benchmarks/results/*.json` into docs/benchmarks.md, quality.md, reliability.md and scale.md.

They go between `<!-- NAME -->` and `<!-- end -->`; with `<!-- NAME START -->` only those whose titles begin with START.
So a new table is shown by these two lines in a document, and a module `benchmarks/NAME.py` that writes a
`benchmarks.record.Record` of that name. As long as there is no record, the document says that it was not measured. Each
table of a record is shown once.

python -m benchmarks.document
"""

import json
import re
from pathlib import Path

from benchmarks.record import RESULTS, as_text

DOCS = Path(__file__).parents[1] / "docs"
DOCUMENTS = tuple(DOCS / f"{name}.md" for name in ("benchmarks", "quality", "reliability", "scale"))
BLOCK = re.compile(r"(<!-- (\w+)(?: ([^<>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, results: Path) -> str:
    """The document with the command and the tables of each block's record."""
    return BLOCK.sub(lambda block: block[1] + _block(results / f"{block[2]}.json", block[3] or "") + block[4], text)


def _block(path: Path, start: str) -> str:
    if not path.is_file():
        return f"`python -m benchmarks.{path.stem}` (not measured yet)\n"
    record = json.loads(path.read_text(encoding="utf-8"))
    tables = "\n\n".join(as_text(table) for table in record["tables"] if table["title"].startswith(start))
    return f"`{record['command']}`\n\n```text\n{tables}\n```\n"


def main() -> None:
    """Rewrites the documents."""
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
