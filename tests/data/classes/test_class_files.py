"""Files of classes, as tools write them."""

import json

import numpy as np
import pytest

from segacc.data.classes.coding import make_coding
from segacc.data.classes.files import find_class_files, read_class_file
from segacc.errors import InputError
from segacc.labels import IGNORE, read_values

HUGGING_FACE = {"1": "car", "0": "road"}
FILES = {
    "classes.txt": "\ufeffroad: 0\ncar: 1\n",
    "id2label.json": json.dumps(HUGGING_FACE),
    "config.json": json.dumps({"model_type": "segformer", "id2label": HUGGING_FACE}),
    "_classes.csv": "Pixel Value, Class\n0, road\n1, car\n",
    "dataset.json": json.dumps({"labels": {"road": 0, "car": 1}, "file_ending": ".png"}),
    "data.yaml": "train: ../train/images\nnc: 2\nnames: ['road', 'car']\n",
}


@pytest.mark.parametrize("name", FILES)
def test_names_and_values_of_each_tool_are_read(tmp_path, name):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    classes = read_class_file(tmp_path / name)
    assert [(one.name, one.values) for one in classes] == [("road", ((0, 0),)), ("car", ((1, 1),))]


def test_names_of_yolo_may_be_a_dictionary_and_labels_of_nnunet_numbers(tmp_path):
    (tmp_path / "data.yaml").write_text("names:\n  0: road\n  1: car\n")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "road", "1": "car"}}))
    found = [
        [one.name for one in read_class_file(tmp_path / n)] for n in ("data.yaml", "dataset.json")
    ]
    assert found == [["road", "car"]] * 2


def test_the_label_ignore_of_nnunet_is_no_class(tmp_path):
    labels = {"background": 0, "tumour": 1, "vessel": 2, "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    coding = make_coding(read_class_file(tmp_path / "dataset.json"))
    assert coding.labels.names == ("background", "tumour", "vessel")
    assert read_values(np.array([[0, 1, 2, 3]]), coding).tolist() == [[0, 1, 2, IGNORE]]


def test_colours_of_cvat_are_read(tmp_path):
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:128,64,128::\n"
    (tmp_path / "labelmap.txt").write_text(text)
    classes = read_class_file(tmp_path / "labelmap.txt")
    assert [(one.name, one.colours) for one in classes] == [
        ("background", ((0, 0, 0),)),
        ("car", ((128, 64, 128),)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("id2label.json", "{", "is not a file of classes as its name says"),
        ("id2label.json", '{"road": 0}', "is not a file of classes"),
        ("_classes.csv", "a,b\n1,2\n", "is not a file of classes"),
        ("labelmap.txt", "car 1 2 3\n", "line 1: found 'car 1 2 3', expected name:red"),
        ("dataset.json", '{"labels": {"a": [1, 2]}}', "has regions"),
        ("classes.txt", "\n", "names no class"),
        ("data.yaml", "names: !!python/object:os.system {}", "is not a file of classes"),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_one_sentence(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_class_file(tmp_path / name)


def test_the_file_of_a_folder_is_found_also_below_it(tmp_path):
    assert find_class_files(tmp_path) == []
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_classes.csv").write_text(FILES["_classes.csv"])
    both = [tmp_path / split / "_classes.csv" for split in ("train", "valid")]
    assert find_class_files(tmp_path) == both
    (tmp_path / "classes.txt").write_text(FILES["classes.txt"])
    assert find_class_files(tmp_path) == [tmp_path / "classes.txt"]


def test_two_files_that_differ_are_named(tmp_path):
    for split, text in (("train", "0, a\n1, b"), ("valid", "0, a\n1, c")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_classes.csv").write_text(f"Pixel Value, Class\n{text}\n")
    with pytest.raises(InputError, match="name other classes: give the right one with --classes"):
        find_class_files(tmp_path)


def test_a_json_file_of_another_purpose_says_no_classes(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    (tmp_path / "dataset.json").write_text("[1, 2]")
    assert find_class_files(tmp_path) == []


def test_the_file_is_found_below_the_root_of_an_archive(tmp_path):
    inside = tmp_path / "export" / "my set"
    for split in ("train", "valid"):
        (inside / split).mkdir(parents=True)
        (inside / split / "_classes.csv").write_text(FILES["_classes.csv"])
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "export" / "README.txt").touch()
    assert find_class_files(tmp_path) == [
        inside / split / "_classes.csv" for split in ("train", "valid")
    ]


def test_a_single_class_of_a_tool_is_what_is_not_background(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [polyp]\n")
    coding = make_coding(read_class_file(tmp_path / "data.yaml"))
    assert coding.is_binary and coding.labels.names == ("background", "polyp")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("id2label.json", '{"0": "road", "1": "car", "2": "car"}'),
        ("data.yaml", "names: [road, car, car]"),
        ("_classes.csv", "Pixel Value, Class\n0, road\n1, car\n2, car\n"),
    ],
)
def test_entries_of_one_name_are_one_class(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    classes = read_class_file(tmp_path / name)
    assert [(one.name, one.values) for one in classes] == [
        ("road", ((0, 0),)),
        ("car", ((1, 1), (2, 2))),
    ]
