"""Scores of a split with intervals: by hand, against torchmetrics and scipy."""

import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.classification import BinaryCalibrationError, BinaryJaccardIndex

from segacc.labels import IGNORE
from segacc.metrics import intervals
from segacc.metrics.counts import count_pixels, predicted_labels, scores
from segacc.metrics.intervals import bootstrap, percentile_interval, resamples
from segacc.metrics.scores import (
    CALIBRATION_BINS,
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
    return (masks * (1 - doubt) + noise * doubt).clamp(0, 1), masks[:, 0].to(torch.uint8)


@pytest.fixture(scope="module")
def stats(images):
    return image_stats(*images, threshold=0.4)


def test_a_split_has_the_scores_of_its_pixels(images, stats):
    found = {name: score.value for name, score in scores_with_intervals(stats).items()}
    assert list(found) == [name for name in FORMULAS if name != "hd95_mm"]
    predicted = predicted_labels(images[0], 0.4)
    for name, value in scores(count_pixels(predicted, images[1], classes=2)).items():
        assert found[name] == pytest.approx(value, abs=1e-12)
    jaccard = BinaryJaccardIndex(threshold=0.4)(images[0][:, 0], images[1])
    assert found["iou"] == pytest.approx(jaccard.item(), abs=1e-6)


def test_calibration_agrees_with_torchmetrics(images, stats):
    found = split_scores(stats, torch.ones(1, 12, dtype=torch.double))["ece"].item()
    expected = BinaryCalibrationError(n_bins=CALIBRATION_BINS, norm="l1")(
        images[0].flatten(), images[1].flatten()
    )
    assert found == pytest.approx(expected.item(), abs=1e-5)
    own = stats.columns()["ece"]
    for i in range(12):
        alone = BinaryCalibrationError(n_bins=CALIBRATION_BINS)(
            images[0][i].flatten(), images[1][i].flatten()
        )
        assert own[i].item() == pytest.approx(alone.item(), abs=1e-5)


def test_calibration_by_hand():
    p = torch.tensor([0.1, 0.1, 0.9, 0.9, 1.0]).view(1, 1, 1, 5)
    label_maps = torch.tensor([0, 1, 1, 1, 1], dtype=torch.uint8).view(1, 1, 5)
    calibration = image_stats(p, label_maps, 0.5).calibration
    # Two at 0.1 of which half are foreground, two at 0.9 and one at 1 of which all are.
    assert calibration_error(calibration).item() == pytest.approx((0.8 + 0.2) / 5, abs=1e-6)


def test_a_row_of_each_image_packs_and_unpacks(stats):
    packed = stats.packed()
    assert packed.shape == (12, ImageStats.width(1))
    again = ImageStats.unpacked(packed)
    assert all(torch.equal(vars(again)[k], v) for k, v in vars(stats).items())


def test_an_image_drawn_twice_counts_twice(images, stats):
    drawn = [0, 0, 5, 7, 7, 7]
    weights = torch.tensor([[drawn.count(i) for i in range(12)]]).double()
    found = split_scores(stats, weights)
    again = image_stats(images[0][drawn], images[1][drawn], threshold=0.4)
    expected = split_scores(again, torch.ones(1, 6, dtype=torch.double))
    for name in stats.formulas:
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
        tp, fp, fn, _ = stats.counts[indices, 0].sum(dim=0).tolist()
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


def all_resamples(images):
    return torch.cat(list(resamples(images)))


def test_resamples_are_the_same_every_time_and_as_large_as_the_split():
    drawn = np.random.default_rng(0).multinomial(7, [1 / 7] * 7, size=2000)
    assert torch.equal(all_resamples(7), torch.from_numpy(drawn).double())
    assert torch.equal(all_resamples(7), all_resamples(7))
    assert percentile_interval(torch.arange(1001).double()) == (25, 975)


def test_resamples_of_many_images_are_drawn_in_blocks(monkeypatch):
    """2000 resamples of 50,000 images at once would be 0.8 GB, twice while they are drawn."""
    whole = all_resamples(11)
    statistic = torch.arange(11).double()
    expected = bootstrap(lambda weights: weights @ statistic, 11)
    monkeypatch.setattr(intervals, "RESAMPLES_BYTES", 8 * 11 * 300)
    blocks = list(resamples(11))
    assert [len(block) for block in blocks] == [300] * 6 + [200]
    assert torch.equal(torch.cat(blocks), whole)
    torch.testing.assert_close(bootstrap(lambda weights: weights @ statistic, 11), expected)
    monkeypatch.undo()
    first = next(iter(resamples(50_000)))
    assert first.nbytes <= intervals.RESAMPLES_BYTES and (first.sum(dim=1) == 50_000).all()


def test_intervals_hold_the_value_and_one_image_has_none(images, stats):
    for score in scores_with_intervals(stats).values():
        assert score.low <= score.value <= score.high
    one = image_stats(images[0][:1], images[1][:1], threshold=0.4)
    assert all(score.low is score.high is None for score in scores_with_intervals(one).values())


@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_empty_and_full_masks_give_numbers(truth, probability):
    label_maps = torch.full((3, 9, 8), truth, dtype=torch.uint8)
    p = torch.full((3, 1, 9, 8), probability)
    found = scores_with_intervals(image_stats(p, label_maps, threshold=0.5))
    right = (probability > 0.5) == truth
    for name in ("iou", "iou_image", "dice", "boundary_iou"):
        assert found[name].value == found[name].low == found[name].high == right
    assert found["hd95"].value == pytest.approx(0 if right else np.hypot(9, 8))
    assert found["ece"].value == pytest.approx(abs(truth - probability))


def test_ignored_pixels_change_no_score(images, stats):
    """Whatever is predicted there; and an image that is ignored as a whole does not count."""
    probabilities, label_maps = images
    ignored = torch.zeros(12, 40, 32, dtype=torch.bool)
    ignored[:, :, 20:] = True
    masked = label_maps.where(~ignored, IGNORE)
    other = probabilities.where(~ignored[:, None], 1 - probabilities)
    one, two = (image_stats(p, masked, threshold=0.4) for p in (probabilities, other))
    for name, values in vars(one).items():
        assert torch.equal(values, vars(two)[name]), name
    left = image_stats(probabilities[..., :20], label_maps[..., :20], threshold=0.4)
    assert torch.equal(one.counts, left.counts)
    assert torch.equal(one.calibration, left.calibration)
    nothing = torch.full_like(label_maps[:1], IGNORE)
    more = image_stats(
        torch.cat([probabilities, probabilities[:1]]), torch.cat([label_maps, nothing]), 0.4
    )
    ones = torch.ones(1, 13, dtype=torch.double)
    expected = split_scores(stats, ones[:, :12])
    for name, value in split_scores(more, ones).items():
        torch.testing.assert_close(value, expected[name])


def test_shapes_that_do_not_fit_are_refused_and_not_broadcast(images):
    probabilities, label_maps = images
    for truth in (label_maps[:, None], label_maps[:1], label_maps[:, :1], label_maps.long()):
        with pytest.raises(AssertionError):
            image_stats(probabilities, truth, 0.5)
