"""The charts of the report, made of a run's results.

All that is the same at every threshold is drawn here, axes included. What follows the threshold
slider is left out: templates/report.js adds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from torch import Tensor

from segacc.metrics.counts import iou_of
from segacc.metrics.scores import DISTANCES
from segacc.metrics.thresholds import LEVELS, counts_at_thresholds
from segacc.report import charts
from segacc.report.charts import Point, Series, chart, dot, fit_axis, line, unit_axis, upright
from segacc.report.summary import IOU_BINS, Summary

SYMBOLS = (  # of the runs' points, by style
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.6 -3.6h7.2v7.2h-7.2z",
    "M0 -4.8L4.6 3.6H-4.6z",
    "M0 -5L5 0L0 5L-5 0z",
)


def threshold_text(value: float) -> str:
    """A threshold as text: 0.453, 0.5."""
    return f"{value:.3g}"


def number_text(value: float | None, name: str = "", digits: int = 4) -> str:
    """A score as text: a dash if there is none, with the unit if it is a distance."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    if math.isinf(value):
        return "\N{INFINITY}"
    return f"{value:.1f} {DISTANCES[name]}" if name in DISTANCES else f"{value:.{digits}f}"


def interval_text(score: dict[str, float | None], name: str = "", digits: int = 4) -> str:
    """The 95 % interval of a score as text; empty if it has none."""
    if score.get("low") is None or score.get("high") is None:
        return ""
    ends = [number_text(score[end], name, digits).split()[0] for end in ("low", "high")]
    return "\N{EN DASH}".join(ends)


def curves(
    epochs: Sequence[Sequence[dict[str, Any]]],
    labels: Sequence[str],
    best: Sequence[int | None],
    of_classes: bool = False,
) -> list[Markup]:
    """Charts of loss, IoU and learning rate over epochs.

    Args:
        epochs: the lines of metrics.jsonl of each run.
        labels: the name of each run.
        best: the best epoch of each run, which is marked.
        of_classes: whether there are more than two, which have no threshold.
    """
    iou, where = ("mIoU", "") if of_classes else ("IoU", ", at 0.5")
    if len(epochs) > 1:
        runs = list(zip(epochs, labels, best, strict=True))
        return [
            _curve(key, title, [(lines, key, label, marked) for lines, label, marked in runs])
            for key, title in (
                ("train_loss", "Training loss"),
                ("valid_loss", "Validation loss"),
                ("valid_iou", f"{'miou' if of_classes else 'iou'} on validation{where}"),
                ("valid_iou_image", f"iou_image on validation{where}"),
                ("lr", "Learning rate"),
            )
        ]
    ious = {"valid_iou": "miou" if of_classes else "iou", "valid_iou_image": "iou_image"}
    if any("valid_iou_best_threshold" in line for line in epochs[0]):
        ious["valid_iou_best_threshold"] = "iou at its best threshold"
    plans = [
        ("loss", "Loss", {"train_loss": "training", "valid_loss": "validation"}),
        ("iou", f"{iou} on validation{where}", ious),
        ("lr", "Learning rate", {"lr": "learning rate"}),
    ]
    return [
        _curve(name, title, [(epochs[0], key, label, best[0]) for key, label in keys.items()])
        for name, title, keys in plans
    ]


def _curve(
    name: str, title: str, lines: list[tuple[Sequence[dict[str, Any]], str, str, int | None]]
) -> Markup:
    """A chart with a line for each (epochs, key in them, label, best epoch)."""
    series = []
    for style, (epochs, key, label, best) in enumerate(lines):
        points = [(float(e["epoch"]), _float(e.get(key))) for e in epochs]
        mark = next((p for p in points if p[0] == best and math.isfinite(p[1])), None)
        mark_label = f"{mark[1]:.4g} in epoch {best}, the best" if mark else ""
        series.append(Series(label, points, style, mark, mark_label))
    x = fit_axis("epoch", [a for s in series for a, _ in s.points], whole=True)
    y = fit_axis("", [b for s in series for _, b in s.points], low=0.0 if name == "lr" else None)
    marks = {s.mark[0] for s in series if s.mark}
    body = [line(s, x, y) for s in series]
    if len(marks) == 1:
        where = marks.pop()
        body.insert(0, upright(where, f"best: {where:g}", x, left=x.share(where) > 0.5))
    description = "; ".join(_course(s) for s in series)
    return chart(f"curve-{name}", title, description, x, y, body, series)


def _course(series: Series) -> str:
    """First, last and marked value of a line, in words."""
    points = [p for p in series.points if math.isfinite(p[1])]
    if not points:
        return f"{series.label}: no values"
    (first, start), (last, end) = points[0], points[-1]
    text = f"{series.label}: {start:.4g} in epoch {first:g}, {end:.4g} in epoch {last:g}"
    return f"{text}, {series.mark_label}" if series.mark_label else text


def threshold_curve(
    summaries: Sequence[Summary], labels: Sequence[str], thresholds: Sequence[float]
) -> Markup:
    """IoU over the thresholds k / 256; the page's script moves the line of the class `now`."""
    x = unit_axis("threshold")
    series: list[Series] = []
    for label, one, picked in zip(labels, summaries, thresholds, strict=True):
        iou = iou_of(counts_at_thresholds(one.histogram))
        shown = {"iou": iou, "iou_image": one.iou_image} if len(labels) == 1 else {label: iou}
        for name, values in shown.items():
            points = [(k / LEVELS, v) for k, v in enumerate(values.tolist()) if k > 0]
            mark = points[min(max(round(picked * LEVELS), 1), LEVELS - 1) - 1]
            mark_label = f"{mark[1]:.4f} at the model's threshold {threshold_text(picked)}"
            series.append(Series(name, points, len(series), mark, mark_label))
    y = fit_axis("IoU", [v for s in series for _, v in s.points], low=0.0)
    below = len(labels) == 1 and thresholds[0] < 0.5
    body = [upright(0.5, "0.5", x, left=not below)]
    if len(labels) == 1 and thresholds[0] != 0.5:
        body.append(upright(thresholds[0], threshold_text(thresholds[0]), x, left=below))
    body += [line(s, x, y) for s in series]
    body.append(Markup('<path class="now" d="M{} {}v{}"/>').format(*_corner(), charts.DOWN))
    description = "; ".join(f"{s.label} {s.mark_label}" for s in series)
    note = "Rings: each model's threshold." if len(labels) > 1 else ""
    return chart("thresholds", "IoU over thresholds", description, x, y, body, series, note)


def reliability(
    metrics: Sequence[dict[str, Any]], labels: Sequence[str], of_classes: bool = False
) -> Markup:
    """Share of foreground over mean probability, of the pixels in each bin of probability.

    Args:
        metrics: metrics.json of each run, with its calibration.
        of_classes: whether there are more than two. It is then the share of pixels that are right,
            over the probability of the predicted class.
    """
    share, right = "share of foreground", "foreground"
    if of_classes:
        share, right = "share that is right", "right"
    calibrations = [one["calibration"] for one in metrics]
    eces = [f"ece {number_text(one['scores']['ece']['value'])}" for one in metrics]
    if len(labels) > 1:
        labels = [f"{label}, {ece}" for label, ece in zip(labels, eces, strict=True)]
    x, y = unit_axis("mean probability"), unit_axis(share)
    left, top = _corner()
    diagonal = Markup('<path class="diagonal" d="M{} {}L{} {}"/>')
    body = [diagonal.format(left, top + charts.DOWN, left + charts.ACROSS, top)]
    series = []
    for style, (one, label) in enumerate(zip(calibrations, labels, strict=True)):
        pairs = zip(one["confidence"], one["foreground"], strict=True)
        points = [(float(a), float(b)) for a, b in pairs if a is not None and b is not None]
        series.append(Series(label, points, style))
    if len(calibrations) == 1:
        pixels = calibrations[0]["pixels"]
        shares = [p / max(1, sum(pixels)) for p in pixels]
        body.insert(0, charts.bars(calibrations[0]["edges"], shares, x, y))
    for s in series:
        body.append(line(s, x, y))
        body += [dot(p, s.style, x, y, f"{s.label}: {p[0]:.3f}, {p[1]:.3f}") for p in s.points]
    note = f"On the diagonal, probabilities are right: of the pixels at 0.8, 80 % are {right}."
    if len(calibrations) == 1:
        note = f"{eces[0]}. {note} Bars: share of all pixels."
    description = "; ".join(
        f"{s.label}: " + ", ".join(f"{a:.2f} is {b:.2f}" for a, b in s.points) for s in series
    )
    return chart("reliability", "Calibration", description, x, y, body, series, note)


def scatter(
    histograms: Sequence[Tensor], labels: Sequence[str], shown: dict[int, str], images: int
) -> Markup:
    """A point for each run and image, at its share of foreground; the script moves it to its IoU.

    Args:
        histograms: (N, 2, 256) of each run: pixels of background and foreground at each level.
        shown: names of the images that are in the gallery, by number; their points are links.
        images: how many images there are; if they are many, not all have a point.
    """
    shares = [(h[:, 1].sum(-1) / h.sum((-1, -2)).clamp_min(1)).tolist() for h in histograms]
    x = fit_axis("foreground, share of the image", [s for run in shares for s in run], low=0.0)
    y = unit_axis("IoU")
    body = []
    link = Markup('<a href="#image-{}" tabindex="-1" {} data-name="{}"><title>{}</title>{}</a>')
    for style, (label, run) in enumerate(zip(labels, shares, strict=True)):
        for image, share in enumerate(run):
            place = Markup('class="point c{}" data-run="{}" data-image="{}" data-x="{:.1f}"')
            point = Markup('<path d="{}"/>').format(SYMBOLS[style % len(SYMBOLS)])
            place = place.format(
                style % charts.COLOURS, style, image, charts.LEFT + charts.ACROSS * x.share(share)
            )
            if image in shown:
                name = shown[image] if len(labels) == 1 else f"{shown[image]}, {label}"
                body.append(link.format(image, place, name, name, point))
            else:
                body.append(Markup("<g {}>{}</g>").format(place, point))
    description = "A point for each image; arrow keys go to the next one, Enter to the gallery."
    note = "A point for each image; it leads to the gallery."
    if images > len(histograms[0]):
        note = f"A point for each of {len(histograms[0]):,} of the {images:,} images: those of the "
        note += "gallery, to which their points lead, and others from the worst to the best."
    title = "IoU against foreground"
    series = [Series(label, [], style) for style, label in enumerate(labels)]
    return chart("scatter", title, description, x, y, body, series, note, holds_links=True)


def ious(labels: Sequence[str]) -> Markup:
    """The axes of a histogram of the images' IoUs; the script draws the bars and their ticks."""
    x = unit_axis("IoU of an image")
    y = charts.Axis("images", 0, 1, [])
    bottom, middle = charts.TOP + charts.DOWN, charts.TOP + charts.DOWN / 2
    body = [charts.gridline(at, "") for at in (bottom, middle, charts.TOP)]
    body += [
        Markup('<path class="outline {}" data-run="{}"/>').format(charts.line_class(style), style)
        for style in range(len(labels))
    ]
    series = [Series(label, [], style) for style, label in enumerate(labels)]
    counted = f"How many images have an IoU in each of {IOU_BINS} bins, at the slider's threshold."
    return chart("ious", "IoU of the images", counted, x, y, body, series)


def whisker(score: dict[str, float | None], constant: float | None) -> Markup:
    """A score in 0..1 and its interval on a line.

    Args:
        constant: the score of the constant mask, which gets a tick.
    """
    value, low, high = score["value"], score.get("low"), score.get("high")
    across = Markup('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="{}" y2="{}"/>')
    drawn = across.format("base", 0, 100, 8, 8)
    if constant is not None:
        drawn += across.format("constant", 100 * constant, 100 * constant, 2, 14)
    if low is not None and high is not None:
        drawn += across.format("span", 100 * low, 100 * high, 8, 8)
    if value is not None:
        drawn += Markup('<circle cx="{:.2f}%" cy="8" r="4.5"/>').format(100 * value)
    return Markup('<svg class="whisker" aria-hidden="true">{}</svg>').format(drawn)


def bar(score: dict[str, float | None], colour: str, number: int) -> Markup:
    """A score in 0..1 of a class as a bar, in its colour as HTML has it, with its interval."""
    value, low, high = score["value"], score.get("low"), score.get("high")
    box = Markup('<rect class="{}" width="{:.2f}%" y="3" height="12"/>')
    drawn = box.format("base", 100)
    if value is not None:
        drawn += box.format("value", 100 * value)
    if low is not None and high is not None:
        across = Markup('<line class="span" x1="{:.2f}%" x2="{:.2f}%" y1="9" y2="9"/>')
        end = Markup('<line class="span" x1="{0:.2f}%" x2="{0:.2f}%" y1="5" y2="13"/>')
        drawn += across.format(100 * low, 100 * high)
        drawn += end.format(100 * low) + end.format(100 * high)
    of_class = Markup('fill="{}" data-colour="{}"').format(colour, number)
    return Markup('<svg class="bar-chart" {} aria-hidden="true">{}</svg>').format(of_class, drawn)


def plot() -> dict[str, float]:
    """The position of the plot in the drawing, and the number of bins, for the page's script."""
    left, top = _corner()
    return {
        "left": left,
        "top": top,
        "across": charts.ACROSS,
        "down": charts.DOWN,
        "bins": IOU_BINS,
    }


def _corner() -> Point:
    return charts.LEFT, charts.TOP


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
