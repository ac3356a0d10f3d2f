"""Splits whose score can mean nothing, and what the resize takes from masks."""

import numpy as np
import pytest

from segacc.config.sizes import scaled_to
from segacc.data.content import Masks, doubts, lost_in_resize, why_meaningless
from segacc.data.prepare import resize_label_map
from segacc.data.regions import Regions, nearest, regions_after_resize
from segacc.labels import IGNORE


def masks(*shares: float) -> Masks:
    """Masks of 1000 pixels with these shares of foreground."""
    foreground = np.array([round(1000 * share) for share in shares])
    return Masks([f"m{i}" for i in range(len(shares))], 1000 - foreground, foreground)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0, 0, 0), "all 3 masks are empty"),
        ((0,), "its only mask is empty"),
        ((1, 1), "all 2 masks are foreground everywhere"),
    ],
)
def test_a_split_of_one_class_has_no_meaningful_score(shares, said):
    assert why_meaningless(masks(*shares)).startswith(said)


@pytest.mark.parametrize("shares", [(0, 0.5), (1, 0), (0.001,)])
def test_a_split_of_two_classes_has_a_score(shares):
    assert why_meaningless(masks(*shares)) is None


def test_a_split_of_which_all_pixels_are_ignored_has_no_meaningful_score():
    nothing = np.zeros(2, dtype=int)
    assert "ignored as a whole" in why_meaningless(Masks(["a", "b"], nothing, nothing))


def test_empty_masks_with_ignored_pixels_may_be_binary_ones_with_a_list_of_values():
    why = why_meaningless(Masks(["a"], np.array([700]), np.array([0]), ignored=300))
    assert "its only mask is empty (30% of the pixels do not count: where classes have" in why


def test_a_score_that_rests_on_few_masks_or_pixels_is_doubted():
    assert doubts(masks(0.3, 0.2, 0.4, 0, 0.5, 0.1)) == []
    (empty,) = doubts(masks(0.3, 0.2, 0, 0.4))
    assert empty.startswith(
        "1 of 4 masks are empty: a model that finds nothing has an iou_image of 0.25"
    )
    (few,) = doubts(masks(0, 0, 0.3, 0, 0))
    assert few.startswith("all foreground is in 1 of 5 masks (m2): iou rests on it")
    (pixels,) = doubts(masks(0.01, 0.01, 0.02))
    assert pixels == "40 pixels are foreground in all: each one changes iou by 2%"


# ---- the resize


@pytest.mark.parametrize(("side", "size"), [(101, 33), (47, 33), (600, 64), (20, 64), (767, 128)])
def test_each_pixel_comes_from_where_the_resize_takes_it(side, size):
    row = (np.arange(side) % 251).astype(np.uint8)
    resized = resize_label_map(np.repeat(row[None], 2, axis=0), size)
    np.testing.assert_array_equal(resized[0], row[nearest(side, size)])


def test_dots_that_vanish_are_counted_and_a_size_that_keeps_them_is_found():
    label_map = np.zeros((512, 512), np.uint8)
    for i in range(6):
        label_map[80 * i : 80 * i + 2, 100:102] = 1
    label_map[200:300, 300:400] = 1
    label_map[400:410, 400:410] = IGNORE  # no thing
    found = regions_after_resize(label_map, (128, 128))
    left = resize_label_map(label_map, 128)
    dots_left = sum(left[:, :50].any(axis=1))
    assert found == Regions(7, 6 - dots_left, 0, 0, thinnest=2, size=found.size)
    assert dots_left < 6
    assert 128 < found.size <= 256
    assert regions_after_resize(label_map, (found.size,) * 2).lost == 0


def test_a_crack_that_falls_into_pieces_is_one_broken_region():
    label_map = np.zeros((400, 600), np.uint8)
    y = np.arange(600) // 2
    for wide in (0, 1):
        label_map[y + 20 + wide, np.arange(600)] = 1
    found = regions_after_resize(label_map, (96, 96))
    assert (found.count, found.lost, found.broken) == (1, 0, 1)
    assert found.pieces > 10
    assert found.thinnest == 2
    assert 96 < found.size < 400
    assert regions_after_resize(label_map, (found.size,) * 2).broken == 0


def test_nothing_vanishes_from_masks_that_are_not_shrunk():
    label_map = np.eye(60, dtype=np.uint8)
    assert regions_after_resize(label_map, (64, 64)) == Regions(1, 0, 0, 0, 0, 0)
    empty = np.zeros((600, 600), np.uint8)
    assert regions_after_resize(empty, (64, 64)) == Regions(0, 0, 0, 0, 0, 0)


def test_the_advised_size_has_the_shape_of_the_one_that_is_too_small():
    """Lines of 1 px in an image of 400 x 300 px, resized to a quarter."""
    thin = np.zeros((300, 400), np.uint8)
    thin[20:280, 10:390:13] = 1
    found = regions_after_resize(thin, (75, 100))
    assert found.lost > 5
    wide = scaled_to((100, 75), found.size, 32)
    assert wide[0] == found.size and wide[1] == -(-found.size * 3 // 4 // 32) * 32
    damaged = regions_after_resize(thin, (wide[1], wide[0]))
    assert damaged.lost + damaged.broken <= 0.05 * damaged.count
    said = lost_in_resize(["a"], [found], (100, 75))
    assert f"the resize to 100x75 px removes {found.lost}" in said
    assert f"--size {wide[0]}x{wide[1]} keeps them" in said and "--crop 75" in said


def test_what_vanishes_is_said_with_the_size_that_keeps_it():
    whole, damaged = Regions(5, 0, 0, 0, 0, 0), Regions(10, 7, 1, 30, 2, 384)
    assert lost_in_resize(["a"], [whole], 128) is None
    assert lost_in_resize(["a", "b"], [whole, damaged], 128) == (
        "of the 15 connected regions in the masks, the resize to 128 px removes 7 and breaks 1 "
        "(into 30 pieces), in 1 of 2 images (b); the thinnest was 2 px wide. --size 384 keeps them "
        "in 1 of these 1; with --crop 128 a step then takes as much memory as with 128 px"
    )
    few = [Regions(100, 0, 0, 0, 0, 0), Regions(1, 1, 0, 0, 1, 384)]
    assert lost_in_resize(["a", "b"], few, 128) is None
