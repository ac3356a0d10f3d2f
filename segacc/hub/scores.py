"""The scores of a run with their intervals, for its card and for the Hub's own tables."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from segacc.labels import Labels
from segacc.metrics.intervals import Score
from segacc.metrics.scores import CALIBRATION_BINS, DISTANCES, ImageStats, scores_with_intervals
from segacc.metrics.tables import counts_of_rows

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-segmentation"
OF_COUNTS = ("iou", "iou_image", "dice", "dice_image", "precision", "recall")
"""Scores that the table of the validation images is enough for."""


@dataclass(frozen=True)
class ScoredSplit:
    """The scores of a model on a split."""

    split: str
    images: int
    threshold: float | None
    """None where the most probable class is taken"""
    scores: dict[str, Score]
    formulas: dict[str, str]
    per_class: tuple[tuple[str, Score], ...] = ()
    """names of the classes and their IoU, of those that are there"""
    notes: tuple[str, ...] = ()
    """why the scores may mislead"""


def scored_splits(run: Path, labels: Labels) -> tuple[list[ScoredSplit], str]:
    """The test split, if `segacc evaluate` has scored this model on it, and the validation split.

    Returns:
        the splits, and a sentence on what was left out; empty where nothing was.
    """
    test, left_out = run / "test" / "metrics.json", ""
    found = []
    if test.is_file():
        if test.stat().st_mtime < (run / "best" / "model.safetensors").stat().st_mtime:
            left_out = f"{test} is older than the model, so its scores were left out"
        else:
            found.append(_of_test(json.loads(test.read_text(encoding="utf-8"))))
    valid = run / "best" / "valid_per_image.csv"
    if valid.is_file():
        found.append(_of_validation(valid, labels))
    return found, left_out


def _of_test(record: dict[str, Any]) -> ScoredSplit:
    """Of a metrics.json of `segacc evaluate`."""
    classes = [(one["name"], Score(**one["iou"])) for one in record.get("per_class", ())]
    return ScoredSplit(
        split="test",
        images=record["images"],
        threshold=record["threshold"],
        scores=_defined({name: Score(**score) for name, score in record["scores"].items()}),
        formulas=record["formulas"],
        per_class=tuple(one for one in classes if one[1].value is not None),
        # Without the names of images, which may be those of patients.
        notes=tuple(re.sub(r"(too good): .*", r"\1", note) for note in record.get("notes", ())),
    )


def _of_validation(table: Path, labels: Labels) -> ScoredSplit:
    """Of the counts of pixels of each image, which training has written at threshold 0.5."""
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    counts = counts_of_rows(rows, labels)
    images, classes = counts.shape[:2]
    empty = (torch.zeros(images, classes, 2), torch.zeros(images, len(DISTANCES)))
    calibration = torch.zeros(images, 3 * CALIBRATION_BINS)
    stats = ImageStats(counts, *(part.double() for part in (*empty, calibration)))
    scores = scores_with_intervals(stats)
    return ScoredSplit(
        split="valid",
        images=images,
        threshold=0.5 if labels.logits == 1 else None,
        scores=_defined({name: scores[name] for name in OF_COUNTS}),
        formulas=stats.formulas,
        notes=("training has chosen the epoch by this split, so its scores are optimistic",),
    )


def _defined(scores: dict[str, Score]) -> dict[str, Score]:
    return {
        name: score
        for name, score in scores.items()
        if score.value is not None and not math.isnan(score.value)
    }


def eval_results(
    splits: list[ScoredSplit], dataset: str, fingerprint: str, classes: int
) -> list[EvalResult]:
    """The scores as the Hub's `model-index` has them.

    Args:
        dataset: a Hub id, or what the data set is called.
        fingerprint: of the data set.
        classes: number of classes; the main score of more than two is called mean_iou.
    """
    from huggingface_hub import EvalResult

    found = []
    for one in splits:
        for name, score in one.scores.items():
            shown, more = name, {}
            if score.low is not None:
                shown += f" (95 % interval {score.interval}, {one.images} images)"
                more = {"interval_95": [score.low, score.high]}
            found.append(
                EvalResult(
                    task_type=TASK,
                    dataset_type=dataset,
                    dataset_name=dataset.rpartition("/")[2],
                    dataset_split=one.split,
                    dataset_args={"fingerprint": fingerprint},
                    metric_type="mean_iou" if name == "iou" and classes > 2 else name,
                    metric_name=shown,
                    metric_value=score.value,
                    metric_args={"images": one.images, "threshold": one.threshold, **more},
                )
            )
    return found
