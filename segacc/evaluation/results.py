"""The results of an evaluation as files and as a table in the terminal."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segacc.config.evaluate import EvaluateConfig
from segacc.config.sizes import sizes_in_words
from segacc.data.split import Split
from segacc.errors import plural, write_text
from segacc.evaluation.scored_runs import OUT_OF_FOLD
from segacc.labels import Labels
from segacc.metrics.counts import FN, TP
from segacc.metrics.intervals import INTERVALS, Score
from segacc.metrics.scores import (
    CALIBRATION_BINS,
    DISTANCES,
    LOWER_IS_BETTER,
    ImageStats,
    class_scores_with_intervals,
)
from segacc.metrics.tables import per_image_csv
from segacc.report.pictures import detail_folder, overview, picture_name
from segacc.report.scored import is_no_better_than_constant

OVERVIEW_IMAGES = 6
SPLIT_WORDS = {OUT_OF_FOLD: "train and valid, out of fold,"}
THRESHOLD_FROM = {"validation": "picked on validation", "members": "mean of those of the runs"}


def results_folder(config: EvaluateConfig, fingerprint: str, is_own: bool) -> Path:
    """The folder for the results: RUN/test, or one that says in its name what is not as usual, so
    that the usual results stay as they are.

    Args:
        fingerprint: that of the data set that is scored.
        is_own: whether it is the data set that the run was trained on.
    """
    how = [] if config.fold is None else [f"fold-{config.fold.replace('/', 'of')}"]
    how += [] if config.at == "model" else [f"at-{config.at}"]
    how += [] if config.threshold is None else [f"threshold-{config.threshold}"]
    how += [] if config.tta == "none" else [f"tta-{config.tta}"]
    how += [] if config.tile is None else [f"tile-{config.tile}"]
    if config.dataset is None or is_own:
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


def class_table(stats: ImageStats, labels: Labels) -> list[dict[str, Any]]:
    """Return for each class its name, its pixels in the masks, their share of all that count, and
    its scores with intervals; a score that is not defined is None."""
    found = class_scores_with_intervals(stats)
    counts = stats.counts.sum(dim=0)
    pixels = (counts[:, TP] + counts[:, FN]).tolist()
    total = max(1.0, counts[0].sum().item())
    return [
        {
            "name": name,
            "pixels": int(own),
            "share": own / total,
            **{
                score: {end: _or_none(value) for end, value in asdict(of_class).items()}
                for score, of_class in scores.items()
            },
        }
        for name, own, scores in zip(labels.names, pixels, found, strict=True)
    ]


def _or_none(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def write_results(folder: Path, split: Split, stats: ImageStats, record: dict[str, Any]) -> None:
    """Write metrics.json, per_image.csv and overview.png."""
    order = worst_first(stats)
    chosen = [order[i] for i in spread(len(order), OVERVIEW_IMAGES)]
    pictures = [folder / "overlays" / picture_name(split.names[i]) for i in chosen]
    columns, labels = stats.columns(), Labels.from_config(record["labels"])
    title = f"{len(chosen)} of {plural(len(order), 'image')}, from the worst to the best"
    overview(pictures, title, labels).save(folder / "overview.png")
    distances = [name for name in DISTANCES if name in record["scores"]]
    more = {name: columns[name] for name in ("boundary_iou", *distances, "ece")}
    table = per_image_csv(split.names, split.sizes, stats.counts, labels, **more)
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
    print(
        f"{record['model']} on {SPLIT_WORDS.get(record['split'], record['split'])} of "
        f"{record['dataset']}: {len(split)} full images "
        f"of {sizes_in_words(record)}, {_how(record)}\n"
        + "".join(f"warning: {note}\n" for note in record["notes"])
        + _heading(record)
    )
    for name, formula in record["formulas"].items():
        score = Score(**record["scores"][name])
        half = record["scores_at_half"][name]["value"] if "scores_at_half" in record else None
        better = "lower is better" if name in LOWER_IS_BETTER else ""
        digits = 1 if name in DISTANCES else 4
        at_half = "" if half is None else f"{half:<8.{digits}f} "
        shown = "miou" if name == "iou" and half is None else name
        interval = _interval(score, digits)
        print(f"  {shown:<13} {score.value:<17.{digits}f}  {interval:<18}  {at_half}{better}")
        if explain:
            print(f"  {'':<13} {formula}")
    constant, note = record["constant_mask_iou"], ""
    if is_no_better_than_constant(record):
        note = "; the model is no better, as far as these images tell"
    print(f"  {'constant':<13} {constant:<17.4f}  iou of the best constant mask{note}")
    if "per_class" in record:
        _print_classes(record["per_class"])
    print("  worst         " + ", ".join(split.names[i] for i in worst_first(stats)[:3]))
    if explain:
        print(f"  intervals: {INTERVALS}")
    print(
        f"written: {folder}: metrics.json, per_image.csv, overlays/, "
        f"{detail_folder(Labels.from_config(record['labels']))}/, overview.png\n"
        f"look at: {folder / 'report.html'}",
        flush=True,
    )


def _heading(record: dict[str, Any]) -> str:
    """The line above the scores."""
    if record["threshold"] is None:
        return f"{'':<14}{'':<19}95 % interval"
    chosen = THRESHOLD_FROM.get(record["threshold_from"], "given")
    return f"{'':<14}threshold {record['threshold']:<9g} 95 % interval       at 0.5   ({chosen})"


def _interval(score: Score, digits: int = 4) -> str:
    return "" if score.low is None else f"{score.low:.{digits}f} to {score.high:.{digits}f}"


def _print_classes(classes: list[dict[str, Any]]) -> None:
    """A line for each class, the best first, and the names of those that are absent."""
    there = [one for one in classes if one["iou"]["value"] is not None]
    width = max(13, *(len(one["name"]) for one in classes))
    print(f"\n  {'class':<{width}} {'iou':<8} {'95 % interval':<18}  precision recall  of pixels")
    for one in sorted(there, key=lambda one: -one["iou"]["value"]):
        numbers = [
            "\N{EN DASH}" if one[name]["value"] is None else f"{one[name]['value']:.4f}"
            for name in ("precision", "recall")
        ]
        print(
            f"  {one['name']:<{width}} {one['iou']['value']:<8.4f} "
            f"{_interval(Score(**one['iou'])):<18}  {numbers[0]:<9} {numbers[1]:<7} "
            f"{one['share']:.2%}"
        )
    absent = [one["name"] for one in classes if one["iou"]["value"] is None]
    if absent:
        print(f"  in no mask and never predicted, so not in miou: {', '.join(absent)}")


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
