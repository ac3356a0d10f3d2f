"""evaluate(): scores with intervals, per-image table, pictures and a report of a trained model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

import segacc
from segacc.config.evaluate import EvaluateConfig
from segacc.data.classes.palettes import with_palette
from segacc.errors import InputError, disk_errors
from segacc.evaluation.load import Evaluation, load_evaluation
from segacc.evaluation.results import (
    calibration_table,
    class_table,
    print_results,
    write_results,
)
from segacc.metrics.counts import (
    class_probabilities,
    confusion_matrices,
    constant_mask_iou,
    predicted_labels,
)
from segacc.metrics.intervals import INTERVALS, Score
from segacc.metrics.scores import ImageStats, formulas, image_stats, scores_with_intervals
from segacc.metrics.thresholds import levels_of
from segacc.prediction.logits import predict_split, resize_logits
from segacc.report.page import write_report
from segacc.report.pictures import detail_folder, picture_name, triptych
from segacc.report.scored import read_scored
from segacc.runs.card import write_test_scores
from segacc.runs.folder import timestamp
from segacc.runtime.accelerator import device_name, end_run, is_out_of_memory, only_run
from segacc.runtime.bars import make_bar, show_doing
from segacc.runtime.device import on_device
from segacc.runtime.ranks import gather_images, is_lost_connection

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


def evaluate(config: EvaluateConfig, net: nn.Module | None = None) -> Path:
    """Score the run's best model on a split, write the results into the run's folder, print them.

    Each image counts once for any number of processes.

    Args:
        net: the network of a program (`segacc.models.own`), where the run is of one.

    Returns:
        the folder of the results: metrics.json, per_image.csv, report.html and pictures.

    Raises:
        InputError: the folder has no model, the data set no such split, the memory is too small, or
            the results cannot be written.
    """
    with only_run(), on_device(config.device), explain_evaluation_errors(config):
        evaluation = load_evaluation(config, net)
        folder, split = evaluation.folder, evaluation.split
        with disk_errors(folder, remedy="free space there, then give the same command again."):
            make_folders(evaluation)
            found = score_images(evaluation)
            scores = scores_with_intervals(found.at_threshold)
            if evaluation.accelerator.is_main_process:
                record = record_of(evaluation, found, scores)
                write_results(folder, split, found.at_threshold, record)
                write_report(folder / "report.html", [read_scored(config.run, folder, split)])
                if folder == config.run / "test":  # the usual way of scoring
                    write_test_scores(config.run, record)
                print_results(folder, split, found.at_threshold, record, config.explain)
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
    accelerator, split = evaluation.accelerator, evaluation.split
    threshold, labels = evaluation.threshold, evaluation.data.labels
    width = ImageStats.width(labels.logits)
    own = [torch.zeros(0, 2 * width, dtype=torch.double)]
    confusion = torch.zeros(labels.classes, labels.classes, dtype=torch.long)
    seconds, began = 0.0, time.perf_counter()
    for indices, logits, label_maps in with_bar(evaluation, predict(evaluation)):
        probabilities, label_maps = class_probabilities(logits).cpu(), label_maps.cpu()
        seconds += time.perf_counter() - began
        stats = image_stats(probabilities, label_maps, threshold)
        at_half = stats
        if threshold != HALF and labels.logits == 1:
            at_half = image_stats(probabilities, label_maps, HALF)
        own.append(torch.cat([stats.packed(), at_half.packed()], dim=1))
        predicted = predicted_labels(probabilities, threshold)
        confusion += confusion_matrices(predicted, label_maps, labels.classes).sum(dim=0)
        write_pictures(evaluation, indices, probabilities, predicted, stats)
        began = time.perf_counter()
    gathered = gather_images(accelerator, len(split), torch.cat(own).to(accelerator.device))
    accelerator.wait_for_everyone()  # until all pictures are written
    stats, at_half = (ImageStats.unpacked(part) for part in gathered.split(width, dim=1))
    confusion = accelerator.reduce(confusion.to(accelerator.device)).cpu()
    return SplitStats(stats, at_half, confusion, seconds)


def with_bar(
    evaluation: Evaluation, batches: Iterator[tuple[list[int], Tensor, Tensor]]
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """The batches of `predict`, with a bar over the images of rank 0."""
    accelerator = evaluation.accelerator
    share = -(-len(evaluation.split) // accelerator.num_processes)
    show_doing()
    with make_bar(
        shown=accelerator.is_main_process, total=share, desc="scoring", unit="img", leave=False
    ) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch[0]))


def predict(evaluation: Evaluation) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Predict this rank's share of the split, at the size at which it is scored.

    Yields:
        as `predict_split`, one image at a time where the size is not the model's.
    """
    config, seen, split = evaluation.config, evaluation.seen, evaluation.split
    batches = predict_split(
        evaluation.model,
        seen,
        evaluation.accelerator,
        config.batch_size,
        tta=config.tta,
        tile=config.tile,
    )
    if seen is split:
        yield from batches
        return
    for indices, logits, _ in batches:
        for index, own in zip(indices, logits.split(1), strict=True):
            label_map = torch.from_numpy(split[index][1].copy())[None]
            yield [index], resize_logits(own, split.shape_of(index)), label_map
        split.forget()


def write_pictures(
    evaluation: Evaluation,
    indices: list[int],
    probabilities: Tensor,
    predicted: Tensor,
    stats: ImageStats,
) -> None:
    """Image, truth and prediction side by side; and the probabilities in 256 levels, or with more
    than two classes the predicted label map.

    Args:
        probabilities: (B, K, H, W) of the images `indices`, on the CPU.
        predicted: (B, H, W) of `predicted_labels`.
        stats: of these images.
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
        picture.save(folder / "overlays" / picture_name(name))


def record_of(
    evaluation: Evaluation, found: SplitStats, scores: dict[str, Score]
) -> dict[str, Any]:
    """What metrics.json holds."""
    config, images, labels = evaluation.config, len(evaluation.split), evaluation.data.labels
    return {
        "model": evaluation.trained.model,
        "dataset": evaluation.dataset,
        **evaluation.reading.to_config(),
        "source": evaluation.source,
        "fingerprint": evaluation.data.fingerprint,
        "split_fingerprint": evaluation.split.fingerprint,
        "split": config.split,
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
        **(_of_two_classes if labels.logits == 1 else _of_more_classes)(evaluation, found),
        "constant_mask_iou": constant_mask_iou(found.at_threshold.counts),
        "formulas": formulas(labels.logits),
        "intervals": INTERVALS,
        "scored": timestamp(),
        "version": segacc.__version__,
        "device": device_name(evaluation.accelerator.device),
        "seconds": found.seconds,
        "img_per_s": images / found.seconds,  # of all processes, which work at the same time
        "calibration": calibration_table(found.at_threshold),
    }


def _of_two_classes(evaluation: Evaluation, found: SplitStats) -> dict[str, Any]:
    at_half = scores_with_intervals(found.at_half)
    return {
        "threshold": evaluation.threshold,
        "threshold_from": "validation" if evaluation.config.threshold is None else "given",
        "scores_at_half": {name: asdict(score) for name, score in at_half.items()},
    }


def _of_more_classes(evaluation: Evaluation, found: SplitStats) -> dict[str, Any]:
    return {
        "threshold": None,
        "threshold_from": None,
        "per_class": class_table(found.at_threshold, evaluation.data.labels),
        "confusion": found.confusion.tolist(),
    }


@contextmanager
def explain_evaluation_errors(config: EvaluateConfig) -> Iterator[None]:
    """Turn errors of libraries that have a known cause into one sentence for the user.

    Raises:
        InputError: in place of such an error; others are raised as they are.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
            tile = f"a --tile below {config.tile}" if config.tile else "--tile 256"
            raise InputError(
                f"{where} has too little memory for --batch-size {config.batch_size}: give a "
                f"smaller --batch-size, or {tile} to predict in smaller windows."
            ) from error
        if is_lost_connection(error):
            raise InputError(
                "this process cannot talk to the others, one of which has probably ended: its own "
                "error is above; give the same command again."
            ) from error
        raise
