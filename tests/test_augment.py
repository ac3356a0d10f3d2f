"""Augmentations: one stream per (seed, epoch, index), masks moved with their images."""

import numpy as np
import pytest

from segacc.data.augment import augment, train_transform


def coordinates(height=20, width=30):
    """An image whose pixels name their place, and a mask made from them."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)
    return image, (image[..., 0] % 2 ^ image[..., 1] % 3 > 0).astype(np.uint8)


def outcomes(flips, crop=None, count=64, size=(20, 20)):
    transform = train_transform(flips, crop)
    image, mask = coordinates(*size)
    return [augment(transform, image, mask, 0, 0, i) for i in range(count)]


@pytest.mark.parametrize("flips", ["none", "h", "hv", "d4"])
@pytest.mark.parametrize("crop", [None, 8])
def test_the_mask_moves_with_its_image_and_is_not_interpolated(flips, crop):
    for image, mask in outcomes(flips, crop):
        assert (mask == (image[..., 0] % 2 ^ image[..., 1] % 3 > 0)).all()
        assert image.shape[:2] == ((crop, crop) if crop else (20, 20))
        assert image.dtype == mask.dtype == np.uint8


@pytest.mark.parametrize(("flips", "kinds"), [("none", 1), ("h", 2), ("hv", 4), ("d4", 8)])
def test_each_protocol_gives_its_symmetries_and_no_others(flips, kinds):
    assert len({image.tobytes() for image, _ in outcomes(flips)}) == kinds


def test_horizontal_flips_are_horizontal():
    original, _ = coordinates(20, 20)
    seen = {image.tobytes() for image, _ in outcomes("h")}
    assert seen == {original.tobytes(), original[:, ::-1].tobytes()}


def test_crops_reach_every_place():
    corners = {tuple(image[0, 0, :2].tolist()) for image, _ in outcomes("none", 17, 400)}
    assert corners == {(y, x) for y in range(4) for x in range(4)}


def test_the_stream_is_of_seed_epoch_and_index_alone():
    transform = train_transform("hv", 8)
    image, mask = coordinates()
    first = augment(transform, image, mask, 1, 2, 3)[0]
    augment(transform, image, mask, 1, 2, 4)
    assert (augment(transform, image, mask, 1, 2, 3)[0] == first).all()
    assert (augment(train_transform("hv", 8), image, mask, 1, 2, 3)[0] == first).all()
    for seed, epoch, index in [(0, 2, 3), (1, 3, 3), (1, 2, 4)]:
        others = [augment(transform, image, mask, seed, epoch, index + 100 * i) for i in range(5)]
        these = [augment(transform, image, mask, 1, 2, 3 + 100 * i) for i in range(5)]
        assert any((a[0] != b[0]).any() for a, b in zip(others, these, strict=True))
