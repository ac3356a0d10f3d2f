"""The parts of a report's page for more than two classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segacc.labels import Labels, colours_for, has_other_colours
from segacc.metrics.counts import FN, FP, TP
from segacc.metrics.tables import counts_of_rows
from segacc.report.gallery import GalleryImage, first_and_spread, gallery_image
from segacc.report.pictures import palette_of
from segacc.report.scored import Scored

MOST_IN_MATRIX = 30  # classes that have a row of their own
MOST_CONFUSIONS = 10  # in the list
SHADES = 10  # how many of them report.css has
FOR_SCRIPT = ("masks", "mask_of", "found")  # of a GalleryImage


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix of a run: of the classes that occur and, if they are many, of the
    largest."""

    names: list[str]
    numbers: list[int | None]
    """the names of the classes; None stands for all others together"""
    rows: list[list[int]]
    """[true class][predicted class], pixels"""
    total: int
    """pixels that are counted"""

    def share(self, row: int, column: int) -> float:
        """The share of the pixels of the true class."""
        return self.rows[row][column] / max(1, sum(self.rows[row]))

    def shade(self, row: int, column: int) -> int:
        """The share in 0..SHADES; only no pixel at all is 0."""
        return math.ceil(SHADES * self.share(row, column))


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were taken for another."""

    true: int
    predicted: int
    pixels: int
    of_class: float
    """share of the pixels of the true class"""
    of_all: float
    """share of all pixels that are counted"""


def class_values(runs: list[Scored], where: list[list[int]], most: int) -> dict[str, Any]:
    """The variables of the template.

    Args:
        where: for each run, the positions of the images that all runs have.
        most: how many images the gallery has at most.
    """
    labels = runs[0].labels
    counts = [counts_of_rows(run.rows, labels)[i] for run, i in zip(runs, where, strict=True)]
    chosen = choose_class_images(_ious_of_images(runs, where), counts, most)
    tables = [run.metrics["per_class"] for run in runs]
    return {
        "classes": labels,
        "colours": [colour_hex(colour) for colour in labels.colours],
        "has_other_colours": has_other_colours(labels),
        "order": best_first(tables),
        "tables": tables,
        "matrices": [matrix_of(run.metrics["confusion"], labels) for run in runs],
        "confusions": [confusions_of(run.metrics["confusion"]) for run in runs],
        "gallery": [gallery_image(runs, i, [indices[i] for indices in where]) for i in chosen],
    }


def class_data(
    runs: list[Scored], labels: list[str], gallery: list[GalleryImage]
) -> dict[str, Any]:
    """Return the data for the page's script."""
    classes = runs[0].labels
    rows = [{row["name"]: row for row in run.rows} for run in runs]
    pictures = [
        {key: getattr(picture, key) for key in FOR_SCRIPT}
        | {
            "iou": [float(of_run[picture.name]["iou"]) for of_run in rows],
            "counts": [sparse_counts(of_run[picture.name], classes) for of_run in rows],
        }
        for picture in gallery
    ]
    return {
        "classes": [
            {"name": name, "colour": colour_hex(colour), "own": colour_hex(own)}
            for name, colour, own in zip(
                classes.names, classes.colours, colours_for(classes.names), strict=True
            )
        ],
        "ignored": colour_hex(tuple(palette_of(classes)[-1].tolist())),
        "runs": [
            {"label": label, "scores": run.metrics["scores"], "classes": run.metrics["per_class"]}
            for label, run in zip(labels, runs, strict=True)
        ],
        "pictures": pictures,
    }


def sparse_counts(row: dict[str, str], classes: Labels) -> dict[int, list[int]]:
    """tp, fp and fn of the classes that are in an image's mask or were predicted there.

    Args:
        row: a row of per_image.csv.
    """
    counts = counts_of_rows([row], classes)[0].long()
    there = (counts[:, [TP, FP, FN]].sum(dim=1) > 0).nonzero()[:, 0].tolist()
    return {number: counts[number, [TP, FP, FN]].tolist() for number in there}


def choose_class_images(ious: Tensor, counts: list[Tensor], most: int) -> list[int]:
    """Choose the images of the gallery, worst first. If there are more than `most`, it has those
    that are worst in a class, the same number for each class, and others by `first_and_spread`.

    Args:
        ious: (N,) the mIoU of the images, by which they are sorted.
        counts: (N, K, 4) for each run.
    """
    order = ious.argsort(stable=True).tolist()
    if len(order) <= most:
        return order
    tp, fp, fn, _ = torch.stack(counts).sum(dim=0).unbind(dim=-1)
    of_classes = tp / (tp + fp + fn)  # NaN where a class is absent, which is sorted to the end
    each = max(1, most // 2 // of_classes.shape[1])
    worst = of_classes.argsort(dim=0, stable=True)[:each].flatten().tolist()
    chosen = set(worst[: most // 2])
    rest = [image for image in order if image not in chosen]
    chosen |= {*first_and_spread(rest, most - len(chosen))}
    return [image for image in order if image in chosen]


def _ious_of_images(runs: list[Scored], where: list[list[int]]) -> Tensor:
    """(N,) the mean over the runs of the images' mIoUs."""
    of_runs = [
        [float(run.rows[i]["iou"]) for i in indices]
        for run, indices in zip(runs, where, strict=True)
    ]
    return torch.tensor(of_runs, dtype=torch.double).mean(dim=0)


def best_first(tables: list[list[dict[str, Any]]]) -> list[int]:
    """The classes by the mean IoU of the runs; those that have none come last."""

    def key(number: int) -> float:
        found = [table[number]["iou"]["value"] for table in tables]
        ious = [iou for iou in found if iou is not None]
        return -sum(ious) / len(ious) if ious else 1

    return sorted(range(len(tables[0])), key=key)


def matrix_of(confusion: list[list[int]], labels: Labels) -> Matrix:
    """Return the confusion matrix for people, without classes that do not occur. Of many classes,
    it has those with the most pixels in masks and predictions, and the rest as one.

    Args:
        confusion: [true class][predicted class], as in metrics.json.
    """
    pixels = torch.tensor(confusion)
    size = pixels.sum(dim=0) + pixels.sum(dim=1)
    there = [i for i in range(len(size)) if size[i] > 0]
    if len(there) > MOST_IN_MATRIX:
        there = sorted(size.argsort(descending=True, stable=True)[: MOST_IN_MATRIX - 1].tolist())
    rest = [i for i in range(len(size)) if i not in there and size[i] > 0]
    groups = [[i] for i in there] + ([rest] if rest else [])
    rows = [[int(pixels[one][:, other].sum()) for other in groups] for one in groups]
    names = [labels.names[i] for i in there] + ([f"{len(rest)} others"] if rest else [])
    numbers = [*there, *([None] if rest else [])]
    return Matrix(names, numbers, rows, int(pixels.sum()))


def confusions_of(confusion: list[list[int]]) -> list[Confusion]:
    """The pairs of classes that are confused in the most pixels."""
    pixels = torch.tensor(confusion)
    wrong = pixels.clone().fill_diagonal_(0)
    found = []
    for place in wrong.flatten().argsort(descending=True, stable=True)[:MOST_CONFUSIONS].tolist():
        true, predicted = divmod(place, len(pixels))
        count = int(wrong[true, predicted])
        if count:
            own, total = int(pixels[true].sum()), int(pixels.sum())
            found.append(Confusion(true, predicted, count, count / own, count / total))
    return found


def colour_hex(colour: tuple[int, ...]) -> str:
    """A colour as HTML has it."""
    return "#" + "".join(f"{channel:02x}" for channel in colour)
