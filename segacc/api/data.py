"""Data sets and pipelines that a program passes as objects: they are written into the cache.

So a run that uses them can be scored, resumed and compared like any other run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from segacc.api.images import about, as_array, image_values
from segacc.data.cache import cache_dir, cache_errors
from segacc.errors import InputError, first_line, write_text
from segacc.runtime.accelerator import uses_gpu
from segacc.runtime.bars import make_bar
from segacc.runtime.ranks import wait_long

if TYPE_CHECKING:
    from albumentations import BaseCompose


LONGEST = 100
"""letters in the name of an item"""


class Pairs(Protocol):
    """A map-style data set, such as a `torch.utils.data.Dataset`.

    An item is (image, mask), (image, mask, name), or a dictionary with these keys. The image is a
    PIL image, or (H, W, 3) or (H, W) uint8 or uint16, RGB; a tensor may be (3, H, W). The mask is a
    PIL image, or (H, W) bool or integers; `classes` says what its values mean, as for files. Items
    without a name are numbered.

    Each item is read only once, as files are: use `augment` for random augmentation, and `size` for
    resizing.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Data = Pairs | Mapping[str, Pairs]
"""One data set, which segacc divides into splits, or one for each split. Data sets of the library
`datasets` can be used, too."""


def place_of(dataset: Any) -> str | None:
    """Return the value for `--dataset`; a data set that is an object is written into the cache.

    The first process of each machine reads it, and the others wait.

    Args:
        dataset: a path or a name, or `Data`; splits are named as folders are: train, valid, test.

    Raises:
        InputError: an item is not as `Pairs` says.
    """
    if dataset is None or isinstance(dataset, str | os.PathLike):
        return None if dataset is None else os.fspath(dataset)
    name = [""]
    state = PartialState(cpu=not uses_gpu())
    if state.is_local_main_process:
        name = [_write(dataset)]
    if state.num_processes > 1:
        wait_long()
        broadcast_object_list(name)
    return str(cache_dir() / "own" / name[0])


def file_of(pipeline: str | os.PathLike[str] | BaseCompose | None) -> str | None:
    """Return the value for `--augment`; a pipeline that is an object is written into the cache, in
    albumentations' own serialised form."""
    if pipeline is None or isinstance(pipeline, str | os.PathLike):
        return None if pipeline is None else os.fspath(pipeline)
    from albumentations import to_dict

    try:
        text = json.dumps(to_dict(pipeline), indent=1)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"augment: {about(pipeline)} cannot be written as a file ({first_line(error)}): give "
            "a Compose of albumentations without functions of your own."
        ) from error
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = cache_dir() / "own" / f"pipeline-{digest}.json"
    with cache_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_text(path, text)
    return str(path)


def _write(dataset: Any) -> str:
    """Write a data set into a folder of the cache.

    Returns:
        the folder's name, which depends on the content alone.
    """
    import datasets

    splits = dict(dataset) if isinstance(dataset, Mapping) else {"": dataset}
    check_splits(splits)
    parent = cache_dir() / "own"
    aside = parent / f".partial-{os.getpid()}-{secrets.token_hex(4)}"
    with cache_errors(aside):
        aside.mkdir(parents=True)
    try:
        if all(isinstance(split, datasets.Dataset) for split in splits.values()):
            digest = hashlib.sha256()
            for name, rows in splits.items():
                digest.update(f"{name} {rows._fingerprint} ".encode())
            plain = {name: rows.with_format(None) for name, rows in splits.items()}
            whole = plain[""] if "" in plain else datasets.DatasetDict(plain)
            with cache_errors(aside):
                whole.save_to_disk(aside)
        else:
            digest = _write_files(splits, aside)
        kind = type(next(iter(splits.values()))).__name__.lower()
        folder = parent / f"{kind}-{digest.hexdigest()[:12]}"
        try:
            aside.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            # It was there, or another process has been faster.
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder.name


def check_splits(splits: Mapping[Any, Any]) -> None:
    """Raises InputError where there are no splits, or where one is no map-style data set."""
    if not splits:
        raise InputError("dataset: expected a split train and a split valid, found none.")
    for name, split in splits.items():
        if not isinstance(name, str) or not re.fullmatch(r"\w*", name):
            raise InputError(
                f"dataset: a split has the name {name!r}: expected train, valid and test."
            )
        if not hasattr(split, "__len__") or not hasattr(split, "__getitem__"):
            raise InputError(
                f"dataset: expected a folder, a name, or something with a length and numbered "
                f"items, such as a torch.utils.data.Dataset, found {about(split)}."
            )


def _write_files(splits: Mapping[str, Pairs], folder: Path) -> Any:
    """Write images and masks of all splits as PNGs; return the digest of their names and bytes."""
    digest = hashlib.sha256()
    for split, pairs in splits.items():
        for role in ("images", "masks"):
            (folder / split / role).mkdir(parents=True)
        with make_bar(total=len(pairs), desc=f"reading {split or 'images'}", unit="img") as bar:
            for image, mask, name in _items(pairs):
                for role, pixels in (("images", image), ("masks", mask)):
                    data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
                    digest.update(f"{split}/{role}/{name} ".encode())
                    digest.update(data.tobytes())
                    path = folder / split / role / f"{name}.png"
                    with cache_errors(path):
                        path.write_bytes(data.tobytes())
                bar.update()
    return digest


def _items(pairs: Pairs) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Yield image (H, W) or (H, W, 3) BGR and mask (H, W), as OpenCV writes them, and the name."""
    taken: set[str] = set()
    for index in range(len(pairs)):
        item = pairs[index]
        if isinstance(item, Mapping):
            item = [item.get(key) for key in ("image", "mask", "name") if key in item]
        if not isinstance(item, tuple | list) or not 2 <= len(item) <= 3:
            raise InputError(
                f"dataset[{index}] is {about(item)}: expected (image, mask), (image, mask, name), "
                "or a dictionary with these keys."
            )
        image = image_values(item[0], f"dataset[{index}]: the image")
        name = str(item[2]).replace("/", "-") if len(item) == 3 else f"{index:06d}"
        if name in taken or not name or name[0] == "." or "\0" in name or len(name) > LONGEST:
            raise InputError(
                f"dataset[{index}] has the name {name!r}: expected one that no item before it has, "
                f"of 1 to {LONGEST} letters, without a dot at its beginning."
            )
        taken.add(name)
        bgr = image[..., ::-1] if image.ndim == 3 else image
        yield bgr, _mask(item[1], index), name


def _mask(given: Any, index: int) -> np.ndarray:
    array = as_array(given)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array.squeeze(0 if array.shape[0] == 1 else 2)
    whole = array.dtype == bool or np.issubdtype(array.dtype, np.integer)
    if not whole or array.ndim != 2 or not array.size or array.min() < 0 or array.max() >= 1 << 16:
        raise InputError(
            f"dataset[{index}]: the mask is {about(given)}, expected (H, W) bool, or whole "
            "numbers of 0 to 65535, one for each class."
        )
    return np.ascontiguousarray(array.astype(np.uint8 if array.max() < 256 else np.uint16))
