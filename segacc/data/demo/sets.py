"""Procedural images, so that a machine without a network can train.

Two sets: `demo`, gland-like tissue of 512 x 512 pixels, and `demo-pedestrian`, street scenes of
different sizes. Each image has a random generator of its own, seeded by (set, split, index), so an
image depends neither on the order nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from segacc.data.demo.street import street
from segacc.data.demo.tissue import tissue
from segacc.runtime.threads import cores

DEMO_NAMES = ("demo", "demo-pedestrian")
DEMO_VERSION = "1"  # change it whenever the images change: it is part of the folder's name
SIZES = {"train": 64, "valid": 16, "test": 16}  # images per split, of each set

_SCENES: dict[str, Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]] = {
    "demo": tissue,
    "demo-pedestrian": street,
}


def demo_image(name: str, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image `index` of a split of the set `name`: the image (uint8 RGB, height x width x 3) and its
    mask (uint8, 0 or 255, height x width)."""
    seed = [DEMO_NAMES.index(name), list(SIZES).index(split), index]
    return _SCENES[name](np.random.default_rng(seed))


def write_demo(name: str, folder: Path) -> None:
    """Write the set `name` ("demo" or "demo-pedestrian") as folder/{train,valid,test}/NAME.jpg and
    NAME.png, the mask with 0 and 255. A call that is interrupted leaves a part of the files."""
    for split in SIZES:
        (folder / split).mkdir(parents=True, exist_ok=True)

    def write(split: str, index: int) -> None:
        image, mask = demo_image(name, split, index)
        stem = folder / split / f"{split}_{index:03d}"
        Image.fromarray(image).save(stem.with_suffix(".jpg"), quality=95)
        Image.fromarray(mask).save(stem.with_suffix(".png"))

    todo = [(split, index) for split, count in SIZES.items() for index in range(count)]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(write, *zip(*todo, strict=True)))
