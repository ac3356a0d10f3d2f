"""Which columns of saved sets are images and masks, and what their types say."""

import io
import json

import numpy as np
import pytest
from datasets import (
    Array2D,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    List,
    Value,
)
from PIL import Image as Pillow

from segacc.commands.data import check
from segacc.config.flags import parse_evaluate, parse_train
from segacc.config.options import Reading
from segacc.data.audit.audit import audit
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError
from segacc.labels import BINARY

H, W = 10, 12
NAMES = ["road", "sky", "car"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))


def png(values):
    file = io.BytesIO()
    Pillow.fromarray(values).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def label_maps(count, top=3):
    return [
        np.random.default_rng(i).integers(0, top, (H, W)).astype(np.uint8) for i in range(count)
    ]


def table(count, image="image", mask="mask", mask_feature=None, top=2, **more):
    """Masks as PNGs, or as lists if they get another type; more columns with their features."""
    maps = label_maps(count, top)
    photos = [np.random.default_rng(9 + i).integers(0, 256, (H, W, 3)) for i in range(count)]
    columns = {
        image: [png(photo.astype(np.uint8)) for photo in photos],
        mask: [one.tolist() for one in maps] if mask_feature else [png(one) for one in maps],
    }
    features = {image: Image(), mask: mask_feature or Image()}
    for name, (feature, values) in more.items():
        columns[name], features[name] = values, feature
    return Dataset.from_dict(columns, features=Features(features))


def save(folder, **splits):
    DatasetDict(splits).save_to_disk(folder / "saved")
    return str(folder / "saved")


def found(folder, data, **flags):
    place = save(folder, train=data, val=data)
    source = load_dataset(place, Reading(**flags))
    return source, prepare(source, "native")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("image", "segmentation_mask"),
        ("pixel_values", "label"),
        ("img", "seg"),
        ("Image", "annotations"),
        ("images", "Segmentation-Mask"),
        ("image", "labels"),
        ("image", "semantic_segmentation"),
    ],
)
def test_usual_names_of_columns(tmp_path, image, mask):
    source, prepared = found(tmp_path, table(2, image, mask))
    assert source.rows["train"].column_names == ["image", "mask", "name"]
    np.testing.assert_array_equal(prepared.splits["train"][1][1], label_maps(2, 2)[1])


def test_a_label_of_the_whole_image_is_no_mask(tmp_path):
    label = (ClassLabel(names=["cat", "dog"]), [0, 1])
    source, _ = found(tmp_path, table(2, mask="mask", label=label))
    assert source.labels == BINARY


def test_columns_of_any_name_by_the_flags(tmp_path):
    depth = (Image(), [png(np.zeros((H, W), np.uint8))] * 2)
    data = table(2, "left", "trimap", label=depth, img=depth)
    source, prepared = found(tmp_path, data, image_column="left", mask_column="trimap")
    np.testing.assert_array_equal(prepared.splits["valid"][0][1], label_maps(1, 2)[0])
    assert source.rows["train"].column_names == ["image", "mask", "name"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, r"one named mask .*, found image \(Image\), trimap \(Image\), depth \(Image\), "),
        (
            {"mask_column": "x"},
            r"--mask-column x: .*saved has no such column, it has image",
        ),
        ({"image_column": "y"}, "--image-column y: .*no such column"),
        ({"mask_column": "kind"}, r"--mask-column kind: expected.*kind \(ClassLabel\), grid"),
        (
            {"image_column": "grid", "mask_column": "depth"},
            "--image-column grid: expected",
        ),
        ({"image_column": "trimap"}, "say which they are with --image-column and --mask-column"),
    ],
)
def test_messages_list_the_columns_that_are_there(tmp_path, flags, expected):
    depth = (Image(), [png(np.zeros((H, W), np.uint8))] * 2)
    kind = (ClassLabel(names=["cat", "dog"]), [0, 1])
    grid = (List(List(Value("int32"))), [[[1]], [[1]]])
    data = table(2, mask="trimap", depth=depth, kind=kind, grid=grid)
    with pytest.raises(InputError, match=expected):
        found(tmp_path, data, **flags)


def test_two_masks_need_the_flag(tmp_path):
    more = (Image(), [png(one) for one in label_maps(2, 1)])
    data = table(2, label=more)
    with pytest.raises(InputError, match=r"mask \(Image\), label \(Image\); say which"):
        found(tmp_path, data)
    _, prepared = found(tmp_path / "again", data, mask_column="mask")
    np.testing.assert_array_equal(prepared.splits["train"][1][1], label_maps(2, 2)[1])


@pytest.mark.parametrize(
    "feature",
    [
        List(List(Value("int64"))),
        List(List(ClassLabel(names=NAMES))),
        Array2D((H, W), "uint8"),
        Array2D((H, W), "int32"),
    ],
)
def test_masks_that_are_arrays(tmp_path, feature):
    named = isinstance(feature, List) and isinstance(feature.feature.feature, ClassLabel)
    data = table(3, mask="label", mask_feature=feature, top=3)
    source, prepared = found(tmp_path, data, classes=None if named else "road,sky,car")
    assert list(source.labels.names) == NAMES
    for i, expected in enumerate(label_maps(3)):
        np.testing.assert_array_equal(prepared.splits["train"][i][1], expected)
    assert audit(str(tmp_path / "saved"), Reading(classes="road,sky,car")).findings


@pytest.mark.parametrize("wrong", [[[1, 2], [3]], [[]], [[-1]], [[70000]]])
def test_arrays_that_are_no_masks_are_named(tmp_path, wrong):
    data = Dataset.from_dict(
        {"image": [png(np.zeros((H, W), np.uint8))] * 2, "mask": [[[1, 0]], wrong]},
        features=Features(image=Image(), mask=List(List(Value("int64")))),
    )
    with pytest.raises(InputError, match="saved: row 1 of the column mask is no mask"):
        found(tmp_path, data)


def test_classes_that_segacc_lists_have_names_in_any_place(tmp_path):
    """Parquet files hold nothing else; --classes counts first, then a file in the folder."""
    present = (List(ClassLabel(names=NAMES)), [[0, 1, 2], [0, 1]])
    data = table(2, top=3, mask_classes=present)
    for split in ("train", "val"):
        (tmp_path / "set").mkdir(exist_ok=True)
        data.to_parquet(tmp_path / f"set/{split}.parquet")
    place = str(tmp_path / "set")
    assert list(load_dataset(place).labels.names) == NAMES
    assert load_dataset(place, Reading(ignore="sky")).labels.names == ("road", "car")
    assert load_dataset(place, Reading(classes="a,b,c")).labels.names == ("a", "b", "c")
    (tmp_path / "set/id2label.json").write_text(json.dumps({0: "x", 1: "y", 2: "z"}))
    assert load_dataset(place).labels.names == ("x", "y", "z")


@pytest.mark.parametrize("valid", ["valid", "val", "validation", "dev", "Validation"])
def test_splits_of_usual_names(tmp_path, valid, caplog):
    place = save(tmp_path, **{"train": table(3), valid: table(2), "unlabelled": table(1)})
    rows = load_dataset(place).rows
    assert {name: len(its) for name, its in rows.items()} == {"train": 3, "valid": 2}
    assert "the split unlabelled (1 rows) is left out" in caplog.text


def test_the_flags_are_of_all_commands_and_of_no_folder_of_files(tmp_path):
    assert parse_train(["--image-column", "a", "--mask-column", "b"]).mask_column == "b"
    assert parse_evaluate(["run", "--image-column", "a"]).image_column == "a"
    data = table(4, "left", "trimap")
    place = save(tmp_path, train=data, val=data)
    assert check(place, reading=Reading(image_column="left", mask_column="trimap")) in (0, 1)
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        Pillow.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / f"{split}/a.jpg")
        Pillow.fromarray(np.eye(H, W, dtype=np.uint8)).save(tmp_path / f"{split}/a.png")
    for read in (load_dataset, audit):
        with pytest.raises(InputError, match="--mask-column trimap has no effect on .*--pairs"):
            read(str(tmp_path), Reading(mask_column="trimap"))
