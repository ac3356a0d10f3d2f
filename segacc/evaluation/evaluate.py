"""evaluate(): scores with intervals, per-image table, pictures and a report of a trained model."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segacc.config import EvaluateConfig, read_run_config
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.data.split import Prepared, Split
from segacc.errors import InputError, write_text
from segacc.metrics.counts import constant_mask_iou
from segacc.metrics.intervals import INTERVALS, Score
from segacc.metrics.scores import (
    BINS,
    FORMULAS,
    LOWER_IS_BETTER,
    ImageStats,
    image_stats,
    scores_with_intervals,
)
from segacc.metrics.thresholds import levels_of
from segacc.models.weights import load_segmenter
from segacc.prediction.logits import predict_split
from segacc.report.page import read_scored, write_report
from segacc.report.pictures import overview, picture_name, triptych
from segacc.runs import per_image_csv
from segacc.runtime.accelerator import make_accelerator
from segacc.runtime.ranks import gather_images
from segacc.runtime.threads import set_threads

OVERVIEW_IMAGES = 6
HALF = 0.5


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Score the run's best model on a split, write the results into the run's folder, print them.

    Each image counts once whatever the number of processes.

    Returns:
        The scores, by the names of FORMULAS.

    Raises:
        InputError: no model in the folder, no such split.
    """
    trained = read_run_config(config.run)
    dataset = config.dataset or trained.dataset
    assert trained.size is not None
    on_cpu = not torch.cuda.is_available()
    precision = "fp32" if trained.precision == "fp16" and on_cpu else trained.precision
    accelerator = make_accelerator(precision)
    set_threads(accelerator)
    segmenter = load_segmenter(config.run).to(accelerator.device)
    threshold = segmenter.threshold if config.threshold is None else config.threshold
    data = prepare(load_dataset(dataset), trained.size)
    if config.split not in data.splits:
        raise InputError(
            f"--split {config.split}: {dataset} has no such split, it has {', '.join(data.splits)}."
        )
    split = data.splits[config.split]
    folder = config.run / config.split
    if config.dataset:
        folder = folder.with_name(f"{config.split}-{Path(dataset.rstrip('/')).stem}")
    if accelerator.is_main_process:
        for pictures in ("overlays", "probabilities"):
            shutil.rmtree(folder / pictures, ignore_errors=True)
            (folder / pictures).mkdir(parents=True)
    accelerator.wait_for_everyone()

    width = ImageStats.width()
    own = [torch.zeros(0, 2 * width, dtype=torch.double)]
    spent, asked = 0.0, time.perf_counter()
    batches = predict_split(
        segmenter, split, accelerator, config.batch_size, tta=config.tta, tile=config.tile
    )
    for indices, logits, masks in batches:
        probabilities = logits.sigmoid().cpu()
        spent += time.perf_counter() - asked
        masks = masks.cpu()
        stats = image_stats(probabilities, masks, threshold)
        at_half = stats if threshold == HALF else image_stats(probabilities, masks, HALF)
        own.append(torch.cat([stats.packed(), at_half.packed()], dim=1))
        write_pictures(folder, split, indices, probabilities[:, 0], threshold, stats)
        asked = time.perf_counter()
    gathered = gather_images(accelerator, len(split), torch.cat(own).to(accelerator.device))
    stats, at_half = (ImageStats.unpacked(part) for part in gathered.split(width, dim=1))
    result = scores_with_intervals(stats)
    accelerator.wait_for_everyone()  # all pictures are there
    if accelerator.is_main_process:
        record = {
            "dataset": dataset,
            "fingerprint": data.fingerprint,
            "split": config.split,
            "images": len(split),
            "size": data.size,
            "threshold": threshold,
            "threshold_from": "validation" if config.threshold is None else "given",
            "tta": config.tta,
            "tile": config.tile,
            "precision": precision,
            "scores": {name: asdict(score) for name, score in result.items()},
            "scores_at_half": {k: asdict(s) for k, s in scores_with_intervals(at_half).items()},
            "constant_mask_iou": constant_mask_iou(stats.counts[:, None]),
            "formulas": FORMULAS,
            "intervals": INTERVALS,
            "seconds": spent,
            "img_per_s": len(split) / spent,  # of all processes, which work side by side
            "calibration": calibration_table(stats),
        }
        write_results(folder, data, split, stats, record)
        write_report(folder / "report.html", [read_scored(config.run, folder, split)])
        say(config, folder, trained.model, record, split, stats)
    accelerator.end_training()
    return {name: score.value for name, score in result.items()}


def write_pictures(
    folder: Path,
    split: Split,
    indices: list[int],
    probabilities: Tensor,
    threshold: float,
    stats: ImageStats,
) -> None:
    """Image, truth and prediction side by side, and the probabilities in 256 levels.

    Args:
        probabilities: (B, H, W) of the images `indices`, on the CPU.
        stats: of these images.
    """
    ious = stats.columns()["iou"].tolist()
    for index, p, iou in zip(indices, probabilities, ious, strict=True):
        name = split.names[index]
        levels = Image.fromarray(levels_of(p).numpy())
        levels.save(folder / "probabilities" / picture_name(name))
        found = (p > threshold).numpy()
        picture = triptych(*split[index], found, f"{name}   IoU {iou:.3f}")
        picture.save(folder / "overlays" / picture_name(name))


def calibration_table(stats: ImageStats) -> dict[str, list[Any]]:
    """Per bin of the probability: pixels, their mean probability, their share of foreground."""
    pixels, confidence, foreground = stats.calibration.sum(dim=0).view(3, BINS).tolist()
    return {
        "edges": [i / BINS for i in range(BINS + 1)],
        "pixels": [int(n) for n in pixels],
        "confidence": [c / n if n else None for c, n in zip(confidence, pixels, strict=True)],
        "foreground": [f / n if n else None for f, n in zip(foreground, pixels, strict=True)],
    }


def write_results(
    folder: Path, data: Prepared, split: Split, stats: ImageStats, record: dict[str, Any]
) -> None:
    """metrics.json, per_image.csv and overview.png."""
    order = worst_first(stats)
    chosen = [order[i] for i in spread(len(order), OVERVIEW_IMAGES)]
    pictures = [folder / "overlays" / picture_name(split.names[i]) for i in chosen]
    overview(pictures).save(folder / "overview.png")
    columns = stats.columns()
    more = {name: columns[name] for name in ("boundary_iou", "hd95", "ece")}
    table = per_image_csv(split.names, split.sizes, stats.counts, **more)
    write_text(folder / "per_image.csv", table)
    write_text(folder / "metrics.json", json.dumps(record, indent=2) + "\n")


def say(
    config: EvaluateConfig,
    folder: Path,
    model: str,
    record: dict[str, Any],
    split: Split,
    stats: ImageStats,
) -> None:
    """Print the results for a person."""
    how = f", flips {config.tta} averaged" * (config.tta != "none")
    how += f", in windows of {config.tile} px" * bool(config.tile)
    chosen = "picked on validation" if config.threshold is None else "given"
    print(
        f"{model} on {record['split']} of {record['dataset']}: {len(split)} full images of "
        f"{record['size']} x {record['size']} px, {record['precision']}{how}\n"
        f"{'':<14}threshold {record['threshold']:<9g} 95 % interval       at 0.5   ({chosen})"
    )
    for name, formula in FORMULAS.items():
        score, half = (Score(**record[key][name]) for key in ("scores", "scores_at_half"))
        between = "" if score.low is None else f"{score.low:.4f} to {score.high:.4f}"
        better = "lower is better" if name in LOWER_IS_BETTER else ""
        print(f"  {name:<13} {score.value:<17.4f}  {between:<18}  {half.value:<8.4f} {better}")
        if config.explain:
            print(f"  {'':<13} {formula}")
    print(f"  {'constant':<13} {record['constant_mask_iou']:<17.4f}  iou of the best mask without")
    print("  worst         " + ", ".join(split.names[i] for i in worst_first(stats)[:3]))
    if config.explain:
        print(f"  intervals: {INTERVALS}")
    print(
        f"written: {folder}: metrics.json, per_image.csv, overlays/, probabilities/, overview.png\n"
        f"look at: {folder / 'report.html'}",
        flush=True,
    )


def worst_first(stats: ImageStats) -> list[int]:
    """Positions of the images by their IoU."""
    return torch.argsort(stats.columns()["iou"], stable=True).tolist()


def spread(total: int, wanted: int) -> list[int]:
    """Up to `wanted` different positions from first to last of 0..total-1."""
    return sorted(set(np.linspace(0, total - 1, min(total, wanted)).round().astype(int).tolist()))
