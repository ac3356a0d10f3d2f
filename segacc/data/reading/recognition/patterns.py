"""`--pairs`: patterns of paths that say which files are images and which are their masks; and the
patterns that describe what was paired."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from segacc.data.reading.pairing import Finding, Found
from segacc.data.reading.recognition.groups import common_affixes
from segacc.data.reading.recognition.listing import Listing, count_types
from segacc.errors import InputError, some_names

EXAMPLE = "'images/{}.jpg=masks/{}_mask.png'"
SHOWN = 3  # names in a sentence
MOST_NAMED = 5  # groups of files that are left out


def pair_by_patterns(
    files: Sequence[str], patterns: Sequence[str]
) -> tuple[dict[str, str], dict[str, Finding], list[Finding]]:
    """The images and masks that the patterns of `--pairs` name.

    {} stands for the same text in the image's path and in the mask's, * for any text within a
    folder's or a file's name. Folders that all files lie in may be left out.

    Args:
        files: paths in the data set.

    Returns:
        the mask of each image; what to say of each image that has none; what else is wrong.

    Raises:
        InputError: a pattern is not one, or finds no image, or no mask.
    """
    pairs: dict[str, str] = {}
    lone: dict[str, Finding] = {}
    findings: list[Finding] = []
    for pattern in patterns:
        image_pattern, mask_pattern = _sides(pattern)
        images = _matching(files, image_pattern)
        masks = _matching(files, mask_pattern)
        for side, found in ((image_pattern, images), (mask_pattern, masks)):
            if not found:
                raise InputError(
                    f"--pairs {pattern!r}: {side} finds no file, the data set has "
                    f"{some_names(files)}: expected paths in the data set's folder, such as "
                    f"{EXAMPLE}"
                )
        for key, its_images in sorted(images.items()):
            its_masks = masks.get(key, [])
            if len(its_images) > 1 or len(its_masks) > 1:
                findings.append(_several(pattern, its_images, its_masks))
            elif not its_masks:
                lone[its_images[0]] = _without_mask(its_images[0], mask_pattern, key)
            elif pairs.setdefault(its_images[0], its_masks[0]) != its_masks[0]:
                problem = f"has two masks, {pairs[its_images[0]]} and {its_masks[0]}: one pattern "
                findings.append(Finding(its_images[0], f"{problem}of --pairs must name it"))
    # Another pattern may name the mask, and {}.png as a pattern of images finds a_mask.png as well.
    used = pairs.keys() | pairs.values()
    return pairs, {image: its for image, its in lone.items() if image not in used}, findings


def _sides(pattern: str) -> tuple[str, str]:
    sides = [side.strip().removeprefix("./") for side in pattern.split("=")]
    if len(sides) != 2 or sides[0].count("{}") != sides[1].count("{}") or "{}" not in pattern:
        raise InputError(
            f"--pairs {pattern!r}: expected IMAGES=MASKS, with {{}} on both sides for the text "
            f"that the names of an image and its mask share, such as {EXAMPLE}"
        )
    return sides[0], sides[1]


def _matching(files: Sequence[str], pattern: str) -> dict[tuple[str, ...], list[str]]:
    """The files that the pattern names, by the texts that {} stands for. Folders in which all
    files lie may be missing in front of it."""
    signs = {"{}": "(.+?)", "*": "[^/]*"}
    parts = re.split(r"(\{\}|\*)", pattern)
    regex = re.compile("".join(signs.get(part, re.escape(part)) for part in parts))
    above = os.path.commonpath([os.path.dirname(file) for file in files]).split("/")
    for depth in range(len(above) + 1):
        start = len("".join(f"{folder}/" for folder in above[:depth])) if above[0] else 0
        found: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for file in files:
            if match := regex.fullmatch(file, start):
                found[match.groups()].append(file)
        if found:
            return found
    return {}


def _several(pattern: str, images: list[str], masks: list[str]) -> Finding:
    if len(images) > 1:
        problem = f"and {images[1]} are both images of one name for --pairs {pattern!r}"
    else:
        problem = f"has the masks {masks[0]} and {masks[1]} for --pairs {pattern!r}"
    return Finding(images[0], f"{problem}: write a pattern that names one of them, without *")


def _without_mask(image: str, mask_pattern: str, key: tuple[str, ...]) -> Finding:
    expected = mask_pattern
    for text in key:
        expected = expected.replace("{}", text, 1)
    return Finding(image, f"is an image without a mask: add {expected} or remove the image")


def describe(listing: Listing, found: Found, used: Iterable[Path]) -> str:
    """Say in one line what was paired and how, and what was left out.

    Args:
        used: files of the folder that are neither images nor left out.
    """
    start = len(str(listing.folder)) + 1
    counts, ways = [], []
    for split, pairs in found.pairs.items():
        counts.append(f"{len(pairs)} {split}" if split else f"{len(pairs)}")
        images, masks = [p.image[start:] for p in pairs], [p.mask[start:] for p in pairs]
        ways.append(f"{pattern_of(images)} with {pattern_of(masks)}")
    left_out = [
        f"{n} {split or 'other'} images without masks" for split, n in found.unlabelled.items()
    ]
    left_out += [
        ", ".join(files) if len(files) < SHOWN else f"{len(files)} {pattern_of(files)}"
        for files in found.unused
    ]
    if len(left_out) > MOST_NAMED:
        left_out[MOST_NAMED:] = [f"{len(left_out) - MOST_NAMED} more groups of files"]
    read = {os.path.relpath(path, listing.folder) for path in used}
    if others := [path for path in listing.others if path not in read]:
        left_out.append(count_types(others))
    line = f"{listing.folder}: paired {', '.join(counts)} images: {', '.join(ways)}"
    return line + (f"; left out: {', '.join(left_out)}" if left_out else "")


def pattern_of(files: Sequence[str]) -> str:
    """One pattern for all files: their folder, what all their names end with, and their type."""
    folders = sorted({os.path.dirname(file) for file in files})
    folder = folders[0]
    if len(folders) > 1:
        parts = [folder.split("/") for folder in folders]
        start, end = _same_start(parts), _same_start([part[::-1] for part in parts])[::-1]
        end = end[max(0, len(start) + len(end) + 1 - min(map(len, parts))) :]
        folder = "/".join([*start, "**", *end])
    names = [os.path.splitext(os.path.basename(file)) for file in files]
    types = {extension for _, extension in names}
    suffix = common_affixes([stem for stem, _ in names])[1]
    suffix = re.sub(
        r"^[^A-Za-z]*?(?=[_\-. ]?[A-Za-z]|$)", "", suffix, count=1
    )  # no numbers in front
    one_name = len(names) > 1 and len({stem for stem, _ in names}) == 1
    stem = names[0][0] if one_name else f"*{suffix}"
    name = f"{stem}{types.pop() if len(types) == 1 else '.*'}"
    return f"{folder}/{name}".lstrip("/")


def _same_start(lists: Sequence[list[str]]) -> list[str]:
    """Return the items that all lists begin with."""
    same = takewhile(lambda at: len(set(at)) == 1, zip(*lists, strict=False))
    return [at[0] for at in same]
