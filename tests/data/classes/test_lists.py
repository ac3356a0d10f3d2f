"""classes.txt: what its lines say, and what is refused."""

from pathlib import Path

import pytest

from segacc.data.classes.lists import NamedClass, read_list, write_list
from segacc.errors import InputError

PATH = Path("classes.txt")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gland", NamedClass("gland")),
        ("gland: 7", NamedClass("gland", ((7, 7),))),
        ("gland: 1-255", NamedClass("gland", ((1, 255),))),
        ("gland: 3, 7-9", NamedClass("gland", ((3, 3), (7, 9)))),
        ("road: 128 64 128", NamedClass("road", colours=((128, 64, 128),))),
        ("road: #804080", NamedClass("road", colours=((128, 64, 128),))),
        ("road: 3; 128 64 128", NamedClass("road", ((3, 3),), ((128, 64, 128),))),
        ("128 64 128\tRoad", NamedClass("Road", colours=((128, 64, 128),))),  # Cambridge
        ("#804080 road", NamedClass("road", colours=((128, 64, 128),))),
        ("  traffic light  ", NamedClass("traffic light")),
        ("3: traffic light", NamedClass("traffic light", ((3, 3),))),  # as in YAML
        ("Straße: 5", NamedClass("Straße", ((5, 5),))),
    ],
)
def test_a_line_says_a_name_and_what_stands_for_it(line, expected):
    assert read_list(PATH, line) == [expected]
    assert read_list(PATH, write_list([expected])) == [expected]


def test_lines_of_one_name_are_one_class_and_comments_do_not_count():
    text = "# made by hand\n\nbackground: 0\r\ngland: 1\ngland: 2-9\n"
    assert read_list(PATH, text) == [
        NamedClass("background", ((0, 0),)),
        NamedClass("gland", ((1, 1), (2, 9))),
    ]


@pytest.mark.parametrize(
    "line", ["gland: 9-3", "gland: 3x", "gland: 300 0 0", ": 7", "gland: 70000", "gland: 1,,2"]
)
def test_a_line_that_is_not_understood_is_named(line):
    with pytest.raises(InputError, match=r"classes.txt, line 2: found .*expected a name, or"):
        read_list(PATH, f"background: 0\n{line}\n")


@pytest.mark.parametrize(
    "lines",
    [
        "1 road\n2 car\n0 background",
        "road 1\ncar 2",
        "road\t1\ncar\t2",
        "road=1\ncar=2",
        "road, 1\ncar, 2",
        "road 128 64 128\ncar 0 0 142",
        "road,128,64,128\ncar,0,0,142",
    ],
)
def test_numbers_without_a_colon_are_not_taken_for_parts_of_names(lines):
    first = lines.splitlines()[0]
    with pytest.raises(InputError) as error:
        read_list(PATH, lines)
    assert f"no colon between them, such as {first!r}; expected a name, or" in str(error.value)


@pytest.mark.parametrize("lines", ["grade 1\ngrade 2\ngrade 3", "benign\nGleason 3\nT 4", "x 1"])
def test_names_may_have_numbers(lines):
    assert [one.name for one in read_list(PATH, lines)] == lines.splitlines()
