"""Checks of masks with classes: the balance of the classes, and a proposed list of classes where
there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np

from segacc.data.audit.findings import AuditFinding, Severity
from segacc.data.audit.label_maps import TINY
from segacc.data.audit.sample import Sample
from segacc.data.classes.propose import Held, propose
from segacc.data.reading.decode import DecodeError, read_mask_pixels
from segacc.data.rows import named
from segacc.errors import plural, some_names
from segacc.labels import Labels, MaskValueError
from segacc.runtime.threads import cores, in_order

RARE = 0.001
"""Share of a split's pixels below which a class is called rare."""
FEW = 0.2
"""Tiny regions in at most this share of the masks may be errors. If more masks have them, the data
set is taken to have such fine detail."""
HUGE, HUGE_TIMES, HUGE_MASKS = 0.5, 10, 10
"""A class is huge in a mask if it covers at least half of it, and ten times the median of the area
that it covers in at least ten masks that have it."""
SMEARED = 0.2
"""Share of pixels at edges whose class lies between those of both sides, from which on masks of
numbers are called smeared. CamVid has 0.01, the same masks resized by interpolation 0.5 and
more."""
MOST_BY_CHANCE = 50
"""Up to this many such pixels may occur by chance in a mask that was not resized."""


def class_balance(
    masks: Iterable[tuple[str, np.ndarray]], labels: Labels
) -> Iterator[AuditFinding]:
    """Find classes that are rare in a split, or missing from it.

    Args:
        masks: the split and the `pixels_of_classes` of each mask.
    """
    pixels: dict[str, np.ndarray] = {}
    for split, of_mask in masks:
        pixels[split] = pixels.get(split, np.zeros_like(of_mask)) + of_mask
    for split, counts in pixels.items():
        of_class = counts[: labels.classes]
        shares = of_class / max(1, of_class.sum())
        order = np.argsort(-shares, kind="stable")
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


def odd_regions(samples: list[Sample], labels: Labels) -> Iterator[AuditFinding]:
    """Find regions that are tiny, and masks in which a class is huge."""
    if not samples:
        return
    tiny = np.stack([sample.small.tiny for sample in samples])
    of_classes, everything = tiny.sum(axis=0), sum(int(s.small.all.sum()) for s in samples)
    with_some = [samples[i].mask for i in np.flatnonzero(tiny.sum(axis=1))]
    if with_some:
        order = np.argsort(-of_classes, kind="stable")
        named = [f"{of_classes[i]:,} of {labels.names[i]}" for i in order if of_classes[i]]
        problem = (
            f"{of_classes.sum():,} of {everything:,} connected regions have at most {TINY} px "
            f"({', '.join(named)}), in {plural(len(with_some), 'mask')} ({some_names(with_some)}): "
            "they may be slips of the pen, or what a resize has left"
        )
        severity: Severity = "warning" if len(with_some) <= FEW * len(samples) else "note"
        yield AuditFinding("masks", problem, severity, "tiny regions")
    if labels.classes > 2:
        yield from _huge(samples, labels)


def _huge(samples: list[Sample], labels: Labels) -> Iterator[AuditFinding]:
    pixels = np.stack([sample.pixels[: labels.classes] for sample in samples])
    shares = pixels / np.maximum(1, pixels.sum(axis=1, keepdims=True))
    for number, name in enumerate(labels.names):
        of_class = shares[:, number]
        there = of_class[of_class > 0]
        if len(there) < HUGE_MASKS:
            continue
        usual = float(np.median(there))
        for place in np.flatnonzero(of_class >= max(HUGE, HUGE_TIMES * usual)).tolist():
            problem = (
                f"is {name} on {of_class[place]:.0%} of its pixels, where most masks that have it "
                f"hold {usual:.1%}: check that it is not a placeholder or filled by mistake"
            )
            yield AuditFinding(samples[place].mask, problem, "warning", "huge regions")


def smeared_masks(samples: list[Sample]) -> Iterator[AuditFinding]:
    """Find masks of numbers that were resized by interpolation: it makes wrong classes at edges."""
    between = np.array([sample.edges.between for sample in samples])
    edges = np.array([sample.edges.edges for sample in samples])
    shares = between / np.maximum(1, between + edges)
    for place in np.flatnonzero(shares >= SMEARED).tolist():
        if between[place] < MOST_BY_CHANCE:
            continue
        problem = (
            f"has {between[place]:,} pixels at edges whose number lies between those of both sides "
            f"({shares[place]:.0%} of the pixels at such edges), as if numbers of classes had been "
            "interpolated: resize masks by the nearest pixel, and save them as PNG"
        )
        yield AuditFinding(samples[place].mask, problem, "warning", "masks that look smeared")


def propose_classes(splits: Iterable[Iterable[dict[str, Any]]]) -> tuple[str, str]:
    """Call `propose` for the masks of all rows; those that cannot be read are left out.

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
