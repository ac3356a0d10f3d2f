"""Augmentations: one stream per (seed, epoch, index), masks moved with their images."""

import itertools
import os
import random

import cv2
import numpy as np
import pytest

from segacc.data.loading.augment import View, draw_view, stream_seed, write_view
from segacc.labels import IGNORE

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import looks for one on the network

SHAPES = [(20, 20), (24, 30), (33, 17), (9, 40), (7, 5)]
FLIPS = ["none", "h", "hv", "d4"]


def coordinates(height=20, width=20):
    """An image whose pixels name their place, and a mask made from them."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)
    return image, (image[..., 0] % 2 ^ image[..., 1] % 3 > 0).astype(np.uint8)


def augmented(flips, crop, image, mask, state):
    shape = (crop, crop) if crop else mask.shape
    view = draw_view(flips, crop, *mask.shape, state)
    out = np.zeros((*shape, 3), np.uint8), np.full(shape, 9, np.uint8)
    write_view(view, image, out[0])
    write_view(view, mask, out[1])
    return out


def outcomes(flips, crop=None, count=64):
    return [augmented(flips, crop, *coordinates(), stream_seed(0, 0, i)) for i in range(count)]


def by_albumentations(flips, crop, pixels, states, border):
    """What albumentations makes of an image or a mask; it pads with 255, or with what is next."""
    import albumentations as A

    place = {"pad_if_needed": True, "pad_position": "top_left", "border_mode": border, "fill": 255}
    steps = [A.RandomCrop(crop, crop, **place)] if crop else []
    steps += {
        "none": [],
        "h": [A.HorizontalFlip(p=0.5)],
        "hv": [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)],
        "d4": [A.D4(p=1)],
    }[flips]
    reference = A.Compose(steps)
    for state in states:
        reference.set_random_state(np.random.default_rng(state), random.Random(state))
        yield reference(image=pixels)["image"]


@pytest.mark.parametrize(
    ("flips", "crop", "shape"),
    [
        case
        for case in itertools.product(FLIPS, [None, 8, 20, 28], SHAPES)
        if case[:2] != ("d4", None) or case[2] == (20, 20)  # the others are refused
    ],
)
def test_crops_and_flips_are_those_of_albumentations(flips, crop, shape):
    """Also of images that are smaller than the crop: these are padded at the bottom and right."""
    image, mask = coordinates(*shape)
    states = [stream_seed(1, 2, index) for index in range(50)]
    images = by_albumentations(flips, crop, image, states, cv2.BORDER_REPLICATE)
    masks = by_albumentations(flips, crop, mask, states, cv2.BORDER_CONSTANT)
    for state, *expected in zip(states, images, masks, strict=True):
        found = augmented(flips, crop, image, mask, state)
        assert (found[0] == expected[0]).all() and (found[1] == expected[1]).all()
        if crop:
            inside = (found[1] != IGNORE).sum()
            assert inside == min(crop, shape[0]) * min(crop, shape[1])


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_images_of_any_number_of_channels_are_padded(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 9, channels), dtype=np.uint8)
    out = np.zeros((12, 12, channels), np.uint8)
    write_view(View(0, 0, True, 0), image, out)
    padded = np.pad(image, ((0, 7), (0, 3), (0, 0)), mode="edge")
    assert (out == padded.swapaxes(0, 1)[::-1]).all()


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
