"""File names -> pairs of an image and a mask. No file is opened here, and no folder listed.

Every path is read as (split, role, key). Folders that name a split or a role are taken out of the
path, and what remains is the key. An image and a mask with the same split and key are a pair. So
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
EXTENSIONS = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
LOSSLESS = {".png", ".gif"}
"""Types of files that are masks where an image of another type has their name."""

Role = Literal["image", "mask"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set.

    `file` is relative to the data set ("." is the data set itself). `problem` says what is wrong
    with it and what to do; together they are a sentence.
    """

    file: str
    problem: str


@dataclass(frozen=True)
class Pair:
    """An image and its mask as absolute paths; `name` is unique within the split."""

    name: str
    image: str
    mask: str
    shapes: bytes | None = None
    """shapes in place of a mask; `mask` then names their file (`segacc.data.polygons`)"""


@dataclass(frozen=True)
class File:
    """The path of a file, and what its parts say."""

    path: str  # relative to the data set, as it is on the disk
    split: str | None
    role: Role | None  # as its folders say
    key: str  # the rest of the path; in Unicode's form NFC, so that names that look equal are equal
    lossless: bool  # of a type that masks have rather than images


@dataclass(frozen=True)
class Found:
    """The pairs in a data set, before its splits are decided.

    The splits are those that folders name, and None if folders name none.
    """

    pairs: dict[str | None, tuple[Pair, ...]]
    unlabelled: dict[str | None, int]
    """the number of images in splits that have no masks at all, such as a test set for predict"""
    findings: tuple[Finding, ...] = ()
    lone: tuple[Finding, ...] = ()
    """images and masks without a partner; no fault where lists of splits do not name them"""
    unused: tuple[tuple[str, ...], ...] = ()
    """groups of files that are neither images nor masks of the set"""

    @property
    def count(self) -> int:
        """The number of pairs."""
        return sum(map(len, self.pairs.values()))


def wrapper_depth(paths: list[str]) -> int:
    """How many folders, such as an archive's root, all files lie in before one names a split."""
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    depth = 0
    for component in PurePosixPath(common).parts:
        if _meaning(component)[0]:
            break
        depth += 1
    return depth


def _meaning(component: str) -> tuple[str | None, Role | None]:
    """The split and the role that a folder's name says; None where it says none."""
    word = component.casefold()
    if word in MASK_WORDS:
        return None, "mask"
    if word in IMAGE_WORDS:
        return None, "image"
    split: str | None = None
    role: Role | None = None
    for token in re.split(r"[_\-. ]", word):  # train_masks, images-val
        if token in SPLITS:
            split = "train" if split == "train" and SPLITS[token] == "valid" else SPLITS[token]
        elif token in MASK_WORDS:
            role = "mask"
        elif token in IMAGE_WORDS:
            role = "image"
        else:
            return None, None
    return split, role


def split_of(folder: str, wrapper: int) -> str | None:
    """The split that a folder's path names, without its first `wrapper` parts."""
    return next(filter(None, (_meaning(part)[0] for part in folder.split("/")[wrapper:])), None)


def read_path(path: str, wrapper: int) -> File:
    """What the parts of a path say, without its first `wrapper` folders."""
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
    return File(path, split, role, key, lossless=extension.lower() in LOSSLESS)


def pair_by_words(folder: Path, paths: list[str]) -> Found:
    """Pair up files by the words for splits, images and masks in their paths."""
    wrapper = wrapper_depth(paths)
    of_split: defaultdict[str | None, list[File]] = defaultdict(list)
    for path in paths:
        file = read_path(path, wrapper)
        of_split[file.split].append(file)
    pairs: dict[str | None, tuple[Pair, ...]] = {}
    findings: dict[str | None, list[Finding]] = {}
    unlabelled: dict[str | None, int] = {}
    for split in ("train", "valid", "test", None):
        inside = of_split[split]
        its_pairs, findings[split], has_masks = pair_up(folder, inside)
        if its_pairs:
            pairs[split] = its_pairs
        elif inside and split in ("valid", "test") and not has_masks:
            unlabelled[split] = len(inside)
            del findings[split]
    unused: defaultdict[str, list[str]] = defaultdict(list)
    if None in pairs and len(pairs) > 1 and not of_split["train"]:
        pairs = {"train": pairs.pop(None), **pairs}  # images/, masks/ and test/
    elif pairs.keys() - {None}:
        pairs.pop(None, None)
        del findings[None]
        for file in of_split[None]:
            unused[os.path.dirname(file.path)].append(file.path)
    problems = tuple(problem for its in findings.values() for problem in its)
    return Found(pairs, unlabelled, problems, unused=tuple(map(tuple, unused.values())))


def pair_up(folder: Path, files: list[File]) -> tuple[tuple[Pair, ...], list[Finding], bool]:
    """The pairs of one split, sorted by name, a finding for each file that has no partner, and
    whether there are any masks."""
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
    return tuple(pairs), findings, any(masks.values())


def _images_and_masks(
    files: list[File],
) -> tuple[defaultdict[str, list[File]], defaultdict[str, list[File]]]:
    """The images and the masks, each by their keys."""
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
        # A suffix such as _gt says mask, unless another file has the same name: a_gt.jpg, a_gt.png.
        elif stripped != file.key and keys[file.key] == 1 and file.key not in in_mask_folders:
            masks[stripped].append(file)
        elif not file.lossless:
            images[file.key].append(file)
        else:
            undecided.append(file)
    # A .png or .gif is the mask where an image of another type has its name. Where none has, it is
    # an image, unless the data set's images are of other types.
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
