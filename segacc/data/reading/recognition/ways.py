"""The three ways to find images and their masks: patterns of the user, words in the names of
folders, and what names and contents have in common."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from segacc.config.names import SPLIT_NAMES
from segacc.data.reading.pairing import Finding, Found, Pair, pair_by_words
from segacc.data.reading.recognition.groups import Parts, parse
from segacc.data.reading.recognition.listing import Listing
from segacc.data.reading.recognition.patterns import pair_by_patterns
from segacc.data.reading.recognition.recognise import Recognised, recognise, several_masks


def find_pairs(listing: Listing, patterns: Sequence[str]) -> Found:
    """The images of a folder and their masks.

    Words in the names of folders are enough for most sets. If they leave files over, or miss splits
    that folder names give, names and contents are compared.

    Args:
        patterns: of `--pairs`; these alone count if there are any.

    Raises:
        InputError: a pattern is not one, or finds nothing.
    """
    folder = listing.folder
    if patterns:
        return _by_patterns(listing, patterns)
    by_words = pair_by_words(folder, list(listing.images))
    files = parse(listing.images)
    splits = {file.split for file in files} - {None}
    missed_splits = by_words.pairs.keys() == {None} and len(splits) > 1
    wrong, rest = len(by_words.findings), by_words.unused or by_words.unlabelled
    is_good = _faults_are_few(listing, by_words) if wrong else not rest
    if by_words.count and is_good and not missed_splits:
        return by_words
    if not by_words.count and (problem := several_masks(files)):
        return Found({}, {}, (Finding(".", problem),))
    recognised = recognise(folder, files)
    if recognised.doubt:
        is_sound = by_words.count and not wrong and not missed_splits
        return by_words if is_sound else Found({}, {}, (Finding(".", recognised.doubt),))
    found = _found(folder, recognised)
    if not wrong and not missed_splits:  # `found` may only add pairs
        return found if _masks(by_words).items() < _masks(found).items() else by_words
    is_better = (found.count, -len(found.lone)) > (by_words.count, -wrong)
    # If both ways find different masks for an image, take the one that has looked at the files.
    is_better |= _differ(found, by_words) or (missed_splits and found.count == by_words.count)
    return found if is_better else by_words


def _masks(found: Found) -> dict[str, str]:
    """The mask of each image."""
    return {pair.image: pair.mask for pairs in found.pairs.values() for pair in pairs}


def _differ(one: Found, other: Found) -> bool:
    """Whether an image has different masks."""
    masks = _masks(one)
    return any(masks.get(image, mask) != mask for image, mask in _masks(other).items())


def _faults_are_few(listing: Listing, found: Found) -> bool:
    """Whether only single files have no partner, and no folder as a whole."""
    wrong = {finding.file for finding in found.findings}
    files, faults = Counter(map(_place, listing.images)), Counter(map(_place, wrong))
    whole = any(n > 1 and n == files[place] for place, n in faults.items())
    return not whole and 2 * len(wrong) <= found.count


def _place(path: str) -> tuple[str, str]:
    """Folder and type of a file."""
    return os.path.dirname(path), os.path.splitext(path)[1].lower()


def _by_patterns(listing: Listing, patterns: Sequence[str]) -> Found:
    masks, lone, findings = pair_by_patterns((*listing.images, *listing.others), patterns)
    images = parse([*masks, *lone])
    # The name depends on the file alone, not on what else there is.
    pairs = _pairs(
        listing.folder,
        [(i, os.path.splitext(i.path)[0], masks[i.path]) for i in images if i.path in masks],
    )
    unlabelled = [i for i in images if i.path in lone and _may_lack_masks(i, pairs)]
    for image in unlabelled:
        del lone[image.path]
    used = {*masks, *masks.values(), *(image.path for image in unlabelled)}
    unused = tuple(file for file in listing.images if file not in used and file not in lone)
    problems = tuple(lone.values())
    return Found(
        pairs,
        _count_splits(unlabelled),
        findings=(*findings, *(() if pairs else problems)),
        lone=problems if pairs else (),
        unused=(unused,) if unused else (),
    )


def _found(folder: Path, recognised: Recognised) -> Found:
    pairs = _pairs(folder, [(image, name, mask.path) for name, image, mask in recognised.pairs])
    unlabelled: list[Parts] = []
    lone = []
    for file, side in recognised.lone:
        if side == "image" and _may_lack_masks(file, pairs):
            unlabelled.append(file)
        else:
            other = "mask" if side == "image" else "image"
            problem = f"is {_article(side)} {side} without {_article(other)} {other}: add it or "
            lone.append(Finding(file.path, f"{problem}remove the {side}"))
    unused = [tuple(file.path for file in group.files) for group in recognised.others]
    if len(pairs) > 1 and None in pairs and "train" not in pairs:
        pairs = {"train": pairs.pop(None), **pairs}  # images/, masks/ and test/
    elif len(pairs) > 1 and None in pairs:
        outside = pairs.pop(None)
        start = len(str(folder)) + 1
        for files in ([pair.image for pair in outside], [pair.mask for pair in outside]):
            unused.append(tuple(file[start:] for file in files))
    return Found(pairs, _count_splits(unlabelled), lone=tuple(lone), unused=tuple(unused))


def _may_lack_masks(image: Parts, pairs: Mapping[str | None, Sequence[Pair]]) -> bool:
    """Whether no image of its split has a mask, as in a test set that is for predict."""
    return bool(pairs) and image.split not in pairs


def _count_splits(images: Sequence[Parts]) -> dict[str | None, int]:
    counts = Counter(image.split for image in images)
    return {split: counts[split] for split in (*SPLIT_NAMES, None) if split in counts}


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _pairs(
    folder: Path, pairs: Sequence[tuple[Parts, str, str]]
) -> dict[str | None, tuple[Pair, ...]]:
    """Images, their names and their masks as pairs of each split, sorted by name."""
    found: defaultdict[str | None, list[Pair]] = defaultdict(list)
    for image, name, mask in pairs:
        named = unicodedata.normalize("NFC", name)
        found[image.split].append(Pair(named, str(folder / image.path), str(folder / mask)))
    return {
        split: tuple(sorted(found[split], key=lambda pair: pair.name))
        for split in (*SPLIT_NAMES, None)
        if split in found
    }
