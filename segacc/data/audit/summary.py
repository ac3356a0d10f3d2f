"""What a data set is, in a few lines: its splits, sizes and classes, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from segacc.data.audit.audit import Audit
from segacc.data.audit.sample import Sample
from segacc.errors import plural
from segacc.labels import FOREGROUND, IGNORE, Labels

MOST_SIZES = 3  # that are named
CLASSES_SHOWN = 30  # in the terminal


@dataclass(frozen=True)
class SplitRow:
    """What a split holds."""

    name: str
    images: int
    sizes: Counter[tuple[int, int]]
    """how many images have each height and width"""
    ignored: float
    """share of the pixels"""
    shares: list[float]
    """of the counted pixels, of each class"""
    masks: list[int]
    """that have each class"""

    @property
    def sizes_in_words(self) -> str:
        """The most frequent sizes, as width and height."""
        named = [_size(shape, "\N{MULTIPLICATION SIGN}") for shape, _ in self.sizes.most_common(3)]
        more = len(self.sizes) - MOST_SIZES
        return ", ".join(named) + (f" and {more} other sizes" if more > 0 else "")


def _size(shape: tuple[int, int], times: str = "x") -> str:
    height, width = shape
    return f"{width} {times} {height} px"


def split_row(split: str, samples: list[Sample], labels: Labels) -> SplitRow:
    """What a split holds; at least one of the samples is of it."""
    own = [sample for sample in samples if sample.split == split]
    pixels = np.stack([sample.pixels for sample in own])
    counted = pixels[:, : labels.classes]
    total = counted.sum(axis=0)
    return SplitRow(
        name=split,
        images=len(own),
        sizes=Counter(sample.shape for sample in own),
        ignored=float(pixels[:, IGNORE].sum() / pixels.sum()),
        shares=(total / max(1, total.sum())).tolist(),
        masks=(counted > 0).sum(axis=0).tolist(),
    )


def split_rows(audit: Audit) -> list[SplitRow]:
    """A row for each split of which an image and its mask can be read."""
    splits = dict.fromkeys(sample.split for sample in audit.samples)
    return [split_row(split, audit.samples, audit.coding.labels) for split in splits]


def summary(audit: Audit) -> str:
    """The data set in lines of 80 columns: images per split, sizes, the share of each class, and
    what is missing."""
    rows, labels = split_rows(audit), audit.coding.labels
    classes = "binary masks" if labels.logits == 1 else f"{labels.classes} classes"
    lines = [f"{plural(len(audit.samples), 'image')}, {classes}", *_table_of_splits(rows, labels)]
    if labels.logits > 1:
        lines += ["", *_table_of_classes(rows, labels)]
    return "\n".join([*lines, f"missing splits: {_missing(rows)}"])


def _table_of_splits(rows: list[SplitRow], labels: Labels) -> list[str]:
    binary, some_ignored = labels.logits == 1, any(row.ignored for row in rows)
    head = ["split", "images"]
    head += ["foreground", "empty"] if binary else []
    cells = [[*head, *(["ignored"] if some_ignored else []), "size"]]
    for row in rows:
        cell = [row.name, str(row.images)]
        if binary:
            cell += [f"{row.shares[FOREGROUND]:.1%}", str(row.images - row.masks[FOREGROUND])]
        cells.append([*cell, *([f"{row.ignored:.1%}"] if some_ignored else []), _sizes(row)])
    return _aligned(cells, left=(0, len(cells[0]) - 1))


def _sizes(row: SplitRow) -> str:
    if len(row.sizes) == 1:
        return _size(next(iter(row.sizes)))
    by_area = sorted(row.sizes, key=lambda shape: shape[0] * shape[1])
    smallest, largest = (_size(shape).removesuffix(" px") for shape in (by_area[0], by_area[-1]))
    return f"{len(by_area)} sizes, {smallest} to {largest} px"


def _table_of_classes(rows: list[SplitRow], labels: Labels) -> list[str]:
    cells = [["share of the pixels", *(row.name for row in rows)]]
    for number, name in list(enumerate(labels.names))[:CLASSES_SHOWN]:
        shares = [f"{row.shares[number]:.1%}" if row.masks[number] else "none" for row in rows]
        cells.append([name if len(name) <= 40 else f"{name[:37]}...", *shares])
    lines = _aligned(cells, left=(0,))
    if labels.classes > CLASSES_SHOWN:
        lines.append(f"  and {labels.classes - CLASSES_SHOWN} more (--page lists all)")
    return lines


def _missing(rows: list[SplitRow]) -> str:
    there = {row.name for row in rows}
    splits = [name for name in ("train", "valid", "test") if name not in there]
    if not splits:
        return "none"
    return " and ".join(splits) + (" (score with --split valid)" if splits == ["test"] else "")


def _aligned(cells: list[list[str]], left: tuple[int, ...]) -> list[str]:
    """Rows of text in columns, of which those numbered in `left` are aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  "
        + "  ".join(
            f"{cell:<{width}}" if place in left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
