"""Rows without splits -> splits, and a sentence about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segacc.data.reading.division.groups import Grouped, group_images, keys_of
from segacc.data.reading.division.looks import NEAR, Look, looks_of
from segacc.data.reading.division.shares import Shared, share_out
from segacc.errors import InputError, plural
from segacc.labels import Coding


@dataclass(frozen=True)
class Division:
    """How a set without splits is divided."""

    coding: Coding
    """the coding of its masks; if they have classes, these are shared out in proportion"""
    group_by: str | None = None
    """the value of --group-by"""
    fold: str | None = None
    """the value of --fold"""

    def require_no_effect(self, source: str, splits: Sequence[str]) -> None:
        """Raises InputError for a --group-by if the data set has its own splits and none is divided
        anew."""
        if self.group_by and not self.fold:
            raise InputError(
                f"--group-by '{self.group_by}' has no effect on {source}, which has splits of its "
                f"own ({', '.join(splits)}): leave it out, or give --fold"
            )


def divide_rows(
    rows: Collection[dict[str, Any]], division: Division, source: str, in_two: bool = False
) -> tuple[dict[str, list[int]], str]:
    """The indices of train, valid and test (`in_two`: of train and valid), and how the rows were
    divided, as the end of a sentence that begins with the data set.

    Args:
        rows: {image, mask, name}, with encoded files.
        source: the data set, for messages.

    Raises:
        InputError: --group-by does not match a name, a split would be empty, or the cache cannot be
            written.
    """
    grouped, looks, keys = grouped_rows(rows, division, 2 if in_two else 3)
    if len(grouped.groups) == 1 and len(rows) > 1:
        raise InputError(_all_in_one(source, len(rows), division))
    classes = None if division.coding.is_binary else has_classes(looks)
    shared = share_out(grouped.groups, classes, exactly=keys is not None, in_two=in_two)
    return shared.parts, _note(grouped, shared, len(rows), division)


def grouped_rows(
    rows: Collection[dict[str, Any]], division: Division, parts: int
) -> tuple[Grouped, list[Look | None], list[str] | None]:
    """The rows in groups, what their images look like, and the keys of --group-by."""
    names = [row["name"] for row in rows]
    keys = keys_of(names, division.group_by) if division.group_by else None
    looks = looks_of(rows, division.coding)
    return group_images(names, looks, keys, splits=parts), looks, keys


def _all_in_one(source: str, count: int, division: Division) -> str:
    """Say why there is only one group, which leaves nothing for the other splits."""
    why = "all have the same pixels"
    if division.group_by:
        why = f"--group-by '{division.group_by}' or equal pixels join all of them"
    return (
        f"{source}: its {count} images are one group ({why}), so that there would be no valid "
        "split: make train and valid folders, or group by another part of the names"
    )


def has_classes(looks: Sequence[Look | None]) -> np.ndarray:
    """(N, 256) bool: which image has which class."""
    has = np.zeros((len(looks), 256), dtype=bool)
    for row, look in zip(has, looks, strict=True):
        if look:
            row[list(look.classes)] = True
    return has


def _note(grouped: Grouped, shared: Shared, count: int, division: Division) -> str:
    counts = ", ".join(f"{split} {len(part)}" for split, part in shared.parts.items())
    groups = about_groups(grouped, division)
    how = "by a hash of their names"
    if not division.coding.is_binary:
        how = "with each class in proportion"
    moved = ", ".join(f"{split} {name}" for split, name in shared.moved)
    few = f" (so few that one was put into a split that had none: {moved})" if moved else ""
    note = f"its {plural(count, 'image')}{groups} were split into {counts} {how}{few}"
    note += about_look_alikes(grouped)
    if not division.group_by:
        note += "; where images are related (one scene, one patient), name that with --group-by"
    return note


def about_groups(grouped: Grouped, division: Division) -> str:
    """How many groups there are, and why, for the middle of a sentence; empty where each image is
    one."""
    by = division.group_by and f"by --group-by '{division.group_by}'"
    alike = grouped.alike and f"{plural(grouped.alike, 'image')} of which look like another one"
    why = ", ".join(text for text in (by, alike) if text)
    return f", in {plural(len(grouped.groups), 'group')} ({why})," if why else ""


def about_look_alikes(grouped: Grouped) -> str:
    """The end of a sentence, where not all look-alikes were kept together."""
    if grouped.near == NEAR:
        return ""
    limit = "equal pixels" if grouped.near is None else f"{grouped.near} of 64 bits"
    return (
        f"; many of its images look alike, so that look-alikes were kept together only up to "
        f"a difference of {limit}"
    )
