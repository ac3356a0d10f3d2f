"""Shapes -> label maps, by hand and against pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from segacc.data.polygons.rasterise import label_map_of, run_lengths, uncompressed
from segacc.data.polygons.shapes import Shape, Shapes
from segacc.labels import IGNORE, Coding, Labels, MaskValueError, UnknownValueError, colours_for

NAMES = ("background", "car", "bus")
CODING = Coding(Labels(NAMES, colours_for(NAMES)), shapes=(("car", 1), ("bus", 2), ("dog", IGNORE)))


def box(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def draw(*shapes, size=(6, 8), coding=CODING, **more):
    return label_map_of(Shapes.from_bytes(Shapes(shapes, size, **more).to_bytes()), size, coding)


def test_a_square_covers_the_pixels_between_its_corners():
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 2:7] = 1
    found = draw(Shape("car", (box(2, 1, 7, 4),)))
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    assert (found == expected).all()


def test_no_shapes_are_background():
    assert (draw() == 0).all()
    assert (draw(coding=Coding(CODING.labels, shapes=CODING.shapes, uncovered=IGNORE)) == 255).all()


def test_shares_are_of_width_and_height():
    shares = [value / side for value, side in zip(box(2, 1, 7, 4), [8, 6] * 4, strict=True)]
    in_pixels = draw(Shape("car", (box(2, 1, 7, 4),)))
    assert (draw(Shape("car", (shares,)), in_shares=True) == in_pixels).all()


def test_parts_are_one_object_and_overlaps_of_them_no_hole():
    found = draw(Shape("bus", (box(0, 0, 3, 3), box(2, 2, 5, 5))))
    expected = np.zeros((6, 8), np.uint8)
    expected[:3, :3] = expected[2:5, 2:5] = 2
    assert (found == expected).all()


def test_the_smaller_object_is_on_top_whatever_their_order():
    large, small = Shape("car", (box(0, 0, 6, 6),)), Shape("bus", (box(4, 4, 8, 6),))
    expected = np.zeros((6, 8), np.uint8)
    expected[:6, :6] = 1
    expected[4:6, 4:8] = 2
    assert (draw(large, small) == expected).all()
    assert (draw(small, large) == expected).all()


def test_of_two_that_are_as_large_the_later_one_is_on_top():
    one, other = Shape("car", (box(0, 0, 4, 4),)), Shape("bus", (box(2, 0, 6, 4),))
    assert draw(one, other)[0].tolist() == [1, 1, 2, 2, 2, 2, 0, 0]
    assert draw(other, one)[0].tolist() == [1, 1, 1, 1, 2, 2, 0, 0]


def test_crowds_and_ignored_categories_do_not_count_and_lie_in_the_same_order():
    crowd, car = Shape(None, (box(0, 0, 8, 3),)), Shape("car", (box(0, 0, 2, 2),))
    expected = np.zeros((6, 8), np.uint8)
    expected[:3] = IGNORE
    expected[:2, :2] = 1
    assert (draw(car, crowd) == expected).all()
    assert (draw(Shape("dog", (box(0, 0, 8, 3),)), car) == expected).all()


def test_an_rle_may_have_a_hole():
    ring = np.zeros((6, 8), bool)
    ring[1:5, 1:6] = True
    ring[2:4, 2:5] = False
    # Down the columns: 7 outside, 4, then 2, 1, 2, 1 for each of three columns, 4, and the rest.
    assert run_lengths(ring) == [7, 4, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 4, 13]
    packed = coco_masks.encode(np.asfortranarray(ring.astype(np.uint8)))["counts"].decode()
    for counts in (run_lengths(ring), packed):
        assert (draw(Shape("car", counts=counts)) == ring).all()


@pytest.mark.parametrize("seed", range(20))
def test_compressed_run_lengths_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 90, 2).tolist())
    mask = rng.random(size) < rng.random()
    mask = mask.repeat(3, axis=0) if seed % 2 else mask
    encoded = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert uncompressed(encoded["counts"].decode()) == run_lengths(mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in decode
@pytest.mark.parametrize("seed", range(20))
def test_polygons_are_those_of_pycocotools_also_where_they_leave_the_image(seed):
    rng = np.random.default_rng(seed)
    polygon = (rng.random((rng.integers(3, 12), 2)) * (60, 40) - (10, 5)).ravel().tolist()
    expected = coco_masks.decode(coco_masks.frPyObjects([polygon], 30, 40))[..., 0]
    assert (draw(Shape("car", (polygon,)), size=(30, 40)) == expected).all()


def test_what_leaves_the_image_is_cut_off():
    assert draw(Shape("car", (box(-5, -5, 3, 2),)))[:3, :4].tolist() == [
        [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert (draw(Shape("car", (box(-5, -5, 12, 9),))) == 1).all()
    assert (draw(Shape("car", (box(9, 1, 12, 3),))) == 0).all()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Shape("car", (box(0, 0, 1e9, 4),)), r"far outside of the image of 8 x 6"),
        (Shape("car", counts=[4, 4]), "RLE of 8 pixels, which is not of an image of 8 x 6"),
        (Shape("car", counts=[60, -20, 8]), "RLE of 48 pixels"),
        (Shape("car", counts="h"), "cut short"),
        (Shape("car", counts="oooooooooooooooooo0"), "damaged"),
        (Shape("car", counts="\x00"), "damaged"),
        (Shape("car", counts="\u00e4"), "damaged"),
    ],
)
def test_a_damaged_shape_is_refused(shape, said):
    with pytest.raises(MaskValueError, match=said):
        draw(shape)


def test_categories_of_no_class_are_counted():
    with pytest.raises(UnknownValueError) as caught:
        draw(Shape("cat", (box(0, 0, 2, 2),)), Shape("car", (box(0, 0, 4, 2),)),
             Shape("cat", (box(4, 0, 6, 3),)), Shape("cow", (box(1, 1, 2, 2),)))  # fmt: skip
    assert caught.value.pixels == {"cat": 10, "cow": 1}
