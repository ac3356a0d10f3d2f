"""What the tests of pages share: a browser, and a page in it that may say and load nothing."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSERS = ("chromium", "google-chrome", "chromium-browser")
READY = "document.querySelector('.readout .iou')?.textContent"  # of a report


def until(page, condition: str) -> None:
    """Wait for it; playwright's own wait evaluates text in the page, which its policy forbids."""
    for _ in range(200):
        if page.evaluate(f"Boolean({condition})"):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never: {condition}")


@contextmanager
def opened(browser, path: Path, width: int = 1280, height: int = 900, ready=READY, **options):
    """The page in a browser. In the end its console is empty, and it has loaded nothing else."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    printed, asked = [], []
    page.on("console", lambda message: printed.append(message.text))
    page.on("pageerror", lambda error: printed.append(str(error)))
    page.on("dialog", lambda dialog: (printed.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    until(page, ready)
    yield page
    context.close()
    assert printed == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
