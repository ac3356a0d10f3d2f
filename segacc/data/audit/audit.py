"""audit(): everything that can be wrong with a data set, as findings with file names."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from segacc.data.reading.convert import scan_folder
from segacc.data.reading.decode import DecodeError, Encoded
from segacc.data.reading.depth import to_8_bits
from segacc.data.reading.pairing import Finding, Pair
from segacc.data.rows import read_row
from segacc.data.value_range import histograms, range_of
from segacc.labels import FOREGROUND
from segacc.runtime.threads import cores, in_order

# Bits of 64 in which the perceptual hashes of two look-alikes may differ. Encoding, resizing,
# brightening or cropping by 1 % changes up to 8 bits. Of unrelated images in the tissue and street
# sets the two most similar ones differ in 16.
NEAR = 8
SMALL = 0.0005  # share of foreground below which a mask may be a mistake: 33 pixels at 256 px

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class AuditFinding(Finding):
    """A finding with its group. An error stops `prepare`; a warning makes scores doubtful."""

    severity: Severity
    topic: str


@dataclass(frozen=True)
class _Sample:
    """What the checks across files need to know of one image and its mask."""

    split: str
    image: str
    mask: str
    image_digest: bytes
    mask_digest: bytes
    phash: np.ndarray  # perceptual hash, 64 bits as -1 and 1
    share: float  # of foreground
    foreground: int  # its value in the mask's file, 0 where there is none


def audit(dataset: str, pairs: Sequence[str] = ()) -> list[AuditFinding]:
    """Everything wrong with the data set that `--dataset` and `--pairs` name; errors first, then
    warnings.

    Reads every file. `file` is relative to the data set's folder where it has one.

    Raises:
        InputError: there is no such data set.
    """
    root, structure, splits = _open(dataset, pairs)
    findings = [AuditFinding(f.file, f.problem, "error", "files") for f in structure]
    samples: list[_Sample] = []
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(
            total=sum(map(len, splits.values())), desc="checking", unit="img", disable=None
        ) as bar,
    ):
        for split, rows in splits.items():
            for result in in_order(pool, partial(_examine, split=split, root=root), rows):
                bar.update()
                if isinstance(result, _Sample):
                    samples.append(result)
                else:
                    findings.append(result)
    for check in (_same_images, _similar_images, _mask_values, _mask_shares):
        findings += check(samples)
    return findings


def format_findings(findings: list[AuditFinding]) -> str:
    """The findings for a terminal: grouped, counted, every file named."""
    lines: list[str] = []
    for severity in ("error", "warning"):
        topics: defaultdict[str, list[AuditFinding]] = defaultdict(list)
        for finding in findings:
            if finding.severity == severity:
                topics[finding.topic].append(finding)
        for topic, group in topics.items():
            lines.append(f"{severity}: {topic} ({len(group)})")
            lines += [f"  {finding.file}: {finding.problem}" for finding in group]
    counts = Counter(finding.severity for finding in findings)
    return "\n".join([*lines, f"errors: {counts['error']}, warnings: {counts['warning']}"])


def _open(
    dataset: str, pairs: Sequence[str]
) -> tuple[Path | None, tuple[Finding, ...], Mapping[str, Collection[Any]]]:
    """The data set's folder, what is wrong with its names, and per split the rows that pair up.

    A folder is scanned and not loaded, because loading stops at the first finding.
    """
    from segacc.data.reading.sources import holds_rows, load_dataset, locate

    folder = locate(dataset)
    if folder is None or holds_rows(folder):
        return None, (), load_dataset(dataset, pairs)
    scan = scan_folder(folder, pairs)
    for note in scan.notes:
        logging.getLogger("segacc").warning(note)
    splits = {split: [_row(pair) for pair in pairs] for split, pairs in scan.pairs.items()}
    return scan.folder, scan.findings, splits


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "name": pair.name,
        "image": Encoded(path=pair.image, bytes=None),
        "mask": Encoded(path=pair.mask, bytes=None),
    }


def _examine(row: dict[str, Any], split: str, root: Path | None) -> _Sample | AuditFinding:
    import imagehash

    def file(column: str) -> str:
        path = row[column]["path"]
        if root is None or row[column]["bytes"] is not None:
            return path or f"{split}/{row['name']}"
        return os.path.relpath(path, root)

    try:
        pair = read_row(row)
    except DecodeError as error:
        file_name = file("mask" if error.role == "mask" else "image")
        return AuditFinding(file_name, error.problem, "error", "images and masks")
    image, label_map = pair.values, pair.label_map
    shown = to_8_bits(image, range_of(histograms(pair))) if pair.is_deep else image
    bits = imagehash.phash(Image.fromarray(shown)).hash.ravel()
    return _Sample(
        split=split,
        image=file("image"),
        mask=file("mask"),
        image_digest=_digest(image),
        mask_digest=_digest(label_map),
        phash=np.where(bits, 1, -1).astype(np.float32),
        share=float((label_map == FOREGROUND).mean()),
        foreground=pair.foreground,
    )


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()


def _same_images(samples: list[_Sample]) -> Iterator[AuditFinding]:
    first_of: dict[bytes, _Sample] = {}
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
    shares: defaultdict[str, list[float]] = defaultdict(list)
    for sample in samples:
        shares[sample.split].append(sample.share)
        if sample.share == 1:
            problem = "is foreground everywhere: check that it is not inverted or a placeholder"
            yield AuditFinding(sample.mask, problem, "warning", "masks without background")
        elif 0 < sample.share < SMALL:
            problem = (
                f"is foreground on {sample.share:.4%} of the pixels only: check for stray dots"
            )
            yield AuditFinding(sample.mask, problem, "warning", "masks with very little foreground")
    for split, of_split in shares.items():
        if empty := of_split.count(0):
            problem = (
                f"{empty} of its {len(of_split)} masks are empty ({empty / len(of_split):.0%})"
            )
            yield AuditFinding(split, problem, "warning", "empty masks")
