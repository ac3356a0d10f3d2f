"""segacc.evaluate(): what evaluate.py does, as a function that returns the scores."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from segacc.api.flags import checked, with_flags_of
from segacc.config.checks import check_evaluate
from segacc.config.evaluate import EvaluateConfig
from segacc.errors import InputError
from segacc.evaluation.evaluate import evaluate as evaluate_run
from segacc.metrics.intervals import Score


@dataclass(frozen=True)
class Scores:
    """The scores of a model on a split. Each has a `value`, and `low` and `high` of its 95 %
    interval, over resamples of the images (None for one image)."""

    folder: Path
    """the folder of the results, with metrics.json and the pictures"""
    all: dict[str, Score]
    """by name: iou, dice, precision, recall and others; metrics.json has their formulas"""
    per_image: list[dict[str, Any]]
    """for each image its `name`, pixel counts and scores, as in per_image.csv; pandas.DataFrame
    takes it. The IoU of a class is NaN if the class is neither in the mask nor predicted"""
    per_class: dict[str, dict[str, Score]]
    """for each class its scores; empty where there are two classes"""
    members: dict[str, dict[str, Score]]
    """for several runs: the iou, iou_image and dice of each run on the images that it predicted, by
    the path of its folder; empty for one run"""
    threshold: float | None
    """a pixel is foreground where its probability is above this; None with more than two classes"""

    @property
    def iou(self) -> float:
        """The IoU of the foreground over all pixels; with more than two, the mean over classes."""
        return self.all["iou"].value

    @property
    def report(self) -> Path:
        """A page with all scores and pictures, for a browser."""
        return self.folder / "report.html"


@with_flags_of(EvaluateConfig)
def evaluate(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    net: nn.Module | None = None,
    **flags: Any,
) -> Scores:
    """Score a trained model: every flag of evaluate.py is an argument of the same name.

    The results are written into the run's folder and printed, as evaluate.py does.

    Args:
        run: what `segacc.train` has returned, or a run's folder; or a list of several: then the
            mean of their probabilities is scored, and each run by itself as well
            (`Scores.members`).
        net: the network of the run, where it was given as an object.
        **flags: such as `split="valid"`; the test split is scored without it.

    Raises:
        InputError: something that was given has to be changed. It is a ValueError.
        TypeError: a flag does not exist.

    >>> import segacc
    >>> scores = segacc.evaluate("runs/first", split="valid")
    >>> 0 <= scores.iou <= 1 and scores.report.exists()
    True
    """
    several = run if isinstance(run, Sequence) and not isinstance(run, str) else [run]
    if not several:
        raise InputError("run: expected a run or several, found an empty list.")
    first, *others = [Path(one).expanduser() for one in several]
    given = {"others": tuple(others)} | checked(EvaluateConfig, flags, "evaluate")
    config = EvaluateConfig(first, **given)
    check_evaluate(config)
    return read_scores(evaluate_run(config, net))


def read_scores(folder: Path) -> Scores:
    """The scores that an evaluation has written into a folder."""
    record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
        rows = [
            {key: value if key == "name" else float(value or "nan") for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    return Scores(
        folder=folder,
        all={name: Score(**score) for name, score in record["scores"].items()},
        per_image=rows,
        per_class={
            of_class["name"]: {k: Score(**v) for k, v in of_class.items() if isinstance(v, dict)}
            for of_class in record.get("per_class", [])
        },
        members={
            one["run"]: {name: Score(**score) for name, score in one["scores"].items()}
            for one in record.get("members", [])
        },
        threshold=record["threshold"],
    )
