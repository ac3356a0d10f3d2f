"""What the masks of a data set with classes hold: the balance of the classes, and a proposal of
names where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np

from segacc.data.audit.findings import AuditFinding
from segacc.data.classes.propose import Held, propose
from segacc.data.reading.decode import DecodeError, read_mask_pixels
from segacc.data.rows import named
from segacc.labels import IGNORE, Labels, MaskValueError
from segacc.runtime.threads import cores, in_order

RARE = 0.001
"""Share of a split's pixels below which a class is called rare."""


def pixels_of_classes(label_map: np.ndarray) -> np.ndarray:
    """(256,) int64: how many pixels have each value of a label map."""
    return np.bincount(label_map.ravel(), minlength=256)


def class_balance(
    masks: Iterable[tuple[str, np.ndarray]], labels: Labels
) -> Iterator[AuditFinding]:
    """The share of each class in each split, and classes that are missing from one.

    Args:
        masks: of each its split and its `pixels_of_classes`.
    """
    pixels: dict[str, np.ndarray] = {}
    for split, of_mask in masks:
        pixels[split] = pixels.get(split, np.zeros_like(of_mask)) + of_mask
    for split, counts in pixels.items():
        of_class, ignored = counts[: labels.classes], int(counts[IGNORE])
        shares = of_class / max(1, of_class.sum())
        order = np.argsort(-shares, kind="stable")
        shown = ", ".join(f"{labels.names[i]} {shares[i]:.1%}" for i in order if of_class[i])
        share = ignored / max(1, counts.sum())
        said = f"{shown}" + (f"; {share:.1%} of all pixels are ignored" if ignored else "")
        yield AuditFinding(split, said, "note", "shares of the classes")
        rare = [labels.names[i] for i in order if 0 < shares[i] < RARE]
        if rare:
            problem = f"less than {RARE:.1%} of the pixels are {', '.join(rare)}"
            yield AuditFinding(split, problem, "warning", "rare classes")
        missing = [name for name, count in zip(labels.names, of_class, strict=True) if not count]
        if missing and split == "train":
            problem = f"has no pixel of {', '.join(missing)}: no model can learn this"
            yield AuditFinding(split, problem, "warning", "classes that are missing")
        elif missing:
            problem = f"has no pixel of {', '.join(missing)}: the scores say nothing of it"
            yield AuditFinding(split, problem, "warning", "classes that are missing")


def propose_classes(splits: Iterable[Iterable[dict[str, Any]]]) -> tuple[str, str]:
    """`propose` for the masks of all rows; those that cannot be read are left out.

    Raises:
        MaskValueError: no mask can be read.
    """
    held = Held()
    with ThreadPoolExecutor(cores()) as pool:
        for found in in_order(pool, _read, list(chain.from_iterable(splits))):
            if found is not None:
                held.add(*found)
    if not held.values and not held.colours:
        raise MaskValueError("no mask can be read")
    return propose(held)


def _read(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None] | None:
    try:
        return read_mask_pixels(named(row["mask"], row["name"]))
    except DecodeError:
        return None
