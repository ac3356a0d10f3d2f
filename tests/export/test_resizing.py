"""Resizing by products of matrices equals Pillow's and torch's own."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from segacc.data.prepare import resize_image
from segacc.export.resizing import resize_like_pillow, resize_maps, resizing_weights, triangle

SHAPES = [((100, 70), (64, 64)), ((33, 200), (64, 128)), ((50, 50), (200, 90)), ((1, 9), (4, 3))]


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_images_are_resized_as_the_prepared_ones(old, new):
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    theirs = resize_image(image, new[::-1]).astype(int)
    ours = resize_like_pillow(torch.from_numpy(image).permute(2, 0, 1)[None], *new)
    np.testing.assert_array_equal(ours[0].permute(1, 2, 0).numpy(), theirs)


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_maps_are_resized_as_torch_does(old, new):
    maps = torch.rand(2, 3, *old)
    theirs = interpolate(maps, size=new, mode="bilinear", antialias=True)
    torch.testing.assert_close(resize_maps(maps, *new), theirs, atol=1e-5, rtol=0)


def test_weights_by_hand():
    # Two pixels become one: it lies between them. One becomes two: both are it.
    assert resizing_weights(2, 1, triangle).tolist() == [[0.5, 0.5]]
    assert resizing_weights(1, 2, triangle).tolist() == [[1.0], [1.0]]
    # Two become four: the outer ones are at the border, the inner ones 3/4 and 1/4.
    assert resizing_weights(2, 4, triangle).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
