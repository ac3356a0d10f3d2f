"""Decode and resize once -> uint8 Arrow files, memory-mapped and fingerprinted.

A prepared data set is a folder in the cache with one Arrow stream per split.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Generator, Iterable
from contextlib import closing
from functools import partial
from itertools import islice
from multiprocessing import get_start_method
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from segacc.config import cache_dir
from segacc.data.cache import once
from segacc.data.reading.decode import DecodeError, Encoded, decode_pair
from segacc.data.split import Prepared, _digest, open_split
from segacc.errors import InputError
from segacc.runtime.threads import cores

if TYPE_CHECKING:
    from datasets import DatasetDict

VERSION = 1  # of what a prepared file holds; it is part of the cache's key
BATCH_BYTES = 16 << 20  # of pixels in a record batch, which bounds the memory of preparing


def prepare(source: DatasetDict, size: int) -> Prepared:
    """`source`, {image, mask, name} with `datasets.Image(decode=False)`, at `size` x `size`.

    What was prepared before is found in the cache by the files' names, sizes and times, without
    reading them. Of many processes one prepares, the others wait for it.

    Raises:
        InputError: a split is empty; a file cannot be used (the first is named, all are counted);
            the cache cannot be written.
    """
    for name, rows in source.items():
        if len(rows) == 0:
            raise InputError(f"the split {name} holds no images; it needs at least one")
    folder = cache_dir() / "prepared" / _key(source, size)
    once(folder, partial(_fill, source=source, size=size))
    splits = {name: open_split(folder / f"{name}.arrow") for name in source}
    fingerprint = _digest(size, sorted((name, s.fingerprint) for name, s in splits.items()))
    return Prepared(splits, fingerprint.hex(), size)


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """Image (H, W, 3) uint8 -> (size, size, 3); untouched where it has that size.

    Pillow's bicubic filter widens with the scale, so that shrinking does not alias. Of the filters
    measured on tissue and street images it lost the least but for Lanczos, which rings and costs
    half as much again; OpenCV's area filter let through twice the amplitude above the new Nyquist
    frequency, and aliases fully where one side shrinks and the other grows. Pillow computes in
    integers, so the bytes are the same on every machine.
    """
    # The gap speeds up photos that shrink by more than 6 and changes nothing else.
    resized = Image.fromarray(image).resize(
        (size, size), Image.Resampling.BICUBIC, reducing_gap=3.0
    )
    return np.asarray(resized)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Mask (H, W) uint8 -> (size, size): each pixel is the nearest of the pixel centres."""
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def decode_row(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """`decode_pair` of a row {image, mask, name}; embedded files go by the row's name."""
    return decode_pair(_named(row["image"], row["name"]), _named(row["mask"], row["name"]))


def _named(encoded: Encoded, name: str) -> Encoded:
    return encoded if encoded["path"] else {"path": name, "bytes": encoded["bytes"]}


def _key(source: DatasetDict, size: int) -> str:
    digest = hashlib.sha256(_digest(VERSION, size))
    for split, rows in source.items():
        for row in rows:
            files = [_identity(_named(row[column], row["name"])) for column in ("image", "mask")]
            digest.update(_digest(split, row["name"], files))
    return digest.hexdigest()[:32]


def _identity(encoded: Encoded) -> list[str | int]:
    """What changes when the file does, without reading the file."""
    assert encoded["path"] is not None
    if encoded["bytes"] is not None:
        return [hashlib.sha256(encoded["bytes"]).hexdigest()]
    try:
        stat = os.stat(encoded["path"])
    except OSError:
        return [encoded["path"]]  # decoding says what is wrong with it
    return [encoded["path"], stat.st_size, stat.st_mtime_ns]


def _fill(folder: Path, source: DatasetDict, size: int) -> None:
    count = sum(len(rows) for rows in source.values())
    needed = count * size * size * 4
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{count} images at {size} px need {needed / 1e9:.1f} GB in the cache {cache_dir()}, "
            f"which has {free / 1e9:.1f} GB free; set SEGACC_CACHE to a folder on a larger disk"
        )
    logging.getLogger("segacc").info("preparing %d images at %d px, once", count, size)
    errors: list[DecodeError] = []
    with (
        tqdm(total=count, desc=f"preparing at {size} px", unit="img", disable=None) as bar,
        closing(_prepared_rows(source, size)) as prepared,
    ):
        for name, rows in source.items():
            own = islice(prepared, len(rows))
            errors += _write_split(folder / f"{name}.arrow", own, size, bar)
    if errors:
        more = f" ({len(errors)} files cannot be used: run `segacc check DATASET` to list all)"
        raise InputError(f"{errors[0]}{more if len(errors) > 1 else ''}")


def _write_split(
    path: Path, rows: Iterable[dict[str, Any] | DecodeError], size: int, bar: tqdm[Any]
) -> list[DecodeError]:
    """Writes the split in bounded memory; goes on after an error, to find all of them."""
    schema = pa.schema(
        {
            "image": pa.binary(size * size * 3),
            "mask": pa.binary(size * size),
            "name": pa.string(),
            "height": pa.int32(),
            "width": pa.int32(),
            "digest": pa.binary(32),
        },
        metadata={"size": str(size)},
    )
    errors: list[DecodeError] = []
    done: list[dict[str, Any]] = []
    batch = max(1, BATCH_BYTES // (size * size * 4))
    with open(path, "wb") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for row in rows:
                bar.update()
                if isinstance(row, DecodeError):
                    errors.append(row)
                else:
                    done.append(row)
                if len(done) == batch:
                    writer.write_batch(pa.RecordBatch.from_pylist(done, schema=schema))
                    done = []
            if done:
                writer.write_batch(pa.RecordBatch.from_pylist(done, schema=schema))
        file.flush()
        os.fsync(file.fileno())
    return errors


def _prepared_rows(
    source: DatasetDict, size: int
) -> Generator[dict[str, Any] | DecodeError, None, None]:
    """The rows of all splits in order, from processes on all cores: threads would wait for
    Python's lock, with small images most of the time."""
    import torch
    from torch.utils.data import ConcatDataset, DataLoader

    from segacc.data.loading.workers import start_worker, worker_context

    rows: ConcatDataset[Any] = ConcatDataset(source.values())
    repays = 16 if get_start_method() == "fork" else 1000  # images; others import torch again
    workers = min(cores(), len(rows) // repays)
    chunk = min(len(rows) // (8 * workers), (1 << 20) // (size * size * 4), 16) if workers else 1
    loader = DataLoader(
        rows,
        batch_size=max(1, chunk),
        num_workers=workers,
        collate_fn=partial(_prepare_rows, size=size),
        multiprocessing_context=worker_context() if workers else None,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # what is drawn for the workers is not taken from training
    )
    for some in loader:
        yield from some


def _prepare_rows(rows: list[dict[str, Any]], size: int) -> list[dict[str, Any] | DecodeError]:
    return [_prepare_row(row, size) for row in rows]


def _prepare_row(row: dict[str, Any], size: int) -> dict[str, Any] | DecodeError:
    try:
        pixels, labels = decode_row(row)
    except DecodeError as error:
        return error
    image_bytes = resize_image(pixels, size).tobytes()
    mask_bytes = resize_mask(labels, size).tobytes()
    return {
        "image": image_bytes,
        "mask": mask_bytes,
        "name": row["name"],
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "digest": hashlib.sha256(image_bytes + mask_bytes).digest(),
    }
