"""The table of the study: a line for each model and data set, over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from segacc.config.train import ENCODER, TrainConfig
from segacc.evaluation.compare import model_columns, run_columns, score_columns
from segacc.evaluation.scored_runs import (
    OUT_OF_FOLD,
    ScoredRun,
    course_of,
    data_name,
    iou_name,
    iou_note,
    numbers_of,
    read_scored_run,
    size_of_scores,
    with_interval,
)
from segacc.metrics.counts import constant_mask_iou, resampled_iou
from segacc.metrics.intervals import bootstrap, percentile_interval
from segacc.metrics.scores import scores_of_images, with_intervals

# IoU on test as published, by data and crop.
PUBLISHED: dict[tuple[str, bool], dict[str, float]] = {
    ("pedestrian", False): {
        "fpn": 0.592,
        "pspnet": 0.592,
        "segformer": 0.774,
        "linknet": 0.683,
        "deeplabv3plus": 0.653,
    },
    ("gland", False): {"fpn": 0.768, "segformer": 0.742, "linknet": 0.781, "deeplabv3plus": 0.758},
    ("gland", True): {"linknet": 0.844, "deeplabv3plus": 0.844},
}
STUDY_NOTE = (
    "; mean ± standard deviation over {over}, of runs with --recipe {recipe}. 95 % interval: of "
    "the same score, by a bootstrap over images. constant: the score of the best constant mask. "
    "threshold: with two classes, the one that validation picked, at which masks are scored."
)
ECE_NOTE = (
    " study.csv has such intervals of all scores but ece, whose mean over runs is without one."
)
PUBLISHED_NOTE = (
    " published: IoU on test in the study, from pretrained weights; it does not say which IoU."
)

FOLDS_NOTE = (
    " mean of folds: iou on test of the mean of their probabilities. out of fold: iou over all "
    "images of train and valid, each predicted by the run that had it for validation."
)
NO_FOLDS: Mapping[Path, Path] = MappingProxyType({})
DEFAULT = TrainConfig()


@dataclass(frozen=True)
class Row:
    """A line of the table: the runs that differ only in their seed and their fold."""

    runs: list[ScoredRun]
    published: float | None
    """the IoU that the study has published"""
    together: Path | None
    """the folder with the scores of the folds together"""


def study_rows(runs: list[ScoredRun], together: Mapping[Path, Path] = NO_FOLDS) -> list[Row]:
    """A line for each model and data set, over its seeds and folds, in the study's order.

    Args:
        together: of runs that are folds, the folder with the scores of these together.
    """
    rows = []
    for seeds in by_cell(runs, "weights").values():
        config = seeds[0].config["config"]
        folder = together.get(seeds[0].run)
        if folder and not (folder / OUT_OF_FOLD / "metrics.json").exists():
            folder = None
        cell = (config["dataset"], bool(config["crop"]))
        published = PUBLISHED.get(cell, {}) if _is_the_studys(config) else {}
        rows.append(Row(seeds, published.get(config["model"]), folder))
    return rows


def _is_the_studys(config: Mapping[str, Any]) -> bool:
    """Whether a run was trained as the published ones, so that they may stand side by side."""
    usual = {name: getattr(DEFAULT, name) for name in ("epochs", "batch_size", "lr", "fold")}
    return (
        config.get("encoder") in (ENCODER, None)
        and config.get("recipe", "study") == "study"
        and all(config.get(name, value) == value for name, value in usual.items())
    )


def study_note(rows: list[Row]) -> str:
    """What the columns of the table mean."""
    runs = [run for row in rows for run in row.runs]
    configs = [run.config["config"] for run in runs]
    recipes = sorted({config.get("recipe", "study") for config in configs})
    folds = len({config.get("fold") for config in configs}) > 1
    over = "seeds and folds" if folds else "seeds"
    note = iou_note(runs, "the test split")
    note += STUDY_NOTE.format(over=over, recipe=" or ".join(recipes))
    note += ECE_NOTE if any(len(row.runs) > 1 for row in rows) else ""
    note += PUBLISHED_NOTE if any(row.published is not None for row in rows) else ""
    return note + FOLDS_NOTE if folds else note


def study_table(rows: list[Row]) -> list[dict[str, str]]:
    """The table for people, every value as text."""
    score = iou_name([run for row in rows for run in row.runs])
    table = [_study_row(row, score) for row in rows]
    columns = [*max(table, key=len)]
    if not any(row["published"] for row in table):
        columns.remove("published")
    return [{name: row.get(name, "") for name in columns} for row in table]


def study_lines(rows: list[Row]) -> list[dict[str, str]]:
    """The table for programs: a number in each column of numbers, or nothing.

    Scores are means over the runs, with the interval of the mean by a bootstrap over images.
    per_image.csv lacks the numbers for `ece`, so `ece` has an interval only if there is one run.
    """
    names = list(
        dict.fromkeys(n for row in rows for run in row.runs for n in run.metrics["scores"])
    )
    beside = {"mean_of_folds": "test", "out_of_fold": OUT_OF_FOLD}
    beside = beside if any(row.together for row in rows) else {}
    return [
        _study_line(row, names)
        | {
            column: text
            for name, split in beside.items()
            for column, text in _columns_together(name, _together(row, split), names).items()
        }
        for row in rows
    ]


def _columns_together(prefix: str, scores: Mapping[str, Any], names: list[str]) -> dict[str, str]:
    """The scores of the folds together; the column of `iou` has the prefix alone as its name."""
    columns: dict[str, str] = {}
    for name in names:
        called = prefix if name == "iou" else f"{prefix}_{name}"
        columns |= numbers_of(called, scores.get(name, {}))
    return columns


def _study_line(row: Row, names: list[str]) -> dict[str, str]:
    first = row.runs[0]
    ious = ious_of(row.runs)
    courses = [course for run in row.runs if (course := course_of(run))]
    of_run = run_columns(first)
    return {
        **{name: of_run[name] for name in ("model", "encoder", "weights", "loss", "crop")},
        "parameters": of_run["parameters"],
        "data": data_name(first),
        "size": size_of_scores(first),
        "images": str(len(first.counts)),
        "runs": str(len(row.runs)),
        **score_columns(names, _mean_of_scores(row.runs)),
        "iou_sd": f"{statistics.stdev(ious):.6f}" if len(ious) > 1 else "",
        "constant": f"{constant_mask_iou(first.counts):.6f}",
        "published": "" if row.published is None else f"{row.published:g}",
        "minutes": f"{statistics.mean(course.minutes for course in courses):.3f}",
        "img_per_s": f"{statistics.mean(course.img_per_s for course in courses):.3f}",
    }


def _mean_of_scores(runs: list[ScoredRun]) -> dict[str, dict[str, Any]]:
    """The mean of each score over the runs, as in metrics.json."""
    if len(runs) == 1:
        return dict(runs[0].metrics["scores"])
    means = {
        name: {"value": statistics.mean(run.metrics["scores"][name]["value"] for run in runs)}
        for name in runs[0].metrics["scores"]
        if all(name in run.metrics["scores"] for run in runs)  # older versions had fewer
    }

    def of_mean(weights: Tensor) -> dict[str, Tensor]:
        found = [scores_of_images(run.counts, weights, run.means) for run in runs]
        return {
            name: torch.stack([one[name] for one in found]).mean(dim=0)
            for name in means
            if all(name in one for one in found)
        }

    intervals = with_intervals(len(runs[0].counts), of_mean)
    return means | {name: asdict(score) for name, score in intervals.items()}


def _together(row: Row, split: str) -> dict[str, Any]:
    """The scores of the folds together: of the mean of their models on test, or out of fold; empty
    where there are none."""
    found = row.together and read_scored_run(row.together, split)
    return dict(found.metrics["scores"]) if found else {}


def interval_of(runs: list[ScoredRun]) -> tuple[float, float]:
    """The 95 % interval of the mean of their `iou`."""
    ious = bootstrap(
        lambda w: torch.stack([resampled_iou(run.counts, w) for run in runs]).mean(dim=0),
        len(runs[0].counts),
    )
    return percentile_interval(ious)


def ious_of(runs: list[ScoredRun]) -> list[float]:
    """The main score of each run."""
    return [run.metrics["scores"]["iou"]["value"] for run in runs]


def by_cell(runs: list[ScoredRun], *others: str) -> dict[tuple[object, ...], list[ScoredRun]]:
    """Group runs that differ only in their seed, and in their weights unless `others` names
    these."""
    cells: dict[tuple[object, ...], list[ScoredRun]] = {}
    for run in runs:
        config = run.config["config"]
        names = ("dataset", "model", "encoder", *others)
        key = (size_of_scores(run), bool(config["crop"]), *(config.get(name) for name in names))
        cells.setdefault(key, []).append(run)
    return cells


def _study_row(row: Row, score: str) -> dict[str, str]:
    """The line for people; `score` is the name of the main score."""
    runs = row.runs
    first, images = runs[0], len(runs[0].counts)
    courses = [course for run in runs if (course := course_of(run))]
    seeds = {run.config["config"].get("seed", 0) for run in runs}
    low, high = interval_of(runs)
    thresholds = [t for run in runs if (t := run.metrics["threshold"]) is not None]
    mean, out_of_fold = _together(row, "test"), _together(row, OUT_OF_FOLD)
    return {
        **model_columns(first),
        f"{score} on test": over_seeds(ious_of(runs), 3),
        "95 % interval": f"{low:.3f} to {high:.3f}" if images > 1 else "",
        **({"mean of folds": with_interval(mean["iou"])} if mean else {}),
        **({"out of fold": with_interval(out_of_fold["iou"])} if out_of_fold else {}),
        "iou_image": over_seeds([r.metrics["scores"]["iou_image"]["value"] for r in runs], 3),
        "constant": f"{constant_mask_iou(first.counts):.3f}",
        "published": "" if row.published is None else f"{row.published:.3f}",
        "weights": first.config["config"]["weights"],
        "seeds": f"{len(seeds)}",
        "threshold": over_seeds(thresholds, 3) if thresholds else "",
        "best epoch": ", ".join(f"{course.best_epoch} of {course.epochs}" for course in courses),
        "minutes": over_seeds([course.minutes for course in courses], 1),
        "img/s": over_seeds([course.img_per_s for course in courses], 1),
    }


def over_seeds(values: list[float], digits: int) -> str:
    """The mean, with the standard deviation where there are several values."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
