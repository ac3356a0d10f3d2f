"""per_image.csv: a table with the scores and the pixel counts of each image of a split."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segacc.labels import Labels
from segacc.metrics.counts import TN, TP, iou_of, is_there
from segacc.metrics.scores import OF_IMAGE, scores_of_counts

COUNTS = ("tp", "fp", "fn", "tn")


def per_image_csv(
    names: list[str], sizes: np.ndarray, counts: Tensor, labels: Labels, **more: Tensor
) -> str:
    """A line per image: its name, its own size, its scores and its pixel counts.

    With more than two classes there is the IoU of each, empty where it is neither in the mask nor
    was predicted, and the counts of each, such as tp/road.

    Args:
        sizes: (N, 2) height and width of the images before they were resized.
        counts: (N, K, 4), from `count_pixels`.
        more: other scores, (N,) each.
    """
    columns = {
        name: [f"{value:.6f}" for value in values.nan_to_num(0).tolist()]
        for name, values in {**scores_of_counts(counts), **more}.items()
    }
    if labels.logits > 1:
        for place, name in enumerate(labels.names):
            own = counts[:, place]
            columns[f"iou/{name}"] = [
                f"{iou:.6f}" if there else ""
                for iou, there in zip(iou_of(own).tolist(), is_there(own).tolist(), strict=True)
            ]
    for name, place, count in _count_columns(labels):
        columns[name] = [str(int(pixels)) for pixels in counts[:, place, count].tolist()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "height", "width", *columns])
    for name, (height, width), *row in zip(names, sizes.tolist(), *columns.values(), strict=True):
        writer.writerow([name, height, width, *row])
    return text.getvalue()


def counts_of_rows(rows: Sequence[dict[str, str]], labels: Labels) -> Tensor:
    """The counts (N, K, 4) float64 in the lines of a per_image.csv."""
    counts = torch.zeros(len(rows), labels.logits, 4, dtype=torch.double)
    for name, place, count in _count_columns(labels):
        counts[:, place, count] = torch.tensor([float(row[name]) for row in rows])
    return counts


def means_of_rows(rows: Sequence[dict[str, str]]) -> dict[str, Tensor]:
    """The scores of OF_IMAGE, (N,) float64 each, in the lines of a per_image.csv; without those
    that an older version did not write."""
    return {
        name: torch.tensor([float(row[name]) for row in rows], dtype=torch.double)
        for name in OF_IMAGE
        if all(row.get(name) for row in rows)
    }


def _count_columns(labels: Labels) -> list[tuple[str, int, int]]:
    """Names of the columns of counts, with their places in (K, 4)."""
    if labels.logits == 1:
        return [(name, 0, place) for place, name in enumerate(COUNTS)]
    return [
        (f"{COUNTS[count]}/{name}", place, count)
        for place, name in enumerate(labels.names)
        for count in range(TP, TN + 1)
    ]
