"""From classes, --classes and --ignore to how masks are coded."""

import numpy as np
import pytest

from segacc.data.classes.coding import classes_of_flag, make_coding
from segacc.data.classes.lists import NamedClass
from segacc.errors import InputError
from segacc.labels import IGNORE, colours_for, read_colours, read_values

STREET = [
    NamedClass("road", ((0, 0),)),
    NamedClass("car", ((7, 9),)),
    NamedClass("void", ((2, 2),)),
]


def test_names_alone_have_the_numbers_of_their_places():
    coding = make_coding(classes_of_flag("a, b,c"))
    assert coding.labels.names == ("a", "b", "c")
    assert coding.values == ((0, 0, 0), (1, 1, 1), (2, 2, 2)) and coding.colours == ()
    assert coding.labels.colours == colours_for(("a", "b", "c"))


def test_two_names_alone_are_the_classes_of_binary_masks():
    coding = make_coding(classes_of_flag("background,gland"))
    assert coding.is_binary and coding.labels.names == ("background", "gland")
    assert make_coding(classes_of_flag("gland")).labels == coding.labels


def test_a_class_that_is_ignored_is_no_class_and_later_ones_move_up():
    classes = [NamedClass(name) for name in ("a", "void", "b", "c")]
    coding = make_coding(classes, ignore=["VOID"])
    assert coding.labels.names == ("a", "b", "c")
    assert coding.values == ((0, 0, 0), (1, 1, IGNORE), (2, 2, 1), (3, 3, 2))


def test_values_may_be_ignored_also_of_a_class():
    coding = make_coding(STREET, ignore=["8-9", "40"])
    assert coding.values[-2:] == ((8, 9, IGNORE), (40, 40, IGNORE))
    assert coding.labels.names == ("road", "car", "void")


def test_a_class_of_which_all_is_ignored_is_no_class():
    assert make_coding(STREET, ignore=["7-9"]).labels.names == ("road", "void")
    gray = [*STREET, NamedClass("sky", ((4, 4),), ((9, 9, 9),))]
    assert make_coding(gray, ignore=["4"]).labels.names == ("road", "car", "void", "sky")
    assert make_coding(gray, ignore=["4", "9 9 9"]).labels.names == ("road", "car", "void")


def test_names_that_differ_in_case_are_told_apart():
    classes = [NamedClass(name) for name in ("Car", "car", "road")]
    assert make_coding(classes, ignore=["Car"]).labels.names == ("car", "road")
    assert make_coding(classes, ignore=["car"]).labels.names == ("Car", "road")


def test_a_class_of_the_flag_may_have_several_values():
    assert classes_of_flag("road: 1, 2, 5-7, car: 3, tree") == [
        NamedClass("road", ((1, 1), (2, 2), (5, 7))),
        NamedClass("car", ((3, 3),)),
        NamedClass("tree"),
    ]
    assert [one.name for one in classes_of_flag("0, 1, 2")] == ["0", "1", "2"]


def test_a_gray_colour_stands_also_for_its_value_where_no_class_has_that():
    """A mask of a gray colour alone cannot be told from one of numbers."""
    classes = [
        NamedClass("background", colours=((0, 0, 0),)),
        NamedClass("road", ((5, 5),), ((128, 64, 128),)),
        NamedClass("paper", ((6, 6),), ((255, 255, 255),)),
        NamedClass("car", ((7, 7),), ((5, 5, 5),)),
    ]
    values = read_values(np.array([[0, 5, 6, 7, 255]]), make_coding(classes))
    assert values.tolist() == [[0, 1, 2, 3, IGNORE]]


def test_colours_may_be_ignored():
    coding = make_coding(
        [NamedClass("a", colours=((1, 2, 3),)), NamedClass("b", colours=((4, 5, 6),))],
        ["7 8 9", "#0a0b0c"],
    )
    pixels = np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]], np.uint8)
    assert read_colours(pixels, coding).tolist() == [[0, 1, IGNORE, IGNORE]]


def test_colours_of_the_file_are_those_of_the_class():
    classes = [NamedClass("a", colours=((1, 2, 3),)), NamedClass("b"), NamedClass("c", ((5, 5),))]
    coding = make_coding(classes)
    assert coding.colours == (((1, 2, 3), 0),)
    assert coding.labels.colours[0] == (1, 2, 3) and len(set(coding.labels.colours)) == 3


@pytest.mark.parametrize(
    ("classes", "ignore", "said"),
    [
        (STREET, ["cars"], r"--ignore cars: did you mean car\? Expected values .*road, car, void"),
        (STREET, ["car", "void"], r"the classes are road without the ignored ones \(car, void\)"),
        (
            [NamedClass("a", ((0, 5),)), NamedClass("b", categories=("car",))],
            [],
            "the class b is 'car', and the masks hold no words: expected a name, or",
        ),
        (
            [NamedClass("a", ((0, 5),)), NamedClass("b", ((5, 5),))],
            [],
            "0-5 of a and 5 of b overlap",
        ),
        (
            [NamedClass("a", (), ((1, 1, 1),)), NamedClass("b", (), ((1, 1, 1),))],
            [],
            "colour 1 1 1",
        ),
        (
            [NamedClass(str(i)) for i in range(255)],
            [],
            "there are 255 classes: expected at most 254",
        ),
    ],
)
def test_what_cannot_be_coded_is_one_sentence(classes, ignore, said):
    with pytest.raises(InputError, match=said):
        make_coding(classes, ignore)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"--classes some/classes.txt: there is no such file"):
        classes_of_flag("some/classes.txt")
