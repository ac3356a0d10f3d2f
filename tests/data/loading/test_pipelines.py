"""--augment: pipelines of albumentations, whose draws are a function of (seed, epoch, index)."""

import json
import os
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from small import write_blobs, write_shapes

from segacc.config.train import TrainConfig
from segacc.data.loading.augment import View, write_view
from segacc.data.loading.loader import TrainSamples, train_loader
from segacc.data.loading.pipelines import GREY, PRESETS, _check, _try_on_shapes, find_pipeline
from segacc.data.loading.stream import StepSampler
from segacc.data.loading.transforms import Pipeline
from segacc.data.loading.workers import WorkerPlan
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source
from segacc.errors import InputError
from segacc.labels import IGNORE
from segacc.training.checks import explain_errors

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

SAMPLES, BATCH = 12, 8
WHOLE = View(0, 0, False, None)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = write_blobs(tmp_path_factory.mktemp("data") / "blobs", train=SAMPLES)
    return prepare(Source(convert_folder(folder)), 64).splits["train"]


def batches(split, augment="strong", world_size=1, workers=0, start=0, stop=5, crop=32, seed=0):
    """The global batches of the steps, put together from all ranks'."""
    samples = TrainSamples(split, "hv", crop, seed, find_pipeline(augment))
    ranks = []
    for rank in range(world_size):
        sampler = StepSampler(len(split), BATCH, seed, start, stop, 1, rank, world_size)
        ranks.append(list(train_loader(samples, sampler, WorkerPlan(workers), pin_memory=False)))
    return [
        {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        for parts in zip(*ranks, strict=True)
    ]


def same(these, those):
    return len(these) == len(those) and all(
        torch.equal(a[key], b[key]) for a, b in zip(these, those, strict=True) for key in a
    )


@pytest.mark.parametrize(("world_size", "workers"), [(1, 1), (1, 3), (2, 0), (4, 2)])
def test_batches_are_bit_identical_for_any_world_size_and_workers(split, world_size, workers):
    assert same(batches(split), batches(split, world_size=world_size, workers=workers))


def test_a_resumed_stream_goes_on_where_it_stopped(split):
    assert same(batches(split)[3:], batches(split, start=3))


def test_draws_differ_between_samples_epochs_and_seeds(split):
    def one(augment="strong", seed=0):
        return batches(split, augment, crop=None, seed=seed, stop=6)

    images = torch.cat([batch["images"] for batch in one()])
    index = torch.cat([batch["index"] for batch in one()]).tolist()
    assert set(Counter(index).values()) == {4}  # of each sample, one in each of four epochs
    assert len({image.numpy().tobytes() for image in images}) == len(images)
    assert not same(one(), one(seed=1))
    assert not same(one("light"), one("strong")) and not same(one("light"), one("flips"))


def test_transforms_are_drawn_each_by_itself():
    """Not all together, as if each began with the same random number."""
    pipeline = Pipeline("x", A.to_dict(A.Compose([A.InvertImg(p=0.5), A.ToGray(p=0.5)])))
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    seen = Counter()
    for state in range(200):
        pipeline.draw(state)
        found = pipeline.recolour(red)
        seen[(bool(found[0, 0, 1] > 100), bool(found[0, 0, 0] == found[0, 0, 1]))] += 1
    assert len(seen) == 4 and min(seen.values()) > 25


@pytest.mark.parametrize("augment", PRESETS)
def test_masks_follow_their_images_and_say_nothing_outside(augment):
    """Where a label map says 1, the image is bright; what is outside is grey and ignored."""
    label_map = np.zeros((96, 96), np.uint8)
    label_map[20:60, 30:80] = 1
    image = np.repeat((40 + 180 * label_map)[..., None], 3, axis=2).astype(np.uint8)
    pipeline, ignored, grey = find_pipeline(augment), 0, 0
    for state in range(100):
        pipeline.draw(state)
        moved, labels, view = pipeline.move(image, label_map, WHOLE, label_map.shape)
        assert view == WHOLE
        assert set(np.unique(labels).tolist()) <= {0, 1, IGNORE}
        inside = labels == 1
        wrong = (moved[..., 0] > 130) != inside
        # Images are interpolated and label maps are not, so they differ along borders.
        assert wrong[labels != IGNORE].mean() < 0.03
        ignored += (labels == IGNORE).sum()
        assert (moved[..., :1] == moved).all()  # grey, as the image is
        grey += (moved[labels == IGNORE] == GREY).all(axis=1).sum()
    assert grey > 0.9 * ignored > 0  # along the border, images are interpolated


def test_a_crop_without_a_change_is_the_crop_of_flips_alone(split, tmp_path):
    A.save(A.Compose([A.NoOp(p=1)]), tmp_path / "nothing.json")
    assert same(batches(split, str(tmp_path / "nothing.json")), batches(split, "flips"))


def test_what_moves_pixels_sees_around_the_crop_and_what_recolours_sees_the_crop():
    pipeline = find_pipeline("strong")
    moving, recolouring = pipeline.parts
    assert [type(t).__name__ for t in moving][:2] == ["Affine", "ElasticTransform"]
    assert type(recolouring[0]).__name__ == "ColorJitter"
    image, label_map = np.zeros((200, 300, 3), np.uint8), np.zeros((200, 300), np.uint8)
    seen = []
    pipeline.draw(0)
    for top, left in ((0, 0), (80, 100), (168, 268)):
        near, labels, view = pipeline.move(image, label_map, View(top, left, False, 1), (32, 32))
        seen.append((near.shape[:2], view.top, view.left))
        assert labels.shape == near.shape[:2] and view.flip == 1
    assert seen == [((48, 48), 0, 0), ((64, 64), 16, 16), ((48, 48), 16, 16)]


def test_images_that_are_smaller_than_the_crop_are_padded_behind_the_pipeline(tmp_path):
    folder = write_shapes(tmp_path / "shapes", [(40, 64), (24, 30)])
    split = prepare(Source(convert_folder(folder)), "native").splits["train"]
    A.save(A.Compose([A.InvertImg(p=1)]), tmp_path / "invert.json")
    inverted = batches(split, str(tmp_path / "invert.json"), crop=48, stop=2)
    for plain, batch in zip(batches(split, "flips", crop=48, stop=2), inverted, strict=True):
        assert batch["images"].shape == (BATCH, 48, 48, 3)
        assert torch.equal(batch["label_maps"], plain["label_maps"])
        assert torch.equal(batch["images"], 255 - plain["images"])  # the padding, too
        assert (batch["label_maps"] == IGNORE).flatten(1).any(dim=1).all()


def test_a_pipeline_with_a_probability_of_its_own_is_drawn_once():
    pipeline = Pipeline("x", A.to_dict(A.Compose([A.Rotate(p=1), A.InvertImg(p=1)], p=0.5)))
    moving, recolouring = pipeline.parts
    assert (len(moving), len(recolouring), moving.p) == (2, 0, 0.5)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_file_is_read_in_either_form_and_ignores_what_is_outside(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    A.save(A.Compose([A.Affine(translate_px=(20, 20), p=1)]), path, data_format=suffix)
    assert "fill_mask: 0" in path.read_text().replace('"', "")
    pipeline = find_pipeline(str(path))
    assert pipeline.names == ["Affine"]
    image, label_map = np.full((64, 64, 3), 9, np.uint8), np.ones((64, 64), np.uint8)
    pipeline.draw(0)
    _, moved, _ = pipeline.move(image, label_map, WHOLE, (64, 64))
    assert (moved[:20] == IGNORE).all() and (moved[20:, 20:] == 1).all()


class Shift(A.ImageOnlyTransform):
    """Moves an image, and not its mask."""

    def apply(self, img, **params):
        return np.roll(img, 40, axis=1)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([A.RandomCrop(32, 32)], r"makes an image of shape \(32, 32, 3\) and type uint8"),
        ([A.Resize(200, 200)], r"shape \(200, 200, 3\)"),
        ([A.RandomCrop(512, 512)], "fails on an image of 96 x 128 px .CropSizeError"),
        ([A.Normalize()], "type float32"),
        ([A.Affine(rotate=(9, 40), mask_interpolation=1, p=1)], "makes new values in label maps"),
        ([A.Rotate(40, border_mode=4, mask_interpolation=1, p=1)], "makes new values in label"),
        ([A.D4(p=1)], "leave out transforms that crop, resize, turn by quarters"),
        ([A.RandomRotate90(p=1)], r"shape \(96, 128, 3\)"),
        ([Shift(p=1)], "moves masks off their images"),
        ([Shift(p=0.5)], "moves masks off their images"),
        ([A.RandomSizedBBoxSafeCrop(32, 32)], "fails on an image .*bboxes"),
    ],
)
def test_a_pipeline_that_spoils_images_or_masks_is_refused(tmp_path, transforms, message):
    A.save(A.Compose(transforms), tmp_path / "mine.json")
    with pytest.raises(InputError, match=f"--augment .*mine.json .*{message}"):
        find_pipeline(str(tmp_path / "mine.json"))


@pytest.mark.parametrize(
    "transforms",
    [
        [A.HorizontalFlip(), A.VerticalFlip(), A.RandomGridShuffle((3, 3), p=1)],
        [A.CoarseDropout((5, 9), (0.2, 0.4), (0.2, 0.4), p=1)],
        [A.InvertImg(p=0.5), A.Solarize(p=0.5), A.ToGray(p=0.5), A.GlassBlur(p=0.5)],
        [A.OneOf([A.Rotate(45, p=1), A.Perspective(p=1)], p=1)],
    ],
)
def test_a_pipeline_that_changes_both_is_taken(tmp_path, transforms):
    A.save(A.Compose(transforms), tmp_path / "mine.json")
    assert len(find_pipeline(str(tmp_path / "mine.json")).names) == len(transforms)


GLASS = A.GlassBlur(sigma=0.7, max_delta=40, iterations=1, p=1)  # fails on 64 px
RARE = A.OneOf([A.RandomScale(p=1), A.Rotate(p=1)], p=0.1)


@pytest.mark.parametrize(
    ("transform", "size", "crop", "message"),
    [
        (A.LongestMaxSize(128), 512, 256, r"shape \(\d+, 128, 3\) .* of shape \(\d{3}, \d{3}, 3\)"),
        (A.Resize(128, 96), (128, 96), None, r"shape \(128, 96, 3\) .* of shape \(96, 128, 3\)"),
        (A.CenterCrop(128, 96), "native", 128, r"of one of shape \(\d+, \d+, 3\)"),
        (RARE, 64, None, r"of one of shape \(64, 64, 3\)"),
        (GLASS, 64, None, "fails on an image of 64 x 64 px .ValueError: operands"),
    ],
)
def test_a_pipeline_is_tried_on_the_shapes_of_the_run(tmp_path, transform, size, crop, message):
    A.save(A.Compose([transform]), tmp_path / "mine.json")
    find_pipeline(str(tmp_path / "mine.json"))
    with pytest.raises(InputError, match=f"--augment .*mine.json .*{message}"):
        find_pipeline(str(tmp_path / "mine.json"), size=size, crop=crop)


@pytest.mark.parametrize("size", [512, (300, 200), "native"])
def test_the_shapes_of_a_run_are_no_fault_of_a_pipeline(size):
    for name in PRESETS:
        for crop in (None, 32):
            _try_on_shapes(find_pipeline(name), size, crop)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (A.Resize(128, 96), r"makes an image of shape \(128, 96, 3\) .* of shape \(64, 64, 3\)"),
        (GLASS, "fails on an image of 64 x 64 px .ValueError: operands"),
    ],
)
def test_what_fails_in_a_training_is_one_sentence(split, tmp_path, workers, transform, message):
    """Also where it comes from a data worker."""
    A.save(A.Compose([transform]), tmp_path / "mine.json")
    config = TrainConfig("blobs", augment=str(tmp_path / "mine.json"))
    with (
        pytest.raises(InputError, match=f"^--augment .*mine.json {message}") as caught,
        explain_errors(config),
    ):
        batches(split, config.augment, workers=workers, crop=None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_pass_the_check_of_files(name):
    _check(find_pipeline(name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", "cannot be read .ParserError"),
        ("a: 1", "cannot be read .ValueError: it holds no transform"),
        ("transform: 3", "it holds no transform"),
        (json.dumps({"transform": {"__class_fullname__": "os.system", "p": 1}}), "os.system"),
        ("\x00", "cannot be read"),
        ("transform: {__class_fullname__: Compose, transforms: [Rotate]}", "cannot be read"),
    ],
)
def test_a_file_that_is_no_pipeline_is_a_sentence(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=f"--augment .*mine.yaml.*{message}.*albumentations.save"):
        find_pipeline(str(tmp_path / "mine.yaml"))


def test_settings_of_another_version_are_a_sentence_and_not_left_out(tmp_path):
    transform = {"__class_fullname__": "Rotate", "mask_value": 0, "limit": [-9, 9], "p": 1}
    (tmp_path / "old.json").write_text(json.dumps({"transform": transform}))
    with pytest.raises(InputError, match="old.json: Rotate has no mask_value in albumentations 2"):
        find_pipeline(str(tmp_path / "old.json"))


OF_PARENTS = {  # they write settings of their parent, which they do not take
    "RGBShift": {"r_shift_limit": (-9, 30)},
    "SafeRotate": {"limit": 30},
    "PadIfNeeded": {"min_height": 32, "min_width": 32},
    "FrequencyMasking": {"freq_mask_param": 20},
    "TimeMasking": {"time_mask_param": 20},
}


@pytest.mark.parametrize("suffix", ["json", "yaml"])
@pytest.mark.parametrize("name", OF_PARENTS)
def test_what_albumentations_has_saved_is_read(tmp_path, name, suffix):
    transform = getattr(A, name)(**OF_PARENTS[name], p=1)
    saved = A.Compose([A.OneOf([transform], p=1), A.NoOp()])
    A.save(saved, tmp_path / f"mine.{suffix}", data_format=suffix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = find_pipeline(str(tmp_path / f"mine.{suffix}"), size=64)
        image, ignored = np.full((64, 64, 3), 90, np.uint8), 0
        for state in range(9):
            pipeline.draw(state)
            moved, labels, _ = pipeline.move(image, image[..., 0], WHOLE, (64, 64))
            ignored += ((moved == 0).all(axis=2) & (labels == IGNORE)).sum()
            assert set(np.unique(labels).tolist()) <= {90, IGNORE}
    found = pipeline.record["transform"]["transforms"][0]["transforms"][0]
    written = json.loads(json.dumps(transform.to_dict_private()))
    assert {**found, "fill_mask": 0} == {**written, "fill_mask": 0}
    if name.endswith("Masking"):  # they take no `fill_mask`
        assert ignored > 0


def test_a_setting_of_a_parent_that_has_no_effect_is_a_sentence(tmp_path):
    record = A.to_dict(A.Compose([A.SafeRotate()]))
    record["transform"]["transforms"][0]["scale"] = {"x": [0.5, 2], "y": [0.5, 2]}
    (tmp_path / "mine.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="SafeRotate has no scale in albumentations 2"):
        find_pipeline(str(tmp_path / "mine.json"))


def test_a_replay_is_not_for_training(tmp_path):
    A.save(A.ReplayCompose([A.Rotate()]), tmp_path / "mine.json")
    with pytest.raises(InputError, match="mine.json holds a ReplayCompose, .* save a Compose"):
        find_pipeline(str(tmp_path / "mine.json"))


def test_numbers_of_json_are_numbers(tmp_path):
    transform = {"__class_fullname__": "GaussNoise", "std_range": [1e-05, 0.1], "p": 1}
    (tmp_path / "mine.json").write_text(json.dumps({"transform": transform}))
    found = find_pipeline(str(tmp_path / "mine.json")).record["transform"]["transforms"][0]
    assert found["std_range"] == [1e-05, 0.1]


def test_a_name_that_is_no_preset_and_no_file_is_a_sentence():
    with pytest.raises(InputError, match="--augment medium: there is no such file"):
        find_pipeline("medium")


def test_a_view_of_a_moved_sample_is_written_like_any_other():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)
    pipeline = Pipeline("x", A.to_dict(A.Compose([A.NoOp(p=1)])))
    view = View(2, 3, True, 0)
    expected, found = (np.empty((6, 4, 3), np.uint8) for _ in range(2))
    write_view(view, image, expected)
    pipeline.draw(0)
    near, _, own = pipeline.move(image, image[..., 0], view, (6, 4))
    write_view(own, near, found)
    assert (found == expected).all()
