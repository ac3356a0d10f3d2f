"""Folders with polygons of COCO, YOLO and labelme -> rows and label maps."""

import base64
import io
import json

import cv2
import datasets
import numpy as np
import pytest
from PIL import Image

from benchmarks.codings import contours
from segacc.commands.data import check as check_command
from segacc.commands.data import prepare as prepare_command
from segacc.config.options import Reading
from segacc.data.audit.audit import audit
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import read_row
from segacc.errors import InputError
from segacc.labels import IGNORE

HEIGHT, WIDTH = 6, 8


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))


def box(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def image(path, seed=0, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng([seed, *path.stem.encode()]).integers(0, 255, (*size, 3))
    Image.fromarray(values.astype(np.uint8)).save(path)


def annotation(image_id, category, segmentation, **more):
    return {"image_id": image_id, "category_id": category, "segmentation": segmentation, **more}


CATEGORIES = [{"id": 7, "name": "bus"}, {"id": 3, "name": "car"}]
IMAGES = [
    {"id": i, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH}
    for i, n in ((1, "a"), (2, "b"))
]


def coco(path, annotations, images=IMAGES, categories=CATEGORIES):
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(said))


def squares():
    return [annotation(1, 3, [box(0, 0, 4, 4)]), annotation(1, 7, [box(2, 2, 4, 4)])]


EXPECTED = np.zeros((HEIGHT, WIDTH), np.uint8)
EXPECTED[:4, :4] = 1
EXPECTED[2:4, 2:4] = 2


def coco_set(folder):
    """As COCO is packed."""
    for split in ("train", "val"):
        for name in "ab":
            image(folder / f"{split}2017/{name}.jpg", seed=len(split))
        coco(folder / f"annotations/instances_{split}2017.json", squares())
        (folder / f"annotations/captions_{split}2017.json").write_text(
            '{"annotations": [], "images": []}'
        )
    return folder


def roboflow_set(folder):
    categories = [{"id": 0, "name": "vehicles", "supercategory": "none"}]
    categories += [{**one, "supercategory": "vehicles"} for one in CATEGORIES]
    for split in ("train", "valid"):
        for name in "ab":
            image(folder / f"{split}/{name}.jpg", seed=len(split))
        coco(folder / f"{split}/_annotations.coco.json", squares(), categories=categories)
    return folder


def yolo_set(folder, names="names: [car, bus]", first="images/{}", second="labels/{}"):
    lines = [[0, *box(0, 0, 4, 4)], [1, *box(2, 2, 4, 4)]]
    scaled = [
        [n, *(v / s for v, s in zip(rest, [WIDTH, HEIGHT] * 4, strict=True))] for n, *rest in lines
    ]
    for split in ("train", "val"):
        for name in "ab":
            image(folder / first.format(split) / f"{name}.jpg", seed=len(split))
        labels = folder / second.format(split)
        labels.mkdir(parents=True, exist_ok=True)
        (labels / "a.txt").write_text("\n".join(" ".join(map(str, line)) for line in scaled))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\n{names}\n")
    return folder


def labelme_shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


def labelme(path, shapes, image_path, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image_path}
    said |= {"imageData": None, "imageHeight": size[0], "imageWidth": size[1]}
    path.write_text(json.dumps(said))


def labelme_set(folder):
    shapes = [
        labelme_shape("bus", [[2, 2], [4, 4]], "rectangle"),
        labelme_shape("a car", [[0, 0], [4, 0], [4, 4], [0, 4]]),
    ]
    for split in ("train", "val"):
        for name in "ab":
            image(folder / split / f"{name}.jpg", seed=len(split))
            labelme(folder / split / f"{name}.json", shapes if name == "a" else [], f"{name}.jpg")
    return folder


SETS = {"coco": coco_set, "roboflow": roboflow_set, "yolo": yolo_set, "labelme": labelme_set}


def label_maps(dataset, **reading):
    source = load_dataset(str(dataset), Reading(**reading))
    return source, {
        f"{split}/{row['name']}": read_row(row, source.coding).label_map
        for split, rows in source.rows.items()
        for row in rows
    }


@pytest.mark.parametrize("tool", SETS)
def test_each_tool_gives_the_label_maps_of_its_polygons(tool, tmp_path):
    source, found = label_maps(SETS[tool](tmp_path / "set"))
    assert source.labels.names == ("background", "a car" if tool == "labelme" else "car", "bus")
    assert list(found) == ["train/a", "train/b", "valid/a", "valid/b"]
    for name in ("train/a", "valid/a"):
        assert (found[name] == EXPECTED).all()
    for name in ("train/b", "valid/b"):
        assert found[name].shape == (HEIGHT, WIDTH) and (found[name] == 0).all()


@pytest.mark.parametrize("tool", SETS)
def test_a_saved_set_is_found_again_with_its_classes(tool, tmp_path):
    folder = SETS[tool](tmp_path / "set")
    prepare_command(str(folder), size="native", save=tmp_path / "saved")
    (before, maps), (after, again) = label_maps(folder), label_maps(tmp_path / "saved")
    assert after.labels == before.labels
    assert maps.keys() == again.keys()
    assert all((maps[name] == again[name]).all() for name in maps)
    first, second = (prepare(source, "native") for source in (before, after))
    assert first.fingerprint == second.fingerprint and first.labels == second.labels
    shown = datasets.load_from_disk(tmp_path / "saved")["train"][0]
    assert (np.asarray(shown["mask"]) == EXPECTED).all()


def test_the_same_set_as_index_masks_has_the_same_fingerprint(tmp_path):
    folder = coco_set(tmp_path / "set")
    for split in ("train", "val"):
        for name in "ab":
            mask = EXPECTED if name == "a" else np.zeros_like(EXPECTED)
            image(tmp_path / f"index/{split}/{name}.jpg", seed=len(split))
            Image.fromarray(mask).save(tmp_path / f"index/{split}/{name}.png")
    flags = Reading(classes="background,car,bus")
    masks = prepare(load_dataset(str(tmp_path / "index"), flags), 32)
    polygons = prepare(load_dataset(str(folder)), 32)
    assert masks.fingerprint == polygons.fingerprint
    assert masks.labels == polygons.labels


def test_rows_are_the_same_whatever_the_order_of_the_images_in_the_file(tmp_path):
    for place, images in (("one", IMAGES), ("two", IMAGES[::-1])):
        folder = coco_set(tmp_path / place)
        coco(folder / "annotations/instances_train2017.json", squares(), images)
    one, two = (load_dataset(str(tmp_path / place)).rows["train"] for place in ("one", "two"))
    assert one["name"][:] == two["name"][:] == ["a", "b"]
    assert [row["bytes"] for row in one["mask"]] == [row["bytes"] for row in two["mask"]]


def test_one_file_for_all_images_takes_the_splits_of_the_folders(tmp_path):
    for name in ("train/a", "val/b"):
        image(tmp_path / f"images/{name}.jpg")
    images = [{**IMAGES[0], "file_name": "train/a.jpg"}, {**IMAGES[1], "file_name": "b.jpg"}]
    coco(tmp_path / "annotations.json", squares(), images)
    _, found = label_maps(tmp_path)
    assert list(found) == ["train/a", "valid/b"] and (found["train/a"] == EXPECTED).all()


def test_one_file_without_splits_is_divided(tmp_path, caplog):
    images = [{**IMAGES[0], "id": i, "file_name": f"{i}.jpg"} for i in range(12)]
    for one in images:
        image(tmp_path / f"images/{one['file_name']}")
    coco(tmp_path / "annotations.json", squares(), images)
    rows = load_dataset(str(tmp_path)).rows
    assert list(rows) == ["train", "valid", "test"] and sum(map(len, rows.values())) == 12
    assert "split into" in caplog.text


def test_classes_choose_merge_and_ignore_categories(tmp_path):
    folder = coco_set(tmp_path / "set")
    _, found = label_maps(folder, classes="car", ignore="bus")
    assert np.unique(found["train/a"]).tolist() == [0, 1, IGNORE]
    source, found = label_maps(folder, classes="car, background: bus")
    assert source.labels.names == ("background", "car")
    assert found["train/a"][3].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]  # a bus on a car is background
    (tmp_path / "classes.txt").write_text("vehicle: car, bus\n")
    source, found = label_maps(folder, classes=str(tmp_path / "classes.txt"))
    assert source.labels.names == ("background", "vehicle")
    assert (found["train/a"] == (EXPECTED > 0)).all()
    source, found = label_maps(folder, classes="bus,rest:*")
    assert source.labels.names == ("background", "bus", "rest")
    assert found["train/a"][3].tolist() == [2, 2, 1, 1, 0, 0, 0, 0]
    source, found = label_maps(folder, ignore="background")
    assert source.labels.names == ("car", "bus") and found["train/a"][0, 7] == IGNORE


def test_a_category_that_is_not_listed_stops_with_its_images(tmp_path):
    source = load_dataset(str(coco_set(tmp_path / "set")), Reading(classes="car"))
    said = (
        r"2 masks \(.*instances_train2017.json \(a.jpg\), .*\) hold what no class owns: bus \(8 p"
    )
    with pytest.raises(InputError, match=said):
        prepare(source, 32)
    (finding,) = [
        f
        for f in audit(str(tmp_path / "set"), Reading(classes="car")).findings
        if f.topic == "unknown values"
    ]
    assert "bus (8 pixels in 2 masks)" in finding.problem


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("car,vehicle:bsu", "the class vehicle has no category 'bsu': did you mean bus"),
        ("car,vehicle:car", "the category car is of the classes car and vehicle"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classes, said, tmp_path):
    with pytest.raises(InputError, match=said):
        load_dataset(str(coco_set(tmp_path / "set")), Reading(classes=classes))


def test_the_categories_are_written_as_a_list_of_classes(tmp_path):
    folder = coco_set(tmp_path / "set")
    assert check_command(str(folder), write_classes=tmp_path / "classes.txt") == 0
    assert (tmp_path / "classes.txt").read_text() == "background\ncar\nbus\n"


def test_a_check_of_polygons_finds_nothing_wrong(tmp_path):
    for build in SETS.values():
        folder = build(tmp_path / build.__name__)
        assert [f for f in audit(str(folder)).findings if f.severity == "error"] == []


BROKEN = {
    "up": ([{**IMAGES[0], "file_name": "../../x.jpg"}], [], "outside of the data set"),
    "absolute": ([{**IMAGES[0], "file_name": "/etc/x.jpg"}], [], "outside of the data set"),
    "windows": ([{**IMAGES[0], "file_name": "C:\\x.jpg"}], [], "outside of the data set"),
    "absent": ([{**IMAGES[0], "file_name": "x.jpg"}], [], r"1 image \(x.jpg\) that are not"),
    "size": ([{**IMAGES[0], "height": 10**9}], [], "for the size of an image"),
    "twice": ([IMAGES[0], IMAGES[0]], [], "two images of one id"),
    "no image": (IMAGES, [annotation(9, 3, [box(0, 0, 4, 4)])], r"1 image id \(9\) that it"),
    "category": (IMAGES, [annotation(1, 4, [box(0, 0, 4, 4)])], r"category 4, .* \(image a.jpg\)"),
    "boxes": (IMAGES, [annotation(1, 3, [])], "holds boxes only, no polygons and no RLE"),
    "box": (IMAGES, [*squares(), annotation(1, 3, [])], "without polygon and RLE"),
    "odd": (IMAGES, [annotation(1, 3, [[1, 2, 3, 4, 5, 6, 7]])], "not a list of x, y"),
    "text": (IMAGES, [annotation(1, 3, [[1, 2, 3, 4, 5, "6"]])], "not a number"),
    "nan": (IMAGES, [annotation(1, 3, [[1, 2, 3, 4, 5, float("nan")]])], "is not a number"),
    "rle size": (IMAGES, [annotation(1, 3, {"size": [9, 9], "counts": [81]})], "RLE of the size"),
    "rle": (IMAGES, [annotation(1, 3, {"size": [6, 8], "counts": [-1]})], "neither text nor"),
    "form": ([{"name": "a.jpg"}], squares(), "is not a file of COCO's form"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_coco_file_that_is_wrong_is_named(name, tmp_path):
    images, annotations, said = BROKEN[name]
    folder = coco_set(tmp_path / "set")
    coco(folder / "annotations/instances_train2017.json", annotations or squares(), images)
    with pytest.raises(InputError, match=rf"instances_train2017.json: .*{said}"):
        load_dataset(str(folder))


ODD = [
    None,
    True,
    -1,
    0,
    1e300,
    10**400,
    float("nan"),
    "",
    "x",
    "..",
    [],
    [[]],
    {},
    [None],
    {"a": 1},
]


def places_in(said, path=()):
    """The path to each value in JSON."""
    yield path
    keys = said if isinstance(said, dict) else range(len(said)) if isinstance(said, list) else ()
    for key in keys:
        yield from places_in(said[key], (*path, key))


@pytest.mark.parametrize("tool", ["coco", "labelme"])
def test_whatever_a_file_says_the_error_is_a_sentence(tool, tmp_path):
    folder = SETS[tool](tmp_path / "set")
    file = folder / ("annotations/instances_train2017.json" if tool == "coco" else "train/a.json")
    text = file.read_text()
    if tool == "coco":
        rle = annotation(2, 3, {"size": [6, 8], "counts": [0, 12, 36]})
        text = json.dumps(json.loads(text) | {"annotations": [*squares(), rle]})
    refused = 0
    for path in places_in(json.loads(text)):
        for odd in ODD:
            said = {"": json.loads(text)}
            *outer, last = ("", *path)
            inner = said
            for key in outer:
                inner = inner[key]
            inner[last] = odd
            file.write_text(json.dumps(said[""]))
            try:
                source = load_dataset(str(folder))
                for row in source.rows["train"]:
                    read_row(row, source.coding)
            except InputError:
                refused += 1
    assert refused > 100


def test_a_coco_file_that_is_cut_short_is_named(tmp_path):
    folder = coco_set(tmp_path / "set")
    file = folder / "annotations/instances_val2017.json"
    file.write_text(file.read_text()[:-9])
    with pytest.raises(InputError, match=r"instances_val2017.json: is damaged"):
        load_dataset(str(folder))


def test_shapes_of_another_size_than_the_image_are_refused(tmp_path):
    folder = coco_set(tmp_path / "set")
    images = [{**one, "height": HEIGHT + 1} for one in IMAGES]
    coco(folder / "annotations/instances_val2017.json", squares(), images)
    with pytest.raises(InputError, match=r"\(a.jpg\) is of an image of 8 x 7 pixels, and .* 8 x 6"):
        prepare(load_dataset(str(folder)), 32)


def test_crowds_are_ignored_and_rle_is_read(tmp_path):
    folder = coco_set(tmp_path / "set")
    # Down the columns of six: the first two columns.
    crowd = annotation(1, 3, {"size": [6, 8], "counts": [0, 12, 36]}, iscrowd=1)
    coco(folder / "annotations/instances_train2017.json", [crowd])
    _, found = label_maps(folder)
    assert (found["train/a"] == [IGNORE, IGNORE, 0, 0, 0, 0, 0, 0]).all()


def test_boxes_may_lie_beside_masks_that_only_their_contents_tell(tmp_path):
    for i in range(6):
        image(tmp_path / f"photo/{i}.png", seed=i, size=(24, 24))
        mask = np.zeros((24, 24), np.uint8)
        mask[4 + i : 12 + i, 3:15] = 255
        (tmp_path / "drawn").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"drawn/{i}.png")
        (tmp_path / f"photo/{i}.txt").write_text("0 0.5 0.5 0.2 0.2")
    source, found = label_maps(tmp_path)
    assert source.coding.is_binary and len(found) == 6


def test_boxes_alone_are_refused(tmp_path):
    folder = yolo_set(tmp_path)
    for file in folder.rglob("labels/*/*.txt"):
        file.write_text("0 0.5 0.5 0.2 0.2")
    with pytest.raises(InputError, match=r"a.txt: has a box in line 1, no polygon"):
        load_dataset(str(folder))


def test_masks_come_before_polygons(tmp_path):
    image(tmp_path / "train/a.jpg"), image(tmp_path / "valid/b.jpg")
    for name in ("train/a", "valid/b"):
        Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    coco(tmp_path / "annotations.json", squares())
    source, found = label_maps(tmp_path)
    assert source.coding.is_binary and found["train/a"].sum() == HEIGHT


@pytest.mark.parametrize("layout", [("{}/images", "{}/labels"), ("{}", "{}")])
def test_other_folders_of_yolo(layout, tmp_path):
    _, found = label_maps(yolo_set(tmp_path, "names: {0: car, 1: bus}", *layout))
    assert (found["valid/a"] == EXPECTED).all() and (found["valid/b"] == 0).all()


def test_yaml_says_the_splits_that_folders_do_not(tmp_path):
    folder = yolo_set(tmp_path)
    (folder / "data.yaml").write_text("train: images/day\nval: images/night\nnames: [car, bus]\n")
    for kind in ("images", "labels"):
        (folder / kind / "train").rename(folder / kind / "day")
        (folder / kind / "val").rename(folder / kind / "night")
    _, found = label_maps(folder)
    assert list(found) == ["train/day/a", "train/day/b", "valid/night/a", "valid/night/b"]


def test_yolo_without_names_has_numbers_to_which_classes_give_names(tmp_path):
    folder = yolo_set(tmp_path)
    (folder / "data.yaml").unlink()
    assert load_dataset(str(folder)).labels.names == ("background", "0", "1")
    source, found = label_maps(folder, classes="car,bus")
    assert source.labels.names == ("background", "car", "bus")
    assert (found["train/a"] == EXPECTED).all()
    source, found = label_maps(folder, classes="vehicle:0-1")
    assert (found["train/a"] == (EXPECTED > 0)).all()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.2 0.2", "has a box in line 2, no polygon"),
        ("2 0 0 1 0 1 1", "has the class 2 in line 2, and the YAML file names only 0 car, 1 bus"),
        ("0 0 0 1 0 1", "in line 2, expected `class x1 y1"),
        ("car 0 0 1 0 1 1", "in line 2, expected `class x1 y1"),
        ("0 0 0 1 0 1 nan", "in line 2, expected `class x1 y1"),
    ],
)
def test_a_line_of_yolo_that_is_wrong_is_named(line, said, tmp_path):
    folder = yolo_set(tmp_path)
    (folder / "labels/train/a.txt").write_text(f"0 0 0 1 0 1 1\n{line}\n")
    with pytest.raises(InputError, match=rf"labels/train/a.txt: .*{said}"):
        load_dataset(str(folder))


def test_pixels_in_place_of_shares_are_refused(tmp_path):
    folder = yolo_set(tmp_path)
    (folder / "labels/train/a.txt").write_text("0 1 1 6 1 6 4")
    with pytest.raises(InputError, match=r"labels/train/a.txt has a polygon with the point .* far"):
        prepare(load_dataset(str(folder)), 32)


def test_labelme_files_may_lie_in_a_folder_of_their_own(tmp_path):
    shapes = [labelme_shape("car", [[0, 0], [4, 0], [4, 4], [0, 4]])]
    for name in "ab":
        image(tmp_path / f"images/{name}.jpg")
        labelme(tmp_path / f"json/{name}.json", shapes, f"..\\images\\{name}.jpg")
    _, found = label_maps(tmp_path)
    assert all((one == (EXPECTED > 0)).all() for one in found.values()) and len(found) == 2


def test_circles_masks_and_ignored_shapes_of_labelme(tmp_path):
    folder = labelme_set(tmp_path)
    file = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(file, "PNG")
    mask = base64.b64encode(file.getvalue()).decode()
    shapes = [
        labelme_shape("dot", [[2, 3], [2, 5.1]], "circle"),
        labelme_shape("spot", [[6, 1], [7, 2]], "mask", mask=mask),
        labelme_shape("__ignore__", [[4, 5], [8, 6]], "rectangle"),
    ]
    labelme(folder / "train/a.json", shapes, "a.jpg")
    _, found = label_maps(folder, classes="dot,spot,bus,a car")
    disc = np.hypot(*(np.mgrid[:6, :8] + 0.5 - np.array([3, 2])[:, None, None])) < 2.1
    expected = disc.astype(np.uint8)
    expected[1:3, 6:8] = [[2, 0], [2, 2]]
    expected[5, 4:8] = IGNORE
    assert (found["train/a"] != expected).sum() <= 2  # at the disc's border
    assert (found["train/a"][:, 5:] == expected[:, 5:]).all()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            labelme_shape("car", [[0, 0], [4, 4]], "line"),
            r"the type line \(car\), which is no area",
        ),
        (labelme_shape("car", [[0, 0]], "circle"), r"a circle \(car\) of 1 points"),
        (labelme_shape("car", [[0, 0], [1, 1]], "mask", mask="AAAA"), "a mask that is no PNG"),
        (labelme_shape("car", [[0, 0], [1, 1]], "mask", mask="?"), "a mask that is no PNG"),
        (labelme_shape("car", [[0, 0], ["1", 1], [2, 2]]), "a coordinate that is not a number"),
        ({"points": []}, r"is damaged \(KeyError: 'label'\)"),
    ],
)
def test_a_shape_of_labelme_that_is_wrong_is_named(shape, said, tmp_path):
    folder = labelme_set(tmp_path)
    labelme(folder / "train/a.json", [shape], "a.jpg")
    with pytest.raises(InputError, match=rf"train/a.json: .*{said}"):
        load_dataset(str(folder))


def test_a_labelme_file_that_is_empty_or_leads_outside_is_named(tmp_path):
    folder = labelme_set(tmp_path)
    (folder / "train/a.json").write_text("")
    with pytest.raises(InputError, match=r"train/a.json: is no labelme file, as others are"):
        load_dataset(str(folder))
    labelme(folder / "train/a.json", [], "../../x.jpg")
    with pytest.raises(InputError, match=r"train/a.json: .* outside of the data set's folder"):
        load_dataset(str(folder))


def test_images_that_are_turned_have_polygons_as_viewers_show_them(tmp_path):
    folder = yolo_set(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6
    # Stored lying on its side: 8 rows of 6.
    Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8)).save(
        folder / "images/train/a.jpg", exif=turned
    )
    _, found = label_maps(folder)
    assert (found["train/a"] == EXPECTED).all()


def test_outer_contours_of_regions_give_the_mask_again(tmp_path):
    """What lies in the hole of a region is smaller than the region with its hole, so on top."""
    rng = np.random.default_rng(0)
    truth = cv2.resize(rng.integers(0, 3, (8, 8)).astype(np.float32), (40, 32)).round()
    truth = truth.astype(np.uint8)
    annotations = []
    for number in (0, 1, 2):
        for points in contours(truth == number, scale=2):
            annotations.append(annotation(1, number, [points.ravel().tolist()]))
    size = {"height": 32, "width": 40}
    categories = [{"id": i, "name": n} for i, n in enumerate(("background", "car", "bus"))]
    for split in ("train", "valid"):
        image(tmp_path / split / "a.jpg", size=(32, 40))
        coco(tmp_path / split / "labels.json", annotations, [{**IMAGES[0], **size}], categories)
    _, found = label_maps(tmp_path)
    assert len(annotations) > 10 and (found["train/a"] == truth).all()


def test_a_split_of_coco_may_have_no_objects(tmp_path):
    folder = coco_set(tmp_path / "set")
    coco(folder / "annotations/instances_val2017.json", [])
    source = load_dataset(str(folder))
    assert {name: len(rows) for name, rows in source.rows.items()} == {"train": 2, "valid": 2}
    label_maps = [read_row(row, source.coding).label_map for row in source.rows["valid"]]
    assert not np.any(label_maps)
