"""Runs and their results on a split, grouped by the images that they were scored on."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from segacc.config.records import read_scored_record
from segacc.config.sizes import size_of_json, size_text
from segacc.errors import command, quoted
from segacc.labels import Labels
from segacc.metrics.tables import counts_of_rows, means_of_rows
from segacc.runs.epochs import read_epochs

OUT_OF_FOLD = "out-of-fold"
"""the split of all images that some run had for validation, each predicted by these runs"""


@dataclass(frozen=True)
class ScoredRun:
    """A run and its results on a split, without its images."""

    run: Path
    config: dict[str, Any]
    """config.json, or for several runs ensemble.json"""
    metrics: dict[str, Any]
    """metrics.json"""
    epochs: list[dict[str, Any]]
    """the lines of metrics.jsonl"""
    names: list[str]
    """the names of the N images"""
    counts: Tensor
    """(N, K, 4) float64: true positive, false positive, false negative, true negative pixels"""
    means: dict[str, Tensor]
    """the scores of each image, from `means_of_rows`"""

    @property
    def labels(self) -> Labels:
        """The classes that were scored."""
        return Labels.from_config(self.metrics.get("labels"))


def read_scored_run(run: Path, split: str) -> ScoredRun | None:
    """The results of a run on a split; None where it was not scored on it.

    Raises:
        InputError: the folder is not a run's.
    """
    config = read_scored_record(run)
    folder = run / split
    if not (folder / "metrics.json").exists():
        return None
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((folder / "per_image.csv").read_text(encoding="utf-8").splitlines()))
    counts = counts_of_rows(rows, Labels.from_config(metrics.get("labels")))
    names = [row["name"] for row in rows]
    return ScoredRun(run, config, metrics, read_epochs(run), names, counts, means_of_rows(rows))


def how_to_have(run: Path, results: str) -> str:
    """The command that scores a run into a folder of results, such as test or test-tta-hv."""
    if results == OUT_OF_FOLD:
        return f"`{command('evaluate')} RUN1 RUN2 ... --split valid`"
    split, *how = results.split("-")
    flags = f", with the flags that {results} names," if how else ""
    return f"`{command('evaluate')} {quoted(run)} --split {split}`{flags}"


def best_first(runs: list[ScoredRun]) -> list[ScoredRun]:
    """The runs by their main score."""
    return sorted(runs, key=lambda run: run.metrics["scores"]["iou"]["value"], reverse=True)


def iou_name(runs: list[ScoredRun]) -> str:
    """Return the name of the main score in tables of these runs."""
    return "miou" if all(run.labels.classes > 2 for run in runs) else "iou"


def iou_note(runs: list[ScoredRun], split: str) -> str:
    """What that score is, as the start of a sentence."""
    kinds = {run.labels.classes > 2 for run in runs}
    if kinds == {True}:
        return (
            f"miou is the mean over the classes of their iou over all pixels of {split}, iou_image "
            "the mean over its images of the same in each"
        )
    more = ", with more than two classes the mean over these (miou)" if True in kinds else ""
    return f"iou is over all pixels of {split}{more}, iou_image the mean over its images"


def with_interval(score: dict[str, float | None]) -> str:
    """A score of metrics.json for a table."""
    if score["value"] is None:
        return "absent"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


@dataclass(frozen=True)
class Course:
    """How the training of a run went."""

    best_epoch: int
    epochs: int
    minutes: float
    img_per_s: float


def course_of(run: ScoredRun) -> Course | None:
    """Return how the training went; None for several runs that were scored together."""
    if not run.epochs:
        return None
    return Course(
        best_epoch=int(max(run.epochs, key=lambda line: line["valid_iou"])["epoch"]),
        epochs=len(run.epochs),
        minutes=sum(line["seconds"] for line in run.epochs) / 60,
        img_per_s=statistics.median(line["img_per_s"] for line in run.epochs),
    )


def numbers_of(name: str, score: Mapping[str, float | None]) -> dict[str, str]:
    """A score of metrics.json for a program: its columns, with a number or nothing in each."""
    ends = {name: "value", f"{name}_low": "low", f"{name}_high": "high"}
    values = {column: score.get(end) for column, end in ends.items()}
    return {column: "" if v is None else f"{v:.6f}" for column, v in values.items()}


def groups_of(runs: list[ScoredRun]) -> dict[tuple[str, str, tuple[str, ...]], list[ScoredRun]]:
    """The runs by the images that they were scored on, fingerprint and size, and by the names of
    their classes, where these are more than two."""
    # An older version stored the fingerprint of the whole data set, not that of the split.
    of_split = {
        run.metrics["fingerprint"]: run.metrics["split_fingerprint"]
        for run in runs
        if "split_fingerprint" in run.metrics
    }
    groups: dict[tuple[str, str, tuple[str, ...]], list[ScoredRun]] = {}
    for run in runs:
        whole = run.metrics["fingerprint"]
        images = run.metrics.get("split_fingerprint") or of_split.get(whole, whole)
        groups.setdefault((images, size_of_scores(run), _classes_of(run)), []).append(run)
    return groups


def size_of_scores(run: ScoredRun) -> str:
    """The size that images had when the run was scored, as text."""
    return size_text(size_of_json(run.metrics["size"]))


def sizes_shown(run: ScoredRun) -> str:
    """Return the size at which the model saw the images and, if they were scored at another one,
    how."""
    seen = size_text(size_of_json(run.metrics.get("seen_size", run.metrics["size"])))
    scored = size_of_scores(run)
    return seen if seen == scored else f"{seen}, scored at {scored} size"


def way_of_scoring(run: ScoredRun) -> str:
    """Return what was unusual when the run was scored; empty if nothing was."""
    metrics = run.metrics
    given = (
        [f"--threshold {metrics['threshold']:g}"] if metrics["threshold_from"] == "given" else []
    )
    given += [f"--tta {metrics['tta']}"] if metrics["tta"] != "none" else []
    given += [f"--tile {metrics['tile']}"] if metrics["tile"] else []
    return f"with {' '.join(given)}" if given else ""


def notes_of(runs: list[ScoredRun]) -> list[str]:
    """Why the table may mislead, in sentences."""
    ways = {run.run: way for run in runs if (way := way_of_scoring(run))}
    mixed = any(len({way_of_scoring(run) for run in g}) > 1 for g in groups_of(runs).values())
    notes = [f"{run} was scored {way}" for run, way in ways.items()] if mixed else []
    if mixed:
        notes.append("runs that were scored in different ways are not compared with each other")
    return notes + [f"{run.run}: {note}" for run in runs for note in run.metrics.get("notes", [])]


def data_name(run: ScoredRun) -> str:
    return Path(run.metrics["dataset"].rstrip("/")).name


def data_labels(runs: list[ScoredRun]) -> dict[Path, str]:
    """Name the data of each run in the table; sets of one name get a part of the fingerprint."""
    names = [(data_name(group[0]), key) for key, group in groups_of(runs).items()]
    labels = {}
    for (fingerprint, size, _), group in groups_of(runs).items():
        shared = sum(name == data_name(group[0]) and key[1] == size for name, key in names) > 1
        for run in group:
            crop = f", crop {crop}" if (crop := run.config["config"]["crop"]) else ""
            digits = f" ({fingerprint[:8]})" if shared else ""
            labels[run.run] = f"{data_name(run)} {sizes_shown(run)}{crop}{digits}"
    return labels


def _names_of(run: ScoredRun) -> list[str]:
    return run.names


def _classes_of(run: ScoredRun) -> tuple[str, ...]:
    """The names of more than two classes; empty for two, where the names do not matter."""
    return run.labels.names if run.labels.classes > 2 else ()


def report_groups(runs: list[ScoredRun]) -> list[list[ScoredRun]]:
    """The runs of each report: of the same images, also at several sizes.

    The fingerprint depends on the size. So images of two sizes are taken for the same where their
    names and the classes are the same and the data set is called the same.
    """
    reports: list[dict[str, list[ScoredRun]]] = []
    for (_, size, _), group in groups_of(runs).items():
        for by_size in reports:
            first = next(iter(by_size.values()))[0]
            same = all(of(first) == of(group[0]) for of in (_names_of, data_name, _classes_of))
            if same and size not in by_size:
                by_size[size] = group
                break
        else:
            reports.append({size: group})
    return [[run for group in by_size.values() for run in group] for by_size in reports]
