"""A prepared split: samples in a memory-mapped Arrow file."""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, eq=False)
class Split:
    """Prepared samples of one split; `split[i]` is (image, mask): (S, S, 3) and (S, S) uint8.

    The image is RGB in 0..255, the mask 0 or 1. Both are read-only views on the memory-mapped file.
    Pickles as the path alone, so it costs nothing to hand to the workers of a DataLoader.
    """

    path: Path
    side: int  # S
    names: list[str]
    sizes: np.ndarray  # (N, 2) int32: height and width before the resize
    fingerprint: str  # of pixels and names, in order
    _images: list[np.ndarray]  # a record batch each; all have the same length but the last
    _masks: list[np.ndarray]
    _mapped: mmap.mmap

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch, row = divmod(index, len(self._images[0]))
        return self._images[batch][row], self._masks[batch][row]

    def forget(self) -> None:
        """Give back the memory of the pixels that were looked at, which would grow to the size of
        the file. The system keeps them as long as it has memory to spare; arrays stay valid."""
        self._mapped.madvise(mmap.MADV_DONTNEED)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_split, (self.path,)


@dataclass(frozen=True)
class Prepared:
    """A data set at `size` x `size`. The fingerprint says what the pixels and names are, whatever
    their paths, the machine and the number of processes that prepared them."""

    splits: dict[str, Split]
    fingerprint: str
    size: int


def open_split(path: Path) -> Split:
    """A prepared split: maps the file, reads names and sizes and no pixels."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with pa.ipc.open_stream(pa.py_buffer(mapped)) as reader:
        size = int(reader.schema.metadata[b"size"])
        batches = list(reader)
    table = pa.Table.from_batches(batches).drop_columns(["image", "mask"]).to_pydict()
    return Split(
        path=path,
        side=size,
        names=table["name"],
        sizes=np.array([table["height"], table["width"]], dtype=np.int32).T,
        fingerprint=_digest(table["name"], [pixels.hex() for pixels in table["digest"]]).hex(),
        _images=[_pixels(batch, "image", (size, size, 3)) for batch in batches],
        _masks=[_pixels(batch, "mask", (size, size)) for batch in batches],
        _mapped=mapped,
    )


def _digest(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _pixels(batch: pa.RecordBatch, column: str, shape: tuple[int, ...]) -> np.ndarray:
    """(rows, *shape) uint8, a view on the mapped file."""
    flat = np.frombuffer(batch.column(column).buffers()[1], dtype=np.uint8)
    return flat[: batch.num_rows * int(np.prod(shape))].reshape(-1, *shape)
