"""A real headless Chromium, cut off from every network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE, DESKTOP = (360, 740), (1280, 900)

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@dataclass
class Opened:
    """A page, and what it asked for and complained of while it was opened."""

    page: Any
    asked: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield started
        started.close()


@contextmanager
def opened(started: Any, file: Path, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Iterator[Opened]:
    """A file in a window of `size` (width, height), with the color scheme "light" or "dark"."""
    width, height = size
    context = started.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
    page = context.new_page()
    found = Opened(page)
    page.on("request", lambda request: found.asked.append(request.url))
    page.on("requestfailed", lambda request: found.failed.append(request.url))
    page.on("console", lambda message: found.said.append(message.text))
    page.on("pageerror", lambda error: found.said.append(str(error)))
    page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri(), wait_until="load")
    yield found
    context.close()
