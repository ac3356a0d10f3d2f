"""Boundary IoU and surface distance against hand-computed cases and MONAI."""

import numpy as np
import pytest
import torch

from segacc.metrics.surfaces import (
    BOUNDARY_SHARE,
    UNKNOWN,
    boundary_counts,
    hausdorff_95,
    hausdorff_distances,
)


def square(top, left, side, shape=(50, 60)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def blobs(seed, shape=(64, 48)):
    noise = np.random.default_rng(seed).random((8, 6))
    return np.kron(noise, np.ones((shape[0] // 8, shape[1] // 6))) > 0.6


def test_the_boundary_of_a_square_by_hand():
    # The diagonal is 78.1 px, 2 % of it 1.56: a rim 2 px wide.
    assert round(BOUNDARY_SHARE * np.hypot(50, 60)) == 2
    whole = square(10, 10, 20)
    rim = 20 * 20 - 16 * 16
    assert boundary_counts(whole, whole) == (rim, rim)
    # Moved by 10 px the rims cross in two corners of 2 x 2 px; 10 px on, along the edges, nothing.
    assert boundary_counts(whole, square(20, 20, 20)) == (8, 2 * rim - 8)
    inner = square(13, 13, 14)  # 3 px further in
    assert boundary_counts(whole, inner) == (0, rim + 14 * 14 - 10 * 10)


def test_the_image_border_is_an_outline_too():
    full = np.ones((50, 60), bool)
    rim = 50 * 60 - 46 * 56
    assert boundary_counts(full, full) == (rim, rim)


def test_the_distance_of_moved_squares_by_hand():
    assert hausdorff_95(square(10, 10, 20), square(10, 10, 20)) == 0
    moved = hausdorff_95(square(10, 10, 20), square(10, 15, 20))
    assert moved == 5  # of a side's 76 pixels, 20 are 5 px away and none is farther
    one = np.zeros((50, 60), bool)
    one[10, 10] = True
    other = np.zeros((50, 60), bool)
    other[13, 14] = True
    assert hausdorff_95(one, other) == 5


@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_monai(seed):
    from monai.metrics import compute_hausdorff_distance

    found, truth = blobs(seed), blobs(seed + 100)
    one, other = (torch.from_numpy(m)[None, None] for m in (found, truth))
    expected = compute_hausdorff_distance(one, other, include_background=True, percentile=95)
    assert hausdorff_95(found, truth) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (50, 60)])
def test_empty_and_full_masks(shape):
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    diagonal = np.hypot(*shape)
    assert hausdorff_95(empty, empty) == hausdorff_95(full, full) == 0
    assert hausdorff_95(full, empty) == hausdorff_95(empty, full) == diagonal
    assert boundary_counts(empty, empty) == (0, 0)
    inside, union = boundary_counts(full, full)
    assert inside == union > 0
    assert boundary_counts(full, empty) == (0, union)


def test_distances_in_own_pixels_and_mm_are_those_of_the_masks_at_that_size():
    """A mask that was halved in width only: its distances are those of the whole one."""
    wide = np.zeros((2, 20, 40), bool)
    wide[0, 5:15, 6:20] = wide[1, 5:15, 12:26] = True
    half = wide[:, :, ::2]
    scored, own, mm = hausdorff_distances(half[0], half[1], (1.0, 2.0), (0.5, 0.25))
    assert scored == hausdorff_95(half[0], half[1]) == 3
    assert own == hausdorff_95(wide[0], wide[1]) == 6
    assert mm == 1.5  # 6 px along the width
    same = hausdorff_distances(half[0], half[1], (2.0, 2.0), None)
    assert same[1:] == (6, UNKNOWN)


def test_the_distance_to_an_empty_mask_is_the_diagonal_in_each_unit():
    one = np.zeros((3, 4), bool)
    other = one.copy()
    other[1, 1] = True
    assert hausdorff_distances(one, other, (2.0, 2.0), (0.5, 0.5)) == (5, 10, 5)
    assert hausdorff_distances(one, one, (2.0, 1.0), (0.5, 0.5)) == (0, 0, 0)
