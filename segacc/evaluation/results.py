"""The results of an evaluation as files and as a table in the terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segacc.config import EvaluateConfig
from segacc.data.split import Split
from segacc.errors import write_text
from segacc.metrics.intervals import INTERVALS, Score
from segacc.metrics.scores import CALIBRATION_BINS, FORMULAS, LOWER_IS_BETTER, ImageStats
from segacc.report.pictures import overview, picture_name
from segacc.runs import per_image_csv

OVERVIEW_IMAGES = 6


def results_folder(config: EvaluateConfig, fingerprint: str, trained: str) -> Path:
    """The folder for the results: RUN/test, or one that says in its name what is not as usual, so
    that the usual results stay as they are.

    Args:
        fingerprint: of the data set that is scored.
        trained: the fingerprint of the data set that the run was trained on.
    """
    how = [] if config.threshold is None else [f"threshold-{config.threshold}"]
    how += [] if config.tta == "none" else [f"tta-{config.tta}"]
    how += [] if config.tile is None else [f"tile-{config.tile}"]
    if config.dataset is None or fingerprint == trained:
        return config.run / "-".join([config.split, *how])
    name = Path(os.path.abspath(config.dataset)).stem
    folder = config.run / "-".join([config.split, name, *how])
    if _fingerprint_in(folder) in (None, fingerprint):
        return folder
    # Another data set of the same name was scored before.
    return config.run / "-".join([config.split, name, fingerprint[:8], *how])


def _fingerprint_in(folder: Path) -> str | None:
    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return str(record["fingerprint"])
    except (OSError, ValueError, KeyError):
        return None


def calibration_table(stats: ImageStats) -> dict[str, list[Any]]:
    """Per bin of the probability: pixels, their mean probability, their share of foreground."""
    pixels, confidence, foreground = stats.calibration.sum(dim=0).view(3, CALIBRATION_BINS).tolist()
    return {
        "edges": [i / CALIBRATION_BINS for i in range(CALIBRATION_BINS + 1)],
        "pixels": [int(n) for n in pixels],
        "confidence": [c / n if n else None for c, n in zip(confidence, pixels, strict=True)],
        "foreground": [f / n if n else None for f, n in zip(foreground, pixels, strict=True)],
    }


def write_results(folder: Path, split: Split, stats: ImageStats, record: dict[str, Any]) -> None:
    """Write metrics.json, per_image.csv and overview.png."""
    order = worst_first(stats)
    chosen = [order[i] for i in spread(len(order), OVERVIEW_IMAGES)]
    pictures = [folder / "overlays" / picture_name(split.names[i]) for i in chosen]
    overview(pictures).save(folder / "overview.png")
    columns = stats.columns()
    more = {name: columns[name] for name in ("boundary_iou", "hd95", "ece")}
    table = per_image_csv(split.names, split.sizes, stats.counts, **more)
    write_text(folder / "per_image.csv", table)
    write_text(folder / "metrics.json", json.dumps(record, indent=2) + "\n")


def print_results(
    folder: Path, split: Split, stats: ImageStats, record: dict[str, Any], explain: bool
) -> None:
    """Print the results for a person.

    Args:
        record: as in metrics.json.
        explain: with the formula of each score.
    """
    chosen = {"validation": "picked on validation"}.get(record["threshold_from"], "given")
    print(
        f"{record['model']} on {record['split']} of {record['dataset']}: {len(split)} full images "
        f"of {record['size']} x {record['size']} px, {_how(record)}\n"
        + "".join(f"warning: {note}\n" for note in record["notes"])
        + f"{'':<14}threshold {record['threshold']:<9g} 95 % interval       at 0.5   ({chosen})"
    )
    for name, formula in FORMULAS.items():
        score, half = (Score(**record[key][name]) for key in ("scores", "scores_at_half"))
        between = "" if score.low is None else f"{score.low:.4f} to {score.high:.4f}"
        better = "lower is better" if name in LOWER_IS_BETTER else ""
        print(f"  {name:<13} {score.value:<17.4f}  {between:<18}  {half.value:<8.4f} {better}")
        if explain:
            print(f"  {'':<13} {formula}")
    print(f"  {'constant':<13} {record['constant_mask_iou']:<17.4f}  iou of the best constant mask")
    print("  worst         " + ", ".join(split.names[i] for i in worst_first(stats)[:3]))
    if explain:
        print(f"  intervals: {INTERVALS}")
    print(
        f"written: {folder}: metrics.json, per_image.csv, overlays/, probabilities/, overview.png\n"
        f"look at: {folder / 'report.html'}",
        flush=True,
    )


def _how(record: dict[str, Any]) -> str:
    """The precision, flips and windows of the predictions."""
    parts = [record["precision"]]
    if record["precision"] != record["precision_of_training"]:
        parts[0] += f" (trained in {record['precision_of_training']}, which needs a GPU)"
    if record["tta"] != "none":
        parts.append(f"flips {record['tta']} averaged")
    if record["tile"]:
        parts.append(f"in windows of {record['tile']} px")
    return ", ".join(parts)


def worst_first(stats: ImageStats) -> list[int]:
    """Positions of the images, the lowest IoU first."""
    return torch.argsort(stats.columns()["iou"], stable=True).tolist()


def spread(total: int, wanted: int) -> list[int]:
    """Up to `wanted` different positions from first to last of 0..total-1."""
    return sorted(set(np.linspace(0, total - 1, min(total, wanted)).round().astype(int).tolist()))
