"""Read what evaluate.py wrote about a run on a split, for a report."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segacc.config.flags import command_of
from segacc.config.records import read_config, read_scored_record
from segacc.data.split import Split
from segacc.errors import InputError, command
from segacc.labels import Labels
from segacc.metrics.thresholds import LEVELS
from segacc.report.pictures import detail_folder, find_pictures
from segacc.runs.epochs import read_epochs


@dataclass(frozen=True, eq=False)
class Scored:
    """A run's results on a split. Image i is the one of `names[i]`."""

    name: str  # of the run
    model: str  # the architecture, and its encoder
    record: dict[str, Any]  # config.json
    epochs: list[dict[str, Any]]  # the lines of metrics.jsonl
    metrics: dict[str, Any]  # metrics.json
    rows: list[dict[str, str]]  # of per_image.csv
    names: list[str]
    split: Split
    folder: Path  # of the results
    pictures: list[Path]  # a picture for each image: of levels, or the predicted label map

    @property
    def config(self) -> dict[str, Any]:
        """The flags, with all defaults filled in."""
        return dict(self.record["config"])

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.split[index][0]

    def mask(self, index: int) -> np.ndarray:
        """(H, W) uint8, a label map."""
        return self.split[index][1]

    def found(self, index: int) -> np.ndarray:
        """Return what the run found, (H, W) uint8. For two classes these are levels: the
        probability of foreground is above k / 256 where the level is k or more, for k > 0. For more
        classes it is the predicted label map.

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
        """The name of the data set; for a folder or an archive, without its path."""
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
    def is_no_better_than_constant(self) -> bool:
        """The result of `is_no_better_than_constant` for its metrics.json."""
        return is_no_better_than_constant(self.metrics)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the largest validation IoU: its model was kept."""
        best = max(self.epochs, key=lambda line: line["valid_iou"], default=None)
        return None if best is None else int(best["epoch"])


def is_no_better_than_constant(metrics: dict[str, Any]) -> bool:
    """Whether the 95 % interval of a run's `iou` reaches down to that of the best constant mask: as
    far as the images tell, the model has learnt nothing."""
    iou = metrics["scores"]["iou"]
    lowest = iou["value"] if iou["low"] is None else iou["low"]
    return bool(lowest <= metrics["constant_mask_iou"])


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
        record = read_scored_record(run)
        config = record["config"]
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
        record=record,
        epochs=read_epochs(run),
        metrics=metrics,
        rows=rows,
        names=split.names,
        split=split,
        folder=folder,
        pictures=find_pictures(folder / detail_folder(labels), split.names),
    )


def facts(run: Scored) -> list[tuple[str, str]]:
    """Return what a reader asks first about a run, as names and texts; facts that an older version
    did not write are left out."""
    record, metrics = run.record, run.metrics
    scored = [day(metrics.get("scored")), metrics.get("device", "")]
    scored.append(f"segacc {metrics['version']}" if "version" in metrics else "")
    if "members" in record:
        rows, command = _facts_of_members(record), metrics.get("command")
    else:
        rows, command = _facts_of_training(run), command_of(read_config(run.config))
    rows |= {
        "scored on": f"{metrics['images']} images of {metrics['split']}",
        "scored": ", ".join(filter(None, scored)),
    }
    return [(name, text) for name, text in [*rows.items(), ("command", command)] if text]


def _facts_of_members(record: dict[str, Any]) -> dict[str, str]:
    """Return the facts about several runs whose mean was scored."""
    return {
        "mean of": ", ".join(Path(run).name for run in record["members"]),
        "parameters": f"{record['parameters']['whole'] / 1e6:.1f} M of all together",
    }


def facts_of_each(run: Scored) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the name of each of several runs, and how it was trained; empty for one run, and if an
    older version did not write it."""
    record = run.record
    return [
        (
            Path(member).name,
            [
                ("trained", _trained(one)),
                *([("command", text)] if (text := one["command"]) else []),
            ],
        )
        for member, one in zip(record.get("members", []), record.get("training", []), strict=False)
    ]


def _trained(record: dict[str, Any]) -> str:
    """Say when, where and with what a run was trained.

    Args:
        record: the content of config.json.
    """
    told = [day(record.get("started")), record.get("device") or ""]
    if (record.get("processes") or 1) > 1:
        told.append(f"{record['processes']} processes")
    told.append(about_version(record.get("versions") or {}, record.get("git_commit")))
    return ", ".join(filter(None, told))


def _facts_of_training(run: Scored) -> dict[str, str]:
    """Return the facts about the training of one run."""
    config, record = read_config(run.config), run.record
    images = record.get("data", {}).get("images", {})
    parameters = record.get("parameters", {}).get("whole")
    epochs = f"{len(run.epochs)} of at most {config.epochs}, the best was {run.best_epoch}"
    return {
        "model": run.model + (f", {parameters / 1e6:.1f} M parameters" if parameters else ""),
        "weights": f"started from {config.weights}" if config.weights else "",
        "loss": config.loss,
        "epochs": epochs if run.epochs else "",
        "learnt from": f"{images['train']} images" if "train" in images else "",
        "validated on": f"{images['valid']} images" if "valid" in images else "",
        "trained": _trained(record),
    }


def day(stamp: str | None) -> str:
    """A time of a record as people write it: 2026-11-29 14:05."""
    return stamp[:16].replace("T", " ") if stamp else ""


def about_version(versions: dict[str, str], commit: str | None) -> str:
    """segacc 0.1.0 (commit 0123abc), torch 2.9.0"""
    texts = [f"{name} {versions[name]}" for name in ("segacc", "torch") if name in versions]
    if texts and commit:
        texts[0] += f" (commit {commit[:7]}{'+' if commit.endswith('+') else ''})"
    return ", ".join(texts)


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
