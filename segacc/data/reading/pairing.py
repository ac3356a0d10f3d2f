"""File names -> image/mask pairs. Pure: nothing here touches the disk.

Every path is read as (split, role, key): folders that name a split or a role are taken out of it,
what remains is the key, and an image and a mask with the same split and key are a pair. So
`train/a.jpg + train/a.png`, `train/images/a.jpg + train/masks/a.png`, `images/train/a.jpg +
masks/train/a.png` and `train/a.jpg + train/a_mask.png` are all the pair `a` of the split train.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

SPLITS = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
IMAGE_WORDS = {"image", "images", "img", "imgs", "img_dir"}
MASK_WORDS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "anno", "annos", "ann_dir",
    "gt", "groundtruth", "ground_truth", "segmentation", "segmentations",
}  # fmt: skip
MASK_SUFFIX = re.compile(
    r"[_-](masks?|labels?|gt|annos?|annotations?|segmentations?)$", re.IGNORECASE
)
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}

Role = Literal["image", "mask"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `file` is relative to the data set ("." is the data set itself),
    `problem` is a full clause that says what is wrong and what to do."""

    file: str
    problem: str


@dataclass(frozen=True)
class Pair:
    """An image and its mask as absolute paths; `name` is unique within the split."""

    name: str
    image: str
    mask: str


@dataclass(frozen=True)
class File:
    path: str  # relative to the data set, as it is on the disk
    split: str | None
    role: Role | None  # as its folders say
    key: str  # what is left of the path, NFC: names that look the same are the same
    png: bool


def wrapper_depth(paths: list[str]) -> int:
    """How many leading folders all files share and that name no split: an archive's root."""
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    depth = 0
    for component in PurePosixPath(common).parts:
        if _meaning(component)[0]:
            break
        depth += 1
    return depth


def _meaning(component: str) -> tuple[str | None, Role | None]:
    """(split, role) that a folder's name says, (None, None) where it says neither."""
    word = component.casefold()
    if word in MASK_WORDS:
        return None, "mask"
    if word in IMAGE_WORDS:
        return None, "image"
    split: str | None = None
    role: Role | None = None
    for token in re.split(r"[_\-. ]", word):  # train_masks, images-val
        if token in SPLITS:
            split = SPLITS[token]
        elif token in MASK_WORDS:
            role = "mask"
        elif token in IMAGE_WORDS:
            role = "image"
        else:
            return None, None
    return split, role


def split_of(folder: str, wrapper: int) -> str | None:
    return next(filter(None, (_meaning(part)[0] for part in folder.split("/")[wrapper:])), None)


def read_path(path: str, wrapper: int) -> File:
    *folders, name = path.split("/")
    stem, extension = os.path.splitext(name)
    split: str | None = None
    role: Role | None = None
    kept = []
    for component in folders[wrapper:]:
        its_split, its_role = _meaning(component)
        split, role = split or its_split, its_role or role
        if not its_split and not its_role:
            kept.append(component)
    key = unicodedata.normalize("NFC", "/".join([*kept, stem]))
    return File(path, split, role, key, png=extension.lower() == ".png")


def pair_up(folder: Path, files: list[File]) -> tuple[tuple[Pair, ...], list[Finding]]:
    """Pairs of one split, sorted by name, and what does not pair up."""
    images, masks = _images_and_masks(files)
    pairs = []
    findings = []
    for key in sorted(images.keys() | masks.keys()):
        problem = _problem(images[key], masks[key])
        if problem:
            findings.append(problem)
        else:
            image, mask = images[key][0], masks[key][0]
            pairs.append(Pair(key, str(folder / image.path), str(folder / mask.path)))
    return tuple(pairs), findings


def _images_and_masks(
    files: list[File],
) -> tuple[defaultdict[str, list[File]], defaultdict[str, list[File]]]:
    """Files by key, once as images and once as masks."""
    images: defaultdict[str, list[File]] = defaultdict(list)
    masks: defaultdict[str, list[File]] = defaultdict(list)
    keys = Counter(file.key for file in files if file.role != "mask")
    in_mask_folders = {file.key for file in files if file.role == "mask"}
    undecided = []
    for file in files:
        stripped = MASK_SUFFIX.sub("", file.key)
        if file.role == "image":
            images[file.key].append(file)
        elif file.role == "mask":
            masks[file.key if file.key in keys else stripped].append(file)
        # The suffix says mask unless another file has the whole name: a_gt.jpg + a_gt.png.
        elif stripped != file.key and keys[file.key] == 1 and file.key not in in_mask_folders:
            masks[stripped].append(file)
        elif not file.png:
            images[file.key].append(file)
        else:
            undecided.append(file)
    # A .png is the mask beside an image of another type; alone it is what the others are not.
    has_other_images = bool(images)
    for file in undecided:
        is_mask = file.key in images or (has_other_images and file.key not in masks)
        (masks if is_mask else images)[file.key].append(file)
    return images, masks


def _problem(images: list[File], masks: list[File]) -> Finding | None:
    if len(images) == 1 and len(masks) == 1:
        return None
    first = (images or masks)[0].path
    stem = PurePosixPath(first).stem
    if len(masks) > 1:
        first = masks[0].path
        problem = f"is a mask of the same name as {masks[1].path}: keep one of them"
    elif not images:
        problem = "is a mask without an image: add the image of this name or remove the mask"
    elif len(images) == 1:
        problem = (
            f"is an image without a mask: add {stem}.png beside it or in a masks folder (or "
            f"{stem}_mask.png), or remove the image"
        )
    elif not masks and all(file.role is None for file in images):
        problem = (
            f"is ambiguous with {images[1].path}: neither is a .png, so which is the mask cannot "
            f"be told; save the mask as {stem}.png"
        )
    else:
        problem = f"has the same name as the image {images[1].path}: rename one of them"
    return Finding(first, problem)
