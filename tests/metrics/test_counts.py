"""Counts and scores against hand-computed cases and a second implementation."""

import pytest
import torch
from segmentation_models_pytorch import metrics as smp_metrics

from segacc.metrics.counts import constant_mask_iou, count_pixels, scores
from segacc.metrics.thresholds import best_threshold, counts_at_thresholds, histogram, levels_of


def images(*rows):
    return torch.tensor(rows, dtype=torch.float32).view(len(rows), 1, 1, -1)


def test_hand_computed_scores_name_both_ious():
    found = images([1, 1, 0, 0], [1, 1, 1, 0])
    truth = images([1, 0, 0, 0], [1, 1, 1, 1])
    counts = count_pixels(found, truth)
    assert counts.dtype == torch.int64
    assert counts[:, 0].tolist() == [[1, 1, 0, 2], [3, 0, 1, 0]]
    result = scores(counts)
    assert result["iou"] == pytest.approx(4 / 6)
    assert result["iou_image"] == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert result["dice"] == pytest.approx(8 / 10)
    assert result["dice_image"] == pytest.approx((2 / 3 + 6 / 7) / 2)
    assert result["precision"] == pytest.approx(4 / 5)
    assert result["recall"] == pytest.approx(4 / 5)


def test_scores_agree_with_segmentation_models_pytorch():
    rng = torch.Generator().manual_seed(0)
    found = torch.rand((5, 1, 13, 19), generator=rng)
    truth = (torch.rand((5, 1, 13, 19), generator=rng) > 0.7).long()
    result = scores(count_pixels(found, truth, threshold=0.3))
    stats = smp_metrics.get_stats(found, truth, mode="binary", threshold=0.3)
    for name, function, reduction in [
        ("iou", smp_metrics.iou_score, "micro"),
        ("iou_image", smp_metrics.iou_score, "micro-imagewise"),
        ("dice", smp_metrics.f1_score, "micro"),
        ("dice_image", smp_metrics.f1_score, "micro-imagewise"),
        ("precision", smp_metrics.precision, "micro"),
        ("recall", smp_metrics.recall, "micro"),
    ]:
        assert result[name] == pytest.approx(function(*stats, reduction=reduction).item(), rel=1e-6)


def test_the_two_ious_of_the_same_images_differ():
    found = images([1, 1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0])
    truth = images([1, 1, 1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0])
    result = scores(count_pixels(found, truth))
    assert result["iou"] == pytest.approx(6 / 8)
    assert result["iou_image"] == pytest.approx((5 / 7 + 1) / 2)


def test_an_empty_mask_scores_one_when_nothing_is_found_and_zero_otherwise():
    truth = images([0, 0, 0, 0], [0, 0, 0, 0])
    assert scores(count_pixels(truth, truth))["iou"] == 1
    result = scores(count_pixels(images([0, 0, 0, 0], [0, 0, 0, 1]), truth))
    assert result["iou"] == 0
    assert result["iou_image"] == 0.5


def test_an_all_foreground_mask():
    truth = images([1, 1, 1, 1])
    assert scores(count_pixels(truth, truth))["iou_image"] == 1
    assert scores(count_pixels(0 * truth, truth))["recall"] == 0


def test_the_threshold_is_exclusive_and_masks_of_255_count_as_foreground():
    counts = count_pixels(images([0.5, 0.51]), images([255, 255]))
    assert counts.tolist() == [[[1, 0, 1, 0]]]


def test_the_best_constant_mask_is_all_foreground():
    truth = images([1, 0, 0, 0], [1, 1, 0, 0])
    counts = count_pixels(truth, truth)
    everything = scores(count_pixels(torch.ones_like(truth), truth))["iou"]
    assert constant_mask_iou(counts) == everything == pytest.approx(3 / 8)


def test_counts_beyond_32_bits_stay_exact():
    counts = torch.tensor([[[2**33 + 1, 0, 1, 5]]])
    assert scores(counts)["iou"] == (2**33 + 1) / (2**33 + 2)


def test_counts_from_levels_are_those_of_every_threshold():
    rng = torch.Generator().manual_seed(1)
    found = torch.rand((3, 2, 9, 11), generator=rng)
    found[0, 0, 0, :6] = torch.tensor([0, 1, 0.5, 1 / 256, 0.5 + 2**-24, 255 / 256])
    truth = torch.rand(found.shape, generator=rng) > 0.6
    levels = levels_of(found)
    assert levels.dtype == torch.uint8
    histograms = histogram(levels, truth)
    assert histograms.shape == (3, 2, 2, 256) and histograms.sum() == found.numel()
    counts = counts_at_thresholds(histograms)
    for k in range(1, 256):
        assert torch.equal(counts[k], count_pixels(found, truth, threshold=k / 256)), k


def test_the_best_threshold_has_the_largest_iou_of_all():
    truth = images([0, 0, 1, 1, 1], [0, 0, 0, 0, 1])
    found = images([0.1, 0.3, 0.25, 0.4, 0.9], [0.2, 0.1, 0.28, 0.05, 0.35])
    threshold, iou = best_threshold(histogram(levels_of(found), truth))
    tried = {k / 256: scores(count_pixels(found, truth, k / 256))["iou"] for k in range(1, 256)}
    assert iou == max(tried.values()) == tried[threshold] == pytest.approx(3 / 4)
    nearest = min((t for t, value in tried.items() if value == iou), key=lambda t: abs(t - 0.5))
    assert threshold == nearest
    # Where every threshold is as good as any, it is 0.5.
    assert best_threshold(histogram(levels_of(truth), truth)) == (0.5, 1.0)
    empty = torch.zeros(2, 1, 3, 3)
    assert best_threshold(histogram(levels_of(empty), empty)) == (0.5, 1.0)
