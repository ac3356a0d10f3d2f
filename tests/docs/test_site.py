"""The site of the documentation builds without a warning and without a network, and its links lead
somewhere. Links of README.md, which is no page of the site, are checked as GitHub resolves them."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs_commands import FENCE, copy_repository
from small import ROOT

from segacc.cli import COMMANDS

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page links and loads, and its anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors |= {given.get("id") or "", given.get("name") or ""}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        address = given.get(LOADED.get(tag, ""))
        if address and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """As `make docs` builds it, in a copy of the repository."""
    folder = copy_repository(tmp_path_factory.mktemp("site") / "repository")
    environment = {**os.environ, "PYTHONPATH": str(folder), "NO_MKDOCS_2_WARNING": "1"}
    for command in (["docs/pages.py", "build/docs"], ["-m", "mkdocs", "build", "--strict"]):
        built = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
        )
        said = [line for line in built.stderr.splitlines() if not line.startswith("INFO")]
        assert (built.returncode, said) == (0, []), built.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_all_links_lead_to_a_page_and_an_anchor_that_are_there(site, pages):
    lost = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            there = target.is_file() or (target / "index.html").is_file()
            if there and parts.fragment and target in pages:
                there = unquote(parts.fragment) in pages[target].anchors
            if not there:
                lost.append(f"{file.relative_to(site)}: {link}")
    assert lost == []


def test_links_call_a_page_by_its_title_and_not_by_its_file(site):
    text = (site / "quickstart.html").read_text(encoding="utf-8")
    assert '<a href="data.html">Data</a>' in text
    named = re.compile(r">[\w/-]+\.md</a>")
    assert [page.name for page in site.rglob("*.html") if named.search(page.read_text())] == []


def test_pages_load_nothing_from_other_servers(pages):
    loaded = {address for page in pages.values() for address in page.loads}
    assert [address for address in loaded if urlsplit(address).netloc] == []


def test_the_reference_has_all_commands_and_their_flags(site):
    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert all(f'id="segacc-{name}"' in text for name in COMMANDS)
    for anchor in ("train-batch-size", "evaluate-tta", "predict-tile", "study-pairs"):
        assert f'id="{anchor}"' in text
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert 'id="segacc.prediction.files.predict_image"' in python


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_repository_lead_to_files_and_headings(name):
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = ROOT / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in headings(target)):
            lost.append(link)
    assert lost == []


def headings(file: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    text = FENCE.sub("", file.read_text(encoding="utf-8"))
    lines = re.findall(r"^#+ +(.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}
