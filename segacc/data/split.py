"""A prepared split: samples in a memory-mapped Arrow file."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from segacc.data.reading.decode import DecodeError
from segacc.data.reading.depth import ValueRange
from segacc.data.regions import Regions
from segacc.labels import Labels
from segacc.sizes import Size, parse_size, size_text, width_height

COUNTED = ("background", "foreground", *(f"regions_{field.name}" for field in fields(Regions)))
"""Columns of numbers that a prepared file has of each mask."""
BATCH_BYTES = 16 << 20  # of pixels in a record batch, which bounds the memory of preparing


@dataclass(frozen=True, eq=False)
class Split:
    """Prepared samples of one split; `split[i]` is (image, label map).

    The image is (H, W, C) uint8 in 0..255, the label map (H, W) uint8 (`segacc.labels`). Both are
    read-only views on the memory-mapped file. A split is pickled as its path alone, so it costs
    nothing to hand it to the workers of a DataLoader.
    """

    path: Path
    height: int  # H
    width: int  # W
    channels: int  # C
    names: list[str]
    sizes: np.ndarray  # (N, 2) int32: height and width before the resize
    background: np.ndarray  # (N,) int32: pixels of background after the resize
    foreground: np.ndarray  # (N,) int32: of all other classes; ignored pixels are in neither
    regions: list[Regions]  # what the resize made of the foreground
    value_range: ValueRange | None  # by which 16 bits were made 8; None where there are none
    fingerprint: str  # of pixels and names, in order
    images: list[str]  # 16 hex digits of a hash of each image's pixels, without its mask
    _images: list[np.ndarray]  # a record batch each; all but the last have the same length
    _label_maps: list[np.ndarray]
    _mapped: mmap.mmap

    @property
    def bytes_of_image(self) -> int:
        """What an image takes with its labels."""
        return self.height * self.width * (self.channels + 1)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch, row = divmod(index, len(self._images[0]))
        return self._images[batch][row], self._label_maps[batch][row]

    def forget(self) -> None:
        """Give back the memory of the pixels that were read, which would otherwise grow to the size
        of the file. Arrays stay valid: their pixels are read again, from the file or from where the
        system has kept them."""
        self._mapped.madvise(mmap.MADV_DONTNEED)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_split, (self.path,)


@dataclass(frozen=True)
class Prepared:
    """A data set, at one size.

    The fingerprint is that of pixels and names. It does not depend on paths, on the machine or on
    the number of processes that prepared the data.
    """

    splits: dict[str, Split]
    fingerprint: str
    size: Size
    labels: Labels
    own_range: ValueRange | None = None
    """of images with 16 bits per channel: what `prepare` finds for this data set. They are scaled
    by `value_range`, which is another one if it was given."""

    @property
    def value_range(self) -> ValueRange | None:
        """By which images with 16 bits per channel were scaled; None where there are none."""
        return next(iter(self.splits.values())).value_range

    @property
    def channels(self) -> int:
        """Channels of every image."""
        return next(iter(self.splits.values())).channels


def open_split(path: Path) -> Split:
    """Map the file of a prepared split; only names and sizes are read, no pixels.

    As long as it is mapped, by this process or one that it has forked, `segacc cache --prune` does
    not remove it.

    Raises:
        FileNotFoundError: it is not there, or it was removed at this moment.
    """
    with path.open("rb") as file:
        with suppress(OSError):  # a disk without locks
            fcntl.flock(file, fcntl.LOCK_SH)  # held by the map, which has a copy of the descriptor
        if os.fstat(file.fileno()).st_nlink == 0:
            raise FileNotFoundError(path)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with pa.ipc.open_stream(pa.py_buffer(mapped)) as reader:
        width, height = width_height(parse_size([reader.schema.metadata[b"size"].decode()]))
        ends = reader.schema.metadata.get(b"value_range", b"").split()
        channels = reader.schema.field("image").type.byte_width // (height * width)
        batches = list(reader)
    table = pa.Table.from_batches(batches).drop_columns(["image", "mask"]).to_pydict()
    return Split(
        path=path,
        height=height,
        width=width,
        channels=channels,
        names=table["name"],
        sizes=np.array([table["height"], table["width"]], dtype=np.int32).T,
        background=np.array(table["background"], dtype=np.int32),
        foreground=np.array(table["foreground"], dtype=np.int32),
        regions=[
            Regions(*row)
            for row in zip(*(table[f"regions_{f.name}"] for f in fields(Regions)), strict=True)
        ],
        value_range=(int(ends[0]), int(ends[1])) if ends else None,
        fingerprint=_digest(table["name"], [pixels.hex() for pixels in table["digest"]]).hex(),
        images=[pixels.hex() for pixels in table["image_digest"]],
        _images=[_pixels(batch, "image", (height, width, channels)) for batch in batches],
        _label_maps=[_pixels(batch, "mask", (height, width)) for batch in batches],
        _mapped=mapped,
    )


def write_split(
    path: Path,
    rows: Iterable[dict[str, Any] | DecodeError],
    size: Size,
    channels: int,
    bar: tqdm[Any] | None = None,
    value_range: ValueRange | None = None,
) -> list[DecodeError]:
    """Write a split in bounded memory. It goes on after an error, to find all of them.

    Args:
        rows: of `prepared_row`, with images of this size and number of channels.
        value_range: by which images of 16 bits per channel were scaled, if there are any.

    Returns:
        the errors among `rows`.
    """
    metadata, pixels = {"size": size_text(size)}, math.prod(width_height(size))
    if value_range is not None:
        metadata["value_range"] = "{} {}".format(*value_range)
    schema = pa.schema(
        {
            "image": pa.binary(pixels * channels),
            "mask": pa.binary(pixels),
            "name": pa.string(),
            "height": pa.int32(),
            "width": pa.int32(),
            "digest": pa.binary(32),
            "image_digest": pa.binary(8),
            **{name: pa.int32() for name in COUNTED},
        },
        metadata=metadata,
    )
    errors: list[DecodeError] = []
    done: list[dict[str, Any]] = []
    batch = max(1, BATCH_BYTES // (pixels * (channels + 1)))
    with open(path, "wb") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for row in rows:
                if bar is not None:
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


def columns_digest(path: Path) -> bytes:
    """A digest of all that the file of a prepared split holds, beside the pixels themselves."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        columns = reader.read_all().drop_columns(["image", "mask"])
    return hashlib.sha256(repr((columns.schema.metadata, columns.to_pydict())).encode()).digest()


def _digest(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _pixels(batch: pa.RecordBatch, column: str, shape: tuple[int, ...]) -> np.ndarray:
    """(rows, *shape) uint8, a view on the mapped file."""
    flat = np.frombuffer(batch.column(column).buffers()[1], dtype=np.uint8)
    return flat[: batch.num_rows * int(np.prod(shape))].reshape(-1, *shape)
