"""Charts of the report as inline SVG.

Colours and dashes are classes of the page's style sheet, so that a chart fits a light and a dark
page. `Markup.format` escapes text. Each chart has a description in words for screen readers.

No library draws these charts, since the page must work without a network and allows no style or
script but its own two. Those that draw in the browser add a megabyte or two (Plotly, Vega), set
styles that the page forbids, or draw on a canvas, which cannot be read aloud and prints badly
(Chart.js, uPlot). matplotlib draws no chart that follows the threshold slider.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 400, 268
LEFT, TOP = 46, 32  # of the plot's area in the drawing
ACROSS, DOWN = 338, 190  # size of the plot's area
COLOURS, DASHES = 6, 4  # how many report.css has; so twelve runs look different

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`, which differ."""

    label: str
    low: float
    high: float
    ticks: list[float]

    def share(self, value: float) -> float:
        """Where the value is on the axis: 0 at the start, 1 at the end."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Series:
    """A line. It has a gap where y is not finite."""

    label: str
    points: list[Point]
    style: int = 0
    mark: Point | None = None  # a point with a ring around it
    mark_label: str = ""


def fit_axis(
    label: str, values: Iterable[float], low: float | None = None, whole: bool = False
) -> Axis:
    """An axis for these values, with three to six round ticks.

    Args:
        values: those that are not finite do not count.
        low: the start of the axis; None chooses one near the lowest value.
        whole: make ticks whole numbers, and end the axis at the highest value.
    """
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    least, most = min(finite) if low is None else low, max(finite)
    if most <= least:  # there is one value or none: put it in the middle
        gap = max(abs(least), abs(most)) / 2 or 0.5
        if whole:
            return Axis(label, least - 1, most + 1, [least])
        least, most = least - gap if low is None else least, least + gap
    step = _round_step((most - least) / 4)
    if whole:
        step = max(1, round(step))
        ticks = [t for t in range(0, int(most) + 1, int(step)) if t >= least]
        # The first value gets a tick even if it is not round.
        if not ticks or ticks[0] - least >= step / 2:
            ticks.insert(0, int(least))
        return Axis(label, least, most, [float(t) for t in ticks])
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return Axis(label, first * step, last * step, [i * step for i in range(first, last + 1)])


def unit_axis(label: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(label, 0, 1, [0, 0.25, 0.5, 0.75, 1])


def chart(
    name: str,
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    body: Iterable[Markup] = (),
    legend: Sequence[Series] = (),
    note: str = "",
    holds_links: bool = False,
) -> Markup:
    """A figure: heading, legend, axes and what is drawn on them.

    Args:
        name: the name of the figure; the ids of its elements start with it.
        description: what the chart shows, for screen readers.
        body: what is drawn over the grid.
        legend: the lines that a legend names.
        note: a sentence below the heading.
        holds_links: whether the body has links; screen readers then do not take the chart for one
            picture.
    """
    grid = [
        gridline(float(_y(y, t)), text)
        for t, text in zip(y.ticks, tick_labels(y.ticks), strict=True)
    ]
    grid += [
        Markup('<text class="tick x" x="{}" y="{}">{}</text>').format(
            _x(x, t), TOP + DOWN + 18, text
        )
        for t, text in zip(x.ticks, tick_labels(x.ticks), strict=True)
    ]
    return Markup(
        '<figure class="chart" id="{name}"><figcaption><h3>{title}</h3>{note}{legend}</figcaption>'
        '<svg viewBox="0 0 {width} {height}" role="{role}" aria-labelledby="{name}-t {name}-d">'
        '<title id="{name}-t">{title}</title><desc id="{name}-d">{description}</desc>{grid}'
        '<path class="axis" d="M{left} {bottom}h{across}"/>'
        '<text class="name" x="{left}" y="12">{y}</text>'
        '<text class="name end" x="{right}" y="{below}">{x}</text>{body}</svg></figure>'
    ).format(
        name=name,
        title=title,
        description=description,
        note=Markup("<p>{}</p>").format(note) if note else "",
        legend=legend_of(legend),
        role="group" if holds_links else "img",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=LEFT + ACROSS,
        bottom=TOP + DOWN,
        across=ACROSS,
        below=TOP + DOWN + 38,
        grid=Markup("").join(grid),
        x=x.label,
        y=y.label,
        body=Markup("").join(body),
    )


def gridline(at: float, label: str) -> Markup:
    """A line across the plot, `at` units below the top of the drawing, with a label to its left."""
    return Markup(
        '<path class="grid" d="M{} {}h{}"/><text class="tick y" x="{}" y="{}">{}</text>'
    ).format(LEFT, at, ACROSS, LEFT - 8, at + 4, label)


def legend_of(series: Sequence[Series]) -> Markup:
    """A list of the lines with their labels; empty if there is only one line."""
    if len(series) < 2:
        return Markup("")
    items = [Markup("<li>{}{}</li>").format(swatch(s.style), s.label) for s in series]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def swatch(style: int) -> Markup:
    """A short piece of a line, for legends and tables."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true"><path class="{}" d="M0 4h24"/>'
        "</svg>"
    ).format(line_class(style))


def line_class(style: int) -> str:
    """The classes, in the style sheet, of the colour and the dashes of a line."""
    return f"line c{style % COLOURS} d{style % DASHES}"


def line(series: Series, x: Axis, y: Axis) -> Markup:
    """The series as a line, with a ring around its marked point."""
    path, pen = "", "M"
    for a, b in series.points:
        if math.isfinite(b):
            path += f"{pen}{_x(x, a)} {_y(y, b)}"
        pen = "L" if math.isfinite(b) else "M"
    drawn = Markup('<path class="{}" d="{}"/>').format(line_class(series.style), path)
    known = [point for point in series.points if math.isfinite(point[1])]
    if len(known) == 1:  # a line of one point would not be seen
        drawn += dot(known[0], series.style, x, y)
    if series.mark is not None:
        drawn += dot(series.mark, series.style, x, y, f"{series.label}: {series.mark_label}")
    return drawn


def dot(point: Point, style: int, x: Axis, y: Axis, title: str = "") -> Markup:
    """A ring around a point; browsers show its title under the mouse."""
    return Markup('<circle class="ring c{}" cx="{}" cy="{}" r="4.5">{}</circle>').format(
        style % COLOURS,
        _x(x, point[0]),
        _y(y, point[1]),
        Markup("<title>{}</title>").format(title) if title else "",
    )


def upright(value: float, label: str, x: Axis, left: bool) -> Markup:
    """A vertical line at a value of x, with a label above it, to its left or right."""
    return Markup(
        '<path class="upright" d="M{} {}v{}"/><text class="mark{}" x="{:.1f}" y="{}">{}</text>'
    ).format(
        *(_x(x, value), TOP - 14, DOWN + 14, " end" if left else ""),
        *(LEFT + ACROSS * x.share(value) + (-4 if left else 4), TOP - 6, label),
    )


def bars(edges: Sequence[float], heights: Sequence[float], x: Axis, y: Axis) -> Markup:
    """A bar between each two edges, up from the bottom."""
    d = "".join(
        f"M{_x(x, a)} {TOP + DOWN}V{_y(y, h)}H{_x(x, b)}V{TOP + DOWN}z"
        for a, b, h in zip(edges[:-1], edges[1:], heights, strict=True)
        if h > 0
    )
    return Markup('<path class="bars" d="{}"/>').format(d)


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The labels of an axis, with enough digits to distinguish its ticks: 0.25, 100, 5e-5."""
    labels: list[str] = []
    for digits in range(4, 17):
        labels = [f"{0 if abs(t) < 1e-12 else t:.{digits}g}".replace("e-0", "e-") for t in ticks]
        if len(set(labels)) == len(ticks):
            break
    return labels


def _x(axis: Axis, value: float) -> str:
    return f"{LEFT + ACROSS * axis.share(value):.1f}"


def _y(axis: Axis, value: float) -> str:
    return f"{TOP + DOWN * (1 - axis.share(value)):.1f}"


def _round_step(step: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(step))
    return power * next(f for f in (1, 2, 2.5, 5, 10) if f * power >= step * (1 - 1e-9))
