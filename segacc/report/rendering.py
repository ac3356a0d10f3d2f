"""Pages: one HTML file each, that opens with a double click and loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

import segacc
from segacc.config.sizes import sides_in_words, size_of_json, sizes_in_words
from segacc.errors import write_text
from segacc.report import figures
from segacc.report.scored import facts, facts_of_each

STYLE = "report.css"


def write_page(
    path: Path, template: str, scripts: tuple[str, ...], data: dict[str, Any], **values: Any
) -> None:
    """Write a page from a template, which escapes all values that it shows.

    Args:
        template, scripts: files in templates/; the scripts become one.
        data: what the script works with; it becomes JSON that is safe inside of HTML.
        values: the variables of the template.
    """
    environment = _environment()
    style = _source(environment, STYLE)
    script = Markup("\n").join(_source(environment, file) for file in scripts)
    text = environment.get_template(template).render(
        version=segacc.__version__,
        figures=figures,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=htmlsafe_json_dumps(data, dumps=json.dumps, allow_nan=False, separators=(",", ":")),
        **values,
    )
    # A folder's name may hold bytes that are no text.
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("segacc.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown_as: tuple[Callable[..., str], ...]
    shown_as = (figures.number_text, figures.interval_text, figures.threshold_text)
    shown_as += (size_words, scored_sizes)
    environment.filters |= {"facts": facts, "facts_of_each": facts_of_each}
    environment.filters |= {function.__name__: function for function in shown_as}
    return environment


def size_words(size: Any) -> str:
    """The size in config.json for people: 480 x 360 px."""
    return _with_signs(sides_in_words(size_of_json(size)))


def scored_sizes(metrics: dict[str, Any]) -> str:
    """The size of the scored images, for people."""
    return _with_signs(sizes_in_words(metrics))


def _with_signs(text: str) -> str:
    return text.replace(" x ", "\N{THIN SPACE}\N{MULTIPLICATION SIGN}\N{THIN SPACE}")


def _source(environment: Environment, file: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, file)[0])


def _hash(text: str) -> str:
    """How the page's Content-Security-Policy names a style or a script that it allows."""
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()
