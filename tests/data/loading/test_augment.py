"""Augmentations: one stream per (seed, epoch, index), masks moved with their images."""

import os
import random

import numpy as np
import pytest

from segacc.data.loading.augment import draw_view, stream_seed, write_view

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import looks for one on the network

FLIPS = ["none", "h", "hv", "d4"]


def coordinates(side=20):
    """An image whose pixels name their place, and a mask made from them."""
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 0] = np.arange(side)[:, None]
    image[..., 1] = np.arange(side)
    return image, (image[..., 0] % 2 ^ image[..., 1] % 3 > 0).astype(np.uint8)


def augmented(flips, crop, image, mask, state):
    side = crop or len(image)
    view = draw_view(flips, crop, *image.shape[:2], state)
    out = np.zeros((side, side, 3), np.uint8), np.full((side, side), 9, np.uint8)
    write_view(view, image, out[0])
    write_view(view, mask, out[1])
    return out


def outcomes(flips, crop=None, count=64):
    return [augmented(flips, crop, *coordinates(), stream_seed(0, 0, i)) for i in range(count)]


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("crop", [None, 8, 20])
def test_crops_and_flips_are_those_of_albumentations(flips, crop):
    import albumentations as A

    steps = [A.RandomCrop(crop, crop)] if crop else []
    steps += {
        "none": [],
        "h": [A.HorizontalFlip(p=0.5)],
        "hv": [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)],
        "d4": [A.D4(p=1)],
    }[flips]
    reference = A.Compose(steps)
    image, mask = coordinates()
    for index in range(100):
        state = stream_seed(1, 2, index)
        reference.set_random_state(np.random.default_rng(state), random.Random(state))
        expected = reference(image=image, mask=mask)
        found = augmented(flips, crop, image, mask, state)
        assert (found[0] == expected["image"]).all() and (found[1] == expected["mask"]).all()


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("crop", [None, 8])
def test_the_mask_moves_with_its_image_and_is_not_interpolated(flips, crop):
    for image, mask in outcomes(flips, crop):
        assert (mask == (image[..., 0] % 2 ^ image[..., 1] % 3 > 0)).all()


@pytest.mark.parametrize(("flips", "kinds"), [("none", 1), ("h", 2), ("hv", 4), ("d4", 8)])
def test_each_protocol_gives_its_symmetries_and_no_others(flips, kinds):
    assert len({image.tobytes() for image, _ in outcomes(flips)}) == kinds


def test_horizontal_flips_are_horizontal():
    original, _ = coordinates()
    seen = {image.tobytes() for image, _ in outcomes("h")}
    assert seen == {original.tobytes(), original[:, ::-1].tobytes()}


def test_crops_reach_every_place():
    corners = {tuple(image[0, 0, :2].tolist()) for image, _ in outcomes("none", 17, 400)}
    assert corners == {(y, x) for y in range(4) for x in range(4)}


def test_the_stream_is_of_seed_epoch_and_index():
    states = {stream_seed(*key) for key in np.ndindex(3, 3, 100)}
    assert len(states) == 900
