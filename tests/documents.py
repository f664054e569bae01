"""The commands that a document shows, so that tests run what readers will."""

import re
from pathlib import Path

from real_project import ROOT, run

EXPERIMENTS = ROOT / "docs/experiments.md"


def blocks(document: Path, heading: str, language: str = "sh") -> list[str]:
    """The code blocks in one section of a document."""
    sections = document.read_text(encoding="utf-8").split("\n## ")
    (section,) = [section for section in sections if section.startswith(f"{heading}\n")]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def block_with(words: str, document: Path, heading: str, language: str = "sh") -> str:
    """The first code block with some words in one section of a document."""
    return next(block for block in blocks(document, heading, language) if words in block)


def follow(block: str, folder: Path) -> str:
    """Runs a block of shell commands, which must succeed, and returns what they print."""
    return run("bash", "-euc", block, cwd=folder)
