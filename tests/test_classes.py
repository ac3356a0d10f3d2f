"""Label maps of several classes with ignored pixels, through all parts of segacc.

These tests write made-up label maps into prepared files and take them from there to batches,
losses, scores and states. `test_class_runs.py` trains on folders of images.
"""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.nn import functional

from segacc.data.loading.augment import D4, FLIP_CODES, View, write_view
from segacc.data.loading.loader import TrainSamples, full_images, to_device, train_loader
from segacc.data.loading.resident import bytes_of, resident_batches, send, views_of, whole_images
from segacc.data.loading.stream import StepSampler
from segacc.data.loading.workers import WorkerPlan
from segacc.data.prepare import prepared_row, write_split
from segacc.data.split import open_split
from segacc.labels import BINARY, IGNORE, Labels
from segacc.metrics.counts import count_pixels, is_there, predicted_labels, scores
from segacc.models.segmenter import Segmenter
from segacc.training.losses.terms import make_loss
from segacc.training.optim import make_optimizer
from segacc.training.saving.checkpoint import (
    Progress,
    Trained,
    load_state,
    model_from_state,
    take_state,
    write_state,
)
from segacc.training.validate import validate

CPU = torch.device("cpu")
SIDE = 48
LABELS = Labels(tuple("abcd"), ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))


def write_made_up(path, channels=3, samples=8, classes=4):
    """A split in which an image's first channel says its label, and class 3 is absent."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(samples):
        label_map = rng.integers(0, min(classes, 3), (SIDE // 8, SIDE // 8), dtype=np.uint8)
        label_map = label_map.repeat(8, axis=0).repeat(8, axis=1)
        image = rng.integers(0, 40, (SIDE, SIDE, channels), dtype=np.uint8)
        image[..., 0] += 60 * label_map
        label_map[rng.random((SIDE, SIDE)) < 0.2 * (i % 3)] = IGNORE
        if i == 1:
            label_map[:] = IGNORE
        rows.append(prepared_row(image, label_map, f"image{i}", label_map))
    assert write_split(path, rows, SIDE, channels) == []
    return open_split(path)


@pytest.fixture(scope="module", params=[3, 1, 4, 5])
def split(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "train.arrow"
    return write_made_up(path, request.param)


@pytest.fixture(scope="module")
def rgb_split(tmp_path_factory):
    return write_made_up(tmp_path_factory.mktemp("prepared") / "valid.arrow")


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def same(these, those):
    return all(torch.equal(these[key], those[key]) for key in ("images", "label_maps", "index"))


def test_a_prepared_file_keeps_labels_and_knows_its_channels(split):
    values = {value for _, label_map in split for value in np.unique(label_map).tolist()}
    assert values == {0, 1, 2, IGNORE}
    image, label_map = split[0]
    assert image.shape == (SIDE, SIDE, split.channels) and label_map.shape == (SIDE, SIDE)
    assert label_map.dtype == np.uint8
    assert bytes_of(split) == len(split) * SIDE * SIDE * (split.channels + 1)


@pytest.mark.parametrize("crop", [None, 31])
@pytest.mark.parametrize("flips", ["hv", "d4"])
def test_crops_and_flips_move_labels_with_their_pixels(split, flips, crop):
    samples = TrainSamples(split, flips, crop, seed=0)
    sampler = StepSampler(len(split), 8, 0, start=0, stop=4)
    loaded = list(train_loader(samples, sampler, WorkerPlan(0), pin_memory=False))
    for batch in loaded:
        counted = batch["label_maps"] != IGNORE
        assert torch.equal(batch["images"][..., 0][counted] // 60, batch["label_maps"][counted])
        assert set(batch["label_maps"].unique().tolist()) == {0, 1, 2, IGNORE}
    resident = list(resident_batches(send(split, CPU), samples, sampler))
    assert all(same(a, b) for a, b in zip(loaded, resident, strict=True))
    images, label_maps = to_device(loaded[0], CPU)
    side = crop or SIDE
    assert images.shape == (8, split.channels, side, side)
    assert label_maps.shape == (8, side, side) and label_maps.dtype == torch.uint8


def test_a_split_on_the_device_gives_the_same_views_and_images(split):
    views = [View(5, 7, *way) for way in D4]
    views += [View(0, 0, False, flip) for flip in FLIP_CODES.values()]
    indices = [i % len(split) for i in range(len(views))]
    batch = views_of(send(split, CPU), indices, views, (30, 30))
    for place, (index, view) in enumerate(zip(indices, views, strict=True)):
        image = np.zeros((30, 30, split.channels), np.uint8)
        label_map = np.zeros((30, 30), np.uint8)
        write_view(view, split[index][0], image)
        write_view(view, split[index][1], label_map)
        assert (batch["images"][place].numpy() == image).all()
        assert (batch["label_maps"][place].numpy() == label_map).all()
    whole, files = whole_images(send(split, CPU), [3, 0, 3]), full_images(split, [3, 0, 3])
    assert torch.equal(whole["images"], files["images"])
    assert torch.equal(whole["label_maps"], files["label_maps"])


def segmenter(labels=LABELS):
    torch.manual_seed(0)
    return Segmenter("linknet", "tu-test_resnet", classes=labels.logits, labels=labels.to_config())


def train_steps(of, split, steps, start=0):
    """Some steps of the optimizer; the loss of each."""
    samples = TrainSamples(split, "hv", 32, seed=0)
    sampler = StepSampler(len(split), 4, 0, start=start, stop=start + steps)
    loss_fn, losses = make_loss("dice+bce"), []
    of.model.train()
    for batch in train_loader(samples, sampler, WorkerPlan(0), pin_memory=False):
        images, label_maps = to_device(batch, CPU)
        loss = loss_fn(of.model(images), label_maps)
        loss.backward()
        of.optimizer.step()
        of.optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def trained(model):
    return Trained(model, make_optimizer(model, lr=4e-3, weight_decay=0.01), None)


def test_a_model_of_four_classes_learns_is_scored_and_resumes_exactly(
    rgb_split, accelerator, tmp_path
):
    of = trained(segmenter())
    before = validate(of.model, rgb_split, accelerator, make_loss("dice+bce"), LABELS)
    losses = train_steps(of, rgb_split, 24)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    found = validate(of.model, rgb_split, accelerator, make_loss("dice+bce"), LABELS)
    assert found.scores["iou"] > before.scores["iou"]
    assert found.scores["loss"] < before.scores["loss"]

    path = write_state(tmp_path, take_state(Progress(24), of), keep=1)
    again = trained(model_from_state(path))
    assert again.model.labels == LABELS
    assert load_state(path, again) == Progress(24)
    assert train_steps(of, rgb_split, 3, start=24) == train_steps(again, rgb_split, 3, start=24)
    for name, value in of.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def test_validation_finds_what_a_loop_over_images_finds(rgb_split, accelerator):
    model = segmenter().eval()
    found = validate(model, rgb_split, accelerator, make_loss("bce"), LABELS)
    predicted, truth, losses = [], [], []
    with torch.no_grad():
        for image, label_map in rgb_split:
            logits = model(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
            predicted.append(logits.argmax(dim=1).to(torch.uint8))
            truth.append(torch.from_numpy(label_map.copy())[None])
            target = truth[-1].long()
            losses.append(functional.cross_entropy(logits, target, ignore_index=IGNORE).item())
    counts = count_pixels(torch.cat(predicted), torch.cat(truth), classes=4)
    assert (found.counts - counts).abs().sum() <= 4  # a pixel may be undecided
    assert found.scores["iou"] == pytest.approx(scores(counts)["iou"], abs=1e-3)
    assert "threshold" not in found.scores
    assert found.confusion.sum() == (torch.cat(truth) != IGNORE).sum()
    assert torch.equal(found.confusion.diagonal(), found.counts[..., 0].sum(dim=0))
    # Image 1 is ignored as a whole: it has no loss, and the mean is over the others.
    assert np.isnan(losses[1]) and found.losses[1] == 0
    assert found.scores["loss"] == pytest.approx(np.nanmean(losses), rel=1e-5)
    there = is_there(found.counts.sum(dim=0)).tolist()
    assert there == [True, True, True, bool((torch.cat(predicted) == 3).any())]


def test_a_model_keeps_its_labels_and_one_of_0_1_0_is_binary(tmp_path):
    segmenter().save_pretrained(tmp_path / "model")
    assert Segmenter.from_pretrained(tmp_path / "model").labels == LABELS
    segmenter(BINARY).save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    assert config.pop("labels") == BINARY.to_config()
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))  # as 0.1.0 wrote it
    assert Segmenter.from_pretrained(tmp_path / "old").labels == BINARY


def test_ignored_pixels_have_no_gradient(rgb_split):
    images, label_maps = to_device(full_images(rgb_split, [0, 1, 2, 3]), CPU)
    for name in ("dice", "jaccard", "tversky", "bce", "focal", "lovasz"):
        logits = segmenter().eval()(images).detach().requires_grad_()
        make_loss(name)(logits, label_maps).backward()
        ignored = (label_maps == IGNORE).unsqueeze(1).expand_as(logits)
        assert (logits.grad[ignored] == 0).all() and (logits.grad != 0).any(), name
        assert predicted_labels(logits).max() < 4
