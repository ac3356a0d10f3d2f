"""Writes the folders of runs as train.py and evaluate.py would, without training."""

from __future__ import annotations

import csv
import json
import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from segacc.config.defaults import with_protocol
from segacc.config.records import to_json
from segacc.config.sizes import NATIVE, size_of
from segacc.config.train import TrainConfig
from segacc.data.regions import regions_after_resize
from segacc.data.split import Split
from segacc.labels import IGNORE
from segacc.metrics.counts import constant_mask_iou, count_pixels, predicted_labels, scores
from segacc.metrics.thresholds import LEVELS
from segacc.report.pictures import picture_name
from segacc.report.scored import Scored, read_scored

PER_IMAGE = "name,height,width,iou,dice,precision,recall,boundary_iou,hd95,ece,tp,fp,fn,tn"


def a_split(names: Sequence[str], images: Sequence[np.ndarray], masks: Sequence[np.ndarray]):
    """A prepared split of arrays, as it would be mapped from a file; of native size if their shapes
    differ."""
    sizes = np.array([mask.shape for mask in masks], np.int32)
    same = bool((sizes == sizes[0]).all())
    height, width = masks[0].shape
    return Split(
        path=Path("-"),
        size=size_of(width, height) if same else NATIVE,
        shape=(height, width) if same else None,
        channels=images[0].shape[-1],
        names=list(names),
        sizes=sizes * 2 if same else sizes,  # before the resize
        background=np.array([(mask == 0).sum() for mask in masks], np.int32),
        foreground=np.array([((mask != 0) & (mask != IGNORE)).sum() for mask in masks], np.int32),
        regions=[regions_after_resize(mask, mask.shape) for mask in masks],
        value_range=None,
        fingerprint="0" * 64,
        images=[f"{i:016x}" for i in range(len(names))],
        _images=[images],
        _label_maps=[masks],
        _mapped=mmap.mmap(-1, 1),
    )


def guess(mask: np.ndarray, rng: np.random.Generator, blur: float, noise: float) -> np.ndarray:
    """Levels like those of a model that is wrong in some spots, and uncertain at edges."""
    shape = mask.shape
    coarse = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), shape[0] / 14) * shape[0] / 4
    fine = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 1.2)
    inside = cv2.GaussianBlur(mask.astype(float), (0, 0), blur) - 0.5
    logits = 9 * inside + noise * coarse + 0.6 * fine
    probabilities = 1 / (1 + np.exp(-logits))
    return np.clip(np.ceil(probabilities * LEVELS) - 1, 0, LEVELS - 1).astype(np.uint8)


def probabilities_of(levels: np.ndarray) -> torch.Tensor:
    """(1, 1, H, W) probabilities that have these levels."""
    return (torch.from_numpy(levels.astype(np.float32))[None, None] + 0.5) / LEVELS


def counts_of(
    levels: Sequence[np.ndarray], masks: Sequence[np.ndarray], threshold: float
) -> torch.Tensor:
    """(N, 1, 4) as evaluate.py counts them."""
    return torch.cat(
        [
            count_pixels(
                predicted_labels(probabilities_of(level), threshold),
                torch.from_numpy(mask.copy())[None],
                classes=2,
            )
            for level, mask in zip(levels, masks, strict=True)
        ]
    )


def calibration(levels: np.ndarray, masks: np.ndarray, bins: int = 15) -> dict[str, Any]:
    probabilities, truth = (levels.ravel() + 0.5) / LEVELS, masks.ravel() > 0
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    pixels = np.bincount(place, minlength=bins)
    sums = np.bincount(place, probabilities, bins), np.bincount(place, truth, bins)
    confidence, foreground = (
        [s / n if n else None for s, n in zip(sum_, pixels, strict=True)] for sum_ in sums
    )
    edges = np.linspace(0, 1, bins + 1).tolist()
    return {
        "edges": edges,
        "pixels": pixels.tolist(),
        "confidence": confidence,
        "foreground": foreground,
    }


def write_run(
    run: Path,
    split: Split,
    levels: Sequence[np.ndarray],
    *,
    threshold: float = 0.5,
    threshold_from: str = "validation",
    epochs: int = 3,
    model: str = "linknet",
    hd95: Sequence[float | None] | None = None,
    **metrics: Any,
) -> Scored:
    """Write a run's folder and its results on `split`, and read them as the report does."""
    folder = run / "test"
    (folder / "probabilities").mkdir(parents=True)
    masks = [split[i][1] for i in range(len(split))]
    size = masks[0].shape[0]
    config = {"dataset": "demo", "model": model, "encoder": "resnet34", "size": size, "seed": 0}
    (run / "config.json").write_text(json.dumps({"config": config}))
    lines = []
    for epoch in range(1, epochs + 1):
        done = 1 - math.exp(-epoch / 6) - (0.0012 * max(0, epoch - 24))
        wave = 0.012 * math.sin(epoch * 2.3)
        lines.append(
            {
                "epoch": epoch,
                "train_loss": 0.62 - 0.45 * done + wave / 3,
                "valid_loss": 0.64 - 0.40 * done + wave,
                "valid_iou": 0.3 + 0.42 * done - wave,
                "valid_iou_image": 0.28 + 0.41 * done - wave,
                "valid_iou_best_threshold": 0.33 + 0.41 * done - wave / 2,
                "lr": 1e-3 * (1 + math.cos(math.pi * epoch / epochs)) / 2,
            }
        )
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    at, half = (counts_of(levels, masks, t) for t in (threshold, 0.5))

    def with_intervals(counts: torch.Tensor) -> dict[str, Any]:
        values = scores(counts) | {"boundary_iou": 0.5, "hd95": 12.5, "ece": 0.04}
        return {
            name: {"value": value, "low": max(0, value - 0.03), "high": min(1, value + 0.025)}
            if name != "hd95"
            else {"value": value, "low": value - 2, "high": value + 3}
            for name, value in values.items()
        }

    names = with_intervals(at)
    record = {
        "dataset": "demo",
        "fingerprint": "0" * 64,
        "split": "test",
        "images": len(split),
        "size": size,
        "threshold": threshold,
        "threshold_from": threshold_from,
        "tta": "none",
        "tile": None,
        "precision": "fp32",
        "scores": names,
        "scores_at_half": with_intervals(half),
        "constant_mask_iou": constant_mask_iou(at),
        "formulas": {name: f"formula of {name}" for name in names},
        "seconds": 3.2,
        "img_per_s": 25.0,
        "calibration": calibration(np.stack(levels), np.stack(masks)),
    }
    (folder / "metrics.json").write_text(json.dumps(record | metrics))
    with (folder / "per_image.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(PER_IMAGE.split(","))
        for i, name in enumerate(split.names):
            one = scores(at[i : i + 1])
            ratios = [f"{one[k]:.6f}" for k in ("iou", "dice", "precision", "recall")]
            distance = 7.25 if hd95 is None else hd95[i]
            row = [name, *split.sizes[i].tolist(), *ratios, "0.5", distance, "0.05"]
            writer.writerow([*row, *at[i, 0].tolist()])
            Image.fromarray(levels[i]).save(folder / "probabilities" / picture_name(name))
    return read_scored(run, folder, split)


def make_run(
    folder: Path,
    ious: Sequence[float],
    model: str = "linknet",
    dataset: str = "gland",
    size: int = 256,
    iou: float | None = None,
    scored: dict[str, Any] | None = None,
    background: int = 0,
    **config: Any,
) -> Path:
    """A run's files, with one image of 100 pixels per IoU (no false positives).

    Args:
        background: pixels in each image beside these, all found.
        scored: what metrics.json says otherwise.
    """
    whole = with_protocol(TrainConfig(dataset=dataset, model=model, size=size, **config))
    config = to_json(whole)
    (folder / "test").mkdir(parents=True)
    record = {"config": config, "parameters": {"whole": 21_771_937, "trained": 21_771_937}}
    (folder / "config.json").write_text(json.dumps(record))
    epochs = [
        {"epoch": e, "valid_iou": v, "seconds": 30.0, "img_per_s": 10.0 * e}
        for e, v in ((1, 0.2), (2, 0.7), (3, 0.5))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in epochs))
    with (folder / "test" / "per_image.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "iou", "tp", "fp", "fn", "tn"])
        for i, value in enumerate(ious):
            writer.writerow(
                [f"image{i}", value, round(100 * value), 0, round(100 - 100 * value), background]
            )
    score = {"value": iou or float(np.mean(ious)), "low": 0.1, "high": 0.9}
    metrics = {"dataset": dataset, "size": size, "split": "test", "threshold": 0.4375}
    metrics |= {"threshold_from": "validation", "tta": "none", "tile": None}
    metrics |= {"fingerprint": f"of {dataset} at {size}", **(scored or {})}
    metrics["scores"] = {"iou": score, "iou_image": {**score, "low": None, "high": None}}
    (folder / "test" / "metrics.json").write_text(json.dumps(metrics))
    return folder
