"""Which images belong together: by a part of their names, by equal pixels, or as look-alikes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segacc.data.reading.division.looks import NEAR, Look
from segacc.data.reading.division.shares import Group
from segacc.errors import InputError, plural, some_names

CLOSER = (NEAR, 4, 2, 0)
"""Numbers of bits in which look-alikes may differ; the first that leaves enough groups is used."""
MOST = 1 / 3
"""Share of the images that look-alikes may join to one group. X-rays, for example, all look alike,
and then only those that are closer to each other count."""
DONE = 255

_BITS = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1)
_COUNTS = _BITS.sum(1, dtype=np.uint8)  # of the bits of each number of 16 bits


@dataclass(frozen=True)
class Grouped:
    """All images of a set in groups, in the order of their first images."""

    groups: tuple[Group, ...]
    near: int | None
    """in how many of 64 bits look-alikes may differ; None: only equal pixels were joined"""
    alike: int
    """the number of images that look like another one"""


def keys_of(names: Sequence[str], group_by: str) -> list[str]:
    """The part of each name that --group-by says: its first group, else all that it matches.

    Raises:
        InputError: it does not match a name.
    """
    pattern = re.compile(group_by)
    keys: list[str] = []
    without: list[str] = []
    for name in names:
        found = pattern.search(name)
        key = found and found[1 if pattern.groups else 0]
        (keys if key is not None else without).append(name if key is None else key)
    if without:
        raise InputError(
            f"--group-by '{group_by}' fits no part of the names of {plural(len(without), 'image')} "
            f"({some_names(without)}): give a regular expression that finds the patient or scene "
            r"in every name, such as '^(.+)_\d+$'"
        )
    return keys


def group_images(
    names: Sequence[str], looks: Sequence[Look | None], keys: Sequence[str] | None, splits: int
) -> Grouped:
    """Join images with equal keys, with equal pixels, and look-alikes, also those that are
    connected through other look-alikes.

    Args:
        looks: None for an image that cannot be read.
        keys: as `keys_of`.
        splits: the number of groups that are needed at least, if look-alikes can be told apart.
    """
    known = [i for i, look in enumerate(looks) if look]
    digests = [look.digest if look else f"{i}" for i, look in enumerate(looks)]
    equal = _edges(digests) + (_edges(keys) if keys else [])
    least = _components(len(names), equal)
    most = max(np.bincount(least).max(), MOST * len(names), 2)
    enough = min(splits, least.max() + 1)
    chain = _chain(np.array([look.bits for look in looks if look], dtype=np.uint64))
    near: int | None = None
    joined, edges = least, _edges(digests)
    for bits in CLOSER:
        close = [(known[i], known[j]) for distance, i, j in chain if distance <= bits]
        tried = _components(len(names), equal + close)
        if np.bincount(tried).max() <= most and tried.max() + 1 >= enough:
            near, joined, edges = bits, tried, edges + close
            break
    rows: dict[int, list[int]] = {}
    for i, component in enumerate(joined.tolist()):
        rows.setdefault(component, []).append(i)
    own = keys or names
    groups = tuple(Group(min(own[i] for i in its), tuple(its)) for its in rows.values())
    return Grouped(groups, near, len({i for edge in edges for i in edge}))


def _edges(keys: Sequence[object]) -> list[tuple[int, int]]:
    """Pair each index with the first index of an equal key."""
    first: dict[object, int] = {}
    edges = [(first.setdefault(key, i), i) for i, key in enumerate(keys)]
    return [(one, other) for one, other in edges if one != other]


def _components(count: int, edges: Sequence[tuple[int, int]]) -> np.ndarray:
    """(count,) the number of the group that each index is joined to by the edges."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels


def _chain(hashes: np.ndarray) -> list[tuple[int, int, int]]:
    """The minimal spanning tree of hashes (N,) uint64 by Prim's method, as (bits, i, j).

    Whichever two are joined by steps of at most d bits are joined by the tree's edges of at most d
    bits, so one tree serves all distances.
    """
    words = hashes.view(np.uint16).reshape(-1, 4)
    best = np.full(len(hashes), 65, dtype=np.uint8)  # bits to the tree; DONE of those in it
    origin = np.zeros(len(hashes), dtype=np.int64)
    edges: list[tuple[int, int, int]] = []
    current = 0
    for _ in range(len(hashes) - 1):
        best[current] = DONE
        bits = _COUNTS[words ^ words[current]].sum(axis=1, dtype=np.uint8)
        closer = (bits < best) & (best != DONE)
        best[closer], origin[closer] = bits[closer], current
        current = int(best.argmin())
        edges.append((int(best[current]), int(origin[current]), current))
    return edges
