"""The table of the study: a line for each model and data set, over its seeds."""

from __future__ import annotations

import statistics

import torch

from segacc.evaluation.compare import model_columns
from segacc.evaluation.scored_runs import ScoredRun, iou_name, iou_note, size_of_scores
from segacc.metrics.counts import constant_mask_iou, resampled_iou
from segacc.metrics.intervals import bootstrap, percentile_interval

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
    "; mean ± standard deviation over seeds. 95 % interval: of the same score, by a bootstrap over "
    "images. constant: the score of the best constant mask. threshold: with two classes, the one "
    "that validation picked, at which masks are scored. published: IoU on test in the study, from "
    "pretrained weights; it does not say which IoU."
)


def study_note(runs: list[ScoredRun]) -> str:
    """What the columns of the table mean."""
    return iou_note(runs, "the test split") + STUDY_NOTE


def study_table(runs: list[ScoredRun]) -> list[dict[str, str]]:
    """A line for each model and data set, over its seeds, in the study's order."""
    score = f"{iou_name(runs)} on test"
    rows = []
    for seeds in _by_cell(runs, "weights").values():
        config = seeds[0].config["config"]
        is_the_studys = config.get("encoder") in ("resnet34", None)
        is_the_studys &= config.get("recipe", "study") == "study"
        cell = (config["dataset"], bool(config["crop"]))
        published = PUBLISHED.get(cell, {}) if is_the_studys else {}
        rows.append(_study_row(seeds, score, published.get(config["model"])))
    return rows


def transfer_table(runs: list[ScoredRun]) -> list[dict[str, str]]:
    """A line for each model, data set and kind of pretrained weights, where there is a run from
    random weights as well: what the pretrained ones gave."""
    score, rows = iou_name(runs), []
    for cell in _by_cell(runs).values():
        by_start = _by_cell(cell, "weights").values()
        starts = {seeds[0].config["config"]["weights"]: _scores(seeds) for seeds in by_start}
        random = starts.pop("none", [])
        for weights, pretrained in starts.items() if random else ():
            gain = statistics.mean(pretrained) - statistics.mean(random)
            rows.append(
                {
                    **model_columns(cell[0]),
                    f"{score} from random weights": _over_seeds(random, 3),
                    "pretrained": weights,
                    f"{score} from these": _over_seeds(pretrained, 3),
                    "gain": f"{gain:+.3f}",
                }
            )
    return rows


def _scores(runs: list[ScoredRun]) -> list[float]:
    return [run.metrics["scores"]["iou"]["value"] for run in runs]


def _by_cell(runs: list[ScoredRun], *others: str) -> dict[tuple[object, ...], list[ScoredRun]]:
    """Runs that differ in their seed only, and in their weights unless `others` names these."""
    cells: dict[tuple[object, ...], list[ScoredRun]] = {}
    for run in runs:
        config = run.config["config"]
        names = ("dataset", "model", "encoder", *others)
        key = (size_of_scores(run), bool(config["crop"]), *(config.get(name) for name in names))
        cells.setdefault(key, []).append(run)
    return cells


def _study_row(seeds: list[ScoredRun], score: str, published: float | None) -> dict[str, str]:
    """The line of runs that differ only in their seed; `score` is the name of its main column."""
    first = seeds[0]
    images = len(first.counts)
    best_epochs = [max(run.epochs, key=lambda line: line["valid_iou"])["epoch"] for run in seeds]
    minutes = [sum(line["seconds"] for line in run.epochs) / 60 for run in seeds]
    speeds = [statistics.median(line["img_per_s"] for line in run.epochs) for run in seeds]
    ious = bootstrap(
        lambda w: torch.stack([resampled_iou(run.counts, w) for run in seeds]).mean(dim=0), images
    )
    low, high = percentile_interval(ious)
    thresholds = [t for run in seeds if (t := run.metrics["threshold"]) is not None]
    return {
        **model_columns(first),
        score: _over_seeds(_scores(seeds), 3),
        "95 % interval": f"{low:.3f} to {high:.3f}" if images > 1 else "",
        "iou_image": _over_seeds([r.metrics["scores"]["iou_image"]["value"] for r in seeds], 3),
        "constant": f"{constant_mask_iou(first.counts):.3f}",
        "published": "" if published is None else f"{published:.3f}",
        "weights": first.config["config"]["weights"],
        "seeds": f"{len(seeds)}",
        "threshold": _over_seeds(thresholds, 2) if thresholds else "",
        "best epoch": ", ".join(
            f"{best} of {len(run.epochs)}" for best, run in zip(best_epochs, seeds, strict=True)
        ),
        "minutes": _over_seeds(minutes, 1),
        "img/s": _over_seeds(speeds, 1),
    }


def _over_seeds(values: list[float], digits: int) -> str:
    """The mean, with the standard deviation where there are several values."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
