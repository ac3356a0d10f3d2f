"""What the values of a mask mean: reading, writing, and storing the labels of a data set."""

import json

import numpy as np
import pytest

from segacc.labels import (
    BINARY,
    IGNORE,
    Coding,
    Labels,
    MaskValueError,
    UnknownValueError,
    colours_for,
    has_other_colours,
    read_colours,
    read_mask,
    read_values,
    write_mask,
)

STREET = Labels(("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))


@pytest.mark.parametrize(
    ("foreground", "dtype"),
    [(1, np.uint8), (255, np.uint8), (255, np.int32), (65535, np.uint16), (1, np.float32)],
)
def test_the_binary_codings_give_one_label_map(foreground, dtype):
    values = np.array([[0, foreground, 0], [foreground, 0, 0]], dtype=dtype)
    label_map = read_mask(values)
    assert label_map.dtype == np.uint8
    assert label_map.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert write_mask(label_map, BINARY).tolist() == [[0, 255, 0], [255, 0, 0]]


@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_of_one_value_are_read(value):
    label_map = read_mask(np.full((4, 5), value, np.uint8))
    assert label_map.shape == (4, 5) and (label_map == (value > 0)).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[0, 7]], r"has the values 0, 7 \(2 in all\); a binary mask holds 0 and 255 \(or 0 and 1"),
        ([[0, 1, 255]], r"has the values 0, 1, 255 \(3 in all\)"),
        ([[0, 1, 2, 3, 4, 5, 6]], r"has the values 0, 1, 2, 3, 4, ... \(7 in all\)"),
        ([[-1, 1]], "has the values -1, 1"),
    ],
)
def test_other_values_are_listed(values, said):
    with pytest.raises(MaskValueError, match=said):
        read_mask(np.array(values, np.int32))


def test_a_mask_of_more_classes_has_the_numbers_of_the_classes():
    label_map = np.array([[0, 2, IGNORE]], np.uint8)
    assert write_mask(label_map, STREET).tolist() == [[0, 2, 255]]


def test_a_binary_mask_cannot_say_that_a_pixel_is_ignored():
    with pytest.raises(AssertionError, match="ignored"):
        write_mask(np.array([[0, 1, IGNORE]], np.uint8), BINARY)


@pytest.mark.parametrize("labels", [BINARY, STREET])
def test_labels_are_read_again_from_json(labels):
    assert Labels.from_config(json.loads(json.dumps(labels.to_config()))) == labels


def test_what_has_no_labels_is_binary_as_in_0_1_0():
    assert Labels.from_config(None) == BINARY
    assert BINARY.names == ("background", "foreground")


def test_two_classes_need_one_logit_and_more_need_one_each():
    assert (BINARY.classes, BINARY.logits) == (2, 1)
    assert (STREET.classes, STREET.logits) == (3, 3)


TISSUE = Coding(
    Labels(("background", "gland", "lumen"), ((0, 0, 0), (230, 159, 0), (86, 180, 233))),
    values=((0, 0, 0), (1, 9, 1), (20, 20, 2), (30, 30, IGNORE)),
    colours=(((0, 0, 0), 0), ((255, 0, 0), 1), ((250, 0, 0), 1), ((0, 0, 255), 2)),
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_values_and_ranges_of_values_become_classes_and_255_is_ignored(dtype):
    values = np.array([[0, 1, 9], [20, 30, 255]], dtype)
    label_map = read_values(values, TISSUE)
    assert label_map.dtype == np.uint8
    assert label_map.tolist() == [[0, 1, 1], [2, IGNORE, IGNORE]]


def test_255_is_a_class_where_one_owns_it():
    coding = Coding(BINARY, values=((0, 0, 0), (255, 255, 1)))
    assert read_values(np.array([[0, 255]], np.uint8), coding).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "pixels"),
    [
        (np.array([[0, 7, 10, 10]], np.uint8), {"10": 2}),
        (np.array([[0, 300]], np.uint16), {"300": 1}),
        (np.array([[0, -1, 70000]], np.int32), {"-1": 1, "70000": 1}),
        (np.array([[0, 1.5]], np.float32), {"1.5": 1}),
    ],
)
def test_values_that_no_class_owns_are_counted(values, pixels):
    with pytest.raises(UnknownValueError, match="no class owns") as caught:
        read_values(values, TISSUE)
    assert caught.value.pixels == pixels


def test_colours_become_classes_and_white_is_ignored():
    pixels = np.array([[[0, 0, 0], [255, 0, 0], [250, 0, 0], [0, 0, 255], [255] * 3]], np.uint8)
    assert read_colours(pixels, TISSUE).tolist() == [[0, 1, 1, 2, IGNORE]]


def test_colours_that_no_class_owns_are_counted_most_frequent_first():
    pixels = np.array([[[0, 0, 0], [1, 2, 3], [4, 5, 6], [4, 5, 6]]], np.uint8)
    with pytest.raises(UnknownValueError) as caught:
        read_colours(pixels, TISSUE)
    assert caught.value.pixels == {"4 5 6": 2, "1 2 3": 1}


def test_each_of_many_classes_gets_a_colour_of_its_own_and_the_background_is_black():
    names = ("background", *map(str, range(40)))
    colours = colours_for(names)
    assert colours[0] == (0, 0, 0) and len(set(colours)) == len(names)
    assert colours_for(names[1:9]) == colours[1:9]
    assert all(0 <= value <= 255 for colour in colours for value in colour)


SEEN_BY = {  # Machado et al. 2009, severity 1, on linear RGB
    "all": np.eye(3),
    "protanopes": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopes": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopes": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("people", SEEN_BY)
def test_black_and_eight_colours_are_told_apart_with_any_colour_vision(people):
    """By their distance in CIELAB (Delta E of 1976); one of about 2 is just seen."""
    colours = colours_for(("background", *(f"class {i}" for i in range(8))))
    seen = linear(np.array(colours) / 255) @ np.transpose(SEEN_BY[people])
    places = lab(seen.clip(0, 1))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert apart[~np.eye(len(colours), dtype=bool)].min() > 15


def linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB (D65) of linear sRGB."""
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = rgb @ np.transpose(to_xyz) / (0.95047, 1.0, 1.08883)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_only_colours_that_are_not_ours_may_be_hard_to_tell_apart():
    names = ("sky", "road", "tree")
    assert not has_other_colours(Labels(names, colours_for(names)))
    assert not has_other_colours(Labels(names, (*colours_for(names)[1:], (0, 0, 0))))
    assert has_other_colours(Labels(names, ((70, 130, 180), (128, 64, 128), (107, 142, 35))))
