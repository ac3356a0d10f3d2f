"""evaluate(): scores with intervals, per-image table, pictures and a report of a trained model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

import segacc
from segacc.config.evaluate import EvaluateConfig
from segacc.data.classes.palettes import with_palette
from segacc.errors import InputError, disk_errors, write_text
from segacc.evaluation.ensembles.load import load_ensemble
from segacc.evaluation.ensembles.members import (
    Predicted,
    members_lines,
    members_record,
    members_table,
    model_name,
    predict_members,
    scale_of,
    write_ensemble,
)
from segacc.evaluation.explain import explain_evaluation_errors
from segacc.evaluation.load import Evaluation, load_evaluation
from segacc.evaluation.results import (
    calibration_table,
    class_table,
    print_results,
    write_results,
)
from segacc.evaluation.tables import comma_separated, print_table
from segacc.metrics.counts import (
    confusion_matrices,
    constant_mask_iou,
    count_pixels,
    predicted_labels,
)
from segacc.metrics.intervals import INTERVALS, Score
from segacc.metrics.scores import ImageStats, image_stats, scores_with_intervals
from segacc.metrics.thresholds import levels_of
from segacc.report.page import write_report
from segacc.report.pictures import detail_folder, picture_name, triptych
from segacc.report.scored import read_scored
from segacc.runs.card import write_test_scores
from segacc.runs.folder import timestamp
from segacc.runtime.accelerator import device_name, end_run, only_run
from segacc.runtime.bars import make_bar, show_doing
from segacc.runtime.device import on_device
from segacc.runtime.ranks import gather_images

HALF = 0.5


@dataclass(frozen=True)
class SplitStats:
    """Statistics of the images of the split, the same on all ranks."""

    at_threshold: ImageStats
    at_half: ImageStats
    confusion: Tensor
    """(classes, classes) int64: [true class, predicted class]"""
    seconds: float
    """seconds that this rank took for its predictions"""
    of_members: Tensor | None
    """(N, members, K, 4) float64 counts, if there are several; 0 where one does not predict"""


def evaluate(config: EvaluateConfig, net: nn.Module | None = None) -> Path:
    """Score the run's best model on a split, write the results into the run's folder, print them.

    Each image counts once for any number of processes. For several runs, the mean of their
    probabilities is scored, and each run by itself; the results get a folder of their own.

    Args:
        net: the network of a program (`segacc.models.own`), if the run has one.

    Returns:
        the folder of the results: metrics.json, per_image.csv, report.html and pictures.

    Raises:
        InputError: the folder has no model, the data set no such split, the memory is too small, or
            the results cannot be written.
    """
    if config.others and net is not None:
        raise InputError("net is for one run: several are scored together without it.")
    with only_run(), on_device(config.device), explain_evaluation_errors(config):
        evaluation = load_ensemble(config) if config.others else load_evaluation(config, net)
        folder, split = evaluation.folder, evaluation.split
        with disk_errors(folder, remedy="free space there, then give the same command again."):
            make_folders(evaluation)
            found = score_images(evaluation)
            scores = scores_with_intervals(found.at_threshold)
            if evaluation.accelerator.is_main_process:
                record = record_of(evaluation, found, scores)
                write_results(folder, split, found.at_threshold, record)
                if folder == config.run / "test" and not config.others:  # the usual way of scoring
                    write_test_scores(config.run, record)
                table = members_table(record)
                if config.others:
                    write_ensemble(evaluation.home, evaluation.members)
                    write_text(folder / "members.csv", comma_separated(members_lines(record)))
                scored = read_scored(evaluation.home, folder, split)
                write_report(folder / "report.html", [scored], table)
                print_results(folder, split, found.at_threshold, record, config.explain)
                if table:
                    print_table(table)
    evaluation.accelerator.wait_for_everyone()  # until the results are written
    end_run(evaluation.accelerator)
    return folder


def make_folders(evaluation: Evaluation) -> None:
    """Make the folders of the pictures, without those of an earlier evaluation."""
    if evaluation.accelerator.is_main_process:
        for pictures in ("overlays", "probabilities", "predictions"):
            shutil.rmtree(evaluation.folder / pictures, ignore_errors=True)
        for pictures in ("overlays", detail_folder(evaluation.data.labels)):
            (evaluation.folder / pictures).mkdir(parents=True)
    evaluation.accelerator.wait_for_everyone()


def score_images(evaluation: Evaluation) -> SplitStats:
    """Predict each image once, write its pictures, count its pixels; ends when all ranks have."""
    accelerator, split, members = evaluation.accelerator, evaluation.split, evaluation.members
    threshold, labels = evaluation.threshold, evaluation.data.labels
    width = ImageStats.width(labels.logits)
    beside = 4 * labels.logits * len(members) if len(members) > 1 else 0
    own = [torch.zeros(0, 2 * width + beside, dtype=torch.double)]
    confusion = torch.zeros(labels.classes, labels.classes, dtype=torch.long)
    order, spacing = list[int](), evaluation.config.mm_per_px
    seconds, began = 0.0, time.perf_counter()
    predictions = predict_members(evaluation.config, members, split, accelerator)
    for found in with_bar(predictions, len(split), accelerator):
        probabilities, label_maps = found.mean, found.label_maps
        seconds += time.perf_counter() - began
        scales = [scale_of(split, index) for index in found.indices]
        stats = image_stats(probabilities, label_maps, threshold, scales, spacing)
        at_half = stats
        if threshold != HALF and labels.logits == 1:
            at_half = image_stats(probabilities, label_maps, HALF, scales, spacing)
        parts = [stats.packed(), at_half.packed()]
        own.append(torch.cat([*parts, *_counts_beside(evaluation, found)], dim=1))
        order += found.indices
        predicted = predicted_labels(probabilities, threshold)
        confusion += confusion_matrices(predicted, label_maps, labels.classes).sum(dim=0)
        write_pictures(evaluation, found.indices, probabilities, predicted, stats)
        began = time.perf_counter()
    in_order = torch.cat(own)[torch.tensor(order, dtype=torch.long).argsort()]
    gathered = gather_images(accelerator, len(split), in_order.to(accelerator.device))
    accelerator.wait_for_everyone()  # until all pictures are written
    packed, packed_half, of_members = gathered.split([width, width, beside], dim=1)
    stats, at_half = ImageStats.unpacked(packed), ImageStats.unpacked(packed_half)
    confusion = accelerator.reduce(confusion.to(accelerator.device)).cpu()
    counts = of_members.unflatten(1, (-1, labels.logits, 4)) if beside else None
    return SplitStats(stats, at_half, confusion, seconds, counts)


def with_bar(
    predictions: Iterator[Predicted], images: int, accelerator: Accelerator
) -> Iterator[Predicted]:
    """Yield what `predict_members` yields, with a bar over the images of rank 0."""
    share = -(-images // accelerator.num_processes)
    show_doing()
    with make_bar(
        shown=accelerator.is_main_process, total=share, desc="scoring", unit="img", leave=False
    ) as bar:
        for found in predictions:
            yield found
            bar.update(len(found.indices))


def _counts_beside(evaluation: Evaluation, found: Predicted) -> list[Tensor]:
    """Return for each of several members (B, 4 K) float64 counts at its own threshold; 0 for images
    that it does not predict."""
    members, labels = evaluation.members, evaluation.data.labels
    if len(members) == 1:
        return []
    counts = []
    for number, member in enumerate(members):
        probabilities = found.of_members.get(number)
        if probabilities is None:
            counts.append(torch.zeros(len(found.indices), 4 * labels.logits, dtype=torch.double))
        else:
            given = evaluation.config.threshold
            predicted = predicted_labels(
                probabilities, member.model.threshold if given is None else given
            )
            of_images = count_pixels(predicted, found.label_maps, labels.classes)
            counts.append(of_images.double().flatten(1))
    return counts


def write_pictures(
    evaluation: Evaluation,
    indices: list[int],
    probabilities: Tensor,
    predicted: Tensor,
    stats: ImageStats,
) -> None:
    """Write image, truth and prediction side by side; and the probabilities in 256 levels, or with
    more than two classes the predicted label map.

    Args:
        probabilities: (B, K, H, W) of the images `indices`, on the CPU.
        predicted: (B, H, W) of `predicted_labels`.
        stats: those of these images.
    """
    labels, folder = evaluation.data.labels, evaluation.folder
    score = "IoU" if labels.logits == 1 else "mIoU"
    ious = stats.columns()["iou"].tolist()
    for index, p, found, iou in zip(indices, probabilities, predicted, ious, strict=True):
        name = evaluation.split.names[index]
        if labels.logits == 1:
            detail = Image.fromarray(levels_of(p[0]).numpy())
        else:
            detail = with_palette(found.numpy(), labels)
        detail.save(folder / detail_folder(labels) / picture_name(name))
        caption = f"{name}   {score} {iou:.3f}"
        picture = triptych(*evaluation.split[index], found.numpy(), caption, labels)
        # Photographs get a twentieth larger than by default, but are written four times as fast.
        picture.save(folder / "overlays" / picture_name(name), compress_level=1)


def record_of(
    evaluation: Evaluation, found: SplitStats, scores: dict[str, Score]
) -> dict[str, Any]:
    """Return the content of metrics.json."""
    config, images, labels = evaluation.config, len(evaluation.split), evaluation.data.labels
    return {
        "model": model_name(evaluation.members),
        "dataset": evaluation.dataset,
        **evaluation.reading.to_config(),
        "source": evaluation.source,
        "fingerprint": evaluation.data.fingerprint,
        "split_fingerprint": evaluation.split.fingerprint,
        "split": evaluation.called,
        "images": images,
        "notes": list(evaluation.notes),
        "size": evaluation.data.size,
        "seen_size": evaluation.seen.size,
        "value_range": evaluation.model.value_range,
        "labels": labels.to_config(),
        "tta": config.tta,
        "tile": config.tile,
        "precision": evaluation.precision,
        "precision_of_training": evaluation.trained.precision,
        "scores": {name: asdict(score) for name, score in scores.items()},
        **_of_members(evaluation, found),
        **(_of_two_classes if labels.logits == 1 else _of_more_classes)(evaluation, found),
        "constant_mask_iou": constant_mask_iou(found.at_threshold.counts),
        "formulas": found.at_threshold.formulas,
        "spacing": config.spacing,
        "intervals": INTERVALS,
        "scored": timestamp(),
        "version": segacc.__version__,
        "device": device_name(evaluation.accelerator.device),
        "seconds": found.seconds,
        "img_per_s": images / found.seconds,  # of all processes, which work at the same time
        "calibration": calibration_table(found.at_threshold),
    }


def _of_members(evaluation: Evaluation, found: SplitStats) -> dict[str, Any]:
    counts, members = found.of_members, evaluation.members
    return {} if counts is None else members_record(members, counts, evaluation.config)


def _of_two_classes(evaluation: Evaluation, found: SplitStats) -> dict[str, Any]:
    at_half = scores_with_intervals(found.at_half)
    return {
        "threshold": evaluation.threshold,
        "threshold_from": threshold_from(evaluation),
        "scores_at_half": {name: asdict(score) for name, score in at_half.items()},
    }


def threshold_from(evaluation: Evaluation) -> str:
    """Return where the threshold comes from, as metrics.json says it."""
    if evaluation.config.threshold is not None:
        return "given"
    return "members" if evaluation.config.others else "validation"


def _of_more_classes(evaluation: Evaluation, found: SplitStats) -> dict[str, Any]:
    return {
        "threshold": None,
        "threshold_from": None,
        "per_class": class_table(found.at_threshold, evaluation.data.labels),
        "confusion": found.confusion.tolist(),
    }
