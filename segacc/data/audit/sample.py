"""The facts about one image and its mask that the checks need."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segacc.config.sizes import Size, width_height
from segacc.data.audit.findings import AuditFinding
from segacc.data.audit.label_maps import (
    EdgePixels,
    SmallRegions,
    edge_pixels,
    pixels_of_classes,
    small_regions,
)
from segacc.data.reading.decode import DecodeError
from segacc.data.reading.division.looks import perceptual_hash, pixels_digest
from segacc.data.regions import Regions, regions_after_resize
from segacc.data.rows import read_row
from segacc.data.value_range import Histograms, histograms
from segacc.labels import IGNORE, Coding


@dataclass(frozen=True)
class Sample:
    """One image and its mask, without their pixels."""

    split: str
    name: str
    row: int  # its place in the split
    image: str
    mask: str
    shape: tuple[int, int]  # height and width
    image_digest: str
    mask_digest: str
    phash: np.ndarray  # perceptual hash, 64 bits as -1 and 1
    share: float  # of foreground
    background_pixels: int
    foreground_pixels: int
    ignored_pixels: int
    foreground: int  # its value in the mask's file, 0 where there is none
    was_scaled: bool  # the mask, to its image
    pixels: np.ndarray  # (256,) of each value of the label map
    small: SmallRegions
    edges: EdgePixels
    regions: Regions | None  # what the resize makes of the mask, if that was asked for


@dataclass(frozen=True)
class UnknownValues:
    """A mask with values that no class owns."""

    mask: str
    pixels: dict[str, int]


def look_at(
    place: tuple[int, dict[str, Any]],
    split: str,
    root: Path | None,
    size: Size | None,
    coding: Coding,
) -> tuple[Sample, Histograms] | AuditFinding | UnknownValues:
    """Read a row.

    Args:
        place: the row's place in the split, and the row.
        root: the data set's folder, if it has one.

    Returns:
        the sample, and the values of its image; or what is wrong with its files.
    """
    number, row = place

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
            return UnknownValues(file_name, error.unknown)
        return AuditFinding(file_name, error.problem, "error", "images and masks")
    image, label_map = pair.values, pair.label_map
    values = histograms(pair)
    background, ignored = int((label_map == 0).sum()), int((label_map == IGNORE).sum())
    sample = Sample(
        split=split,
        name=row["name"],
        row=number,
        image=file("image"),
        mask=file("mask"),
        shape=(label_map.shape[0], label_map.shape[1]),
        image_digest=pixels_digest(image),
        mask_digest=pixels_digest(label_map),
        phash=np.where(perceptual_hash(pair, values), 1, -1).astype(np.float32),
        share=float(((label_map != 0) & (label_map != IGNORE)).mean()),
        background_pixels=background,
        foreground_pixels=label_map.size - background - ignored,
        ignored_pixels=ignored,
        foreground=pair.foreground,
        was_scaled=pair.was_scaled,
        pixels=pixels_of_classes(label_map),
        small=small_regions(label_map, coding.labels.classes),
        edges=edge_pixels(label_map),
        regions=regions_after_resize(label_map, width_height(size)[::-1]) if size else None,
    )
    return sample, values
