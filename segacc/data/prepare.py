"""prepare(): decode and resize all images and masks once.

A prepared data set is a folder in the cache with one Arrow stream per split, which `open_split`
maps into memory. The folder is named by what is in it, and a small file beside it says which folder
was made of which source files. So sources of equal content share one folder.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from segacc.config.sizes import AnySize, Size, size_in_words, width_height
from segacc.data import store
from segacc.data.cache import cache_dir, once_by_content
from segacc.data.reading.alignment import about_scaled
from segacc.data.reading.decode import CHANNELS, DecodeError
from segacc.data.reading.depth import ValueRange, to_8_bits
from segacc.data.reading.masks import about_doubt, about_unknown
from segacc.data.regions import regions_after_resize
from segacc.data.rows import (
    Remarks,
    Source,
    file_identity,
    in_processes,
    named,
    read_row,
    without_remarks,
)
from segacc.data.split import Prepared, _digest, write_split
from segacc.data.store import describe, open_prepared, prepared_dir
from segacc.data.value_range import find_range
from segacc.errors import InputError
from segacc.labels import BINARY_CODING, IGNORE, Coding
from segacc.runtime.bars import make_bar

if TYPE_CHECKING:
    from datasets import DatasetDict

PIXEL_BYTES = CHANNELS + 1  # of a prepared pixel and its label
UNKNOWN_BYTES = 1 << 20  # for an image of native size; processes then get one at a time


@dataclass(frozen=True)
class _Recipe:
    """The settings that a prepared set depends on, besides its source; as `prepare` takes them."""

    size: AnySize
    value_range: ValueRange | None
    coding: Coding

    def digest(self) -> bytes:
        """Return a digest of the settings."""
        parts: list[Any] = [self.size, self.value_range, self.coding.binarise]
        more = [] if self.coding == BINARY_CODING else [astuple(self.coding)]
        return _digest(store.VERSION, parts, *more)


def prepare(source: Source, size: AnySize, value_range: ValueRange | None = None) -> Prepared:
    """Prepare the data set `source` at a size, or take it from the cache.

    It is found there by the files' names, sizes and times, without reading them. If there are many
    processes, one prepares, and the others wait for it.

    Args:
        value_range: the values of images with 16 bits per channel that become 0 and 255; None is
            the range of the training split (`segacc.data.value_range`). It changes no image of 8
            bits.

    Raises:
        InputError: a split is empty; a file cannot be used (the first is named, all are counted);
            the cache cannot be written.
    """
    for name, rows in source.rows.items():
        if len(rows) == 0:
            raise InputError(f"the split {name} holds no images; it needs at least one")
    recipe = _Recipe(size, None, source.coding)
    prepared = _prepared(source, recipe)
    own_range = prepared.own_range
    if value_range is None or own_range in (None, value_range):
        return prepared
    in_given = _prepared(source, replace(recipe, value_range=value_range))
    return replace(in_given, own_range=own_range)


def _prepared(source: Source, recipe: _Recipe) -> Prepared:
    key = prepared_dir() / f"{_key(source.rows, recipe)}.key"
    fill = partial(_fill, source=source, recipe=recipe)
    folder = once_by_content(key, fill)
    try:
        return open_prepared(folder)
    except FileNotFoundError:  # pruned at this moment, or a file was deleted by hand: make it again
        shutil.rmtree(folder, ignore_errors=True)
        return open_prepared(once_by_content(key, fill))


def resize_image(image: np.ndarray, size: AnySize) -> np.ndarray:
    """Resize an image (H, W, 3) uint8; one of that size stays as it is.

    The filter is Pillow's bicubic one. It widens with the scale, so that shrinking does not alias.
    On tissue and street images only Lanczos lost less, but it rings and takes half as long again.
    OpenCV's area filter let through twice the amplitude above the new Nyquist frequency, and it
    aliases fully where one side shrinks and the other grows. Pillow computes in integers, so the
    bytes are the same on every machine.
    """
    if isinstance(size, str):
        return image
    # `reducing_gap` makes photos that shrink by more than 6 faster, and changes no other image.
    resized = Image.fromarray(image).resize(
        width_height(size), Image.Resampling.BICUBIC, reducing_gap=3.0
    )
    return np.asarray(resized)


def resize_label_map(label_map: np.ndarray, size: AnySize) -> np.ndarray:
    """Resize a label map (H, W) uint8: each pixel takes the nearest one's label."""
    if isinstance(size, str):
        return label_map
    sides = width_height(size)
    return np.asarray(Image.fromarray(label_map).resize(sides, Image.Resampling.NEAREST))


def _key(splits: DatasetDict, recipe: _Recipe) -> str:
    digest = hashlib.sha256(recipe.digest())
    for split, rows in splits.items():
        for row in rows:
            files = [file_identity(named(row[column], row["name"])) for column in ("image", "mask")]
            digest.update(_digest(split, row["name"], files))
    return digest.hexdigest()[:32]


def _fill(folder: Path, source: Source, recipe: _Recipe) -> str:
    """Write the prepared splits into a folder.

    Returns:
        the folder's name.
    """
    size, count = recipe.size, sum(len(rows) for rows in source.rows.values())
    # How much images of native size need is known once they are read.
    needed = 0 if isinstance(size, str) else count * _bytes_at(size)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{count} images at {size_in_words(size)} need {needed / 1e9:.1f} GB in the cache "
            f"{cache_dir()}, which has {free / 1e9:.1f} GB free; set SEGACC_CACHE to a folder on a "
            "larger disk"
        )
    logging.getLogger("segacc").info(f"preparing {count} images at {size_in_words(size)}, once")
    try:
        errors = _write_splits(folder, source.rows, recipe)
    except _RangeNeededError:
        found = find_range(source)
        errors = _write_splits(folder, source.rows, replace(recipe, value_range=found))
    unknown = {error.file: error.unknown for error in errors if error.unknown}
    if unknown and len(unknown) == len(errors):
        raise InputError(about_unknown(unknown))
    if errors:
        more = f" ({len(errors)} files cannot be used: run `segacc check DATASET` to list all)"
        raise InputError(f"{errors[0]}{more if len(errors) > 1 else ''}")
    return describe(folder, source, size)


def _write_splits(folder: Path, splits: DatasetDict, recipe: _Recipe) -> list[DecodeError]:
    size = recipe.size
    errors: list[DecodeError] = []
    remarks = Remarks()
    rows = in_processes(
        partial(_prepare_rows, recipe=recipe),
        list(splits.values()),
        UNKNOWN_BYTES if isinstance(size, str) else _bytes_at(size),
    )
    total, doing = sum(map(len, splits.values())), f"preparing at {size_in_words(size)}"
    with (
        make_bar(total=total, desc=doing, unit="img") as bar,
        closing(rows) as prepared,
    ):
        for name, its_rows in splits.items():
            own = without_remarks(islice(prepared, len(its_rows)), name, remarks)
            path = folder / f"{name}.arrow"
            errors += write_split(path, own, size, CHANNELS, bar, recipe.value_range)
    binarise = recipe.coding.binarise
    if binarise and remarks.in_doubt and not errors:
        logging.getLogger("segacc").warning(about_doubt(binarise, remarks.in_doubt))
    if remarks.scaled and not errors:
        logging.getLogger("segacc").warning(about_scaled(remarks.scaled))
    return errors


def _bytes_at(size: Size) -> int:
    """Return the bytes that an image takes with its labels."""
    return math.prod(width_height(size)) * PIXEL_BYTES


class _RangeNeededError(Exception):
    """There is an image with 16 bits per channel, whose range of values is not known."""


def _prepare_rows(
    rows: list[dict[str, Any]], recipe: _Recipe
) -> list[dict[str, Any] | DecodeError]:
    return [_prepare_row(row, recipe) for row in rows]


def _prepare_row(row: dict[str, Any], recipe: _Recipe) -> dict[str, Any] | DecodeError:
    size, value_range = recipe.size, recipe.value_range
    try:
        pair = read_row(row, recipe.coding)
    except DecodeError as error:
        return error
    if pair.is_deep and value_range is None:
        raise _RangeNeededError
    image = pair.values if value_range is None else to_8_bits(pair.values, value_range)
    resized = resize_image(image, size), resize_label_map(pair.label_map, size)
    remarks = {"in_doubt": pair.in_doubt, "was_scaled": pair.was_scaled}
    return prepared_row(*resized, row["name"], pair.label_map) | remarks


def prepared_row(
    image: np.ndarray, label_map: np.ndarray, name: str, whole: np.ndarray
) -> dict[str, Any]:
    """Return the row of a sample in a prepared split.

    Args:
        image: (H, W, C) uint8.
        label_map: (H, W) uint8.
        whole: uint8, the label map before the resize.
    """
    image_bytes, mask_bytes = image.tobytes(), label_map.tobytes()
    digest = hashlib.sha256(image_bytes)
    image_digest = digest.digest()[:8]
    digest.update(mask_bytes)
    regions = regions_after_resize(whole, label_map.shape)
    background, ignored = int((label_map == 0).sum()), int((label_map == IGNORE).sum())
    return {
        "image": image_bytes,
        "mask": mask_bytes,
        "name": name,
        "height": whole.shape[0],
        "width": whole.shape[1],
        "digest": digest.digest(),
        "image_digest": image_digest,
        "background": background,
        "foreground": label_map.size - background - ignored,
        **{f"regions_{name}": value for name, value in asdict(regions).items()},
    }
