"""The report: one HTML file that opens with a double click and loads nothing from the network.

Numbers that follow the threshold slider come from histograms of levels, so they are those of the
scored size at every threshold. Pictures come from 8-bit levels, and are reduced if an image is
larger than SIDE. The size of the page has a bound: of many images, the numbers are of all, and the
pictures and points of some.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from torch import Tensor

import segacc
from segacc.errors import write_text
from segacc.report import figures
from segacc.report.gallery import SIDE, GalleryImage, choose_images, gallery_image
from segacc.report.scored import Scored, label_runs
from segacc.report.summary import Summary, image_histogram, summarise
from segacc.sizes import sides_in_words, size_of_json, sizes_in_words

MOST_PICTURES = 600  # in the page; an image needs one, its mask one, and each run one more
MOST_POINTS = 1000  # in the chart of IoUs, of all runs together
FOR_SCRIPT = ("point", "masks", "mask_of", "levels")  # of a GalleryImage


def write_report(path: Path, runs: list[Scored], table: list[dict[str, str]] | None = None) -> None:
    """Write the page on one run, or on several side by side on the images that all of them have.

    Args:
        table: the comparison of the runs, a dict for each line, all with the same keys; it is
            shown at the top.

    Raises:
        InputError: a file of probabilities is missing or damaged.
    """
    assert runs, "a report is of at least one run"
    places = [{name: i for i, name in enumerate(run.names)} for run in runs]
    shared = [name for name in runs[0].names if all(name in place for place in places)]
    where = [[place[name] for name in shared] for place in places]
    summaries = [summarise(run, indices) for run, indices in zip(runs, where, strict=True)]
    ious = torch.stack([summary.own_ious for summary in summaries]).mean(dim=0)
    most = MOST_PICTURES // (2 + len(runs))
    chosen, points = choose_images(ious, most, max(most, MOST_POINTS // len(runs)))
    histograms = [
        torch.stack([image_histogram(run, indices[i]) for i in points])
        for run, indices in zip(runs, where, strict=True)
        if points
    ]
    place_of = {image: place for place, image in enumerate(points)}
    gallery = [gallery_image(runs, place_of[i], [indices[i] for indices in where]) for i in chosen]
    environment = _environment()
    style, script = (_source(environment, file) for file in ("report.css", "report.js"))
    labels = label_runs(runs)
    text = environment.get_template("report.html.j2").render(
        version=segacc.__version__,
        runs=runs,
        labels=labels,
        table=table or [],
        shared=len(shared),
        gallery=gallery,
        names={picture.point: picture.name for picture in gallery},
        reduced=any(
            max(run.split.shape_of(i)) > SIDE for run in runs for i in range(len(run.names))
        ),
        side=SIDE,
        worst=most // 2,
        histograms=histograms,
        summaries=summaries,
        figures=figures,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=_data(runs, labels, summaries, histograms, gallery),
    )
    # A folder's name may hold bytes that are no text.
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def _data(
    runs: list[Scored],
    labels: list[str],
    summaries: list[Summary],
    histograms: list[Tensor],
    gallery: list[GalleryImage],
) -> Markup:
    """What the page's script works with, as JSON that is safe inside of HTML."""
    data: dict[str, Any] = {"runs": [], "plot": figures.plot()}
    data["pictures"] = [{key: getattr(p, key) for key in FOR_SCRIPT} for p in gallery]
    if gallery:
        data["runs"] = [
            {
                "label": label,
                "level": run.level,
                "histogram": summary.histogram.tolist(),
                "iou_image": summary.iou_image.tolist(),
                "bins": summary.bins.tolist(),
                "histograms": of_points.tolist(),
            }
            for label, run, summary, of_points in zip(
                labels, runs, summaries, histograms, strict=True
            )
        ]
    return htmlsafe_json_dumps(data, dumps=json.dumps, allow_nan=False, separators=(",", ":"))


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
    environment.filters |= {function.__name__: function for function in shown_as}
    return environment


def size_words(size: Any) -> str:
    """The size in config.json for people: 480 x 360 px."""
    return _with_signs(sides_in_words(size_of_json(size)))


def scored_sizes(metrics: dict[str, Any]) -> str:
    """The size of the images that were scored, for people."""
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
