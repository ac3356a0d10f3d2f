"""Signs of faults in a single label map."""

import cv2
import numpy as np
import pytest

from segacc.data.audit.label_maps import TINY, edge_pixels, small_regions


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [3, 9])
def test_regions_are_those_of_connected_components(seed, classes):
    rng = np.random.default_rng(seed)
    label_map = rng.integers(0, classes, (60, 70), dtype=np.uint8)
    blurred = cv2.medianBlur(label_map, 3)
    label_map[:, :40] = blurred[:, :40]
    label_map[5:9, 50:60] = 255
    found = small_regions(label_map, classes)
    for number in range(classes):
        of_class = (label_map == number).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(of_class, connectivity=8)
        assert found.all[number] == count - 1
        assert found.tiny[number] == (stats[1:, cv2.CC_STAT_AREA] <= TINY).sum() > 0


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ("1", 1),
        ("11 11", 4),
        ("1111", 4),
        ("11111", 5),
        ("1001 0110", 4),
        ("010 101 010", 4),  # a ring
        ("010 111 010", 5),
        ("110 011", 4),
        ("11 11 10", 5),
        ("10000 01000 00100 00010 00001", 5),
        ("111 101 111", 8),
    ],
)
def test_every_shape_is_measured(shape, pixels):
    rows = [[int(digit) for digit in row] for row in shape.split()]
    label_map = np.zeros((9, 9), np.uint8)
    label_map[2 : 2 + len(rows), 2 : 2 + len(rows[0])] = rows
    found = small_regions(label_map, 2)
    assert found.all.tolist() == [0, 1] and found.tiny[1] == (pixels <= TINY)
    at_the_edge = np.array(rows, np.uint8)
    assert small_regions(at_the_edge, 2).tiny[1] == (pixels <= TINY)


def test_pixels_between_those_of_both_sides_are_counted():
    label_map = np.array([[1, 1, 3, 5, 5], [1, 1, 5, 5, 5], [1, 255, 3, 5, 5]], np.uint8)
    found = edge_pixels(label_map)
    # Across: 1 3 5 in the first row; 255 3 5 says nothing. Down: nothing rises or falls twice.
    assert (found.between, found.edges) == (1, 2 + 1 + 1 + 2)
