"""evaluate(): scores with intervals, per-image table, pictures and a report of a trained model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from segacc.config import EvaluateConfig, Reading, TrainConfig, read_run_config
from segacc.data.content import masks_of, why_meaningless
from segacc.data.known import absolute, find_again, known_data, prepare_found
from segacc.data.reading.depth import WHOLE, about_other_range
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import Source
from segacc.data.split import Prepared, Split
from segacc.errors import InputError, disk_errors
from segacc.evaluation.notes import notes_on
from segacc.evaluation.results import (
    calibration_table,
    class_table,
    print_results,
    results_folder,
    write_results,
)
from segacc.labels import check_same_classes
from segacc.metrics.counts import (
    class_probabilities,
    confusion_matrices,
    constant_mask_iou,
    predicted_labels,
)
from segacc.metrics.intervals import INTERVALS, Score
from segacc.metrics.scores import ImageStats, formulas, image_stats, scores_with_intervals
from segacc.metrics.thresholds import levels_of
from segacc.models.segmenter import Segmenter
from segacc.models.weights import load_segmenter
from segacc.prediction.logits import predict_split
from segacc.report.page import write_report
from segacc.report.pictures import detail_folder, in_palette, picture_name, triptych
from segacc.report.scored import read_scored
from segacc.runtime.accelerator import is_out_of_memory, make_accelerator, uses_gpu
from segacc.runtime.ranks import gather_images, is_lost_connection
from segacc.runtime.threads import set_threads

HALF = 0.5


@dataclass(frozen=True)
class Evaluation:
    """What is scored on what, and how."""

    config: EvaluateConfig
    trained: TrainConfig
    """the config of the run"""
    accelerator: Accelerator
    precision: str
    """fp32, bf16 or fp16"""
    model: Segmenter
    threshold: float
    dataset: str
    reading: Reading
    source: str
    """where the data set is, as in `KnownData`"""
    data: Prepared
    split: Split
    folder: Path
    """for the results"""
    notes: tuple[str, ...]
    """why the scores may mislead, in sentences"""


@dataclass(frozen=True)
class SplitStats:
    """Statistics of the images of the split, the same on all ranks."""

    at_threshold: ImageStats
    at_half: ImageStats
    confusion: Tensor
    """(classes, classes) int64: [true class, predicted class]"""
    seconds: float
    """seconds that this rank took for its predictions"""


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Score the run's best model on a split, write the results into the run's folder, print them.

    Each image counts once for any number of processes.

    Returns:
        The scores, by the names of FORMULAS.

    Raises:
        InputError: the folder has no model, the data set no such split, the memory is too small, or
            the results cannot be written.
    """
    with explain_evaluation_errors(config):
        evaluation = load_evaluation(config)
        folder, split = evaluation.folder, evaluation.split
        with disk_errors(folder, remedy="free space there, then give the same command again."):
            make_folders(evaluation)
            found = score_images(evaluation)
            scores = scores_with_intervals(found.at_threshold)
            if evaluation.accelerator.is_main_process:
                record = record_of(evaluation, found, scores)
                write_results(folder, split, found.at_threshold, record)
                if evaluation.data.labels.logits == 1:
                    write_report(folder / "report.html", [read_scored(config.run, folder, split)])
                print_results(folder, split, found.at_threshold, record, config.explain)
    evaluation.accelerator.end_training()
    return {name: score.value for name, score in scores.items()}


def load_evaluation(config: EvaluateConfig) -> Evaluation:
    """Load the run's best model, and the split to score it on.

    Raises:
        InputError: the folder has no model, or the data set no such split.
    """
    trained = read_run_config(config.run)
    precision = "fp32" if trained.precision == "fp16" and not uses_gpu() else trained.precision
    accelerator = make_accelerator(precision)
    set_threads(accelerator)
    model = load_segmenter(config.run).to(accelerator.device)
    known = known_data(config.run)
    dataset = config.dataset or known.dataset
    reading = Reading.of(vars(config))
    if config.dataset:
        source: Source | Prepared = load_dataset(config.dataset, reading)
    else:
        reading = reading.over(known.reading)
        source = find_again(replace(known, reading=reading))
    assert trained.size is not None
    data = prepare_found(source, trained.size, model.value_range or WHOLE)
    check_same_classes(data.labels, model.labels, str(config.run))
    if config.threshold is not None and data.labels.logits > 1:
        raise InputError(
            f"--threshold {config.threshold} decides between two classes, and {config.run} has "
            f"{data.labels.classes}, of which the most probable one is predicted: leave it out."
        )
    if config.split not in data.splits:
        raise InputError(
            f"--split {config.split}: {dataset} has no such split, it has {', '.join(data.splits)}."
        )
    split = data.splits[config.split]
    if data.labels.classes == 2 and (why := why_meaningless(masks_of(split))):
        raise InputError(
            f"--split {config.split} of {dataset}: {why}; score a split with foreground and "
            "background, or look at the masks that `segacc predict` writes."
        )
    unlike = about_other_range(model.value_range, data.own_range)
    return Evaluation(
        config=config,
        trained=trained,
        accelerator=accelerator,
        precision=precision,
        model=model,
        threshold=model.threshold if config.threshold is None else config.threshold,
        dataset=dataset,
        reading=reading,
        source=absolute(config.dataset or known.source or known.dataset),
        data=data,
        split=split,
        folder=results_folder(config, data.fingerprint, known.fingerprint),
        notes=notes_on(config, data, split, known) + ((unlike,) if unlike else ()),
    )


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
    config, accelerator, split = evaluation.config, evaluation.accelerator, evaluation.split
    threshold, labels = evaluation.threshold, evaluation.data.labels
    width = ImageStats.width(labels.logits)
    own = [torch.zeros(0, 2 * width, dtype=torch.double)]
    confusion = torch.zeros(labels.classes, labels.classes, dtype=torch.long)
    seconds, began = 0.0, time.perf_counter()
    batches = predict_split(
        evaluation.model, split, accelerator, config.batch_size, tta=config.tta, tile=config.tile
    )
    for indices, logits, label_maps in batches:
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
            detail = in_palette(found.numpy(), labels)
        detail.save(folder / detail_folder(labels) / picture_name(name))
        caption = f"{name}   {score} {iou:.3f}"
        picture = triptych(*evaluation.split[index], found.numpy(), caption, labels)
        picture.save(folder / "overlays" / picture_name(name))


def record_of(
    evaluation: Evaluation, found: SplitStats, scores: dict[str, Score]
) -> dict[str, Any]:
    """What metrics.json holds."""
    config, images, labels = evaluation.config, len(evaluation.split), evaluation.data.labels
    picked = "validation" if config.threshold is None else "given"
    of_two = {
        "threshold": evaluation.threshold,
        "threshold_from": picked,
        "scores_at_half": {
            name: asdict(score) for name, score in scores_with_intervals(found.at_half).items()
        },
    }
    of_more = {
        "threshold": None,
        "threshold_from": None,
        "classes": class_table(found.at_threshold, labels),
        "confusion": found.confusion.tolist(),
    }
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
        "value_range": evaluation.model.value_range,
        "labels": labels.to_config(),
        "tta": config.tta,
        "tile": config.tile,
        "precision": evaluation.precision,
        "precision_of_training": evaluation.trained.precision,
        "scores": {name: asdict(score) for name, score in scores.items()},
        **(of_two if labels.logits == 1 else of_more),
        "constant_mask_iou": constant_mask_iou(found.at_threshold.counts),
        "formulas": formulas(labels.logits),
        "intervals": INTERVALS,
        "seconds": found.seconds,
        "img_per_s": images / found.seconds,  # of all processes, which work at the same time
        "calibration": calibration_table(found.at_threshold),
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
                "error is above, or named by the launcher below; give the same command again."
            ) from error
        raise
