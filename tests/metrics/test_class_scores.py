"""Scores of several classes: against torchmetrics on random label maps, and the traps by hand."""

import csv
import io

import numpy as np
import pytest
import torch
from torchmetrics import classification

from segacc.evaluation.results import class_table
from segacc.labels import IGNORE, Labels, colours_for
from segacc.metrics.counts import confusion_matrices, predicted_labels
from segacc.metrics.intervals import percentile_interval, resamples
from segacc.metrics.scores import (
    CALIBRATION_BINS,
    CLASS_FORMULAS,
    calibration_error,
    class_scores,
    class_scores_with_intervals,
    image_stats,
    scores_with_intervals,
    split_scores,
)
from segacc.metrics.tables import counts_of_rows, per_image_csv

CLASSES = 6
NEVER, PREDICTED_ONLY, ONE_IMAGE = 3, 4, 5
"""Classes of `random_maps`: in no mask and never predicted; only predicted; in one mask only."""


def random_maps(seed, images=7):
    """Probabilities that say something of the label maps, of which a fifth is ignored."""
    rng = torch.Generator().manual_seed(seed)
    label_maps = torch.randint(0, 3, (images, 13, 11), generator=rng)
    label_maps[2, 4:6] = ONE_IMAGE
    hint = torch.nn.functional.one_hot(label_maps, CLASSES).permute(0, 3, 1, 2)
    logits = torch.randn((images, CLASSES, 13, 11), generator=rng) + 2 * hint
    logits[:, NEVER] = -9
    label_maps[torch.rand(label_maps.shape, generator=rng) < 0.2] = IGNORE
    return logits.softmax(dim=1), label_maps.to(torch.uint8)


def certain(*rows):
    """(N, K, 1, W) probabilities of 0 and 1: an image of one line each, of which class each is."""
    return torch.nn.functional.one_hot(torch.tensor(rows), 3).permute(0, 2, 1)[:, :, None].float()


def lines_of(*rows):
    """(N, 1, W) uint8: an image of one line each."""
    return torch.tensor(rows, dtype=torch.uint8)[:, None]


def values_of(stats):
    return {name: score.value for name, score in scores_with_intervals(stats).items()}


def of_each_class(stats):
    found = class_scores(stats, torch.ones(1, len(stats), dtype=torch.double))
    return {name: values[0] for name, values in found.items()}


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_the_split_and_of_each_class_agree_with_torchmetrics(seed):
    probabilities, label_maps = random_maps(seed)
    stats = image_stats(probabilities, label_maps, 0.5)
    found, each = values_of(stats), of_each_class(stats)
    assert list(found) == list(CLASS_FORMULAS)
    options = {"num_classes": CLASSES, "ignore_index": IGNORE}
    pair = probabilities.argmax(dim=1), label_maps.long()
    predicted, truth = (maps[label_maps != IGNORE] for maps in pair)
    there = torch.tensor([((predicted == k) | (truth == k)).any().item() for k in range(CLASSES)])
    assert (~there).nonzero().flatten().tolist() == [NEVER]
    for name, metric in (
        ("iou", classification.MulticlassJaccardIndex),
        ("dice", classification.MulticlassF1Score),
        ("precision", classification.MulticlassPrecision),
        ("recall", classification.MulticlassRecall),
    ):
        theirs = metric(average="none", **options)(*pair).double()
        defined = ~each[name].isnan()
        torch.testing.assert_close(each[name][defined], theirs[defined], rtol=1e-6, atol=1e-7)
        assert (theirs[~defined] == 0).all(), "what is not defined is 0 there"
        undefined = {"recall": [NEVER, PREDICTED_ONLY]}.get(name, [NEVER])
        assert (~defined).nonzero().flatten().tolist() == undefined
        assert found[name] == pytest.approx(theirs[there].mean().item(), rel=1e-6), name
        macro = metric(average="macro", **options)(*pair).item()
        assert found[name] == pytest.approx(macro, rel=1e-6), name
    accuracy = classification.MulticlassAccuracy(average="micro", **options)(*pair)
    assert found["accuracy"] == pytest.approx(accuracy.item(), rel=1e-6)
    matrix = classification.MulticlassConfusionMatrix(**options)(*pair)
    own = confusion_matrices(predicted_labels(probabilities), label_maps, CLASSES)
    assert torch.equal(own.sum(dim=0), matrix)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_of_the_likeliest_class_agrees_with_torchmetrics(seed):
    probabilities, label_maps = random_maps(seed)
    stats = image_stats(probabilities, label_maps, 0.5)
    options = {"num_classes": CLASSES, "n_bins": CALIBRATION_BINS, "ignore_index": IGNORE}
    error = classification.MulticlassCalibrationError(norm="l1", **options)
    expected = error(probabilities, label_maps.long()).item()
    assert values_of(stats)["ece"] == pytest.approx(expected, abs=1e-5)
    for own, p, label_map in zip(stats.calibration, probabilities, label_maps, strict=True):
        alone = classification.MulticlassCalibrationError(norm="l1", **options)
        expected = alone(p[None], label_map[None].long()).item()
        assert calibration_error(own).item() == pytest.approx(expected, abs=1e-5)


def test_calibration_of_the_likeliest_class_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.9, 0.0], [0.0, 0.5, 0.5]])
    label_maps = lines_of([0, 1, 1, IGNORE])
    stats = image_stats(p.T[None, :, None], label_maps, 0.5)
    # Two at 0.7 of which one is right, and one at 0.9 which is right; the last does not count.
    assert values_of(stats)["ece"] == pytest.approx((abs(1 - 1.4) + abs(1 - 0.9)) / 3)


def test_boundaries_of_thin_stripes_by_hand():
    """Stripes of two pixels are their own rim, and the IoU of rims is that of the stripes."""
    truth = torch.tensor([0, 0, 1, 1, 0, 0]).repeat(1, 6, 1)
    found = torch.tensor([0, 0, 2, 1, 0, 0]).repeat(1, 6, 1)
    probabilities = torch.nn.functional.one_hot(found, 3).permute(0, 3, 1, 2).float()
    stats = image_stats(probabilities, truth.to(torch.uint8), 0.5)
    assert (stats.boundary[0, 0] == 24).all()
    assert stats.boundary[0, 1:].tolist() == [[6, 12], [0, 6]]
    assert values_of(stats)["boundary_iou"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_trap_ignored_pixels_count_nowhere():
    """Neither as right nor as wrong, nor as a false positive of what is predicted there."""
    truth = lines_of([0, 0, 1, 1, IGNORE, IGNORE, IGNORE])
    stats = image_stats(certain([0, 1, 1, 1, 2, 1, 0]), truth, 0.5)
    found, each = values_of(stats), of_each_class(stats)
    assert each["iou"][:2].tolist() == pytest.approx([1 / 2, 2 / 3]) and each["iou"][2].isnan()
    assert found["iou"] == found["iou_image"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["dice"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["recall"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["ece"] == pytest.approx(1 / 4)  # certain of four pixels, and wrong in one
    assert found["boundary_iou"] == pytest.approx(found["iou"])  # one row is its own rim


def test_trap_a_class_in_no_mask_that_is_predicted_counts_as_0():
    truth = lines_of([0, 0, 1, 1], [0, 0, 1, 1])
    stats = image_stats(certain([0, 0, 1, 2], [0, 0, 1, 1]), truth, 0.5)
    found, each = values_of(stats), of_each_class(stats)
    assert each["iou"].tolist() == pytest.approx([1, 3 / 4, 0])
    assert each["precision"].tolist() == [1, 1, 0]
    assert each["recall"][:2].tolist() == [1, 3 / 4] and each["recall"][2].isnan()
    assert found["iou"] == pytest.approx((1 + 3 / 4 + 0) / 3)
    assert found["recall"] == pytest.approx((1 + 3 / 4 + 0) / 3)
    # In the second image, the class is neither there nor predicted.
    assert found["iou_image"] == pytest.approx(((1 + 1 / 2 + 0) / 3 + 1) / 2)
    rows = class_table(stats, Labels(tuple("abc"), colours_for(tuple("abc"))))
    assert rows[2]["pixels"] == 0 and rows[2]["iou"]["value"] == 0
    assert rows[2]["recall"] == {"value": None, "low": None, "high": None}
    # A quarter of the resamples have no pixel of it and so no score; the others score it 0.
    assert rows[2]["iou"]["low"] == rows[2]["iou"]["high"] == 0


def test_trap_a_class_in_one_image_only():
    truth = lines_of([0, 0, 2, 2], [0, 0, 0, 0], [0, 0, 1, 1])
    stats = image_stats(certain([0, 0, 2, 0], [0, 0, 0, 0], [0, 0, 1, 1]), truth, 0.5)
    found, each = values_of(stats), of_each_class(stats)
    assert each["iou"].tolist() == pytest.approx([8 / 9, 1, 1 / 2])
    assert found["iou"] == pytest.approx((8 / 9 + 1 + 1 / 2) / 3)
    # Of each image only the classes that are in it, or were predicted in it.
    assert found["iou_image"] == pytest.approx(((2 / 3 + 1 / 2) / 2 + 1 + 1) / 3)
    # Wherever it is drawn, its IoU is the same; it is not 0 where it is not drawn.
    interval = class_scores_with_intervals(stats)[2]["iou"]
    assert (interval.low, interval.value, interval.high) == (0.5, 0.5, 0.5)
    # The mean over classes is over those that were drawn.
    expected = []
    for first, second, third in torch.cat(list(resamples(3))).tolist():
        background = (2 * first + 4 * second + 2 * third) / (3 * first + 4 * second + 2 * third)
        others = [iou for iou, drawn in ((0.5, first), (1.0, third)) if drawn]
        expected.append(np.mean([background, *others]))
    low, high = percentile_interval(torch.tensor(expected))
    score = scores_with_intervals(stats)["iou"]
    assert (score.low, score.high) == pytest.approx((low, high))


def test_ignored_images_change_no_score_of_classes():
    probabilities, label_maps = random_maps(0)
    nothing = torch.full_like(label_maps[:1], IGNORE)
    more = image_stats(
        torch.cat([probabilities, probabilities[:1]]), torch.cat([label_maps, nothing]), 0.5
    )
    stats, ones = image_stats(probabilities, label_maps, 0.5), torch.ones(1, 8, dtype=torch.double)
    expected = split_scores(stats, ones[:, :7])
    for name, value in split_scores(more, ones).items():
        torch.testing.assert_close(value, expected[name])


def test_the_table_per_image_leaves_the_iou_of_absent_classes_empty():
    truth = lines_of([0, 0, 1, IGNORE], [0, 0, 0, 0])
    stats = image_stats(certain([0, 1, 1, 2], [0, 0, 0, 0]), truth, 0.5)
    labels = Labels(("road", "car", "sky"), colours_for(("road", "car", "sky")))
    text = per_image_csv(["a", "b"], np.array([[5, 7], [6, 8]]), stats.counts, labels)
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["name"], first["height"], first["width"]) == ("a", "5", "7")
    assert [first[f"iou/{name}"] for name in labels.names] == ["0.500000", "0.500000", ""]
    assert [second[f"iou/{name}"] for name in labels.names] == ["1.000000", "", ""]
    assert (first["iou"], second["iou"]) == ("0.500000", "1.000000")
    assert [first[f"{count}/car"] for count in ("tp", "fp", "fn", "tn")] == ["1", "1", "0", "1"]
    assert torch.equal(counts_of_rows([first, second], labels), stats.counts)
