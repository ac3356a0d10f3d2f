"""Checking a data set with classes, and proposing classes where nobody has named them."""

import shlex

import cv2
import numpy as np
import pytest
from PIL import Image

from segacc.commands.data import check
from segacc.config.options import Reading
from segacc.data.audit.audit import audit, open_for_check
from segacc.data.audit.classes import propose_classes
from segacc.data.classes.coding import make_coding
from segacc.data.classes.files import read_class_file
from segacc.data.classes.palettes import PALETTES
from segacc.errors import InputError
from segacc.labels import IGNORE, read_colours

SPLITS = {"train": 3, "valid": 2, "test": 2}
READING = Reading(classes="road,car,sky", ignore=None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Masks in which each third is of one class, and the first row is ignored."""
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        (tmp_path / "set" / split).mkdir(parents=True)
        for i in range(count):
            image = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (60, 60))
            cv2.imwrite(str(tmp_path / "set" / split / f"{i}.jpg"), image)
            label_map = np.arange(60, dtype=np.uint8)[:, None].repeat(60, 1) // 20
            label_map[0] = 255
            save(tmp_path / "set" / split / f"{i}.png", label_map)
    return tmp_path / "set"


def save(path, mask, palette=None):
    picture = Image.fromarray(mask)
    if palette is not None:
        picture.putpalette(list(np.array(palette, np.uint8).ravel()))
    picture.save(path)


def masks_of(folder):
    return sorted(folder.glob("*/*.png"))


def errors_of(found):
    return [finding for finding in found.findings if finding.severity == "error"]


def proposed(folder):
    return propose_classes(open_for_check(str(folder), Reading())[2].values())


def test_masks_full_of_other_classes_than_the_first_are_no_fault(folder):
    for mask in masks_of(folder):
        save(mask, np.array([[1, 2] * 30] * 60, np.uint8))
    findings = [f for f in audit(str(folder), READING).findings if f.severity != "note"]
    assert {f.topic for f in findings} == {"classes that are missing"}


def test_a_class_that_is_missing_from_a_split_or_rare_is_a_warning(folder):
    for mask in (folder / "train").glob("*.png"):
        save(mask, np.zeros((60, 60), np.uint8))
    rare = np.ones((60, 60), np.uint8)
    rare[0, 0] = 0
    for mask in (folder / "valid").glob("*.png"):
        save(mask, rare)
    found = {(f.file, f.topic): f for f in audit(str(folder), READING).findings}
    missing = found["train", "classes that are missing"]
    assert missing.problem == "has no pixel of car, sky: no model can learn this"
    assert found["valid", "classes that are missing"].problem.startswith("has no pixel of sky: the")
    assert found["valid", "rare classes"].problem == "less than 0.1% of the pixels are road"
    assert ("test", "classes that are missing") not in found


def test_values_that_no_class_owns_are_one_error_with_counts(folder, tmp_path):
    (tmp_path / "two.txt").write_text("road: 0\ncar: 1\n")
    reading = Reading(classes=str(tmp_path / "two.txt"))
    (error,) = errors_of(audit(str(folder), reading))
    assert error.problem.startswith(
        "7 masks (train/0.png, train/1.png, train/2.png and 4 more) hold"
    )
    assert "no class owns: 2 (8,400 pixels in 7 masks); add these to the classes" in error.problem


def test_numbers_are_proposed_as_classes_and_255_is_not(folder):
    text, said = proposed(folder)
    assert text == "background: 0\nclass1: 1\nclass2: 2\n"
    assert said == "the masks hold 3 values; give the classes their names"


def test_numbers_of_objects_are_one_class(folder):
    for mask in masks_of(folder):
        save(mask, np.arange(3600, dtype=np.uint16).reshape(60, 60) % 200)
    text, said = proposed(folder)
    assert text == "background: 0\nobject: 1-199\n" and "those of objects" in said
    for mask in masks_of(folder):
        save(mask, np.arange(3600, dtype=np.uint16).reshape(60, 60) % 301)
    assert proposed(folder)[0] == "background: 0\nobject: 1-300\n"  # object 255 is one of them


@pytest.mark.parametrize("name", PALETTES)
def test_known_colours_get_their_names(folder, name):
    colours = list(PALETTES[name])[:4]
    for mask in masks_of(folder):
        save(mask, np.array(colours, np.uint8)[np.arange(3600).reshape(60, 60) % 4])
    text, said = proposed(folder)
    assert said == f"the colours of the masks are those of {name}"
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        PALETTES[name][colour] for colour in colours
    ]


def test_a_known_palette_names_the_numbers(folder):
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    for mask in masks_of(folder):
        label_map = np.array(Image.open(mask))
        save(mask, label_map, voc + [(0, 0, 0)] * 252 + [(224, 224, 192)])
    text, said = proposed(folder)
    assert said == "the palette of the masks is that of PASCAL VOC"
    assert text == "background: 0; 0 0 0\naeroplane: 1; 128 0 0\nbicycle: 2; 0 128 0\n"


def test_other_colours_are_listed_the_most_frequent_first(folder):
    for mask in masks_of(folder):
        pixels = np.zeros((60, 60, 3), np.uint8)
        pixels[:10], pixels[10:15], pixels[15:17] = (9, 8, 7), (200, 10, 10), 255
        save(mask, pixels)
    assert (
        proposed(folder)[0] == "background: 0 0 0\ncolour9-8-7: 9 8 7\ncolour200-10-10: 200 10 10\n"
    )


def test_the_borders_of_voc_in_masks_of_colours_are_no_class(folder):
    colours = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (224, 224, 192)]
    for mask in masks_of(folder):
        save(mask, np.array(colours, np.uint8)[np.arange(3600).reshape(60, 60) % 4])
    text, said = proposed(folder)
    assert said == "the colours of the masks are those of PASCAL VOC"
    assert text == "background: 0 0 0\naeroplane: 128 0 0\nbicycle: 0 128 0\n"
    (folder / "classes.txt").write_text(text)
    coding = make_coding(read_class_file(folder / "classes.txt"))
    assert read_colours(np.array([colours], np.uint8), coding).tolist() == [[0, 1, 2, IGNORE]]
    assert not errors_of(audit(str(folder), Reading()))


def test_the_list_of_binary_masks_can_be_used(folder, tmp_path):
    for mask in masks_of(folder):
        save(mask, (np.array(Image.open(mask)) > 0).astype(np.uint8) * 255)
    text, said = proposed(folder)
    assert text == "background: 0\nforeground: 255\n" and said.startswith("the masks are binary")
    (tmp_path / "two.txt").write_text(text)
    assert not errors_of(audit(str(folder), Reading(classes=str(tmp_path / "two.txt"))))


def test_smeared_masks_get_no_list_of_thousands_of_classes(folder):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    for mask in masks_of(folder):
        save(mask, pixels)
    with pytest.raises(
        InputError, match=r"hold 3,\d+ values or colours, more than the 254 classes"
    ):
        proposed(folder)


def test_the_proposal_is_written_and_can_be_used_at_once(folder, tmp_path, capsys):
    path = tmp_path / "my classes.txt"
    assert check(str(folder), write_classes=path) == 0
    *_, written, following = capsys.readouterr().out.splitlines()
    assert written == f"written: {path}"
    assert shlex.split(following) == ["next:", "segacc", "check", str(folder), f"--classes={path}"]
    assert not errors_of(audit(str(folder), Reading(classes=str(path))))
    with pytest.raises(InputError, match="exists: give a new file"):
        check(str(folder), write_classes=path)


def topics(folder, reading=READING):
    found = audit(str(folder), reading).findings
    return {finding.topic: finding for finding in found if finding.severity == "warning"}


def test_tiny_regions_are_counted_by_class_and_named(folder):
    (finding,) = tiny_regions_of(folder, {"train/0.png": 3})
    assert finding.severity == "warning"
    (finding,) = tiny_regions_of(folder, {"valid/1.png": 1})
    assert finding.severity == "note"  # 2 of 7 masks have some
    regions = 7 * 3 + 4 + 2 * 2
    assert finding.problem.startswith(
        f"6 of {regions} connected regions have at most 4 px (4 of sky, 2 of road), in 2 masks "
        "(train/0.png, valid/1.png)"
    )


def tiny_regions_of(folder, changes):
    for name, dots in changes.items():
        label_map = np.array(Image.open(folder / name))
        label_map[10, 5 : 5 + 8 * dots : 8] = 2  # sky, of one pixel each, on the road
        label_map[30:32, 7:9] = 0  # 4 pixels
        label_map[30:32, 40:43] = 0  # 6 pixels
        save(folder / name, label_map)
    return [f for f in audit(str(folder), READING).findings if f.topic == "tiny regions"]


def test_a_class_that_fills_a_mask_as_in_no_other_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    for i in range(14):
        split = tmp_path / "set" / ("train" if i < 10 else "valid")
        split.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (60, 60, 3), np.uint8)).save(split / f"{i}.jpg")
        label_map = np.zeros((60, 60), np.uint8)
        label_map[:30] = 2  # sky is large everywhere
        label_map[40:44, 10:20] = 1
        if i == 3:
            label_map[10:55] = 1
        save(split / f"{i}.png", label_map)
    finding = topics(tmp_path / "set")["huge regions"]
    assert finding.file == "train/3.png"
    assert finding.problem.startswith("is car on 75% of its pixels, where most masks that have it")


@pytest.mark.parametrize(
    ("how", "smeared"),
    [(Image.Resampling.NEAREST, False), (Image.Resampling.BILINEAR, True)],
)
def test_numbers_of_classes_that_were_interpolated_are_found(tmp_path, monkeypatch, how, smeared):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(2)
    for split in ("train", "valid"):
        (tmp_path / "set" / split).mkdir(parents=True)
        for i in range(3):
            image = rng.integers(0, 255, (90, 90, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "set" / split / f"{i}.jpg")
            coarse = rng.integers(0, 8, (6, 6), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
            Image.fromarray(coarse).resize((90, 90), how).save(
                tmp_path / "set" / split / f"{i}.png"
            )
    reading = Reading(classes=",".join(f"class{i}" for i in range(8)))
    assert ("masks that look smeared" in topics(tmp_path / "set", reading)) == smeared


def test_colours_that_were_smeared_end_in_one_sentence(folder, tmp_path):
    """No class owns what interpolation makes of colours."""
    (tmp_path / "classes.txt").write_text("road: 128 64 128\ncar: 0 0 142\nsky: 70 130 180\n")
    colours = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180)], np.uint8)
    for mask in folder.glob("*/*.png"):
        label_map = np.add.outer(np.arange(60), 2 * np.arange(60)) // 25 % 3
        Image.fromarray(colours[label_map]).save(tmp_path / "smeared.jpg", quality=80)
        Image.open(tmp_path / "smeared.jpg").save(mask)
    found = audit(str(folder), Reading(classes=str(tmp_path / "classes.txt"))).findings
    (error,) = [finding for finding in found if finding.severity == "error"]
    assert error.problem.startswith("7 masks (") and "compressed (JPEG) or resized" in error.problem
    assert len(error.problem) < 600
