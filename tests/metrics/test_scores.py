"""Scores of a split with intervals: by hand, against torchmetrics and scipy."""

import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.classification import BinaryCalibrationError, BinaryJaccardIndex

from segacc.metrics.counts import count_pixels, scores
from segacc.metrics.intervals import interval, resamples
from segacc.metrics.scores import (
    BINS,
    FORMULAS,
    ImageStats,
    calibration_error,
    image_stats,
    scores_with_intervals,
    split_scores,
)


@pytest.fixture(scope="module")
def images():
    """Twelve images whose probabilities say something of their masks, and not all."""
    rng = torch.Generator().manual_seed(3)
    masks = (torch.rand((12, 1, 5, 4), generator=rng) > 0.5).float()
    masks = torch.nn.functional.interpolate(masks, size=(40, 32))
    doubt = torch.rand((12, 1, 1, 1), generator=rng)
    noise = torch.rand(masks.shape, generator=rng)
    return (masks * (1 - doubt) + noise * doubt).clamp(0, 1), masks.to(torch.uint8)


@pytest.fixture(scope="module")
def stats(images):
    return image_stats(*images, threshold=0.4)


def test_a_split_has_the_scores_of_its_pixels(images, stats):
    found = {name: score.value for name, score in scores_with_intervals(stats).items()}
    assert list(found) == list(FORMULAS)
    for name, value in scores(count_pixels(*images, threshold=0.4)).items():
        assert found[name] == pytest.approx(value, abs=1e-12)
    jaccard = BinaryJaccardIndex(threshold=0.4)(images[0], images[1])
    assert found["iou"] == pytest.approx(jaccard.item(), abs=1e-6)


def test_calibration_agrees_with_torchmetrics(images, stats):
    found = split_scores(stats, torch.ones(1, 12, dtype=torch.double))["ece"].item()
    expected = BinaryCalibrationError(n_bins=BINS, norm="l1")(
        images[0].flatten(), images[1].flatten()
    )
    assert found == pytest.approx(expected.item(), abs=1e-5)
    own = stats.columns()["ece"]
    for i in range(12):
        alone = BinaryCalibrationError(n_bins=BINS)(images[0][i].flatten(), images[1][i].flatten())
        assert own[i].item() == pytest.approx(alone.item(), abs=1e-5)


def test_calibration_by_hand():
    p = torch.tensor([0.1, 0.1, 0.9, 0.9, 1.0]).view(1, 1, 1, 5)
    masks = torch.tensor([0, 1, 1, 1, 1]).view(1, 1, 1, 5)
    calibration = image_stats(p, masks, 0.5).calibration
    # Two at 0.1 of which half are foreground, two at 0.9 and one at 1 of which all are.
    assert calibration_error(calibration).item() == pytest.approx((0.8 + 0.2) / 5, abs=1e-6)


def test_a_row_of_each_image_packs_and_unpacks(stats):
    packed = stats.packed()
    assert packed.shape == (12, ImageStats.width())
    again = ImageStats.unpacked(packed)
    assert all(torch.equal(vars(again)[k], v) for k, v in vars(stats).items())


def test_an_image_drawn_twice_counts_twice(images, stats):
    drawn = [0, 0, 5, 7, 7, 7]
    weights = torch.tensor([[drawn.count(i) for i in range(12)]]).double()
    found = split_scores(stats, weights)
    again = image_stats(images[0][drawn], images[1][drawn], threshold=0.4)
    expected = split_scores(again, torch.ones(1, 6, dtype=torch.double))
    for name in FORMULAS:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-12)


def test_intervals_agree_with_scipy(stats):
    """Both draw images with replacement, each in its own way."""
    scores_of = scores_with_intervals(stats)
    own = stats.columns()["iou"].numpy()
    other = scipy.stats.bootstrap((own,), np.mean, method="percentile", rng=0, n_resamples=9999)
    width = other.confidence_interval.high - other.confidence_interval.low
    assert scores_of["iou_image"].low == pytest.approx(
        other.confidence_interval.low, abs=width / 15
    )
    assert scores_of["iou_image"].high == pytest.approx(
        other.confidence_interval.high, abs=width / 15
    )

    def dataset_iou(indices):
        tp, fp, fn, _ = stats.counts[indices].sum(dim=0).tolist()
        return tp / (tp + fp + fn)

    other = scipy.stats.bootstrap(
        (np.arange(12),),
        dataset_iou,
        method="percentile",
        rng=0,
        vectorized=False,
        n_resamples=4999,
    )
    width = other.confidence_interval.high - other.confidence_interval.low
    assert scores_of["iou"].low == pytest.approx(other.confidence_interval.low, abs=width / 15)
    assert scores_of["iou"].high == pytest.approx(other.confidence_interval.high, abs=width / 15)


def test_resamples_are_the_same_every_time_and_as_large_as_the_split():
    assert torch.equal(resamples(7), resamples.__wrapped__(7))
    assert (resamples(7).sum(dim=1) == 7).all()
    assert interval(torch.arange(1001).double()) == (25, 975)


def test_intervals_hold_the_value_and_one_image_has_none(images, stats):
    for score in scores_with_intervals(stats).values():
        assert score.low <= score.value <= score.high
    one = image_stats(images[0][:1], images[1][:1], threshold=0.4)
    assert all(score.low is score.high is None for score in scores_with_intervals(one).values())


@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_empty_and_full_masks_give_numbers(truth, probability):
    masks = torch.full((3, 1, 9, 8), truth)
    found = scores_with_intervals(image_stats(masks * 0.0 + probability, masks, threshold=0.5))
    right = (probability > 0.5) == truth
    for name in ("iou", "iou_image", "dice", "boundary_iou"):
        assert found[name].value == found[name].low == found[name].high == right
    assert found["hd95"].value == pytest.approx(0 if right else np.hypot(9, 8))
    assert found["ece"].value == pytest.approx(abs(truth - probability))
