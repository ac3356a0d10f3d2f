"""How groups of images are shared out to the splits."""

import itertools
import random

import numpy as np
import pytest

from segacc.data.reading.division.shares import (
    SHARES,
    Group,
    number_of,
    share_out,
    split_of_number,
)


def singles(names):
    return [Group(name, (i,)) for i, name in enumerate(names)]


def divide(names):
    return share_out(singles(names), None, exactly=False).parts


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
        by_share[split_of_number(number_of(f"{i}"))].append(f"{i}")
    for shares in itertools.combinations_with_replacement(SHARES, count):
        names = [by_share[share][k] for k, share in enumerate(shares)]
        shared = share_out(singles(names), None, exactly=False)
        assert sorted(i for part in shared.parts.values() for i in part) == list(range(count))
        filled = [split for split, part in shared.parts.items() if part]
        assert filled == list(SHARES)[: min(count, 3)], (shares, shared)


@pytest.mark.parametrize("count", [10, 24, 60, 99])
def test_a_small_set_meets_the_shares(count):
    """By the hash alone, valid of 24 images would have from 1 to 9 images here."""
    for seed in range(20):
        parts = divide([f"{seed}/{i}" for i in range(count)])
        sizes = {split: len(part) for split, part in parts.items()}
        part = round(0.15 * count)
        assert sizes == {"train": count - 2 * part, "valid": part, "test": part}


def test_most_images_of_a_small_set_stay_when_one_is_added():
    moved = 0
    for seed in range(20):
        names = [f"{seed}/{i}" for i in range(40)]
        before, after = splits_of(names), splits_of([*names, f"{seed}/new"])
        moved += sum(after[name] != before[name] for name in names)
    assert moved / (20 * 40) < 0.05


def test_an_empty_split_takes_the_image_whose_number_is_nearest():
    names = sorted((f"{i}" for i in range(200) if number_of(f"{i}") < 0.7), key=number_of)[-100:]
    shared = share_out(singles(names), None, exactly=False)
    assert shared.parts == {"train": [*range(98)], "valid": [99], "test": [98]}
    assert shared.moved == (("valid", names[99]), ("test", names[98]))


def test_beside_a_test_split_its_numbers_are_for_training():
    names = [f"img_{i:04d}" for i in range(1000)]
    parts, in_two = divide(names), share_out(singles(names), None, exactly=False, in_two=True).parts
    assert list(in_two) == ["train", "valid"]
    assert in_two["valid"] == parts["valid"]
    assert in_two["train"] == sorted(parts["train"] + parts["test"])


def test_small_groups_follow_the_hash_of_their_names():
    groups = [Group(f"g{i}", (2 * i, 2 * i + 1)) for i in range(50)]
    parts = share_out(groups, None, exactly=False).parts
    for group in groups:
        split = split_of_number(number_of(group.name))
        assert set(group.rows) <= set(parts[split])


@pytest.mark.parametrize("sizes", [[90, *[1] * 10], [70, 15, 15], [20] * 5, [35] * 3, [10] * 10])
def test_large_groups_are_put_where_they_fit(sizes):
    """Hand-made: what each split can get at best."""
    best = {
        (90, *[1] * 10): {"valid": 5, "test": 5},
        (70, 15, 15): {"valid": 15, "test": 15},
        (20,) * 5: {"valid": 20, "test": 20},
        (35,) * 3: {"valid": 35, "test": 35},
        (10,) * 10: {"valid": 20, "test": 20},
    }[tuple(sizes)]
    starts = np.cumsum([0, *sizes])
    for seed in range(5):
        groups = [
            Group(f"{seed} {i}", tuple(range(start, start + size)))
            for i, (start, size) in enumerate(zip(starts, sizes, strict=False))
        ]
        parts = share_out(groups, None, exactly=False).parts
        for group in groups:
            assert sum(set(group.rows) <= set(part) for part in parts.values()) == 1
        counts = {split: len(part) for split, part in parts.items()}
        assert sum(counts.values()) == sum(sizes)
        for split in ("valid", "test"):
            assert abs(counts[split] - best[split]) <= max(10, 0), (sizes, counts)


def test_each_class_is_shared_out_in_proportion():
    """200 images: a class in all, one in half, one in 20, and one in 3 of them."""
    classes = np.zeros((200, 256), dtype=bool)
    classes[:, 0] = True
    random_numbers = np.random.default_rng(0)
    for number, count in ((1, 100), (2, 20), (3, 3)):
        classes[random_numbers.permutation(200)[:count], number] = True
    parts = share_out(singles([f"{i}" for i in range(200)]), classes, exactly=False).parts
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 140,
        "valid": 30,
        "test": 30,
    }
    held = {split: classes[part].sum(0)[:4].tolist() for split, part in parts.items()}
    assert held["train"][2:] == [14, 1]
    assert held["valid"][2:] == held["test"][2:] == [3, 1]
    assert abs(held["valid"][1] - 15) <= 1
    assert abs(held["test"][1] - 15) <= 1


def test_groups_are_kept_whole_where_classes_are_shared_out():
    """Ten patients of six images, of which three have the rare class."""
    groups = [Group(f"p{p}", tuple(range(6 * p, 6 * p + 6))) for p in range(10)]
    classes = np.zeros((60, 256), dtype=bool)
    classes[:, 0] = True
    for patient in (2, 5, 7):
        classes[6 * patient : 6 * patient + 2, 4] = True
    parts = share_out(groups, classes, exactly=True).parts
    for part in parts.values():
        assert len({row // 6 for row in part} & {2, 5, 7}) == 1
        assert len(part) % 6 == 0
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 42,
        "valid": 12,
        "test": 6,
    } or {split: len(part) for split, part in parts.items()} == {
        "train": 42,
        "valid": 6,
        "test": 12,
    }


def test_the_order_of_the_images_does_not_matter():
    classes = np.random.default_rng(1).random((80, 256)) < 0.02
    names = [f"{i}" for i in range(80)]
    order = np.random.default_rng(2).permutation(80)
    one = share_out(singles(names), classes, exactly=False).parts
    other = share_out(singles([names[i] for i in order]), classes[order], exactly=False).parts
    assert {s: sorted(order[part]) for s, part in other.items()} == one


def test_most_images_stay_where_classes_are_shared_out_when_some_are_added():
    names = [f"img_{i:04d}" for i in range(400)]
    classes = np.random.default_rng(1).random((400, 256)) < 0.3
    classes[:, 8:] = False
    before = share_out(singles(names[:350]), classes[:350], exactly=False).parts
    after = share_out(singles(names), classes, exactly=False).parts
    same = sum(len(set(before[split]) & set(after[split])) for split in SHARES)
    assert same > 0.85 * 350
