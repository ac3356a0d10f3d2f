"""The study's form: image, ground truth, prediction."""

import numpy as np
from PIL import Image

from segacc.pictures import BAR, GAP, overview, picture_name, triptych


def test_panels_show_what_they_are_given_side_by_side():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 280, 3), dtype=np.uint8)
    mask = np.zeros((300, 280), np.uint8)
    mask[:50] = 1
    found = np.zeros((300, 280), bool)
    found[:, :40] = True
    sheet = np.asarray(triptych(image, mask, found, "a name   IoU 0.5"))
    assert sheet.shape == (300 + 2 * BAR, 3 * 280 + 2 * GAP, 3)
    panels = [sheet[BAR : BAR + 300, x : x + 280] for x in (0, 280 + GAP, 2 * (280 + GAP))]
    assert (panels[0] == image).all()
    assert (panels[1] == 255 * mask[..., None]).all()
    assert (panels[2] == 255 * found[..., None]).all()
    assert (sheet[:BAR] < 100).any() and (sheet[-BAR:] < 100).any()  # titles and caption


def test_small_images_are_enlarged():
    image = np.zeros((64, 64, 3), np.uint8)
    assert triptych(image, image[..., 0], image[..., 0], "").width == 3 * 256 + 2 * GAP


def test_an_overview_holds_all_pictures(tmp_path):
    for i, colour in enumerate([(9, 0, 0), (0, 9, 0)]):
        Image.new("RGB", (30 + i, 20), colour).save(tmp_path / f"{i}.png")
    sheet = np.asarray(overview([tmp_path / "0.png", tmp_path / "1.png"]))
    assert sheet.shape == (40, 31, 3)
    assert (sheet[:20, :30] == (9, 0, 0)).all() and (sheet[20:] == (0, 9, 0)).all()


def test_names_with_folders_become_files_of_one_folder():
    assert picture_name("patient 1/straße") == "patient 1__straße.png"
