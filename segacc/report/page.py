"""The report: one HTML file that opens by double click and asks nothing of the network.

Numbers that follow the threshold slider come from histograms of levels, so they are those of the
evaluated resolution at every threshold; pictures come from 8-bit levels, smaller where an image is
larger than SIDE.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from PIL import Image
from torch import Tensor

import segacc
from segacc.data.split import Split
from segacc.errors import InputError, write_text
from segacc.metrics.counts import iou_of
from segacc.metrics.thresholds import LEVELS, counts_at_thresholds, histogram
from segacc.report import figures
from segacc.report.pictures import encoded, picture_name, reduced
from segacc.runs import read_lines

SIDE = 256  # of a picture in the page, in px, at most
QUALITY = 80  # of its JPEG
MOST = 200  # pictures in the page at most; its numbers and charts are of all images
FOR_SCRIPT = ("image", "masks", "mask_of", "levels")  # of a Picture
IN_DIALOG = ("dice", "precision", "recall", "boundary_iou", "hd95", "ece")  # of per_image.csv


@dataclass(frozen=True, eq=False)
class Scored:
    """A run's results on a split, as evaluate.py wrote them. Image i is that of `names[i]`."""

    name: str  # of the run
    model: str  # and what it is built on
    config: dict[str, Any]  # of config.json, as resolved
    epochs: list[dict[str, Any]]  # the lines of metrics.jsonl
    metrics: dict[str, Any]  # metrics.json
    rows: list[dict[str, str]]  # of per_image.csv
    names: list[str]
    split: Split
    folder: Path  # of the results

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.split[index][0]

    def mask(self, index: int) -> np.ndarray:
        """(H, W) uint8, 0 or 1."""
        return self.split[index][1]

    def levels(self, index: int) -> np.ndarray:
        """(H, W) uint8: the probability is above k / 256 where this is k or more, for k > 0.

        Raises:
            InputError: the file is missing, damaged or not of the mask's size.
        """
        path = self.folder / "probabilities" / picture_name(self.names[index])
        try:
            with Image.open(path) as picture:
                levels = np.asarray(picture)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error}): {_again(self.folder)}.") from None
        height, width = self.mask(index).shape
        if levels.shape != (height, width) or levels.dtype != np.uint8:
            raise InputError(
                f"{path} is no 8-bit gray picture of {width} x {height} px, the size of the mask: "
                f"{_again(self.folder)}."
            )
        return levels

    @property
    def threshold(self) -> float:
        """That of the scores."""
        return float(self.metrics["threshold"])

    @property
    def level(self) -> int:
        """The k for which k / 256 is the threshold, or nearest to it."""
        return min(max(round(self.threshold * LEVELS), 1), LEVELS - 1)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the largest validation IoU, which is the one that was kept."""
        best = max(self.epochs, key=lambda line: line["valid_iou"], default=None)
        return None if best is None else int(best["epoch"])


@dataclass(frozen=True)
class Picture:
    """What the gallery shows of an image."""

    image: int  # its place among the images that all runs have
    name: str
    about: str  # sizes
    width: int
    height: int
    photo: str  # base64 of a JPEG
    masks: list[str]  # base64 of 8-bit gray PNGs; one where all runs have the same
    mask_of: list[int]  # which of the masks is that of each run
    levels: list[str]  # base64 of an 8-bit gray PNG for each run
    scores: list[list[tuple[str, str]]]  # for each run, names and values at its threshold


def read_scored(run: Path, folder: Path, split: Split) -> Scored:
    """What evaluate.py wrote.

    Args:
        run: the run's folder, with config.json and metrics.jsonl.
        folder: the results, with metrics.json, per_image.csv and probabilities/.
        split: the images they are of, prepared at the size they were scored at.

    Raises:
        InputError: a file is missing or damaged, or is of other images.
    """
    path = run / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        path = folder / "per_image.csv"
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}): {_again(folder)}.") from None
    if [row.get("name") for row in rows] != split.names:
        raise InputError(
            f"{path} is of other images than the {len(split)} of the prepared split: "
            f"{_again(folder)}."
        )
    # As in the run's banner: transformers bring their own backbone.
    whole = config["model"] == "segformer" or "/" in config["model"]
    return Scored(
        name=run.resolve().name,
        model=config["model"] if whole else f"{config['model']} ({config['encoder']})",
        config=config,
        epochs=read_lines(run),
        metrics=metrics,
        rows=rows,
        names=split.names,
        split=split,
        folder=folder,
    )


def write_report(path: Path, runs: list[Scored], table: list[dict[str, str]] | None = None) -> None:
    """Write the page on one run, or on several side by side on the images that all of them have.

    Args:
        table: the comparison of the runs, a dict per line with the same columns; shown on top.

    Raises:
        InputError: a file of probabilities is missing or damaged.
    """
    assert runs, "a report is of at least one run"
    places = [{name: i for i, name in enumerate(run.names)} for run in runs]
    shared = [name for name in runs[0].names if all(name in place for place in places)]
    where = [[place[name] for name in shared] for place in places]
    counted = [_histograms(run, indices) for run, indices in zip(runs, where, strict=True)]
    gallery = _gallery(runs, where, counted) if shared else []
    labels = _labels(runs)
    data = {
        "runs": [
            {"label": label, "level": run.level, "histograms": one[:, 0].tolist()}
            for label, run, one in zip(labels, runs, counted, strict=True)
        ],
        "pictures": [{key: getattr(p, key) for key in FOR_SCRIPT} for p in gallery],
        "plot": figures.plot(),
    }
    templates = Environment(
        loader=PackageLoader("segacc.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown_as = (figures.number, figures.interval, figures.threshold)
    templates.filters |= {function.__name__: function for function in shown_as}
    style, script = (
        Markup(templates.loader.get_source(templates, file)[0])  # type: ignore[union-attr]
        for file in ("report.css", "report.js")
    )
    text = templates.get_template("report.html.j2").render(
        version=segacc.__version__,
        runs=runs,
        labels=labels,
        table=table or [],
        shared=len(shared),
        gallery=gallery,
        names={picture.image: picture.name for picture in gallery},
        reduced=any(max(run.mask(0).shape) > SIDE for run in runs),
        side=SIDE,
        most=MOST,
        counted=counted,
        figures=figures,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=htmlsafe_json_dumps(data, dumps=json.dumps, allow_nan=False, separators=(",", ":")),
    )
    # A folder's name may hold bytes that are no text.
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))


def _histograms(run: Scored, indices: list[int]) -> Tensor:
    """(N, 1, 2, 256) int64 of these images."""
    counted = [torch.zeros(0, 1, 2, LEVELS, dtype=torch.long)]
    for i in indices:
        levels = torch.from_numpy(run.levels(i).copy())[None, None]
        counted.append(histogram(levels, torch.from_numpy(run.mask(i).copy())[None, None]))
    return torch.cat(counted)


def _gallery(runs: list[Scored], where: list[list[int]], counted: list[Tensor]) -> list[Picture]:
    """Worst first, by the IoU at each run's threshold, mean over runs. Of more than MOST images the
    worst half of MOST, and the rest spread over the others."""
    ious = [
        iou_of(counts_at_thresholds(one)[run.level, :, 0])
        for run, one in zip(runs, counted, strict=True)
    ]
    order = torch.stack(ious).mean(dim=0).argsort(stable=True).tolist()
    if len(order) > MOST:
        others = np.linspace(MOST // 2, len(order) - 1, MOST - MOST // 2).round().astype(int)
        order = order[: MOST // 2] + [order[i] for i in others]
    return [_picture(runs, i, [indices[i] for indices in where]) for i in order]


def _picture(runs: list[Scored], image: int, indices: list[int]) -> Picture:
    """The picture of an image, which is number indices[r] of run r."""
    both = list(zip(runs, indices, strict=True))
    masks = [_png(run.mask(i) * 255) for run, i in both]
    different = list(dict.fromkeys(masks))
    run, index = max(both, key=lambda pair: pair[0].mask(pair[1]).size)
    height, width = run.mask(index).shape
    before = run.rows[index]["height"], run.rows[index]["width"]
    about = f"{width} \N{MULTIPLICATION SIGN} {height} px"
    if before != (str(height), str(width)):
        about += f", from {before[1]} \N{MULTIPLICATION SIGN} {before[0]}"
    # The one that is shown is the largest run's, and comes first.
    first = masks[runs.index(run)]
    different.sort(key=lambda mask: mask != first)
    scores = [
        [
            (name, figures.number(float(run.rows[i][name] or "nan"), name))
            for name in IN_DIALOG
            if name in run.rows[i]
        ]
        for run, i in both
    ]
    shown = reduced(run.image(index), SIDE, Image.Resampling.LANCZOS)
    return Picture(
        image=image,
        name=run.names[index],
        about=about,
        width=shown.width,
        height=shown.height,
        photo=base64.b64encode(encoded(shown, "JPEG", quality=QUALITY)).decode(),
        masks=different,
        mask_of=[different.index(mask) for mask in masks],
        levels=[_png(run.levels(i)) for run, i in both],
        scores=scores,
    )


def _png(pixels: np.ndarray) -> str:
    # Of the nearest pixels, so that each one shown is one that was scored.
    picture = reduced(pixels, SIDE, Image.Resampling.NEAREST)
    return base64.b64encode(encoded(picture, "PNG", optimize=True)).decode()


def _labels(runs: Sequence[Scored]) -> list[str]:
    """The runs' models; names where two have the same model, numbered where those are the same."""
    names = [run.model for run in runs]
    if len(set(names)) < len(names):
        names = [run.name for run in runs]
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _hash(text: str) -> str:
    """What the page's Content-Security-Policy lets through."""
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _again(folder: Path) -> str:
    return f"score the run again with evaluate.py, which writes {folder}"
