"""Data sets and pipelines that a program gives as objects: they become files in the cache.

So a run that was started with them is scored, resumed and compared as any other, and all that holds
for files holds for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from PIL import Image
from torch import Tensor

from segacc.config import cache_dir
from segacc.data.cache import cache_errors
from segacc.errors import InputError, write_text
from segacc.runtime.accelerator import uses_gpu
from segacc.runtime.bars import make_bar

if TYPE_CHECKING:
    from albumentations import BaseCompose


class Pairs(Protocol):
    """A map-style data set, such as a `torch.utils.data.Dataset`.

    An item is (image, mask), (image, mask, name), or a dictionary with these keys. The image is a
    PIL image, or (H, W, 3) or (H, W) uint8 or uint16, RGB; a tensor may be (3, H, W). The mask is a
    PIL image, or (H, W) bool or whole numbers: what its values mean says `classes`, as for files.
    Without a name, items are numbered.

    Items are read once, as files are: random augmentation belongs into `augment`, and resizing into
    `size`.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Data = Pairs | Mapping[str, Pairs]
"""One data set, which segacc divides into splits, or one for each split; those of the library
`datasets` fit, too."""


def place_of(dataset: Any) -> str | None:
    """Where a data set lies, for `--dataset`; one that is an object is written into the cache.

    The first process of each machine reads it, and the others wait.

    Args:
        dataset: a path or a name, or `Data`; splits are named as folders are: train, valid, test.

    Raises:
        InputError: an item is not as `Pairs` says.
    """
    if dataset is None or isinstance(dataset, str | os.PathLike):
        return None if dataset is None else os.fspath(dataset)
    state, place = PartialState(cpu=not uses_gpu()), ""
    if state.is_local_main_process:
        place = str(_write(dataset))
    state.wait_for_everyone()
    return str(broadcast_object_list([place])[0])


def file_of(pipeline: str | os.PathLike[str] | BaseCompose | None) -> str | None:
    """What `--augment` takes; a pipeline that is an object is written into the cache, in
    albumentations' own serialised form."""
    if pipeline is None or isinstance(pipeline, str | os.PathLike):
        return None if pipeline is None else os.fspath(pipeline)
    from albumentations import to_dict

    text = json.dumps(to_dict(pipeline), indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = cache_dir() / "own" / f"pipeline-{digest}.json"
    with cache_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_text(path, text)
    return str(path)


def _write(dataset: Any) -> Path:
    """Write a data set into a folder of the cache, which is named after its content."""
    import datasets

    splits = dict(dataset) if isinstance(dataset, Mapping) else {"": dataset}
    parent = cache_dir() / "own"
    with cache_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
    try:
        if all(isinstance(split, datasets.Dataset) for split in splits.values()):
            digest = hashlib.sha256()
            for name, rows in splits.items():
                digest.update(f"{name} {rows._fingerprint} ".encode())
            rows = splits[""] if "" in splits else datasets.DatasetDict(splits)
            rows.save_to_disk(aside)
        else:
            digest = _write_files(splits, aside)
        kind = type(next(iter(splits.values()))).__name__.lower()
        folder = parent / f"{kind}-{digest.hexdigest()[:12]}"
        if not folder.exists():
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write_files(splits: Mapping[str, Pairs], folder: Path) -> Any:
    """Write images and masks of all splits as PNGs; the digest of their names and bytes."""
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
                    (folder / split / role / f"{name}.png").write_bytes(data.tobytes())
                bar.update()
    return digest


def _items(pairs: Pairs) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Image (H, W) or (H, W, 3) BGR and mask (H, W), as OpenCV writes them, and the name."""
    taken: set[str] = set()
    for index in range(len(pairs)):
        item = pairs[index]
        if isinstance(item, Mapping):
            item = [item.get(key) for key in ("image", "mask", "name") if key in item]
        if not isinstance(item, tuple | list) or not 2 <= len(item) <= 3:
            raise InputError(
                f"dataset[{index}] is {_shown(item)}: expected (image, mask), (image, mask, name), "
                "or a dictionary with these keys."
            )
        image, mask, name = _image(item[0], index), _mask(item[1], index), f"{index:06d}"
        if len(item) == 3:
            name = str(item[2]).replace("/", "-")
        if name in taken:
            raise InputError(f"dataset[{index}] has the name {name!r} of an item before it.")
        taken.add(name)
        yield image, mask, name


def _image(given: Any, index: int) -> np.ndarray:
    array = _array(given if not isinstance(given, Image.Image) else given.convert("RGB"))
    if isinstance(given, Tensor) and array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    is_rgb = array.ndim == 3 and array.shape[2] == 3
    fits = array.dtype in (np.uint8, np.uint16) and (is_rgb or array.ndim == 2)
    if not fits or not array.size:
        raise InputError(
            f"dataset[{index}]: the image is {_shown(given)}, expected a PIL image, or (H, W, 3) "
            "uint8 in 0..255: leave transforms to tensors of floats and normalisation out, since "
            "segacc normalises images as the model needs it."
        )
    return np.ascontiguousarray(array[..., ::-1] if is_rgb else array)


def _mask(given: Any, index: int) -> np.ndarray:
    array = _array(given)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array.squeeze(0 if array.shape[0] == 1 else 2)
    whole = array.dtype == bool or np.issubdtype(array.dtype, np.integer)
    if not whole or array.ndim != 2 or not array.size or array.min() < 0 or array.max() >= 1 << 16:
        raise InputError(
            f"dataset[{index}]: the mask is {_shown(given)}, expected (H, W) bool, or whole "
            "numbers of 0 to 65535, one for each class."
        )
    return np.ascontiguousarray(array.astype(np.uint8 if array.max() < 256 else np.uint16))


def _array(given: Any) -> np.ndarray:
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)


def _shown(given: Any) -> str:
    """What something is, in a sentence."""
    if hasattr(given, "shape") and hasattr(given, "dtype"):
        return f"of the shape {tuple(given.shape)} and the type {given.dtype}"
    return f"a {type(given).__name__}"
