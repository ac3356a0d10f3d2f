"""Which images belong together."""

import numpy as np
import pytest

from segacc.data.reading.division.groups import _chain, group_images, keys_of
from segacc.data.reading.division.looks import Look
from segacc.errors import InputError

FAR = 0xFFFF_FFFF_0000_0000


def look(bits, digest=None):
    return Look(bits, digest or f"{bits:x}", (0,))


def grouped(looks, keys=None, splits=3):
    names = [f"{i}" for i in range(len(looks))]
    found = group_images(names, looks, keys, splits)
    return [list(group.rows) for group in found.groups], found


def random_looks(count, seed=0):
    numbers = np.random.default_rng(seed).integers(0, 1 << 63, count, dtype=np.uint64)
    return [look(int(number)) for number in numbers]


def test_look_alikes_are_joined_also_by_way_of_others():
    """Steps of 6 bits from 1 to 2 to 3, so 1 and 3 differ in 12."""
    steps = [look(0), look(0b111111), look(0b111111_111111)]
    rest = random_looks(9)
    groups, found = grouped([rest[0], *steps, *rest[1:]])
    assert [group for group in groups if len(group) > 1] == [[1, 2, 3]]
    assert (len(found.groups), found.near, found.alike) == (10, 8, 3)


@pytest.mark.parametrize(("bits", "joined"), [(8, True), (9, False)])
def test_up_to_eight_bits_are_alike(bits, joined):
    groups, _ = grouped([look(FAR), look(FAR ^ ((1 << bits) - 1)), *random_looks(6)])
    assert ([0, 1] in groups) == joined


def test_equal_pixels_are_joined_whatever_their_hashes_say():
    looks = random_looks(8)
    looks[5] = look(looks[5].bits, looks[2].digest)
    groups, found = grouped(looks)
    assert [group for group in groups if len(group) > 1] == [[2, 5]]
    assert found.alike == 2


def test_images_that_cannot_be_read_stay_alone():
    groups, _ = grouped([None, None, *random_looks(3), None])
    assert groups == [[i] for i in range(6)]


def test_keys_and_look_alikes_join_together():
    looks = random_looks(13)
    looks[3] = look(looks[1].bits ^ 1)
    groups, found = grouped(looks, keys=list("bbaacccdddeee"))
    assert groups == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    assert [group.name for group in found.groups] == list("acde")


def test_where_most_images_look_alike_only_the_closest_ones_count():
    """60 X-rays that differ in 6 bits from a common one, and so in up to 12 from each other; two
    pairs differ in one."""
    numbers = np.random.default_rng(3)
    looks = []
    for _ in range(60):
        flipped = numbers.choice(64, 6, replace=False)
        looks.append(look(sum(1 << int(bit) for bit in flipped)))
    looks += [look(looks[0].bits ^ 1 << 63), look(looks[1].bits ^ 1 << 62)]
    groups, found = grouped(looks)
    assert found.near in (0, 2, 4)
    assert max(map(len, groups)) <= len(looks) / 3
    if found.near:
        assert sum(len(group) > 1 for group in groups) >= 2


def test_images_of_one_look_are_told_apart_by_their_pixels():
    """Black pictures and the like have one hash."""
    groups, found = grouped([look(0, f"pixels {i // 2}") for i in range(10)])
    assert groups == [[2 * i, 2 * i + 1] for i in range(5)]
    assert found.near is None


def test_the_chain_joins_the_same_images_as_all_distances():
    """The tree of Prim, against a search through all pairs."""
    numbers = np.random.default_rng(5)
    seeds = numbers.integers(0, 1 << 63, 12, dtype=np.uint64)
    hashes = np.array(
        [s ^ np.uint64(1) << np.uint64(b) for s in seeds for b in numbers.integers(0, 64, 8)],
        dtype=np.uint64,
    )
    for most in (0, 2, 8, 25):
        own = list(range(len(hashes)))
        tree = list(range(len(hashes)))
        pairs = [
            (i, j)
            for i in range(len(hashes))
            for j in range(i)
            if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= most
        ]
        edges = [(i, j) for distance, i, j in _chain(hashes) if distance <= most]
        for labels, joined in ((own, pairs), (tree, edges)):
            for i, j in joined:
                old, new = labels[i], labels[j]
                labels[:] = [new if label == old else label for label in labels]
        same = {(own[i] == own[j]) == (tree[i] == tree[j]) for i in range(96) for j in range(96)}
        assert same == {True}


@pytest.mark.parametrize(
    ("regex", "keys"),
    [
        (r"p\d+", ["p1", "p1", "p12"]),
        (r"^(.+)_\d$", ["p1", "day/p1", "p12"]),
        (r"(\d)\d?_", ["1", "1", "1"]),
        (r"_(\d)|x", ["3", "7", "1"]),
    ],
)
def test_the_first_group_or_the_whole_match_is_the_key(regex, keys):
    assert keys_of(["p1_3", "day/p1_7", "p12_1"], regex) == keys


def test_names_that_an_expression_does_not_fit_are_named():
    with pytest.raises(InputError, match=r"fits no part of the names of 2 images \(b1, b2\)"):
        keys_of(["a1", "b1", "b2"], "a.")
    with pytest.raises(InputError, match=r"of 1 image \(ab\)"):  # its group takes no part
        keys_of(["a1", "ab"], r"a(\d)?")
