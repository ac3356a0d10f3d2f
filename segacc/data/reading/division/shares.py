"""Groups of images -> splits: by a hash of their names, and in proportion where that matters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHARES = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}
"""the numbers (see `number_of`) of each split: from the first up to below the second"""
LARGE = 0.05
"""Share of the images from which a group is so large that the hash alone may miss the shares."""


@dataclass(frozen=True)
class Group:
    """Images that go into one split."""

    name: str
    """which decides the split where nothing else does"""
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
    if classes is not None or exactly or is_large:
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
    count = sum(len(group.rows) for group in groups)
    has = np.ones((count, 1), dtype=bool)  # the last column is that all images have in common
    if classes is not None:
        has = np.hstack([classes[:, classes.any(0)], has])
    held = np.array([has[list(group.rows)].sum(0) for group in groups])  # (groups, columns)
    goals = np.array([_goals(column[column > 0], splits) for column in held.T])
    lacks = goals.T.copy()  # (splits, columns)
    numbers = [number_of(group.name) for group in groups]
    placed: list[str | None] = [None] * len(groups)
    rarest_first = np.argsort(held.sum(0)[:-1], kind="stable").tolist()
    for column in [*rarest_first, has.shape[1] - 1]:
        its_groups = [g for g in range(len(groups)) if placed[g] is None and held[g, column]]
        for g in sorted(its_groups, key=lambda g: (-held[g, column], numbers[g])):
            chosen = splits.index(split_of_number(numbers[g], in_two="test" not in splits))
            if lacks[chosen, column] < held[g, column]:
                lack = [(row[column], row[-1]) for row in lacks.tolist()]
                chosen = lack.index(max(lack))
            placed[g] = splits[chosen]
            lacks[chosen] -= held[g]
    return [split for split in placed if split]


def _goals(held: np.ndarray, splits: Sequence[str]) -> list[int]:
    """How many of the images each split should get; valid and test as many as the smallest group at
    least, if there are enough groups.

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
    """Give a group to each split that has none, from one that has several; of two groups, test gets
    none. Returns as `Shared.moved`."""
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
