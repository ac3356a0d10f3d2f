"""How a set without splits is divided."""

import itertools
import random

import pytest

from segacc.data.reading.division import SHARES, divide, division_note, number_of


def splits_of(names):
    return {names[i]: split for split, part in divide(names).items() for i in part}


def test_an_image_stays_in_its_split_whatever_is_added_or_removed():
    names = [f"scene {i}" for i in range(200)]
    before = splits_of(names)
    random.Random(0).shuffle(names)
    more = splits_of([*names[:150], *(f"new/{i}" for i in range(70))])
    assert all(more[name] == before[name] for name in names[:150])


def test_the_division_is_the_same_on_every_machine_and_in_every_version():
    """These numbers must never change: users' splits depend on them."""
    found = [round(number_of(name), 6) for name in ("a", "b", "p2/scene 1", "Größe")]
    assert found == [0.791374, 0.242735, 0.093499, 0.683048]
    parts = divide([f"img_{i:04d}" for i in range(1000)])
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 698,
        "valid": 152,
        "test": 150,
    }


@pytest.mark.parametrize("count", [2, 3, 4])
def test_no_split_of_a_small_set_is_empty(count):
    """All ways in which the names' numbers may fall into the three shares."""
    by_share = {split: [] for split in SHARES}
    for i in range(100):
        by_share[next(iter(splits_of_one(f"{i}")))].append(f"{i}")
    for shares in itertools.combinations_with_replacement(SHARES, count):
        names = [by_share[share][k] for k, share in enumerate(shares)]
        parts = divide(names)
        assert sorted(i for part in parts.values() for i in part) == list(range(count))
        filled = [split for split, part in parts.items() if part]
        assert filled == list(SHARES)[: min(count, 3)], (shares, parts)
        moved = any(names[i] not in by_share[s] for s, part in parts.items() for i in part)
        assert ("so few that one was put" in division_note(names, parts)) == moved


def splits_of_one(name):
    return {split for split, (low, high) in SHARES.items() if low <= number_of(name) < high}


def test_an_empty_split_takes_the_image_whose_number_is_nearest():
    names = sorted((f"{i}" for i in range(100) if number_of(f"{i}") < 0.7), key=number_of)[-6:]
    parts = divide(names)
    assert parts == {"train": [0, 1, 2, 3], "valid": [5], "test": [4]}
    assert f"valid {names[5]}, test {names[4]})" in division_note(names, parts)
