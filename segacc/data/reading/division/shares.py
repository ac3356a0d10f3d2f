"""Groups of images -> splits: by a hash of their names, and in proportion where that matters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHARES = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}
"""the numbers (see `number_of`) of each split: from the first up to below the second"""
LARGE = 0.05
"""share of the images from which a group is so large that the hash alone may miss the shares"""
FEW = 100
"""images below which it may miss them, too: of 24 images it put one into valid"""


@dataclass(frozen=True)
class Group:
    """Images that go into one split."""

    name: str
    """the name decides the split where nothing else does"""
    rows: tuple[int, ...]
    """the indices of the images"""


@dataclass(frozen=True)
class Shared:
    """The images of each split."""

    parts: dict[str, list[int]]
    """the indices of train, valid and perhaps test, sorted"""
    moved: tuple[tuple[str, str], ...]
    """splits that would have been empty, each with the name of the group that it got"""


def number_of(name: str) -> float:
    """A number in [0, 1) that depends on the name alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def split_of_number(number: float, in_two: bool = False) -> str:
    """The split of a number: train, valid or test; `in_two`, those of test are for training."""
    split = next(split for split, (_, high) in SHARES.items() if number < high)
    return "train" if in_two and split == "test" else split


def share_out(
    groups: Sequence[Group], classes: np.ndarray | None, exactly: bool, in_two: bool = False
) -> Shared:
    """Put the groups into train, valid and test (`in_two`: into train and valid).

    The number of its name decides the split of a group, so it stays there whatever is added or
    removed. Where the shares are to be met, a group moves if its split has enough already. A split
    that would be empty takes the group whose number is nearest. Two groups are train and valid; a
    single one leaves the others empty.

    Args:
        classes: (N, K) bool, which image has which class; the classes are shared out in proportion,
            beginning with the rarest. None where this does not matter.
        exactly: meet the shares also where there are no classes.
    """
    splits = ["train", "valid"] if in_two else list(SHARES)
    count = sum(len(group.rows) for group in groups)
    is_large = max(len(group.rows) for group in groups) > max(2, LARGE * count)
    if classes is not None or exactly or is_large or count < FEW:
        placed = _in_proportion(groups, classes, splits)
    else:
        placed = [split_of_number(number_of(group.name), in_two) for group in groups]
    moved = _fill_empty(groups, placed, splits)
    parts: dict[str, list[int]] = {split: [] for split in splits}
    for group, split in zip(groups, placed, strict=True):
        parts[split].extend(group.rows)
    return Shared({split: sorted(rows) for split, rows in parts.items()}, moved)


def _in_proportion(
    groups: Sequence[Group], classes: np.ndarray | None, splits: Sequence[str]
) -> list[str]:
    """The split of each group.

    The rarest class comes first, and the largest group of it (of equal ones that with the smallest
    number). A group goes into the split of its number if this lacks as many images of the class as
    the group has, else into that which lacks most.
    """
    held = _held(groups, classes)
    goals = np.array([_goals(column[column > 0], splits) for column in held.T]).T
    in_two = "test" not in splits
    homes = [splits.index(split_of_number(number_of(group.name), in_two)) for group in groups]
    return [splits[part] for part in _place(groups, held, goals, homes)]


def share_in_folds(
    groups: Sequence[Group], classes: np.ndarray | None, folds: int
) -> list[list[int]]:
    """Put the groups into parts of equal size, none of them empty.

    The rarest class comes first, and the largest group of it (of equal ones that with the smallest
    number). A group goes into the part that lacks most images of the class; if several lack equally
    many, into the one that lacks most images. This is the iterative stratification of Sechidis et
    al. (2011), with groups in place of images and without chance.

    Args:
        classes: as in `share_out`.
        folds: the number of parts, as many as there are groups at most.

    Returns:
        the indices of each part, sorted.
    """
    assert folds <= len(groups)
    held = _held(groups, classes)
    goals = np.repeat(held.sum(0, keepdims=True) / folds, folds, axis=0)
    parts: list[list[int]] = [[] for _ in range(folds)]
    for group, part in zip(groups, _place(groups, held, goals), strict=True):
        parts[part].extend(group.rows)
    return [sorted(part) for part in parts]


def _held(groups: Sequence[Group], classes: np.ndarray | None) -> np.ndarray:
    """(groups, columns): how many images of each group have each class. The last column is what all
    images have in common."""
    has = np.ones((sum(len(group.rows) for group in groups), 1), dtype=bool)
    if classes is not None:
        has = np.hstack([classes[:, classes.any(0)], has])
    return np.array([has[list(group.rows)].sum(0) for group in groups])


def _place(
    groups: Sequence[Group],
    held: np.ndarray,
    goals: np.ndarray,
    homes: Sequence[int] | None = None,
) -> list[int]:
    """The part of each group.

    Args:
        held: (groups, columns), from `_held`.
        goals: (parts, columns), how many images of each column each part should get.
        homes: the part into which a group goes as long as it lacks that many.
    """
    lacks = goals.copy()
    numbers = [number_of(group.name) for group in groups]
    placed: list[int | None] = [None] * len(groups)
    rarest_first = np.argsort(held.sum(0)[:-1], kind="stable").tolist()
    for column in [*rarest_first, held.shape[1] - 1]:
        its_groups = [g for g in range(len(groups)) if placed[g] is None and held[g, column]]
        for g in sorted(its_groups, key=lambda g: (-held[g, column], numbers[g])):
            chosen = homes[g] if homes else None
            if chosen is None or lacks[chosen, column] < held[g, column]:
                lack = [(row[column], row[-1]) for row in lacks.tolist()]
                chosen = lack.index(max(lack))
            placed[g] = chosen
            lacks[chosen] -= held[g]
    return [part for part in placed if part is not None]


def _goals(held: np.ndarray, splits: Sequence[str]) -> list[int]:
    """How many of the images each split should get; valid and test get at least as many as the
    smallest group has, if there are enough groups.

    Args:
        held: the number of images in each group.
    """
    images, goals = int(held.sum()), [0]
    for number, split in enumerate(splits[1:], start=2):
        low, high = SHARES[split]
        least = int(held.min()) if len(held) >= number else 0
        goals.append(max(least, round((high - low) * images)))
    goals[0] = max(0, images - sum(goals))
    return goals


def _fill_empty(
    groups: Sequence[Group], placed: list[str], splits: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Give a group to each split that has none, from one that has several; if there are two groups,
    test gets none. Returns as `Shared.moved`."""
    moved = []
    numbers = [number_of(group.name) for group in groups]
    for split in splits:
        low, high = SHARES[split]
        if split in placed:
            continue
        donors = {donor for donor in splits if placed.count(donor) > 1}
        if not donors and split != "test":
            donors = {"test"}
        candidates = [g for g, its_split in enumerate(placed) if its_split in donors]
        if len(groups) > 1 and candidates:
            nearest = min(candidates, key=lambda g: max(low - numbers[g], numbers[g] - high))
            placed[nearest] = split
            moved.append((split, groups[nearest].name))
    return tuple(moved)
