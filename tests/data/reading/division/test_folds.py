"""--fold: N parts of train and valid together, each of them once for validation."""

import cv2
import numpy as np
import pytest
from datasets import DatasetDict
from small import write_blobs, write_classes

from segacc.config.flags import parse_train
from segacc.config.options import Reading
from segacc.data.prepare import prepare
from segacc.data.reading.division.shares import Group, share_in_folds
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError


def names(dataset, fold, **reading):
    rows = load_dataset(str(dataset), Reading(fold=fold, **reading)).rows
    return {split: list(data["name"]) for split, data in rows.items()}


def test_each_image_is_once_for_validation_and_the_test_split_stays(tmp_path):
    data = write_blobs(tmp_path / "blobs")
    plain = names(data, None)
    folds = [names(data, f"{k}/4") for k in (1, 2, 3, 4)]
    pool = sorted(plain["train"] + plain["valid"])
    assert sorted(name for fold in folds for name in fold["valid"]) == pool
    assert sorted(len(fold["valid"]) for fold in folds) == [4, 4, 4, 5]
    for fold in folds:
        assert fold["test"] == plain["test"]
        assert sorted(fold["train"] + fold["valid"]) == pool
        assert all(split == sorted(split) for split in fold.values())


def test_a_set_without_splits_keeps_its_test_split(tmp_path):
    data = write_blobs(tmp_path / "blobs", train=30, valid=0, test=0) / "train"
    plain, fold = names(data, None), names(data, "2/3")
    assert fold["test"] == plain["test"]
    assert sorted(fold["train"] + fold["valid"]) == sorted(plain["train"] + plain["valid"])


def test_groups_and_equal_images_stay_together(tmp_path):
    data = write_blobs(tmp_path / "blobs")
    (data / "valid" / "again.jpg").write_bytes((data / "train" / "train3.jpg").read_bytes())
    (data / "valid" / "again.png").write_bytes((data / "train" / "train3.png").read_bytes())
    for k in range(1, 4):
        valid = names(data, f"{k}/3", group_by=r"(\d|again)$")["valid"]
        numbers = {name[-1] for name in valid} - {"n"}
        every = [f"train{i}" for i in range(12)] + [f"valid{i}" for i in range(5)]
        assert {*valid} - {"again"} == {name for name in every if name[-1] in numbers}
        assert ("again" in valid) == ("train3" in valid)


def test_each_class_is_in_each_fold_in_proportion():
    rng = np.random.default_rng(0)
    classes = np.stack([np.ones(60), rng.random(60) < 0.4, np.arange(60) < 6], axis=1).astype(bool)
    groups = [Group(f"image{i}", (i,)) for i in range(60)]
    parts = share_in_folds(groups, classes, 3)
    held = np.array([classes[part].sum(0) for part in parts])
    assert (held[:, 2] == 2).all() and (held[:, 0] == 20).all()
    assert np.ptp(held[:, 1]) <= 1


def test_no_fold_is_empty_where_groups_have_all_sizes():
    sizes = [40, 1, 1, 1, 1]
    ends = np.cumsum(sizes)
    rows = [tuple(range(end - n, end)) for n, end in zip(sizes, ends, strict=True)]
    groups = [Group(f"g{i}", of_group) for i, of_group in enumerate(rows)]
    assert all(share_in_folds(groups, None, 5))


def test_images_of_one_name_in_train_and_valid_get_their_split_into_it(tmp_path):
    data = write_blobs(tmp_path / "blobs", train=4, valid=4)
    for i in range(4):
        for suffix in ("jpg", "png"):
            (data / "valid" / f"valid{i}.{suffix}").rename(data / "valid" / f"train{i}.{suffix}")
    fold = names(data, "1/2")
    assert sorted(fold["train"] + fold["valid"]) == sorted(
        f"{split}/train{i}" for split in ("train", "valid") for i in range(4)
    )
    assert prepare(load_dataset(str(data), Reading(fold="1/2")), 64).splits["valid"].names


def test_rows_of_the_datasets_library_have_the_folds_of_the_files(tmp_path):
    data = write_classes(tmp_path / "classes")
    source = load_dataset(str(data))
    DatasetDict(source.rows).save_to_disk(tmp_path / "saved")
    more = {"classes": str(data / "classes.txt")}
    assert names(tmp_path / "saved", "2/3", **more) == names(data, "2/3")


def test_more_folds_than_groups_are_refused(tmp_path):
    data = write_blobs(tmp_path / "blobs")
    with pytest.raises(InputError, match="make 2 groups .*: give --fold K/N with an N of 2 at"):
        names(data, "1/3", group_by="^([a-z]+)")


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "1", "1/x"])
def test_what_is_no_fold_is_refused(fold):
    with pytest.raises(InputError, match=f"--fold {fold}: expected K/N, the Kth of N parts"):
        parse_train(["--fold", fold])


def test_folds_do_not_depend_on_the_content_of_test(tmp_path):
    data = write_blobs(tmp_path / "blobs")
    before = names(data, "1/3")["valid"]
    cv2.imwrite(str(data / "test" / "test0.png"), np.zeros((64, 64), np.uint8))
    assert names(data, "1/3")["valid"] == before
