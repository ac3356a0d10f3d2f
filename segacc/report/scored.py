"""What evaluate.py wrote about a run on a split, read for a report."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segacc.config.records import read_scored_record
from segacc.data.split import Split
from segacc.errors import InputError, command
from segacc.labels import Labels
from segacc.metrics.thresholds import LEVELS
from segacc.report.pictures import detail_folder, find_pictures
from segacc.runs import read_epochs


@dataclass(frozen=True, eq=False)
class Scored:
    """A run's results on a split. Image i is the one of `names[i]`."""

    name: str  # of the run
    model: str  # the architecture, and its encoder
    config: dict[str, Any]  # of config.json, with all defaults filled in
    epochs: list[dict[str, Any]]  # the lines of metrics.jsonl
    metrics: dict[str, Any]  # metrics.json
    rows: list[dict[str, str]]  # of per_image.csv
    names: list[str]
    split: Split
    folder: Path  # of the results
    pictures: list[Path]  # a picture for each image: of levels, or the predicted label map

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.split[index][0]

    def mask(self, index: int) -> np.ndarray:
        """(H, W) uint8, a label map."""
        return self.split[index][1]

    def found(self, index: int) -> np.ndarray:
        """(H, W) uint8, of what the run found: of two classes, the probability of foreground is
        above k / 256 where the level is k or more, for k > 0; of more classes, the predicted label
        map.

        Raises:
            InputError: the file is missing, damaged or not of the mask's size.
        """
        path = self.pictures[index]
        try:
            with Image.open(path) as picture:
                levels = np.asarray(picture)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error}): {_again(self.folder)}.") from None
        height, width = self.mask(index).shape
        if levels.shape != (height, width) or levels.dtype != np.uint8:
            raise InputError(
                f"{path} is no 8-bit gray picture of {width} x {height} px, the size of the mask: "
                f"{_again(self.folder)}."
            )
        return levels

    @property
    def labels(self) -> Labels:
        """The classes that were scored; segacc 0.1.0 had two and did not write them."""
        return Labels.from_config(self.metrics.get("labels"))

    @property
    def data(self) -> str:
        """The name of the data set: of a folder or an archive without the way to it."""
        return Path(str(self.metrics["dataset"]).rstrip("/")).name

    @property
    def threshold(self) -> float:
        """The threshold of the scores."""
        return float(self.metrics["threshold"])

    @property
    def level(self) -> int:
        """The k for which k / 256 is the threshold, or nearest to it."""
        return min(max(round(self.threshold * LEVELS), 1), LEVELS - 1)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the largest validation IoU: its model was kept."""
        best = max(self.epochs, key=lambda line: line["valid_iou"], default=None)
        return None if best is None else int(best["epoch"])


def read_scored(run: Path, folder: Path, split: Split) -> Scored:
    """Read what evaluate.py wrote.

    Args:
        run: the run's folder, with config.json and metrics.jsonl.
        folder: the results, with metrics.json, per_image.csv and the pictures of what was found.
        split: the images that were scored, prepared at the size at which they were scored.

    Raises:
        InputError: a file is missing or damaged, or belongs to other images.
    """
    path = run
    try:
        config = read_scored_record(run)["config"]
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        path = folder / "per_image.csv"
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}): {_again(folder)}.") from None
    if [row.get("name") for row in rows] != split.names:
        raise InputError(
            f"{path} is of other images than the {len(split)} of the prepared split: "
            f"{_again(folder)}."
        )
    labels = Labels.from_config(metrics.get("labels"))
    # As in the run's banner: models of transformers have no separate encoder, and several runs none
    # that all have.
    whole = config["model"] == "segformer" or "/" in config["model"] or not config.get("encoder")
    return Scored(
        name=run.resolve().name,
        model=config["model"] if whole else f"{config['model']} ({config['encoder']})",
        config=config,
        epochs=read_epochs(run),
        metrics=metrics,
        rows=rows,
        names=split.names,
        split=split,
        folder=folder,
        pictures=find_pictures(folder / detail_folder(labels), split.names),
    )


def label_runs(runs: list[Scored]) -> list[str]:
    """The runs' models; the runs' names if two have the same model, with numbers if needed."""
    names = [run.model for run in runs]
    if len(set(names)) < len(names):
        names = [run.name for run in runs]
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _again(folder: Path) -> str:
    return f"score the run again with `{command('evaluate')}`, which writes {folder}"
