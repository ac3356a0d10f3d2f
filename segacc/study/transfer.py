"""The table of the gain from pretrained weights: runs from these beside runs from random ones."""

from __future__ import annotations

import statistics
from typing import Any

from segacc.evaluation.compare import model_columns
from segacc.evaluation.scored_runs import ScoredRun, iou_name
from segacc.metrics.counts import constant_mask_iou
from segacc.study.table import by_cell, interval_of, ious_of, over_seeds

DASH, MARK = "\N{EN DASH}", " *"
ABOUT_MARK = (
    "*: no better than the best constant mask, as far as the images tell: its 95 % interval begins "
    "at or below that score."
)
BY_START = ("augment", "lr", "patience")
"""flags whose defaults may depend on the weights at the start"""


def transfer_table(runs: list[ScoredRun]) -> list[dict[str, str]]:
    """Return a line for each model, data set and kind of pretrained weights, with the gain over
    random ones. The table is empty if the runs do not have both starts; a model that lacks one has
    a dash there."""
    score, rows = iou_name(runs), []
    if len({run.config["config"]["weights"] == "none" for run in runs}) < 2:
        return []
    for cell in by_cell(runs).values():
        by_start = by_cell(cell, "weights").values()
        starts = {seeds[0].config["config"]["weights"]: seeds for seeds in by_start}
        random = starts.pop("none", [])
        for weights, pretrained in (starts or {DASH: []}).items():
            gain = DASH
            if random and pretrained:
                means = [statistics.mean(ious_of(seeds)) for seeds in (random, pretrained)]
                gain = f"{means[1] - means[0]:+.3f}"
            rows.append(
                {
                    **model_columns(cell[0]),
                    f"{score} from random weights": _marked(random),
                    "pretrained": weights,
                    f"{score} from these": _marked(pretrained),
                    "gain": gain,
                }
            )
    return rows


def transfer_note(table: list[dict[str, str]], runs: list[ScoredRun]) -> str:
    """What a mark in the table of `transfer_table` means, and which flags are not the same from
    random weights; empty if there is nothing to say."""
    marked = any(cell.endswith(MARK) for row in table for cell in row.values())
    starts: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for config in (run.config["config"] for run in runs):
        starts[config["weights"] == "none"].append(config)
    differing = [
        f"--{name}"
        for name in BY_START
        if len({frozenset(str(c.get(name)) for c in configs) for configs in starts.values()}) > 1
    ]
    notes = [ABOUT_MARK] if marked else []
    if differing:
        notes.append(
            f"From random weights the recipe has other values of {', '.join(differing)}, so the "
            "gain is not that of the weights alone: give these flags to have the same in all runs."
        )
    return " ".join(notes)


def _marked(seeds: list[ScoredRun]) -> str:
    """The score over the seeds, with a mark if it is no better than a constant mask as far as the
    images tell; a dash without seeds."""
    if not seeds:
        return DASH
    low, _ = interval_of(seeds)
    mark = MARK if low <= constant_mask_iou(seeds[0].counts) else ""
    return over_seeds(ious_of(seeds), 3) + mark
