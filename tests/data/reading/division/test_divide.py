"""Sets without splits, from files to splits."""

import os

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from segacc.commands.data import check, prepare
from segacc.config.flags import parse_evaluate, parse_train
from segacc.config.options import Reading
from segacc.data.audit.audit import audit
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def photo(seed):
    """Smooth, as photos are: noise has no look of its own once it is smaller."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Pillow.fromarray(small).resize((48, 40), Pillow.Resampling.BICUBIC)


def brighter(image):
    return image.point(lambda value: min(255, int(value * 1.05)))


def patients(count, images=3):
    return {f"p{p}_{i}": photo(9 * p + i) for p in range(count) for i in range(images)}


def write(folder, images, masks=None):
    """images/NAME.jpg and masks/NAME.png; the masks are all alike if none are given."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for name, image in images.items():
        image.save(folder / f"images/{name}.jpg", quality=95)
        values = np.zeros((40, 48), np.uint8)
        values[10:20, 10:30] = 255
        mask = masks[name] if masks else values
        Pillow.fromarray(mask).save(folder / f"masks/{name}.png")
    return folder


def names_of(rows):
    return {split: set(its["name"][:]) for split, its in rows.items()}


def split_of(rows):
    return {name: split for split, names in names_of(rows).items() for name in names}


def test_duplicates_and_look_alikes_stay_in_one_split(tmp_path, caplog):
    images = {f"{i:02d}": photo(i) for i in range(24)}
    images |= {f"copy {i}": photo(i) for i in range(4)}
    images |= {f"bright {i}": brighter(photo(i)) for i in range(8)}
    split = split_of(load_dataset(str(write(tmp_path / "set", images))).rows)
    assert all(split[f"bright {i}"] == split[f"{i:02d}"] for i in range(8))
    assert all(split[f"copy {i}"] == split[f"{i:02d}"] for i in range(4))
    assert "its 36 images, in 24 groups (20 images of which look like another one)," in caplog.text
    assert not [f for f in audit(str(tmp_path / "set")).findings if "two splits" in f.topic]


def test_images_are_looked_at_once(tmp_path, cache, caplog):
    folder = write(tmp_path / "set", {f"{i}": photo(i) for i in range(12)})
    caplog.set_level("INFO")
    first = split_of(load_dataset(str(folder)).rows)
    (folder / "images/3.jpg").touch()
    os.utime(folder / "images/3.jpg", ns=(1, 1))
    again = [split_of(load_dataset(str(folder)).rows) for _ in range(2)]
    assert again == [first, first]
    said = [r for r in caplog.messages if "look-alikes among 12 images" in r]
    assert len(said) == 2  # at first, and after the touch
    assert len(list((cache / "looks").glob("*/looks.json"))) == 2


def test_group_by_keeps_patients_together(tmp_path, caplog):
    images = {f"p{p}_{i}": photo(10 * p + i) for p in range(10) for i in range(4)}
    folder = write(tmp_path / "set", images)
    rows = load_dataset(str(folder), Reading(group_by=r"^(p\d)_")).rows
    found = {split: {name[:2] for name in names} for split, names in names_of(rows).items()}
    assert sorted(p for its in found.values() for p in its) == [f"p{p}" for p in range(10)]
    assert 6 <= len(found["train"]) <= 8
    assert "in 10 groups (by --group-by '^(p\\d)_'), were split into" in caplog.text
    assert "--group-by" not in caplog.text.partition("were split into")[2]
    shared = audit(str(folder), Reading(group_by=r"^(p\d)_")).findings
    assert not [f for f in shared if f.severity == "error"]


def test_classes_are_in_proportion(tmp_path, caplog):
    """40 images; 20 have sky, 6 have a car."""
    images = {f"{i:02d}": photo(i) for i in range(40)}
    masks = {}
    for i, name in enumerate(images):
        masks[name] = np.zeros((40, 48), np.uint8)
        masks[name][:9] = i % 2
        masks[name][20:24, 20:24] = 2 * (i % 7 == 3)
    folder = write(tmp_path / "set", images, masks)
    rows = load_dataset(str(folder), Reading(classes="road,sky,car")).rows
    names = names_of(rows)
    assert {split: len(its) for split, its in names.items()} == {
        "train": 28,
        "valid": 6,
        "test": 6,
    }
    assert {split: sum(int(n) % 7 == 3 for n in its) for split, its in names.items()} == {
        "train": 4,
        "valid": 1,
        "test": 1,
    }
    sky = {split: sum(int(n) % 2 for n in its) for split, its in names.items()}
    assert abs(sky["valid"] - 3) <= 1
    assert abs(sky["test"] - 3) <= 1
    assert "split into train 28, valid 6, test 6 with each class in proportion" in caplog.text


def test_a_set_of_one_picture_or_group_is_refused(tmp_path):
    folder = write(tmp_path / "same", {f"{i}": photo(0) for i in range(4)})
    with pytest.raises(InputError, match="4 images are one group .all have the same pixels"):
        load_dataset(str(folder))
    folder = write(tmp_path / "set", {f"a{i}": photo(i) for i in range(4)})
    with pytest.raises(InputError, match="--group-by 'a' or equal pixels join all of them.*valid"):
        load_dataset(str(folder), Reading(group_by="a"))


def test_images_that_all_look_alike_are_divided_and_said(tmp_path, caplog):
    base = np.asarray(photo(0)).astype(int)
    noise = np.random.default_rng(0)
    images = {
        f"{i}": Pillow.fromarray(
            (base + noise.integers(-4, 5, base.shape)).clip(0, 255).astype("u1")
        )
        for i in range(20)
    }
    rows = load_dataset(str(write(tmp_path / "set", images))).rows
    assert set(rows) == {"train", "valid", "test"}
    assert (
        "many of its images look alike, so that look-alikes were kept together only" in caplog.text
    )


@pytest.mark.parametrize("splits", [("train", "valid"), ("train", "valid", "test")])
def test_group_by_has_no_effect_on_a_set_with_splits(tmp_path, splits):
    for k, split in enumerate(splits):
        write(tmp_path / split, {f"{split}{i}": photo(9 * k + i) for i in range(3)})
    for read in (load_dataset, audit):
        with pytest.raises(InputError, match=r"--group-by 't' has no effect.*\(train, valid.*"):
            read(str(tmp_path), Reading(group_by="t"))


def test_validation_from_training_keeps_groups_together(tmp_path):
    write(tmp_path / "train", patients(6))
    write(tmp_path / "test", {f"t{i}": photo(100 + i) for i in range(3)})
    rows = load_dataset(str(tmp_path), Reading(group_by="p.")).rows
    assert list(rows) == ["train", "valid", "test"]
    names = names_of(rows)
    assert len({n[:2] for n in names["train"]} | {n[:2] for n in names["valid"]}) == 6
    assert not {n[:2] for n in names["train"]} & {n[:2] for n in names["valid"]}
    assert len(names["test"]) == 3


def test_saved_sets_are_divided_in_the_same_way(tmp_path, caplog):
    folder = write(tmp_path / "set", patients(8))
    own = split_of(load_dataset(str(folder), Reading(group_by="p.")).rows)
    files = sorted((folder / "images").iterdir())
    features = Features(image=Image(decode=False), mask=Image(decode=False), name=Value("string"))
    data = Dataset.from_dict(
        {
            "image": [str(file) for file in files],
            "mask": [str(folder / f"masks/{file.stem}.png") for file in files],
            "name": [file.stem for file in files],
        },
        features=features,
    )
    DatasetDict({"train": data}).save_to_disk(tmp_path / "saved")
    assert split_of(load_dataset(str(tmp_path / "saved"), Reading(group_by="p.")).rows) == own
    assert "in 8 groups (by --group-by 'p.')" in caplog.text
    DatasetDict({"train": data, "val": data}).save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match="--group-by 'p.' has no effect"):
        load_dataset(str(tmp_path / "two"), Reading(group_by="p."))


def test_the_flag_reaches_all_commands(tmp_path, capsys):
    folder = write(tmp_path / "set", patients(6))
    assert parse_train(["--group-by", "p."]).group_by == "p."
    assert parse_evaluate(["run", "--group-by", "p."]).group_by == "p."
    prepare(str(folder), 16, reading=Reading(group_by="^p."))
    assert check(str(folder), reading=Reading(group_by="^p.")) == 0
    for command in (prepare, check):
        with pytest.raises(InputError, match="fits no part of the names of 18 images"):
            command(str(folder), reading=Reading(group_by="x"))
        with pytest.raises(InputError, match=r"--group-by '\(' is no regular expression \(missing"):
            command(str(folder), reading=Reading(group_by="("))
    with pytest.raises(InputError, match="is no regular expression"):
        parse_train(["--group-by", "p["])
