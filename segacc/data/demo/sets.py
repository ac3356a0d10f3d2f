"""Procedural images, so that a machine without a network can train.

Three sets: `demo`, gland-like tissue of 512 x 512 pixels; `demo-pedestrian`, street scenes of
different sizes, with masks of the people; and `demo-street`, such scenes with all their regions as
classes. Each image has a random generator of its own, seeded by (set, split, index), so an image
depends neither on the order nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from segacc.data.classes.lists import class_list, write_list
from segacc.data.classes.palettes import with_palette
from segacc.data.demo.regions import REGIONS
from segacc.data.demo.street import pedestrians, street
from segacc.data.demo.tissue import tissue
from segacc.labels import BINARY, Labels
from segacc.runtime.threads import cores

DEMO_NAMES = ("demo", "demo-pedestrian", "demo-street")
DEMO_VERSION = "1"  # change it whenever the images change: it is part of the folder's name
SIZES = {"train": 64, "valid": 16, "test": 16}  # images per split, of each set

_SCENES: dict[str, Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]] = {
    "demo": tissue,
    "demo-pedestrian": pedestrians,
    "demo-street": street,
}


def labels_of_demo(name: str) -> Labels:
    """The classes of the set `name`."""
    return REGIONS if name == "demo-street" else BINARY


def demo_image(name: str, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image `index` of a split of the set `name`: the image (uint8 RGB, height x width x 3) and its
    mask (uint8, height x width): 0 or 255, or with more than two classes a label map."""
    seed = [DEMO_NAMES.index(name), list(SIZES).index(split), index]
    return _SCENES[name](np.random.default_rng(seed))


def write_demo(name: str, folder: Path) -> None:
    """Write the set `name`, one of DEMO_NAMES, as folder/{train,valid,test}/NAME.jpg and NAME.png,
    the mask: 0 and 255, or with more than two classes their numbers and a palette, beside
    folder/classes.txt. A call that is interrupted leaves a part of the files."""
    labels = labels_of_demo(name)
    for split in SIZES:
        (folder / split).mkdir(parents=True, exist_ok=True)
    if labels.classes > 2:
        (folder / "classes.txt").write_text(write_list(class_list(labels)), encoding="utf-8")

    def write(split: str, index: int) -> None:
        image, mask = demo_image(name, split, index)
        stem = folder / split / f"{split}_{index:03d}"
        Image.fromarray(image).save(stem.with_suffix(".jpg"), quality=95)
        picture = with_palette(mask, labels) if labels.classes > 2 else Image.fromarray(mask)
        picture.save(stem.with_suffix(".png"))

    todo = [(split, index) for split, count in SIZES.items() for index in range(count)]
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(write, *zip(*todo, strict=True)))
