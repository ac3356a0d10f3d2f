"""A set without splits is divided by a hash of its images' names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

SHARES = {"train": (0.0, 0.7), "valid": (0.7, 0.85), "test": (0.85, 1.0)}
"""the numbers (see `number_of`) of each split: from the first up to below the second"""


def number_of(name: str) -> float:
    """A number in [0, 1) that depends on the name alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def divide(names: Sequence[str]) -> dict[str, list[int]]:
    """Indices of train, valid and test, each in the order of `names`.

    The number of a name decides, so an image stays in its split whatever is added or removed. Only
    a split that would be empty takes an image of another one: that whose number is nearest to its
    own. Two images are train and valid; a single one leaves the others empty.
    """
    numbers = [number_of(name) for name in names]
    parts = {
        split: [i for i, number in enumerate(numbers) if low <= number < high]
        for split, (low, high) in SHARES.items()
    }
    for split, (low, high) in SHARES.items():
        if parts[split]:
            continue
        donors = [part for part in parts.values() if len(part) > 1]
        if not donors and split != "test":  # test is the one that may stay empty
            donors = [parts["test"]]
        candidates = [i for part in donors for i in part]
        if len(names) > 1 and candidates:
            taken = min(candidates, key=lambda i: max(low - numbers[i], numbers[i] - high))
            for part in donors:
                if taken in part:
                    part.remove(taken)
            parts[split] = [taken]
    return parts


def divide_in_two(names: Sequence[str]) -> dict[str, list[int]]:
    """Indices of train and valid, as of `divide` with the images of test in train."""
    parts = divide(names)
    return {"train": sorted(parts["train"] + parts["test"]), "valid": parts["valid"]}


def division_note(names: Sequence[str], parts: Mapping[str, Sequence[int]]) -> str:
    """How the images were divided, as the end of a sentence that begins with the data set."""
    counts = ", ".join(f"{split} {len(part)}" for split, part in parts.items())
    moved = [
        f"{split} {names[i]}"
        for split, part in parts.items()
        for i in part
        if not _is_of(split, number_of(names[i]), in_two="test" not in parts)
    ]
    few = f" (so few that one was put into a split that had none: {', '.join(moved)})"
    return (
        f"its {len(names)} images were split into {counts} by a hash of their names"
        f"{few if moved else ''}"
    )


def _is_of(split: str, number: float, in_two: bool) -> bool:
    """Whether the number of a name alone puts it into the split."""
    low, high = SHARES[split]
    return low <= number < high or (in_two and split == "train" and number >= SHARES["test"][0])
