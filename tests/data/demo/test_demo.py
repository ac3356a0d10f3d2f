"""The demo sets: files, determinism, and that colour alone does not find the foreground."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segacc.data.demo import sets as demo
from segacc.data.demo.backdrop import backdrop
from segacc.data.demo.paint import blank, box
from segacc.data.demo.people import person
from segacc.data.demo.regions import REGIONS, Region, averaged_down
from segacc.data.demo.sets import DEMO_NAMES, demo_image, write_demo
from segacc.data.demo.street import Standing, paste, pedestrians, street
from segacc.data.demo.tissue import tissue
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import read_row

CLASSES = "demo-street"
BINARY_NAMES = [name for name in DEMO_NAMES if name != CLASSES]
Samples = list[tuple[np.ndarray, np.ndarray]]

# How much of each of 4 x 4 cells is foreground (of streets: pavement) in a set's first picture, in
# hundredths.
COVER = {
    "demo": [[53, 29, 41, 47], [28, 31, 38, 26], [24, 30, 54, 30], [38, 25, 41, 30]],
    "demo-street": [[0, 0, 0, 0], [10, 4, 4, 0], [87, 69, 84, 80], [89, 100, 100, 100]],
    "demo-pedestrian": [[0, 0, 0, 0], [0, 12, 34, 0], [0, 9, 47, 0], [0, 0, 30, 0]],
}


def sample(name: str, split: str, count: int) -> Samples:
    """Images and masks, those of tissue at half their size so that counting is quick."""
    pairs = [demo_image(name, split, index) for index in range(count)]
    if name == "demo":
        pairs = [(image[::2, ::2], mask[::2, ::2]) for image, mask in pairs]
    return pairs


@pytest.fixture(scope="module", params=BINARY_NAMES)
def splits(request: pytest.FixtureRequest) -> tuple[str, Samples, Samples]:
    """A set's name, and some of its training and of its test pictures."""
    name: str = request.param
    return name, sample(name, "train", 24), sample(name, "test", 10)


@pytest.mark.parametrize("name", DEMO_NAMES)
def test_a_set_is_written_as_pairs_in_three_splits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SIZES", {"train": 3, "valid": 2, "test": 1})
    write_demo(name, tmp_path / "set")
    for split, count in demo.SIZES.items():
        images = sorted((tmp_path / "set" / split).glob("*.jpg"))
        masks = sorted((tmp_path / "set" / split).glob("*.png"))
        assert [path.stem for path in images] == [path.stem for path in masks]
        assert len(images) == count
        for index, (image_file, mask_file) in enumerate(zip(images, masks, strict=True)):
            image, mask = demo_image(name, split, index)
            with Image.open(image_file) as picture, Image.open(mask_file) as label:
                assert (picture.mode, label.mode) == ("RGB", "P" if name == CLASSES else "L")
                assert picture.size == label.size
                # JPEG loses a little; another picture would be tens of grey levels off.
                assert np.abs(np.asarray(picture).astype(int) - image).mean() < 8
                assert np.array_equal(np.asarray(label), mask)


@pytest.mark.parametrize("name", DEMO_NAMES)
def test_an_image_does_not_depend_on_order_or_threads(name: str) -> None:
    wanted = [("train", 0), ("valid", 0), ("test", 1), ("train", 1)]
    alone = {key: demo_image(name, *key) for key in wanted}
    with ThreadPoolExecutor(4) as pool:
        together = dict(
            zip(
                reversed(wanted),
                pool.map(lambda key: demo_image(name, *key), reversed(wanted)),
                strict=True,
            )
        )
    for key in wanted:
        assert np.array_equal(alone[key][0], together[key][0])
        assert np.array_equal(alone[key][1], together[key][1])
    assert len({image.tobytes() for image, _ in alone.values()}) == len(wanted)


def test_images_change_only_with_the_version() -> None:
    # After a change to the scenes: raise DEMO_VERSION, since caches are named by it, and put the
    # new numbers into COVER.
    assert demo.DEMO_VERSION == "1"
    for name, expected in COVER.items():
        mask = demo_image(name, "train", 0)[1]
        if name == CLASSES:
            mask = np.where(mask == Region.PAVEMENT, 255, 0).astype(np.uint8)
        cover = cv2.resize(mask, (4, 4), interpolation=cv2.INTER_AREA) / 255 * 100
        assert cover == pytest.approx(np.array(expected), abs=2), name


def test_every_image_has_foreground_and_background(splits: tuple[str, Samples, Samples]) -> None:
    for image, mask in splits[1] + splits[2]:
        assert image.shape == (*mask.shape, 3)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        assert 0.01 <= np.mean(mask > 0) <= 0.8


def test_a_small_field_of_tissue_holds_a_gland() -> None:
    for seed in range(8):
        image, mask = tissue(np.random.default_rng(seed), 128)
        assert image.shape == (128, 128, 3)
        assert 0.01 <= np.mean(mask > 0) < 1


def iou(predicted: np.ndarray, wanted: np.ndarray) -> float:
    """Over all pixels of a split."""
    both, either = np.count_nonzero(predicted & wanted), np.count_nonzero(predicted | wanted)
    return float(both / max(int(either), 1))


def pixels(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """R, G, B, H, S, V and grey (n x 7), and whether each pixel is foreground (n)."""
    values = [
        np.dstack(
            [
                image,
                cv2.cvtColor(image, cv2.COLOR_RGB2HSV),
                cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
            ]
        ).reshape(-1, 7)
        for image, _ in samples
    ]
    return np.concatenate(values), np.concatenate([mask.ravel() > 0 for _, mask in samples])


def best_cut(score: np.ndarray, wanted: np.ndarray) -> int:
    """The cut for which `score >= cut` (uint8) has the highest IoU."""
    hit = np.bincount(score[wanted], minlength=256)[::-1].cumsum()
    false = np.bincount(score[~wanted], minlength=256)[::-1].cumsum()
    return 255 - int(np.argmax(hit / (np.count_nonzero(wanted) + false)))


# Over the full sets the best of them, the colour table, reaches 0.44 and 0.19, where all foreground
# has 0.39 and 0.10. A small Linknet from scratch was at 0.79 on tissue after 240 steps.
LIMIT = {"demo": 0.55, "demo-pedestrian": 0.3}


def test_colour_alone_does_not_find_the_foreground(
    splits: tuple[str, Samples, Samples],
) -> None:
    name = splits[0]
    (train, truth), (test, wanted) = pixels(splits[1]), pixels(splits[2])
    scores = {"all foreground": float(np.mean(wanted))}
    for channel, label in enumerate(("R", "G", "B", "H", "S", "V", "grey")):
        for sign, flip in (("+", 0), ("-", 255)):
            cut = best_cut(train[:, channel] ^ flip, truth)
            scores[label + sign] = iou((test[:, channel] ^ flip) >= cut, wanted)
    # The best a function of one pixel's colour can do: how often each of 16 x 16 x 16 colours is
    # foreground in the training split.
    bins = [(values[:, :3] // 16).astype(int) @ [256, 16, 1] for values in (train, test)]
    foreground = np.bincount(bins[0][truth], minlength=4096)
    chance = (foreground + truth.mean()) / (np.bincount(bins[0], minlength=4096) + 1)
    table = np.rint(chance * 255).astype(np.uint8)
    scores["colour table"] = iou(table[bins[1]] >= best_cut(table[bins[0]], truth), wanted)
    assert max(scores.values()) < LIMIT[name], scores
    low, high = (0.25, 0.5) if name == "demo" else (0.03, 0.25)
    assert low < scores["all foreground"] < high


def test_outlines_of_masks_lie_on_edges_of_images(splits: tuple[str, Samples, Samples]) -> None:
    # A mask that is shifted, flipped or of another picture would not.
    on, beside = [], []
    for image, mask in splits[2]:
        soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
        edges = np.abs(cv2.Sobel(soft, cv2.CV_32F, 1, 0)) + np.abs(
            cv2.Sobel(soft, cv2.CV_32F, 0, 1)
        )
        edges = edges.sum(2)
        outline = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        on.append(edges[outline].mean())
        beside.append(
            np.mean([edges[np.roll(outline, s, a)].mean() for s in (-9, 9) for a in (0, 1)])
        )
    assert np.mean(on) > 1.1 * np.mean(beside)


def test_what_stands_in_front_of_a_person_is_not_in_the_mask() -> None:
    rng = np.random.default_rng(0)
    image, mask = np.zeros((200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8)
    paste(rng, image, mask, Standing(person(rng, 160), 100, 190, Region.PERSON))
    whole = mask > 0
    assert 0.05 < whole.mean() < 0.4
    post = blank(180, 1.0)
    box(post, -0.05, 0, 0.05, 1, (90, 90, 90, 255))
    paste(rng, image, mask, Standing(post, 100, 195, Region.OBJECT))
    columns = np.flatnonzero((whole & (mask == Region.OBJECT)).any(0))
    assert 15 <= len(columns) <= 20  # the post's width is a tenth of its height
    assert np.array_equal(mask[:, : columns[0]] == Region.PERSON, whole[:, : columns[0]])
    assert np.array_equal(mask[:, columns[-1] + 1 :] > 0, whole[:, columns[-1] + 1 :])


def test_a_sprite_outside_the_image_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    image, mask = np.zeros((50, 50, 3), np.uint8), np.zeros((50, 50), np.uint8)
    paste(rng, image, mask, Standing(person(rng, 20), 500, 40, Region.PERSON))
    assert not mask.any() and not image.any()


def test_people_of_a_street_are_those_of_the_mask_of_pedestrians() -> None:
    for seed in range(8):
        (image, regions), (same, mask) = (
            f(np.random.default_rng(seed)) for f in (street, pedestrians)
        )
        assert np.array_equal(image, same)
        assert np.array_equal(regions == Region.PERSON, mask == 255)


def test_a_pixel_on_an_edge_is_of_the_nearest_region_that_covers_half_of_it() -> None:
    sky, road, person = Region.SKY, Region.ROAD, Region.PERSON
    fine = np.array(
        [[sky, sky, sky, sky, sky, sky], [sky, person, person, person, road, person]], np.uint8
    )
    assert averaged_down(fine, 2).tolist() == [[sky, person, road]]


def test_every_region_is_painted_often_enough_to_be_learnt() -> None:
    shares = np.array(
        [
            np.bincount(regions.ravel(), minlength=len(Region)) / regions.size
            for _, regions in sample(CLASSES, "train", 24)
        ]
    )
    assert shares.shape[1] == len(Region) == REGIONS.classes
    assert (shares.mean(0) > 0.02).all()
    assert ((shares > 0).mean(0) > 0.4).all()


def test_sky_houses_and_ground_lie_where_they_do_in_a_street() -> None:
    height = dict.fromkeys((Region.SKY, Region.BUILDING, Region.PAVEMENT, Region.ROAD), 0.0)
    samples = sample(CLASSES, "train", 24)
    for region in height:
        rows = [np.nonzero(regions == region)[0] / len(regions) for _, regions in samples]
        height[region] = np.concatenate(rows).mean()
    assert sorted(height, key=lambda region: height[region]) == list(height)


def test_the_kerb_is_pavement_and_the_marks_of_the_road_are_road() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(20):
        _, regions = backdrop(rng, 300, 400, 80, 140)  # without people and objects
        whole_rows = (regions == Region.ROAD).all(1)
        if whole_rows.any():
            kerb = int(whole_rows.argmax())
            assert set(np.unique(regions[kerb:])) <= {Region.ROAD}
            assert Region.PAVEMENT in regions[kerb - 1]
            found += 1
    assert found > 5


def test_the_classes_are_read_with_their_names_and_colours() -> None:
    source = load_dataset(CLASSES)
    assert source.coding.labels == REGIONS
    assert len(set(REGIONS.colours)) == REGIONS.classes
    pair = read_row(source.rows["valid"][2], source.coding)
    assert np.array_equal(pair.label_map, demo_image(CLASSES, "valid", 2)[1])
