"""`segacc prepare --save` of sets with classes."""

import numpy as np
import pytest
from PIL import Image

from segacc.commands.data import prepare as prepare_command
from segacc.config.options import Reading
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.labels import BINARY, IGNORE

COLOURS = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (255, 255, 255)], np.uint8)
CODED = {
    "values": "ground: 0\nroad: 1\ntree: 2\n",
    "colours": "ground: 0 0 0\nroad: 128 0 0\ntree: 0 128 0\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))


def write(folder, masks):
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        (folder / split).mkdir(parents=True)
        for name, mask in masks.items():
            image = rng.integers(0, 255, (*mask.shape[:2], 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / split / f"{name}.jpg")
            Image.fromarray(mask).save(folder / split / f"{name}.png")
    return folder


def saved_again(folder, tmp_path, **flags):
    """The set, and what --dataset finds where it was saved, both prepared."""
    reading = Reading(**flags)
    prepare_command(str(folder), size="native", save=tmp_path / "saved", reading=reading)
    before = load_dataset(str(folder), reading)
    after = load_dataset(str(tmp_path / "saved"))
    assert after.labels == before.labels
    return prepare(before, "native"), prepare(after, "native")


@pytest.mark.parametrize("coded", CODED)
def test_masks_of_classes_are_found_again_as_label_maps(coded, tmp_path):
    numbers = np.random.default_rng(1).integers(0, 4, (9, 7))
    mask = COLOURS[numbers] if coded == "colours" else np.where(numbers == 3, IGNORE, numbers)
    folder = write(tmp_path / "set", {name: mask.astype(np.uint8) for name in "ab"})
    (folder / "classes.txt").write_text(CODED[coded])
    before, after = saved_again(folder, tmp_path)
    assert before.fingerprint == after.fingerprint
    assert set(np.unique(after.splits["train"][0][1]).tolist()) == {0, 1, 2, IGNORE}


def test_ignored_classes_stay_ignored(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    before, after = saved_again(
        write(tmp_path / "set", dict.fromkeys("ab", mask)),
        tmp_path,
        classes="ground,road,tree,void",
        ignore="void",
    )
    assert before.fingerprint == after.fingerprint
    assert (after.splits["train"][0][1] == np.where(mask == 3, IGNORE, mask)).all()


def test_names_that_a_list_cannot_hold_are_kept(tmp_path):
    names = '{"0": "# ground", "1": "road: 3", "2": "1 2 3 tree"}'
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    folder = write(tmp_path / "set", dict.fromkeys("ab", mask))
    (folder / "id2label.json").write_text(names)
    before, after = saved_again(folder, tmp_path)
    assert before.fingerprint == after.fingerprint
    assert (tmp_path / "saved" / "id2label.json").exists()


def test_binary_masks_stay_as_they_are(tmp_path):
    mask = np.eye(6, dtype=np.uint8) * 255
    folder = write(tmp_path / "set", dict.fromkeys("ab", mask))
    before, after = saved_again(folder, tmp_path)
    assert before.fingerprint == after.fingerprint and after.labels == BINARY
    assert not (tmp_path / "saved" / "classes.txt").exists()
    row = load_dataset(str(tmp_path / "saved")).rows["train"][0]
    assert row["mask"]["bytes"] == (folder / "train/a.png").read_bytes()


def test_two_classes_with_names_keep_these(tmp_path):
    mask = np.eye(6, dtype=np.uint8) * 255
    folder = write(tmp_path / "set", dict.fromkeys("ab", mask))
    before, after = saved_again(folder, tmp_path, classes="gland")
    assert before.fingerprint == after.fingerprint
    assert after.labels.names == ("background", "gland")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_on_images_that_are_turned(orientation, tmp_path):
    """Square ones, of which the sizes do not tell how the mask lies."""
    folder = tmp_path / "set"
    line = "0 0 0 0.75 0 0.75 0.25 0 0.25"
    exif = Image.Exif()
    exif[0x0112] = orientation
    for place, split in enumerate(("train", "valid")):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        values = np.random.default_rng(place).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"images/{split}/a.jpg", exif=exif)
        (folder / f"labels/{split}/a.txt").write_text(line)
    before, after = saved_again(folder, tmp_path)
    assert before.fingerprint == after.fingerprint
    expected = np.zeros((8, 8), np.uint8)
    expected[:2, :6] = 1
    assert (after.splits["train"][0][1] == expected).all()
