"""evaluate(): scores, per-image table and pictures of a trained model on full images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segacc.config import EvaluateConfig, read_run_config
from segacc.data.prepare import prepare
from segacc.data.sources import load_dataset
from segacc.inference import gather_images, predict_split
from segacc.launch import make_accelerator, set_threads
from segacc.metrics import (
    constant_mask_iou,
    count_pixels,
    dice_of,
    iou_of,
    precision_of,
    recall_of,
    scores,
)
from segacc.pictures import overview, picture_name, triptych
from segacc.program import InputError
from segacc.weights import load_segmenter

MEANING = {
    "iou": "TP / (TP + FP + FN) over all pixels of the split",
    "iou_image": "the same of each image, mean over images",
    "dice": "2 TP / (2 TP + FP + FN) over all pixels of the split",
    "dice_image": "the same of each image, mean over images",
    "precision": "TP / (TP + FP) over all pixels of the split",
    "recall": "TP / (TP + FN) over all pixels of the split",
}
OVERVIEW_IMAGES = 6
COLUMNS = ("name", "height", "width", "iou", "dice", "precision", "recall", "tp", "fp", "fn", "tn")


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Score the run's best model on a split, write the results into the run's folder, print them.

    Each image counts once whatever the number of processes.

    Returns:
        The scores, by the names of MEANING.

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
    data = prepare(load_dataset(dataset), trained.size)
    if config.split not in data.splits:
        raise InputError(
            f"--split {config.split}: {dataset} has no such split, it has {', '.join(data.splits)}."
        )
    split = data.splits[config.split]
    folder = config.run / config.split
    if config.dataset:
        folder = folder.with_name(f"{config.split}-{Path(dataset.rstrip('/')).stem}")
    overlays = folder / "overlays"
    if accelerator.is_main_process:
        shutil.rmtree(overlays, ignore_errors=True)
        overlays.mkdir(parents=True)
    accelerator.wait_for_everyone()

    counted = [torch.zeros(0, 1, 4, dtype=torch.long, device=accelerator.device)]
    for indices, logits, masks in predict_split(segmenter, split, accelerator, config.batch_size):
        probabilities = logits.sigmoid()
        counts = count_pixels(probabilities, masks, config.threshold)
        counted.append(counts)
        found = (probabilities[:, 0] > config.threshold).cpu().numpy()
        ious = iou_of(counts[:, 0]).tolist()
        for index, prediction, iou in zip(indices, found, ious, strict=True):
            image, mask = split[index]
            name = split.names[index]
            picture = triptych(image, mask, prediction, f"{name}   IoU {iou:.3f}")
            picture.save(overlays / picture_name(name))
    counts = gather_images(accelerator, len(split), torch.cat(counted))
    result = scores(counts)
    accelerator.wait_for_everyone()  # all pictures are there
    if accelerator.is_main_process:
        order = torch.argsort(iou_of(counts[:, 0]), stable=True).tolist()
        chosen = [order[i] for i in spread(len(order), OVERVIEW_IMAGES)]
        overview([overlays / picture_name(split.names[i]) for i in chosen]).save(
            folder / "overview.png"
        )
        write_per_image(folder / "per_image.csv", split.names, split.sizes, counts)
        constant = constant_mask_iou(counts)
        record = {
            "dataset": dataset,
            "fingerprint": data.fingerprint,
            "split": config.split,
            "images": len(split),
            "size": data.size,
            "threshold": config.threshold,
            "scores": result,
            "constant_mask_iou": constant,
            "formulas": MEANING,
        }
        (folder / "metrics.json").write_text(json.dumps(record, indent=2) + "\n")
        print(
            f"{trained.model} on {config.split} of {dataset}: {len(split)} full images of "
            f"{data.size} x {data.size} px, threshold {config.threshold:g}, {precision}"
        )
        for name, meaning in MEANING.items():
            print(f"  {name:<11} {result[name]:.4f}  {meaning}")
        print(f"  {'constant':<11} {constant:.4f}  iou of the best mask without a model")
        print("  worst       " + ", ".join(split.names[i] for i in order[:3]))
        print(
            f"written: {folder / 'metrics.json'}, {folder / 'per_image.csv'}\n"
            f"look at: {folder / 'overview.png'} (worst to best), {overlays}/ (every image)",
            flush=True,
        )
    accelerator.end_training()
    return result


def spread(total: int, wanted: int) -> list[int]:
    """Up to `wanted` different positions from first to last of 0..total-1."""
    return sorted(set(np.linspace(0, total - 1, min(total, wanted)).round().astype(int).tolist()))


def write_per_image(path: Path, names: list[str], sizes: np.ndarray, counts: Tensor) -> None:
    """One line per image: its own scores and pixel counts."""
    one = counts[:, 0]
    columns = [iou_of(one), dice_of(one), precision_of(one), recall_of(one)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for i, name in enumerate(names):
            values = [f"{column[i].item():.6f}" for column in columns]
            writer.writerow([name, *sizes[i].tolist(), *values, *one[i].tolist()])
