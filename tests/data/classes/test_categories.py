"""From categories of polygons to classes."""

import pytest

from segacc.data.classes.categories import code_shapes
from segacc.data.classes.coding import classes_of_flag
from segacc.data.classes.lists import NamedClass
from segacc.errors import InputError
from segacc.labels import IGNORE

CATEGORIES = ("car", "bus", "dog")


def coded(classes="", ignore=(), categories=CATEGORIES):
    coding = code_shapes(classes_of_flag(classes), categories, ignore)
    return coding.labels.names, dict(coding.shapes), coding.uncovered


def test_each_category_is_a_class_behind_the_background():
    assert coded() == (("background", *CATEGORIES), {"car": 1, "bus": 2, "dog": 3}, 0)


def test_a_category_that_is_the_background_comes_first():
    names, shapes, uncovered = coded(categories=("car", "Background", "bus"))
    assert names == ("Background", "car", "bus") and uncovered == 0
    assert shapes == {"car": 1, "Background": 0, "bus": 2}


def test_names_may_differ_in_case_where_nothing_else_fits():
    assert coded("Car,bus,dog")[1] == {"car": 1, "bus": 2, "dog": 3}
    assert coded(categories=("car", "Car"))[1] == {"car": 1, "Car": 2}


def test_classes_choose_and_merge():
    assert coded("dog,car") == (("background", "dog", "car"), {"car": 2, "dog": 1}, 0)
    merged = [NamedClass("vehicle", categories=("car", "Bus")), NamedClass("dog")]
    coding = code_shapes(merged, CATEGORIES)
    assert dict(coding.shapes) == {"car": 1, "bus": 1, "dog": 2}
    assert coded("dog,background:*")[1] == {"car": 0, "bus": 0, "dog": 1}


def test_categories_and_classes_may_be_ignored():
    assert coded(ignore=("BUS",)) == (
        ("background", "car", "dog"), {"car": 1, "bus": IGNORE, "dog": 2}, 0,
    )  # fmt: skip
    assert coded("car", ignore=("bus", "dog"))[1] == {"car": 1, "bus": IGNORE, "dog": IGNORE}
    assert coded(ignore=("background",)) == (
        CATEGORIES, {"car": 0, "bus": 1, "dog": 2}, IGNORE,
    )  # fmt: skip


def test_numbers_get_names_by_place_or_by_value():
    numbers = ("0", "1", "2")
    assert coded("car,bus,dog", categories=numbers)[1] == {"0": 1, "1": 2, "2": 3}
    assert coded("dog:2,vehicle:0-1", categories=numbers)[1] == {"0": 2, "1": 2, "2": 1}
    assert coded("car,bus", ignore=("2",), categories=numbers)[1] == {"0": 1, "1": 2, "2": IGNORE}
    assert coded(ignore=("1-2",), categories=numbers)[0] == ("background", "0")


@pytest.mark.parametrize(
    ("classes", "ignore", "said"),
    [
        ("car,pet:dgo", (), "the class pet has no category 'dgo': did you mean dog"),
        ("car,pet:x", (), "the class pet has no category 'x': there are car, bus, dog"),
        ("car,vehicle:car", (), "the category car is of the classes car and vehicle"),
        ("", ("dgo",), "--ignore dgo: did you mean dog"),
        ("", CATEGORIES, "the classes are background without the ignored ones"),
        ("car:3x", (), "--classes car:3x: found 'car:3x', expected a name"),
    ],
)
def test_what_does_not_fit_is_refused(classes, ignore, said):
    with pytest.raises(InputError, match=said):
        coded(classes, ignore)
