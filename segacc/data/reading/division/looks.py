"""What the images of a set look like: hashes that recognise equal images and look-alikes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segacc.data.cache import cache_dir, once
from segacc.data.reading.decode import Decoded, DecodeError
from segacc.data.reading.depth import to_8_bits
from segacc.data.rows import file_identity, named, read_row
from segacc.data.value_range import Histograms, histograms, range_of
from segacc.labels import IGNORE, Coding
from segacc.runtime.bars import make_bar
from segacc.runtime.threads import cores, in_order

# Bits of 64 in which the perceptual hashes of two look-alikes may differ. Encoding, resizing,
# brightening or cropping by 1 % changes up to 8 bits. Of unrelated images in the tissue and street
# sets the two most similar ones differ in 16.
NEAR = 8
VERSION = 1
"""the version of what is stored in the cache"""
FILE = "looks.json"


@dataclass(frozen=True)
class Look:
    """What an image looks like, and what is in its mask."""

    bits: int
    """the perceptual hash, of 64 bits"""
    digest: str
    """a digest of the pixels"""
    classes: tuple[int, ...]
    """the classes that have a pixel, in increasing order"""


def perceptual_hash(pair: Decoded, values: Histograms) -> np.ndarray:
    """(64,) bool: the perceptual hash of an image.

    Args:
        values: `histograms` of the pair.
    """
    import imagehash

    shown = to_8_bits(pair.values, range_of(values)) if pair.is_deep else pair.values
    bits: np.ndarray = imagehash.phash(Image.fromarray(shown)).hash.ravel()
    return bits


def pixels_digest(pixels: np.ndarray) -> str:
    """Hex digits that are equal for equal pixels of equal shape."""
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def looks_of(rows: Collection[dict[str, Any]], coding: Coding) -> list[Look | None]:
    """Find what the images look like; None for those that cannot be read. Each file is read only
    once: the result is cached, and a changed file is recognised by its time and size.

    Args:
        rows: {image, mask, name}, with encoded files.

    Raises:
        InputError: the cache cannot be written.
    """
    key = hashlib.sha256(f"{VERSION} {coding}".encode())
    for row in rows:
        files = [file_identity(named(row[column], row["name"])) for column in ("image", "mask")]
        key.update(json.dumps([row["name"], files]).encode())
    folder = cache_dir() / "looks" / key.hexdigest()[:32]
    folder = once(folder, partial(_write, rows=rows, coding=coding))
    found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return [one and Look(one["bits"], one["digest"], tuple(one["classes"])) for one in found]


def _write(folder: Path, rows: Collection[dict[str, Any]], coding: Coding) -> None:
    logging.getLogger("segacc").info(f"looking for look-alikes among {len(rows)} images, once")
    with (
        ThreadPoolExecutor(cores()) as pool,
        make_bar(total=len(rows), desc="looking for look-alikes", unit="img") as bar,
    ):
        found = []
        for look in in_order(pool, partial(_look, coding=coding), rows):
            found.append(look and asdict(look))
            bar.update()
    (folder / FILE).write_text(json.dumps(found), encoding="utf-8")


def _look(row: dict[str, Any], coding: Coding) -> Look | None:
    try:
        pair = read_row(row, coding)
    except DecodeError:  # which preparing and `segacc check` report
        return None
    bits = np.packbits(perceptual_hash(pair, histograms(pair)))
    classes = np.flatnonzero(np.bincount(pair.label_map.ravel(), minlength=256)).tolist()
    return Look(
        bits=int.from_bytes(bits.tobytes(), "big"),
        digest=pixels_digest(pair.values),
        classes=tuple(number for number in classes if number != IGNORE),
    )
