"""The study's form: image, ground truth, prediction."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from segacc.labels import Labels, colours_for
from segacc.report.pictures import (
    BAR,
    GAP,
    MARK,
    find_pictures,
    outlined,
    overview,
    picture_name,
    triptych,
)


def test_panels_show_what_they_are_given_side_by_side():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 280, 3), dtype=np.uint8)
    mask = np.zeros((300, 280), np.uint8)
    mask[:50] = 1
    found = np.zeros((300, 280), np.uint8)
    found[:, :40] = 1
    sheet = np.asarray(triptych(image, mask, found, "a name   IoU 0.5"))
    assert sheet.shape == (300 + 2 * BAR, 3 * 280 + 2 * GAP + 2, 3)
    panels = [sheet[BAR : BAR + 300, x : x + 280] for x in (1, 281 + GAP, 1 + 2 * (280 + GAP))]
    assert (panels[0] == image).all()
    assert (panels[1] == 255 * mask[..., None]).all()
    assert (panels[2] == 255 * found[..., None]).all()
    assert (sheet[:BAR] < 100).any() and (sheet[-BAR:] < 100).any()  # titles and caption


def test_a_white_mask_has_a_frame():
    image = np.full((300, 280, 3), 255, np.uint8)
    sheet = np.asarray(triptych(image, np.ones((300, 280), np.uint8), image[..., 0] // 255, ""))
    for left in (0, 280 + GAP, 2 * (280 + GAP)):
        frame = sheet[BAR - 1 : BAR + 301, left : left + 282, 0]
        assert (frame[1:-1, 1:-1] == 255).all()
        assert (frame[[0, -1]] == 150).all() and (frame[:, [0, -1]] == 150).all()


def test_small_images_are_enlarged():
    image = np.zeros((64, 64, 3), np.uint8)
    assert triptych(image, image[..., 0], image[..., 0], "").width == 3 * 256 + 2 * GAP + 2


def test_an_overview_holds_all_pictures(tmp_path):
    for i, colour in enumerate([(9, 0, 0), (0, 9, 0)]):
        Image.new("RGB", (30 + i, 20), colour).save(tmp_path / f"{i}.png")
    pictures = [tmp_path / "0.png", tmp_path / "1.png"]
    sheet = np.asarray(overview(pictures, "two images"))
    assert sheet.shape == (BAR + 40, 31, 3)
    assert (sheet[BAR : BAR + 20, :30] == (9, 0, 0)).all()
    assert (sheet[BAR + 20 :] == (0, 9, 0)).all()


@pytest.mark.parametrize("classes", [3, 40])
def test_an_overview_of_classes_has_their_colours_above_it(tmp_path, classes):
    Image.new("RGB", (300, 20)).save(tmp_path / "0.png")
    labels = Labels(names := tuple(f"class {i}" for i in range(classes)), colours_for(names))
    heading = np.asarray(overview([tmp_path / "0.png"], "one image", labels))[:-20]
    shown = {tuple(colour) for colour in heading.reshape(-1, 3).tolist()}
    assert set(map(tuple, labels.colours)) <= shown
    assert (heading[:, -3:] == 255).all()  # nothing is cut off


def test_an_outline_is_inside_the_mask_and_the_rest_stays_as_it_is():
    image = np.full((60, 90, 3), 100, np.uint8)
    mask = np.zeros((60, 90), np.uint8)
    mask[10:30, 20:50] = 255
    mask[50:, 60:] = 1  # touches the border, along which there is no line
    marked = np.asarray(outlined(image, mask))
    assert (marked[mask == 0] == 100).all() and (image == 100).all()
    line = (marked == MARK).all(axis=2)
    assert line[10, 20:50].all() and line[10:30, 20].all() and not line[11:29, 21:49].any()
    assert line[50, 60:].all() and not line[59, 61:].any()
    tint = np.round(75 + 0.25 * np.array(MARK))
    assert (marked[15, 30] == tint).all() and (marked[59, 89] == tint).all()


def test_outlines_are_as_wide_in_large_pictures_as_in_small_ones():
    mask = np.zeros((100, 4000), np.uint8)
    mask[20:80, 1000:3000] = 1
    marked = np.asarray(outlined(np.zeros((100, 4000, 3), np.uint8), mask))
    assert (marked[:, 2000] == MARK).all(axis=1).sum() == 2 * 4000 / 800


def test_names_with_folders_become_files_of_one_folder():
    assert picture_name("img_001") == "img_001.png"
    assert picture_name("patient 1/straße") == "patient 1%2Fstraße.png"
    assert picture_name("100% a__b") == "100%25 a__b.png"
    assert picture_name(".hidden/.one") == "%2Ehidden%2F.one.png"


def test_no_two_names_become_the_same_file():
    parts = ["a", ".", "/", "_", "__", "%", "%2E", "%2F", "%25", "%~", "2F", ".png"]
    names = {"".join(some) for n in (1, 2, 3, 4) for some in itertools.product(parts, repeat=n)}
    assert len({picture_name(name) for name in names}) == len(names) > 10_000
    long = "ä" * 120 + "/"
    names = {long + end for end in ("a", "b", "a" * 8, "a" * 100, "ä" * 100)}
    assert len({picture_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name", ["x" * 251, "x" * 252, "ß" * 200, "a/" * 300 + "b", "\udcff" * 300, "\n", "..", "."]
)
def test_a_picture_of_any_name_can_be_written(tmp_path, name):
    path = tmp_path / picture_name(name)
    Image.new("L", (2, 2)).save(path)
    assert path.parent == tmp_path and list(tmp_path.iterdir()) == [path]
    assert len(os.fsencode(path.name)) <= 255
    assert find_pictures(tmp_path, [name, "another"]) == [path, tmp_path / "another.png"]
