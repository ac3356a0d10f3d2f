"""Rows of a data set {image, mask, name}: read one, or work on many in processes on all cores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_start_method
from typing import TYPE_CHECKING, Any, TypeVar

from segacc.data.reading.decode import Decoded, DecodeError, Encoded, read_pair
from segacc.data.reading.pairing import Pair
from segacc.labels import BINARY_CODING, Coding, Labels
from segacc.runtime.threads import cores

if TYPE_CHECKING:
    from datasets import DatasetDict

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Source:
    """A data set that is not prepared."""

    rows: DatasetDict
    """splits of {image, mask, name}, with `datasets.Image(decode=False)`"""
    coding: Coding = BINARY_CODING
    """what the masks mean"""

    @property
    def labels(self) -> Labels:
        """The classes."""
        return self.coding.labels


def row_of(pair: Pair) -> dict[str, Any]:
    """A row {image, mask, name} of encoded files."""
    return {
        "image": Encoded(path=pair.image, bytes=None),
        "mask": Encoded(path=pair.mask, bytes=pair.shapes),
        "name": pair.name,
    }


def read_row(row: dict[str, Any], coding: Coding = BINARY_CODING) -> Decoded:
    """`read_pair` of a row {image, mask, name}. Errors name a file that is embedded in the data
    set, and so has no path, by the row's name."""
    image, mask = (named(row[column], row["name"]) for column in ("image", "mask"))
    return read_pair(image, mask, coding)


def named(encoded: Encoded, name: str) -> Encoded:
    """The file, under the row's name where it has no path."""
    return encoded if encoded["path"] else {"path": name, "bytes": encoded["bytes"]}


def file_identity(encoded: Encoded) -> list[str | int]:
    """Return values that change when the file changes, without reading the file."""
    assert encoded["path"] is not None
    if encoded["bytes"] is not None:
        return [hashlib.sha256(encoded["bytes"]).hexdigest()]
    try:
        stat = os.stat(encoded["path"])
    except OSError:
        return [encoded["path"]]  # decoding says what is wrong with it
    return [encoded["path"], stat.st_size, stat.st_mtime_ns]


@dataclass
class Remarks:
    """What to report on masks once all are read, by split and name."""

    in_doubt: dict[str, float] = field(default_factory=dict)
    """`Decoded.in_doubt`, where that is not None"""
    scaled: list[str] = field(default_factory=list)
    """the masks that were scaled to their images"""


def without_remarks(
    rows: Iterable[dict[str, Any] | DecodeError], split: str, remarks: Remarks
) -> Iterator[dict[str, Any] | DecodeError]:
    """Yield the prepared rows; what to report on their masks goes into `remarks`."""
    for row in rows:
        if isinstance(row, dict):
            name, in_doubt = f"{split}/{row['name']}", row.pop("in_doubt")
            if in_doubt is not None:
                remarks.in_doubt[name] = in_doubt
            if row.pop("was_scaled"):
                remarks.scaled.append(name)
        yield row


def in_processes(
    function: Callable[[list[dict[str, Any]]], list[T]], sources: list[Any], row_bytes: int
) -> Generator[T, None, None]:
    """Yield what `function` makes of the rows of all sources, in order. Processes on all cores call
    it: threads would wait for Python's lock, with small images most of the time.

    Args:
        function: takes some rows, and returns a list.
        row_bytes: bytes of a result, which bound the number of rows that are given at once.
    """
    import torch
    from torch.utils.data import ConcatDataset, DataLoader

    from segacc.data.loading.workers import start_worker, worker_context

    rows: ConcatDataset[Any] = ConcatDataset(sources)
    # A process that is not forked imports torch first, which takes as long as many images.
    least_images = 16 if get_start_method() == "fork" else 1000
    workers = min(cores(), len(rows) // least_images)
    chunk = min(len(rows) // (8 * workers), (1 << 20) // row_bytes, 16) if workers else 1
    loader = DataLoader(
        rows,
        batch_size=max(1, chunk),
        num_workers=workers,
        collate_fn=function,
        multiprocessing_context=worker_context() if workers else None,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # so that no random number is taken from training
    )
    for some in loader:
        yield from some
