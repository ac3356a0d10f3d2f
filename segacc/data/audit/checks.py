"""Faults across the samples of a data set: leaks, odd masks, splits that cannot be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

import numpy as np

from segacc.data.audit.findings import AuditFinding, Severity
from segacc.data.audit.sample import Sample
from segacc.data.content import Masks, doubts, why_meaningless
from segacc.data.reading.division.looks import NEAR

SMALL = 0.0005  # share of foreground below which a mask may be a mistake: 33 pixels at 256 px


def _same_images(samples: list[Sample]) -> Iterator[AuditFinding]:
    first_of: dict[str, Sample] = {}
    for sample in samples:
        first = first_of.setdefault(sample.image_digest, sample)
        if first is sample:
            continue
        other_mask = "" if first.mask_digest == sample.mask_digest else " but with another mask"
        if first.split == sample.split:
            problem = f"is the same image as {first.image}{other_mask}: keep one of them"
            yield AuditFinding(sample.image, problem, "warning", "the same image twice in a split")
        else:
            problem = (
                f"is the same image as {first.image}{other_mask}: it leaks from {first.split} into "
                f"{sample.split}, so keep it in one of them"
            )
            yield AuditFinding(sample.image, problem, "warning", "the same image in two splits")


def _similar_images(samples: list[Sample]) -> Iterator[AuditFinding]:
    """For each image, find the one in an earlier split that is most like it."""
    hashes = np.stack([sample.phash for sample in samples]) if samples else np.empty((0, 64))
    start = 0
    for index, sample in enumerate(samples):
        if sample.split != samples[start].split:
            start = index  # samples come split by split
        if start == 0:
            continue
        distances = (64 - hashes[:start] @ hashes[index]) / 2
        nearest = samples[int(distances.argmin())]
        if distances.min() <= NEAR and nearest.image_digest != sample.image_digest:
            problem = (
                f"looks like {nearest.image}: if they show one scene or patient, it leaks from "
                f"{nearest.split} into {sample.split}"
            )
            yield AuditFinding(sample.image, problem, "warning", "look-alikes in two splits")


def _scaled_masks(samples: list[Sample]) -> Iterator[AuditFinding]:
    for sample in samples:
        if sample.was_scaled:
            problem = (
                f"has another size than {sample.image}, with the same proportions, and is scaled: "
                "export it at the size of the image where edges matter"
            )
            yield AuditFinding(sample.mask, problem, "warning", "masks at another scale")


def _mask_values(samples: list[Sample]) -> Iterator[AuditFinding]:
    values = Counter(sample.foreground for sample in samples if sample.foreground)
    for usual, _ in values.most_common(1):
        for sample in samples:
            if sample.foreground not in (0, usual):
                problem = (
                    f"marks the foreground by {sample.foreground} where most masks do by {usual}: "
                    f"check that {sample.foreground} is not a shade of background"
                )
                yield AuditFinding(sample.mask, problem, "warning", "masks of another convention")


def _mask_shares(samples: list[Sample]) -> Iterator[AuditFinding]:
    for sample in samples:
        if sample.share == 1:
            problem = "is foreground everywhere: check that it is not inverted or a placeholder"
            yield AuditFinding(sample.mask, problem, "warning", "masks without background")
        elif 0 < sample.share < SMALL:
            problem = (
                f"is foreground on {sample.share:.4%} of the pixels only: check for stray dots"
            )
            yield AuditFinding(sample.mask, problem, "warning", "masks with very little foreground")


def _splits_to_score(samples: list[Sample]) -> Iterator[AuditFinding]:
    """Find splits whose scores mean nothing, or little. Samples come split by split."""
    for split, group in groupby(samples, key=lambda sample: sample.split):
        inside = list(group)
        masks = Masks(
            [sample.name for sample in inside],
            np.array([sample.background_pixels for sample in inside]),
            np.array([sample.foreground_pixels for sample in inside]),
            sum(sample.ignored_pixels for sample in inside),
        )
        empty = int((masks.foreground == 0).sum())
        if why := why_meaningless(masks):
            severity: Severity = "warning" if split == "test" else "error"
            yield AuditFinding(split, why, severity, "splits that cannot be scored")
        elif said := doubts(masks):
            for problem in said:
                yield AuditFinding(split, problem, "warning", "scores that mean little")
        elif empty:
            problem = f"{empty} of its {len(inside)} masks are empty ({empty / len(inside):.0%})"
            yield AuditFinding(split, problem, "warning", "empty masks")


CHECKS = (_same_images, _similar_images, _scaled_masks)
BINARY_CHECKS = (_mask_values, _mask_shares, _splits_to_score)
