"""What the values of a mask mean: reading, writing, and storing the labels of a data set."""

import json

import numpy as np
import pytest

from segacc.labels import BINARY, IGNORE, Labels, MaskValueError, read_mask, write_mask

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
