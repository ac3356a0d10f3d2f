"""Writes the pages of the site: python docs/pages.py build/docs; `make docs` then builds them.

The pages in docs/ are written for GitHub: their links go to files of the repository. Here they are
copied, and a link to a file that is not a page of docs/ goes to a copy of it in the site. The
reference of the command line is made of the commands themselves, so it cannot be out of date.

It is a program and no plugin of mkdocs, so that another builder (zensical) can take its pages.
"""

import argparse
import html
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import tyro

from segacc.cli import COMMANDS, GROUPS
from segacc.command_line import flags_in_groups, paragraphs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results")
OTHER_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FENCE = re.compile(r"^ *(```|~~~)")
# No address with a scheme, such as https:. The first part is there if the text is a file's name.
LINK = re.compile(r"(\[[\w./-]+\.md)?(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
CODE = re.compile(r"`[^`]*`")


def places() -> dict[Path, Path]:
    """Files of the repository that are in the site, and where: paths from both roots."""
    found = {
        file.relative_to(ROOT): file.relative_to(ROOT / "docs")
        for file in sorted((ROOT / "docs").rglob("*"))
        if file.suffix in (".md", ".jpg", ".png", ".svg", ".css")
    }
    found |= {Path(name): Path(place) for name, place in OTHER_PAGES.items()}
    found |= {
        file.relative_to(ROOT): Path("results") / file.name
        for file in sorted((ROOT / RESULTS).iterdir())
    }
    return found


def move_links(text: str, source: Path, in_site: dict[Path, Path]) -> str:
    """The text of a page with its links as they are in the site, where a page is called by its
    title and not by its file; code stays as it is.

    Args:
        text: Markdown.
        source: the page, as a path in the repository.
        in_site: as from `places`. Other files of the repository that are linked are added.
    """

    def move(match: re.Match[str]) -> str:
        name, before, target, anchor, after = match.groups()
        path = Path(os.path.normpath(source.parent / target))
        if path not in in_site:
            if not (ROOT / path).is_file():
                return match[0]  # mkdocs says that it leads nowhere
            in_site[path] = Path("files") / path
        moved = os.path.relpath(in_site[path], in_site[source].parent)
        return f"{'[' + title_of(path) if name else ''}{before}{moved}{anchor or ''}{after}"

    lines, in_code = [], False
    for line in text.splitlines():
        in_code ^= FENCE.match(line) is not None
        spans = [] if in_code else [match.span() for match in CODE.finditer(line)]

        def outside(match: re.Match[str], spans: list[tuple[int, int]] = spans) -> str:
            # The text of a link may be code; its address is not inside of one.
            place = match.start(3)
            return match[0] if any(a <= place < b for a, b in spans) else move(match)

        lines.append(line if in_code else LINK.sub(outside, line))
    return "\n".join(lines) + "\n"


def title_of(page: Path) -> str:
    """The first heading of a page, which is a path in the repository."""
    return (ROOT / page).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def results_page(in_site: dict[Path, Path]) -> str:
    """A list of the pages with measurements, the newest first."""
    lines = ["# Measurements", ""]
    lines += ["What was measured, with the commands, on which machine and at which commit.", ""]
    for place in sorted((p for p in in_site if p.parent == RESULTS), reverse=True):
        if place.suffix == ".md":
            lines.append(f"- {place.stem[:10]}: [{title_of(place)}]({place.name})")
    return "\n".join(lines) + "\n"


def command_line_page() -> str:
    """The flags of all commands, from the parsers that the commands use."""
    lines = ["# Command line", ""]
    lines += ["This page is made of `segacc COMMAND --help`.", ""]
    for name, function in COMMANDS.items():
        flags = flags_in_groups(function, GROUPS.get(name, {}))
        with warnings.catch_warnings():  # tyro has no other way yet to the parser of a function
            warnings.simplefilter("ignore", DeprecationWarning)
            parser = tyro.extras.get_parser(flags, prog=name)
        parser.description = "\n\n".join(paragraphs(function))
        lines += [f"## segacc {name}", "", *describe(name, parser)]
    return "\n".join(lines) + "\n"


def describe(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """A command in Markdown: what it does, then its arguments, each with an anchor of its own."""
    yield html.escape(parser.description or "", quote=False)
    yield ""
    in_groups = [(group.title, a) for group in parser._action_groups for a in group._group_actions]
    shown_group = None
    for group, action in in_groups:
        if action.help is None or "--help" in action.option_strings:
            continue
        if group != shown_group and str(group).endswith(" options"):
            yield f"**{str(group).capitalize()}**"
            yield ""
        shown_group = group
        names = ", ".join(action.option_strings)
        value = action.metavar or "|".join(map(str, action.choices or ()))
        shown = " ".join(part for part in (names, str(value).strip("{}")) if part)
        anchor = f"{command}-{action.dest.rpartition('.')[2]}".replace("_", "-")
        yield f'<span id="{anchor}"></span>'
        yield f"`{shown}`"
        yield f":   {html.escape(' '.join(action.help.split()), quote=False)}"
        yield ""


def write_pages(out: Path) -> None:
    """Write all pages into a folder, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    in_site = places()
    for source, place in list(in_site.items()):
        target = out / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = (ROOT / source).read_text(encoding="utf-8")
            target.write_text(move_links(text, source, in_site), encoding="utf-8")
    for source, place in in_site.items():  # also those that a link has added
        if source.suffix != ".md":
            (out / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, out / place)
    (out / "results" / "index.md").write_text(results_page(in_site), encoding="utf-8")
    (out / "reference" / "command-line.md").write_text(command_line_page(), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
