"""Which files are the images and which their masks, if the names of folders do not say it.

What decides, in this order: how many files of two groups have names that fit, what a few of these
files look like, what words their paths have, and their types. Where two groups fit equally well,
nothing is guessed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

from segacc.data.reading.recognition import peek
from segacc.data.reading.recognition.groups import FileGroup, Match, Parts, match, readings
from segacc.data.reading.recognition.rest import OTHER_WORDS, left_over
from segacc.data.reading.recognition.splits import pieces

MASK_WORDS = (
    "mask", "label", "lbl", "lab", "annot", "anno", "ann", "gt", "truth", "groundtruth", "seg",
    "segmentation", "matte", "trimap", "manual", "target",
)  # fmt: skip
IMAGE_WORDS = ("image", "img", "jpeg", "photo", "picture", "rgb", "sat", "input", "raw", "original")
RIVAL = 0.9  # of the pairs of the best group, for another one to be as good

Kind = Literal["image", "mask"]


@dataclass(frozen=True)
class Recognised:
    """The images and masks that were found in a set.

    `pairs` are names, images and masks; a name is unique in its split. `lone` are files of the
    image and mask groups that have no partner, and `others` the groups of files that are neither.
    `doubt` says which groups fit equally well; nothing is paired then.
    """

    pairs: tuple[tuple[str, Parts, Parts], ...] = ()
    lone: tuple[tuple[Parts, Kind], ...] = ()
    others: tuple[FileGroup, ...] = ()
    doubt: str | None = None


@dataclass(frozen=True)
class _Evidence:
    """What files look like; each file is read only once."""

    folder: Path
    seen: dict[tuple[str, ...], bool | None] = field(default_factory=dict)

    def is_mask(self, group: FileGroup) -> bool | None:
        """Whether a group looks like masks."""
        few = tuple(peek.spread([file.path for file in group.files]))
        if few not in self.seen:
            self.seen[few] = peek.look_like_masks(self.folder, few)
        return self.seen[few]

    def orient(self, found: Match) -> Match | None:
        """The match with the images first; None where these are no images and masks, or where it
        cannot be told which is which."""
        looks = [self.is_mask(group) for group in found.groups]
        words = [_says_mask(pattern) for pattern in found.patterns]
        jpeg = [pattern.lower().endswith((".jpg", ".jpeg")) for pattern in found.patterns]
        if None not in looks and looks[0] != looks[1]:
            return found.turned() if looks[0] else found
        if words[0] != words[1]:
            first_is_mask = words[0] is True or words[1] is False
            return found.turned() if first_is_mask else found
        if looks[0] is not None and looks[0] == looks[1]:
            return None
        if jpeg[0] != jpeg[1]:
            return found if jpeg[0] else found.turned()
        return None


def _says_mask(pattern: str) -> bool | None:
    """Whether the words in a path are those of masks, or of images; None for neither."""
    words = pieces(pattern)
    if any(word.startswith(MASK_WORDS) or word.endswith(("mask", "masks")) for word in words):
        return True
    return False if any(word.startswith(IMAGE_WORDS) for word in words) else None


def recognise(folder: Path, files: Sequence[Parts]) -> Recognised:
    """Find the images and their masks among the files, which are paths in the folder."""
    evidence = _Evidence(folder)
    found: list[Recognised] = []
    rest = list(files)
    while len(rest) > 1 and (one := _recognise(evidence, rest, doubts=not found)):
        if one.doubt:
            return one
        found.append(one)
        # Another split may have folders of other names. If a group fits nothing in a finished
        # split, it holds no masks of other splits either.
        served = {image.split for _, image, _ in one.pairs}
        open_groups = [g for g in one.others if served.isdisjoint(file.split for file in g.files)]
        rest = [file for group in open_groups for file in group.files]
        rest += [file for file, _ in one.lone if file.split not in served]
    pairs = tuple(pair for one in found for pair in one.pairs)
    used = {file for _, *files_of_pair in pairs for file in files_of_pair}
    lone = {file: side for one in found for file, side in one.lone if file not in used}
    used |= lone.keys()
    others = [
        replace(group, files=tuple(file for file in group.files if file not in used))
        for group in (found[0].others if found else ())
    ]
    return Recognised(pairs, tuple(lone.items()), tuple(g for g in others if g.files))


def _recognise(evidence: _Evidence, files: Sequence[Parts], doubts: bool) -> Recognised | None:
    """The best of all readings; None where none pairs anything up.

    Args:
        doubts: whether to report groups that fit, but whose roles cannot be decided.
    """

    def score(found: Match) -> tuple[float, int]:
        pairs, files = _score(found)
        looks = {evidence.is_mask(group) for group in found.groups}
        # Two groups of masks, or of photographs, may share names since they show the same things.
        return pairs / 4 if len(looks) == 1 and None not in looks else pairs, files

    best: tuple[Match, list[Match], list[FileGroup]] | None = None
    unclear: Match | None = None
    for groups in readings(files):
        matches = [m for a, b in combinations(groups, 2) if (m := match(a, b)) and _is_close(m)]
        oriented = [turned for m in matches if (turned := evidence.orient(m))]
        for found in oriented:
            if best is None or score(found) > score(best[0]):
                best = found, matches, groups
        unclear = max([*matches, *filter(None, [unclear])], key=_score, default=None)
        if best and 2 * len(best[0].pairs) == len(files):
            break
    if best is None:
        if unclear and doubts and 4 * len(unclear.pairs) >= len(files):
            return Recognised(doubt=_unclear(*unclear.patterns))
        return None
    found, matches, groups = best
    oriented = [turned for m in matches if (turned := evidence.orient(m))]
    fits = [m for m in oriented if m.groups[0] is found.groups[0] and _is_rival(m, found)]
    fits = _narrowed(fits, _mask_tests(evidence))
    if len(fits) == 1:
        fits = [m for m in oriented if m.groups[1] is fits[0].groups[1] and _is_rival(m, fits[0])]
        fits = _narrowed(fits, _image_tests(evidence))
    if len(fits) > 1:
        return Recognised(doubt=_rivals(fits))
    (found,) = fits
    if doubt := left_over(evidence.folder, found, matches, groups):
        return Recognised(doubt=doubt)
    used = {file for pair in found.pairs for file in pair}
    sides: tuple[Kind, Kind] = ("image", "mask")
    lone = [
        (file, side)
        for group, side in zip(found.groups, sides, strict=True)
        for file in group.files
        if file not in used
    ]
    others = [group for group in groups if not any(group is its for its in found.groups)]
    named = [("/".join([*found.groups[0].ids(i), i.stem]), i, mask) for i, mask in found.pairs]
    return Recognised(tuple(named), tuple(lone), tuple(others))


def _is_close(found: Match) -> bool:
    """Whether the names fit for half of the files or more; fewer may fit by chance."""
    return 2 * len(found.pairs) >= min(len(group.files) for group in found.groups)


def _score(found: Match) -> tuple[int, int]:
    """More pairs are better, then fewer files without a partner in the splits that have pairs."""
    served = {file.split for pair in found.pairs for file in pair}
    files = sum(file.split in served for group in found.groups for file in group.files)
    return len(found.pairs), 2 * len(found.pairs) - files


def _is_rival(found: Match, best: Match) -> bool:
    """Whether another match has as many pairs as the best one, at least in one split."""
    its, others = (Counter(image.split for image, _ in m.pairs) for m in (found, best))
    return any(its[split] >= RIVAL * n for split, n in others.items())


Test = Callable[[Match], bool]


def _narrowed(fits: list[Match], tests: Sequence[Test]) -> list[Match]:
    """The matches that pass the tests, leaving out a test that none of them passes; of these the
    ones with the most pairs."""
    for test in tests:
        if len(fits) > 1:
            fits = [found for found in fits if test(found)] or fits
    most = max(len(found.pairs) for found in fits)
    return [found for found in fits if len(found.pairs) >= RIVAL * most]


def _mask_tests(evidence: _Evidence) -> list[Test]:
    """Return tests that tell masks from other files of the same images."""
    folder = evidence.folder

    def files(found: Match) -> list[str]:
        return [mask.path for _, mask in found.pairs]

    return [
        lambda m: peek.sizes_agree(folder, [(i.path, mask.path) for i, mask in m.pairs]),
        lambda m: evidence.is_mask(m.groups[1]) is True,
        lambda m: not OTHER_WORDS & set(pieces(m.patterns[1])),
        lambda m: not peek.say_the_same(folder, files(m)),
        lambda m: peek.have_one_channel(folder, files(m)),
        # Words decide only where the files say nothing.
        lambda m: evidence.is_mask(m.groups[1]) is not None or _says_mask(m.patterns[1]) is True,
    ]


def _image_tests(evidence: _Evidence) -> list[Test]:
    """Return tests that tell images from other files of the same masks."""
    return [
        lambda m: peek.sizes_agree(evidence.folder, [(i.path, mask.path) for i, mask in m.pairs]),
        lambda m: evidence.is_mask(m.groups[0]) is False,
        lambda m: not OTHER_WORDS & set(pieces(m.patterns[0])),
        lambda m: _says_mask(m.patterns[0]) is False,
    ]


def _unclear(one: str, other: str) -> str:
    return (
        f"has files of the same names in {one} and {other}, and which of them are the masks cannot "
        f"be told: say it with --pairs '{one}={other}' (images first)"
    )


def _rivals(fits: Sequence[Match]) -> str:
    side = 0 if fits[0].patterns[0] != fits[1].patterns[0] else 1
    names = " and ".join(found.patterns[side] for found in fits)
    pairs = "=".join(fits[0].patterns)
    what = ("images", "masks")[side]
    of = f"the {('masks', 'images')[side]} {fits[0].patterns[1 - side]}"
    return f"has {names}, which all fit as the {what} of {of}: say which with --pairs '{pairs}'"


def several_masks(files: Sequence[Parts]) -> str | None:
    """Return a sentence if each image has a folder of its own with several masks, as for
    instances."""
    folders: defaultdict[tuple[str, ...], defaultdict[str, list[Parts]]]
    folders = defaultdict(lambda: defaultdict(list))
    for file in files:
        *above, own = (*file.before, *file.after) or ("",)
        folders[tuple(above)][own].append(file)
    single, many = Counter[str](), Counter[str]()
    for inside in folders.values():
        ones = [name for name, its in inside.items() if len(its) == 1]
        if len(inside) == 2 and len(ones) == 1:
            single.update(ones)
            many.update(inside.keys() - ones)
    if sum(many.values()) * 2 < len(folders) or sum(many.values()) < 2:
        return None
    image, mask = single.most_common(1)[0][0], many.most_common(1)[0][0]
    return (
        f"has a folder for each image with several masks ({mask}/) beside the image ({image}/): "
        "segacc needs one mask for each image, so merge them into one file (where any of them is "
        "not 0, the mask is 255)"
    )
