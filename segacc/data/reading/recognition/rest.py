"""Files that would be left out: is it likely that they belong to the set?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from segacc.data.reading.recognition import peek
from segacc.data.reading.recognition.groups import FileGroup, Match
from segacc.data.reading.recognition.splits import pieces

OTHER_WORDS = {
    "instance", "instances", "inst", "object", "objects", "panoptic", "color", "colors", "colour",
    "colours", "human", "superpixels", "edge", "edges", "contour", "contours", "boundary",
    "boundaries", "border", "borders", "depth", "disparity", "overlay", "overlays", "preview",
    "previews", "vis", "visualization", "viz",
}  # fmt: skip
"""Pictures that belong to an image as its mask does, but hold something else."""
MANY_MASKS = 0.5  # this many for each pair are not left out without asking
AS_MANY_IMAGES = (0.9, 1.1)  # for each pair; more or fewer may be images without masks


def left_over(
    folder: Path, found: Match, matches: Sequence[Match], groups: Sequence[FileGroup]
) -> str | None:
    """Return a sentence if files that look like masks or images of the set would be left out.

    Groups whose names fit the images or masks were compared with them. Others may hold the real
    ones, or half of them, under names that are made in another way.

    Args:
        found: what is to be taken.
        matches: all groups that have names in common.
        groups: all groups.
    """
    chosen = {id(group) for group in found.groups}
    seen = {id(group) for m in matches if chosen & set(map(id, m.groups)) for group in m.groups}
    rest: defaultdict[str, list[str]] = defaultdict(list)
    for group in groups:
        if id(group) not in seen | chosen and not OTHER_WORDS & set(pieces(group.pattern())):
            for file in group.files:
                rest[file.extension.lower()].append(file.path)
    for files in rest.values():
        share = peek.share_of_masks(folder, files)
        per_pair = len(files) / len(found.pairs)
        if share and share * per_pair >= MANY_MASKS and not peek.say_the_same(folder, files):
            return _sentence(found, files, "masks")
        if share == 0 and AS_MANY_IMAGES[0] <= per_pair <= AS_MANY_IMAGES[1]:
            return _sentence(found, files, "images")
    return None


def _sentence(found: Match, files: Sequence[str], what: str) -> str:
    images, masks = found.patterns
    return (
        f"has {len(found.pairs)} pairs of {images} and {masks}, but among {len(files)} more files, "
        f"such as {files[0]}, are {what} whose names fit in another way: say what belongs "
        f"together with --pairs '{images}={masks}'"
    )
