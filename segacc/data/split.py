"""A prepared split: samples in a memory-mapped Arrow file."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from segacc.config.sizes import AnySize, parse_size, size_text, width_height
from segacc.data.reading.decode import DecodeError
from segacc.data.reading.depth import ValueRange
from segacc.data.regions import Regions
from segacc.labels import Labels

COUNTED = ("background", "foreground", *(f"regions_{field.name}" for field in fields(Regions)))
"""Columns of a prepared file with numbers on each mask."""
BATCH_BYTES = 16 << 20  # of pixels in a record batch, which bounds the memory of preparing


@dataclass(frozen=True, eq=False)
class Split:
    """Prepared samples of one split; `split[i]` is (image, label map).

    The image is (H, W, C) uint8 in 0..255, the label map (H, W) uint8 (`segacc.labels`). Both are
    read-only views on the memory-mapped file. A split is pickled as its path alone, so it costs
    nothing to hand it to the workers of a DataLoader.
    """

    path: Path
    size: AnySize  # that images were resized to
    shape: tuple[int, int] | None  # (H, W) of all images; None where their sizes differ
    channels: int  # C
    names: list[str]
    sizes: np.ndarray  # (N, 2) int32: height and width before the resize
    background: np.ndarray  # (N,) int32: pixels of background after the resize
    foreground: np.ndarray  # (N,) int32: of all other classes; ignored pixels are in neither
    regions: list[Regions]  # what the resize made of the foreground
    value_range: ValueRange | None  # that was scaled to 8 bits; None if none was
    fingerprint: str  # of pixels and names, in order
    images: list[str]  # 16 hex digits of a hash of each image's pixels, without its mask
    _images: Sequence[Sequence[np.ndarray]]  # all but the last part have the same length
    _label_maps: Sequence[Sequence[np.ndarray]]
    _mapped: mmap.mmap

    @property
    def bytes_of_image(self) -> int:
        """Return the bytes that an image takes with its labels; all images have one shape."""
        assert self.shape is not None
        return math.prod(self.shape) * (self.channels + 1)

    def shape_of(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self.shape or (int(self.sizes[index, 0]), int(self.sizes[index, 1]))

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
    """A prepared data set. All its images have one size, or each has its own.

    The fingerprint is that of pixels and names. It does not depend on paths, on the machine or on
    the number of processes that prepared the data.
    """

    splits: dict[str, Split]
    fingerprint: str
    size: AnySize
    labels: Labels
    own_range: ValueRange | None = None
    """the value range of images with 16 bits per channel, as `prepare` finds it for this data set.
    The images are scaled by `value_range`, which differs if the user gave one."""

    @property
    def value_range(self) -> ValueRange | None:
        """The range by which images with 16 bits per channel were scaled; None if there are
        none."""
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
        schema, batches = reader.schema, list(reader)
    table = pa.Table.from_batches(batches).drop_columns(["image", "mask"]).to_pydict()
    sizes = np.array([table["height"], table["width"]], dtype=np.int32).T
    size = parse_size([schema.metadata[b"size"].decode()])
    ends = schema.metadata.get(b"value_range", b"").split()
    said = [table["name"], [pixels.hex() for pixels in table["digest"]]]
    images: Sequence[Sequence[np.ndarray]]
    label_maps: Sequence[Sequence[np.ndarray]]
    if isinstance(size, str):
        said.append(sizes.tolist())  # equal pixels may have other sizes
        channels = int(schema.metadata[b"channels"])
        shape = (int(sizes[0, 0]), int(sizes[0, 1])) if (sizes == sizes[0]).all() else None
        images = [_own_shapes(batches, "image", [(h, w, channels) for h, w in sizes.tolist()])]
        label_maps = [_own_shapes(batches, "mask", sizes.tolist())]
    else:
        shape = width_height(size)[::-1]
        channels = schema.field("image").type.byte_width // math.prod(shape)
        images = _one_shape(batches, "image", (*shape, channels))
        label_maps = _one_shape(batches, "mask", shape)
    return Split(
        path=path,
        size=size,
        shape=shape,
        channels=channels,
        names=table["name"],
        sizes=sizes,
        background=np.array(table["background"], dtype=np.int32),
        foreground=np.array(table["foreground"], dtype=np.int32),
        regions=[
            Regions(*row)
            for row in zip(*(table[f"regions_{f.name}"] for f in fields(Regions)), strict=True)
        ],
        value_range=(int(ends[0]), int(ends[1])) if ends else None,
        fingerprint=_digest(*said).hex(),
        images=[pixels.hex() for pixels in table["image_digest"]],
        _images=images,
        _label_maps=label_maps,
        _mapped=mapped,
    )


def write_split(
    path: Path,
    rows: Iterable[dict[str, Any] | DecodeError],
    size: AnySize,
    channels: int,
    bar: tqdm[Any] | None = None,
    value_range: ValueRange | None = None,
) -> list[DecodeError]:
    """Write a split in bounded memory. It goes on after an error, to find all of them.

    Args:
        rows: from `prepared_row`, with images of this number of channels.
        size: the size of all images; or native, if each has its own.
        value_range: the range by which images of 16 bits per channel were scaled, if there are any.

    Returns:
        the errors among `rows`.
    """
    schema = _schema(size, channels, value_range)
    errors: list[DecodeError] = []
    done: list[dict[str, Any]] = []
    held = 0
    with open(path, "wb") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for row in rows:
                if bar is not None:
                    bar.update()
                if isinstance(row, DecodeError):
                    errors.append(row)
                    continue
                done.append(row)
                taken = len(row["image"]) + len(row["mask"])
                held += taken
                if held + taken > BATCH_BYTES:  # so parts of one shape have the same length
                    writer.write_batch(pa.RecordBatch.from_pylist(done, schema=schema))
                    done, held = [], 0
            if done:
                writer.write_batch(pa.RecordBatch.from_pylist(done, schema=schema))
        file.flush()
        os.fsync(file.fileno())
    return errors


def _schema(size: AnySize, channels: int, value_range: ValueRange | None) -> pa.Schema:
    metadata = {"size": size_text(size)}
    if value_range is not None:
        metadata["value_range"] = "{} {}".format(*value_range)
    if isinstance(size, str):
        metadata["channels"] = str(channels)
        image_type, mask_type = pa.large_binary(), pa.large_binary()
    else:
        pixels = math.prod(width_height(size))
        image_type, mask_type = pa.binary(pixels * channels), pa.binary(pixels)
    return pa.schema(
        {
            "image": image_type,
            "mask": mask_type,
            "name": pa.string(),
            "height": pa.int32(),
            "width": pa.int32(),
            "digest": pa.binary(32),
            "image_digest": pa.binary(8),
            **{name: pa.int32() for name in COUNTED},
        },
        metadata=metadata,
    )


def columns_digest(path: Path) -> bytes:
    """A digest of all that the file of a prepared split holds, beside the pixels themselves."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        columns = reader.read_all().drop_columns(["image", "mask"])
    return hashlib.sha256(repr((columns.schema.metadata, columns.to_pydict())).encode()).digest()


def _digest(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _one_shape(
    batches: Sequence[pa.RecordBatch], column: str, shape: tuple[int, ...]
) -> list[Sequence[np.ndarray]]:
    """Return for each batch a view (rows, *shape) uint8 on the mapped file."""
    parts: list[Sequence[np.ndarray]] = []
    for batch in batches:
        flat = np.frombuffer(batch.column(column).buffers()[1], dtype=np.uint8)
        rows: Any = flat[: batch.num_rows * math.prod(shape)].reshape(-1, *shape)
        parts.append(rows)
    return parts


def _own_shapes(
    batches: Sequence[pa.RecordBatch], column: str, shapes: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Return for each row a view of its own shape, uint8, on the mapped file."""
    rows: list[np.ndarray] = []
    for batch in batches:
        _, offsets, data = batch.column(column).buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[: batch.num_rows + 1].tolist()
        flat = np.frombuffer(data, dtype=np.uint8)
        rows += [flat[start:end] for start, end in pairwise(ends)]
    return [row.reshape(shape) for row, shape in zip(rows, shapes, strict=True)]
