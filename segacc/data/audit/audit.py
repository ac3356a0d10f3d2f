"""audit(): everything that can be wrong with a data set, as findings with file names."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from segacc.config import NO_FLAGS, Reading
from segacc.data.audit.classes import class_balance, pixels_of_classes
from segacc.data.audit.findings import AuditFinding, Severity
from segacc.data.classes.choose import class_files, coding_of
from segacc.data.content import Masks, doubts, lost_in_resize, why_meaningless
from segacc.data.reading.convert import divided, row_of, scan_folder
from segacc.data.reading.decode import DecodeError
from segacc.data.reading.division.divide import Division
from segacc.data.reading.division.looks import NEAR, perceptual_hash, pixels_digest
from segacc.data.reading.masks import about_unknown
from segacc.data.reading.pairing import Finding
from segacc.data.regions import Regions, regions_after_resize
from segacc.data.rows import read_row
from segacc.data.value_range import NO_PIXELS, Histograms, histograms, range_of
from segacc.labels import IGNORE, Coding
from segacc.runtime.threads import cores, in_order
from segacc.sizes import Size, width_height

SMALL = 0.0005  # share of foreground below which a mask may be a mistake: 33 pixels at 256 px


@dataclass(frozen=True)
class _Sample:
    """What the checks across files need to know of one image and its mask."""

    split: str
    name: str
    image: str
    mask: str
    image_digest: str
    mask_digest: str
    phash: np.ndarray  # perceptual hash, 64 bits as -1 and 1
    share: float  # of foreground
    background_pixels: int
    foreground_pixels: int
    foreground: int  # its value in the mask's file, 0 where there is none
    was_scaled: bool  # the mask, to its image
    pixels: np.ndarray  # (256,) of each value of the label map
    regions: Regions | None  # what the resize makes of the mask, if that was asked for


@dataclass(frozen=True)
class _UnknownValues:
    """A mask with values that no class owns."""

    mask: str
    pixels: dict[str, int]


def audit(
    dataset: str, reading: Reading = NO_FLAGS, size: Size | None = None
) -> list[AuditFinding]:
    """Everything wrong with a data set; errors first, then warnings and notes.

    Reads every file. `file` is relative to the data set's folder where it has one.

    Args:
        size: px; also say what the resize to this size does to small objects.

    Raises:
        InputError: there is no such data set.
    """
    root, structure, splits, coding = open_for_check(dataset, reading)
    findings = [AuditFinding(f.file, f.problem, "error", "files") for f in structure]
    samples: list[_Sample] = []
    values: defaultdict[str, Histograms] = defaultdict(lambda: NO_PIXELS)
    unknown: dict[str, dict[str, int]] = {}
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(
            total=sum(map(len, splits.values())), desc="checking", unit="img", disable=None
        ) as bar,
    ):
        for split, rows in splits.items():
            examine = partial(_examine, split=split, root=root, size=size, coding=coding)
            for result in in_order(pool, examine, rows):
                bar.update()
                if isinstance(result, AuditFinding):
                    findings.append(result)
                elif isinstance(result, _UnknownValues):
                    unknown[result.mask] = result.pixels
                else:
                    sample, its_values = result
                    samples.append(sample)
                    values[split] += its_values
    if unknown:
        findings.append(AuditFinding("masks", about_unknown(unknown), "error", "unknown values"))
    binary = coding.labels.classes == 2
    for check in (*CHECKS, *BINARY_CHECKS) if binary else CHECKS:
        findings += check(samples)
    if size:
        findings += _small_objects(samples, size)
    if not binary:
        findings += class_balance([(s.split, s.pixels) for s in samples], coding.labels)
    return findings + list(_value_ranges(values))


def open_for_check(
    dataset: str, reading: Reading
) -> tuple[Path | None, tuple[Finding, ...], Mapping[str, Collection[Any]], Coding]:
    """The data set's folder, what is wrong with its names, per split the rows that pair up, and how
    their masks are coded.

    A folder is scanned and not loaded, because loading stops at the first finding.
    """
    from segacc.data.reading.sources import holds_rows, load_dataset, locate, require_no_columns

    folder = locate(dataset)
    if folder is None or holds_rows(folder):
        source = load_dataset(dataset, reading)
        return None, (), source.rows, source.coding
    require_no_columns(folder, reading)
    scan = scan_folder(folder, reading.pairs, class_files(reading, folder))
    for note in scan.notes:
        logging.getLogger("segacc").warning(note)
    coding = coding_of(reading, folder, scan.categories)
    scan = divided(scan, Division(coding, reading.group_by))
    splits = {split: [row_of(pair) for pair in pairs] for split, pairs in scan.pairs.items()}
    return scan.folder, scan.findings, splits, coding


def _examine(
    row: dict[str, Any], split: str, root: Path | None, size: Size | None, coding: Coding
) -> tuple[_Sample, Histograms] | AuditFinding | _UnknownValues:
    def file(column: str) -> str:
        path = row[column]["path"]
        if root is None:
            return path or f"{split}/{row['name']}"
        return os.path.relpath(path, root)

    try:
        pair = read_row(row, coding)
    except DecodeError as error:
        file_name = file("mask" if error.role == "mask" else "image")
        if error.unknown:
            return _UnknownValues(file_name, error.unknown)
        return AuditFinding(file_name, error.problem, "error", "images and masks")
    image, label_map = pair.values, pair.label_map
    values = histograms(pair)
    background = int((label_map == 0).sum())
    sample = _Sample(
        split=split,
        name=row["name"],
        image=file("image"),
        mask=file("mask"),
        image_digest=pixels_digest(image),
        mask_digest=pixels_digest(label_map),
        phash=np.where(perceptual_hash(pair, values), 1, -1).astype(np.float32),
        share=float(((label_map != 0) & (label_map != IGNORE)).mean()),
        background_pixels=background,
        foreground_pixels=label_map.size - background - int((label_map == IGNORE).sum()),
        foreground=pair.foreground,
        was_scaled=pair.was_scaled,
        pixels=pixels_of_classes(label_map),
        regions=regions_after_resize(label_map, width_height(size)[::-1]) if size else None,
    )
    return sample, values


def _same_images(samples: list[_Sample]) -> Iterator[AuditFinding]:
    first_of: dict[str, _Sample] = {}
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


def _similar_images(samples: list[_Sample]) -> Iterator[AuditFinding]:
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


def _scaled_masks(samples: list[_Sample]) -> Iterator[AuditFinding]:
    for sample in samples:
        if sample.was_scaled:
            problem = (
                f"has another size than {sample.image}, with the same proportions, and is scaled: "
                "export it at the size of the image where edges matter"
            )
            yield AuditFinding(sample.mask, problem, "warning", "masks at another scale")


def _mask_values(samples: list[_Sample]) -> Iterator[AuditFinding]:
    values = Counter(sample.foreground for sample in samples if sample.foreground)
    for usual, _ in values.most_common(1):
        for sample in samples:
            if sample.foreground not in (0, usual):
                problem = (
                    f"marks the foreground by {sample.foreground} where most masks do by {usual}: "
                    f"check that {sample.foreground} is not a shade of background"
                )
                yield AuditFinding(sample.mask, problem, "warning", "masks of another convention")


def _mask_shares(samples: list[_Sample]) -> Iterator[AuditFinding]:
    for sample in samples:
        if sample.share == 1:
            problem = "is foreground everywhere: check that it is not inverted or a placeholder"
            yield AuditFinding(sample.mask, problem, "warning", "masks without background")
        elif 0 < sample.share < SMALL:
            problem = (
                f"is foreground on {sample.share:.4%} of the pixels only: check for stray dots"
            )
            yield AuditFinding(sample.mask, problem, "warning", "masks with very little foreground")


def _splits_to_score(samples: list[_Sample]) -> Iterator[AuditFinding]:
    """Splits whose scores can mean nothing, or little. Samples come split by split."""
    for split, group in groupby(samples, key=lambda sample: sample.split):
        inside = list(group)
        masks = Masks(
            [sample.name for sample in inside],
            np.array([sample.background_pixels for sample in inside]),
            np.array([sample.foreground_pixels for sample in inside]),
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


def _small_objects(samples: list[_Sample], size: Size) -> Iterator[AuditFinding]:
    for split, group in groupby(samples, key=lambda sample: sample.split):
        regions = {sample.name: sample.regions for sample in group if sample.regions}
        if problem := lost_in_resize(list(regions), list(regions.values()), size):
            yield AuditFinding(split, problem, "warning", "objects that the resize takes away")


def _value_ranges(values: Mapping[str, Histograms]) -> Iterator[AuditFinding]:
    """The values of images with 16 bits per channel, and what preparing makes of them."""
    deep = {split: found for split, found in values.items() if found.pixels}
    if not deep:
        return
    low, high = range_of(deep["train"] if "train" in deep else sum(deep.values(), NO_PIXELS))
    for split, found in deep.items():
        first, last = found.ends
        problem = (
            f"has values from {first} to {last}; {low}..{high} become 0..255, which holds "
            f"{found.share_within((low, high)):.2%} of the pixels"
        )
        yield AuditFinding(split, problem, "note", "images of 16 bits per channel")


CHECKS = (_same_images, _similar_images, _scaled_masks)
BINARY_CHECKS = (_mask_values, _mask_shares, _splits_to_score)
