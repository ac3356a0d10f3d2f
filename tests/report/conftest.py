"""A real browser, once per file of tests."""

from __future__ import annotations

import shutil

import pytest
from browser import BROWSERS


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no {' or '.join(BROWSERS)} here (apt-get install chromium brings one)")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
