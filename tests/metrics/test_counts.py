"""Counts and scores against hand-computed cases and a second implementation."""

import pytest
import torch
from segmentation_models_pytorch import metrics as smp_metrics
from torchmetrics import classification

from segacc.labels import IGNORE
from segacc.metrics.counts import (
    confusion_matrices,
    constant_mask_iou,
    count_pixels,
    is_there,
    predicted_labels,
    scores,
)
from segacc.metrics.thresholds import best_threshold, counts_at_thresholds, histogram, levels_of


def label_maps(*rows):
    """(B, 1, W) uint8: an image of one line each."""
    return torch.tensor(rows, dtype=torch.uint8).view(len(rows), 1, -1)


def probabilities(*rows):
    """(B, 1, 1, W) float32."""
    return torch.tensor(rows, dtype=torch.float32).view(len(rows), 1, 1, -1)


def binary_counts(found, truth):
    return count_pixels(found, truth, classes=2)


def test_hand_computed_scores_name_both_ious():
    found = label_maps([1, 1, 0, 0], [1, 1, 1, 0])
    truth = label_maps([1, 0, 0, 0], [1, 1, 1, 1])
    counts = binary_counts(found, truth)
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
    truth = (torch.rand((5, 13, 19), generator=rng) > 0.7).to(torch.uint8)
    result = scores(binary_counts(predicted_labels(found, 0.3), truth))
    stats = smp_metrics.get_stats(found, truth[:, None].long(), mode="binary", threshold=0.3)
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
    found = label_maps([1, 1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0])
    truth = label_maps([1, 1, 1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0])
    result = scores(binary_counts(found, truth))
    assert result["iou"] == pytest.approx(6 / 8)
    assert result["iou_image"] == pytest.approx((5 / 7 + 1) / 2)


def test_an_empty_mask_scores_one_when_nothing_is_found_and_zero_otherwise():
    truth = label_maps([0, 0, 0, 0], [0, 0, 0, 0])
    assert scores(binary_counts(truth, truth))["iou"] == 1
    result = scores(binary_counts(label_maps([0, 0, 0, 0], [0, 0, 0, 1]), truth))
    assert result["iou"] == 0
    assert result["iou_image"] == 0.5


def test_an_all_foreground_mask():
    truth = label_maps([1, 1, 1, 1])
    assert scores(binary_counts(truth, truth))["iou_image"] == 1
    assert scores(binary_counts(0 * truth, truth))["recall"] == 0


def test_the_threshold_is_exclusive():
    found = predicted_labels(probabilities([0.5, 0.51]))
    assert binary_counts(found, label_maps([1, 1])).tolist() == [[[1, 0, 1, 0]]]


def test_the_best_constant_mask_is_all_foreground():
    truth = label_maps([1, 0, 0, 0], [1, 1, 0, 0])
    counts = binary_counts(truth, truth)
    everything = scores(binary_counts(torch.ones_like(truth), truth))["iou"]
    assert constant_mask_iou(counts) == everything == pytest.approx(3 / 8)


def test_counts_beyond_32_bits_stay_exact():
    counts = torch.tensor([[[2**33 + 1, 0, 1, 5]]])
    assert scores(counts)["iou"] == (2**33 + 1) / (2**33 + 2)


def test_counts_from_levels_are_those_of_every_threshold():
    rng = torch.Generator().manual_seed(1)
    found = torch.rand((3, 1, 9, 11), generator=rng)
    found[0, 0, 0, :6] = torch.tensor([0, 1, 0.5, 1 / 256, 0.5 + 2**-24, 255 / 256])
    truth = (torch.rand((3, 9, 11), generator=rng) > 0.6).to(torch.uint8)
    truth[1, 2:5] = IGNORE
    levels = levels_of(found)
    assert levels.dtype == torch.uint8
    histograms = histogram(levels, truth)
    assert histograms.shape == (3, 1, 2, 256)
    assert histograms.sum(dim=(1, 2, 3)).tolist() == [99, 66, 99]
    counts = counts_at_thresholds(histograms)
    for k in range(1, 256):
        assert torch.equal(counts[k], binary_counts(predicted_labels(found, k / 256), truth)), k


def test_the_best_threshold_has_the_largest_iou_of_all():
    truth = label_maps([0, 0, 1, 1, 1], [0, 0, 0, 0, 1])
    found = probabilities([0.1, 0.3, 0.25, 0.4, 0.9], [0.2, 0.1, 0.28, 0.05, 0.35])
    threshold, iou = best_threshold(histogram(levels_of(found), truth))
    tried = {
        k / 256: scores(binary_counts(predicted_labels(found, k / 256), truth))["iou"]
        for k in range(1, 256)
    }
    assert iou == max(tried.values()) == tried[threshold] == pytest.approx(3 / 4)
    nearest = min((t for t, value in tried.items() if value == iou), key=lambda t: abs(t - 0.5))
    assert threshold == nearest
    # Where every threshold is as good as any, it is 0.5.
    assert best_threshold(histogram(levels_of(truth[:, None].float()), truth)) == (0.5, 1.0)
    empty = torch.zeros(2, 3, 3, dtype=torch.uint8)
    assert best_threshold(histogram(empty[:, None], empty)) == (0.5, 1.0)


def made_up(seed=0, classes=4, images=6, ignored=0.2):
    """Predicted labels and label maps in which class 3 is not, and some pixels are ignored."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, min(classes, 3), (images, 9, 7), generator=rng)
    found = torch.where(torch.rand(truth.shape, generator=rng) < 0.6, truth, (truth + 1) % 3)
    truth[torch.rand(truth.shape, generator=rng) < ignored] = IGNORE
    return found.to(torch.uint8), truth.to(torch.uint8)


def test_hand_computed_scores_of_three_classes_with_ignored_pixels():
    truth = label_maps([0, 0, 1, 1, IGNORE, IGNORE], [0, 0, 0, IGNORE, 0, 0])
    found = label_maps([0, 1, 1, 1, 2, 0], [0, 0, 0, 2, 0, 0])
    confusion = confusion_matrices(found, truth, classes=3)
    assert confusion.tolist() == [
        [[1, 1, 0], [0, 2, 0], [0, 0, 0]],
        [[5, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]
    counts = count_pixels(found, truth, classes=3)
    assert counts.shape == (2, 3, 4) and counts.dtype == torch.int64
    assert counts[0].tolist() == [[1, 0, 1, 2], [2, 1, 0, 1], [0, 0, 0, 4]]
    assert counts.sum(dim=-1).tolist() == [[4] * 3, [5] * 3]
    result = scores(counts)
    there = is_there(counts.sum(dim=0)).tolist()
    assert there == [True, True, False]  # the last is only predicted where nothing counts
    assert result["iou"] == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert result["iou_image"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert result["dice"] == pytest.approx((12 / 13 + 4 / 5) / 2)
    assert result["precision"] == pytest.approx((6 / 6 + 2 / 3) / 2)
    assert result["recall"] == pytest.approx((6 / 7 + 1) / 2)
    assert constant_mask_iou(counts) == pytest.approx(7 / 9 / 2)  # every pixel background


def test_a_class_that_is_only_predicted_or_only_there_counts_as_0():
    truth, found = label_maps([0, 0, 0, 1]), label_maps([0, 0, 2, 0])
    counts = count_pixels(found, truth, classes=4)
    result = scores(counts)
    assert is_there(counts.sum(dim=0)).tolist() == [True, True, True, False]
    assert result["iou"] == pytest.approx((2 / 4 + 0 + 0) / 3)
    assert result["precision"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert result["recall"] == pytest.approx((2 / 3 + 0 + 0) / 3)


@pytest.mark.parametrize("classes", [3, 5])
def test_scores_of_classes_agree_with_torchmetrics(classes):
    found, truth = made_up(classes=classes)
    counts = count_pixels(found, truth, classes)
    result = scores(counts)
    options = {"num_classes": classes, "ignore_index": IGNORE}
    pair = found.long(), truth.long()
    matrix = classification.MulticlassConfusionMatrix(**options)(*pair)
    assert torch.equal(confusion_matrices(found, truth, classes).sum(dim=0), matrix)
    for name, metric in [
        ("iou", classification.MulticlassJaccardIndex(average="macro", **options)),
        ("dice", classification.MulticlassF1Score(average="macro", **options)),
        ("precision", classification.MulticlassPrecision(average="macro", **options)),
        ("recall", classification.MulticlassRecall(average="macro", **options)),
    ]:
        assert result[name] == pytest.approx(metric(*pair).item(), rel=1e-6), name
    iou = classification.MulticlassJaccardIndex(average="macro", **options)
    of_images = [iou(f, t).item() for f, t in zip(*pair, strict=True)]
    assert result["iou_image"] == pytest.approx(sum(of_images) / len(of_images), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_an_image_of_which_all_pixels_are_ignored_does_not_count(classes):
    found, truth = made_up(classes=classes)
    found, truth = found.clamp(max=classes - 1), torch.where(truth == 2, 1, truth)
    expected = scores(count_pixels(found, truth, classes))
    nothing = torch.full_like(truth[:1], IGNORE)
    counts = count_pixels(torch.cat([found, found[:1]]), torch.cat([truth, nothing]), classes)
    assert counts[-1].sum() == 0
    assert scores(counts) == expected


def test_two_classes_are_scored_by_the_foreground_alone():
    found, truth = label_maps([0, 1, 1, 0]), label_maps([0, 1, 0, IGNORE])
    confusion = confusion_matrices(found, truth, classes=2)
    assert confusion.tolist() == [[[1, 1], [0, 1]]]
    assert count_pixels(found, truth, classes=2).tolist() == [[[1, 1, 0, 1]]]


def test_the_most_probable_class_is_predicted():
    p = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1)
    assert predicted_labels(p).tolist() == [[[1]]]
    assert predicted_labels(p).dtype == torch.uint8


def test_of_equal_classes_the_first_is_predicted_and_also_where_there_are_no_numbers():
    p = torch.tensor([[0.1, 0.3, 0.3, 0.3], [0.0, -1.0, 0.0, 0.0], [float("nan")] * 4])
    assert predicted_labels(p[:, :, None, None]).flatten().tolist() == [1, 0, 0]
    many = torch.zeros(1, 255, 1, 2).index_fill(1, torch.tensor(254), 1.0)
    assert predicted_labels(many).flatten().tolist() == [254, 254]


def test_shapes_that_do_not_fit_are_refused_and_not_broadcast():
    maps = torch.zeros(2, 5, 6, dtype=torch.uint8)
    for found, truth in [
        (maps, maps[:1]),
        (maps, maps[:, :1]),
        (maps[:, None], maps[:, None]),
        (maps, maps.long()),
    ]:
        with pytest.raises(AssertionError):
            count_pixels(found, truth, classes=3)
    for levels, truth in [
        (maps[:, None], maps[:, None]),
        (maps[:, None], maps[:1]),
        (maps[:, None].expand(2, 3, 5, 6), maps),
    ]:
        with pytest.raises(AssertionError):
            histogram(levels, truth)
    with pytest.raises(AssertionError, match="no such class"):
        count_pixels(maps, maps + 3, classes=3)
    with pytest.raises(AssertionError):
        scores(torch.ones(3, 4))


def test_of_equally_probable_classes_the_first_is_predicted():
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -2.0, -3.0, -1.0]])
    assert predicted_labels(logits.view(3, 4, 1, 1)).flatten().tolist() == [1, 0, 0]
