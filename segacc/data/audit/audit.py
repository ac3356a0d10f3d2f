"""audit(): everything that can be wrong with a data set, as findings with file names."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from segacc.config.options import NO_FLAGS, Reading
from segacc.config.sizes import Size
from segacc.data.audit.checks import BINARY_CHECKS, CHECKS
from segacc.data.audit.classes import class_balance, odd_regions, smeared_masks
from segacc.data.audit.findings import AuditFinding
from segacc.data.audit.sample import Sample, UnknownValues, look_at
from segacc.data.classes.choose import class_files, coding_of
from segacc.data.content import lost_in_resize
from segacc.data.reading.convert import divided, scan_folder
from segacc.data.reading.depth import WHOLE, ValueRange
from segacc.data.reading.division.divide import Division
from segacc.data.reading.masks import about_unknown
from segacc.data.reading.pairing import Finding
from segacc.data.rows import row_of
from segacc.data.value_range import NO_PIXELS, Histograms, range_of
from segacc.labels import Coding
from segacc.runtime.bars import make_bar
from segacc.runtime.threads import cores, in_order


@dataclass(frozen=True)
class Audit:
    """A data set that was checked, and what was found."""

    findings: list[AuditFinding]
    samples: list[Sample]
    """one for each image and mask that can be read, split by split"""
    splits: Mapping[str, Sequence[dict[str, Any]]]
    """the rows of each split"""
    coding: Coding
    value_range: ValueRange
    """for images with 16 bits per channel: the values that become 0 and 255"""


def audit(dataset: str, reading: Reading = NO_FLAGS, size: Size | None = None) -> Audit:
    """Find everything that is wrong with a data set.

    Reads every file. The `file` of a finding is relative to the data set's folder where it has one.

    Args:
        size: px; also say what the resize to this size does to small objects.

    Raises:
        InputError: there is no such data set.
    """
    root, structure, splits, coding = open_for_check(dataset, reading)
    findings = [AuditFinding(f.file, f.problem, "error", "files") for f in structure]
    samples: list[Sample] = []
    values: defaultdict[str, Histograms] = defaultdict(lambda: NO_PIXELS)
    unknown: dict[str, dict[str, int]] = {}
    with (
        ThreadPoolExecutor(cores()) as pool,
        make_bar(total=sum(map(len, splits.values())), desc="checking", unit="img") as bar,
    ):
        for split, rows in splits.items():
            look = partial(look_at, split=split, root=root, size=size, coding=coding)
            for result in in_order(pool, look, list(enumerate(rows))):
                bar.update()
                if isinstance(result, AuditFinding):
                    findings.append(result)
                elif isinstance(result, UnknownValues):
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
        findings += smeared_masks(samples) if coding.values else []
    findings += odd_regions(samples, coding.labels)
    findings += _value_ranges(values)
    return Audit(findings, samples, splits, coding, _range_of(values))


def open_for_check(
    dataset: str, reading: Reading
) -> tuple[Path | None, tuple[Finding, ...], Mapping[str, Sequence[dict[str, Any]]], Coding]:
    """Return the data set's folder, what is wrong with its names, the rows of each split that pair
    up, and how their masks are coded.

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
    scan = divided(scan, Division(coding, reading.group_by, reading.fold))
    splits = {split: [row_of(pair) for pair in pairs] for split, pairs in scan.pairs.items()}
    return scan.folder, scan.findings, splits, coding


def _small_objects(samples: list[Sample], size: Size) -> Iterator[AuditFinding]:
    for split, group in groupby(samples, key=lambda sample: sample.split):
        regions = {sample.name: sample.regions for sample in group if sample.regions}
        if problem := lost_in_resize(list(regions), list(regions.values()), size):
            yield AuditFinding(split, problem, "warning", "objects that the resize takes away")


def _range_of(values: Mapping[str, Histograms]) -> ValueRange:
    deep = {split: found for split, found in values.items() if found.pixels}
    if not deep:
        return WHOLE
    return range_of(deep["train"] if "train" in deep else sum(deep.values(), NO_PIXELS))


def _value_ranges(values: Mapping[str, Histograms]) -> Iterator[AuditFinding]:
    """Report the values of images with 16 bits per channel, and how preparing scales them."""
    deep = {split: found for split, found in values.items() if found.pixels}
    low, high = _range_of(values)
    for split, found in deep.items():
        first, last = found.ends
        problem = (
            f"has values from {first} to {last}; {low}..{high} become 0..255, which holds "
            f"{found.share_within((low, high)):.2%} of the pixels"
        )
        yield AuditFinding(split, problem, "note", "images of 16 bits per channel")
