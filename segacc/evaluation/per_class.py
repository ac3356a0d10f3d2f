"""The IoU of each class, of runs beside each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from segacc.evaluation.scored_runs import (
    ScoredRun,
    best_first,
    data_labels,
    groups_of,
    with_interval,
)


def class_tables(runs: list[ScoredRun]) -> list[tuple[str, list[dict[str, str]]]]:
    """For each data set of more than two classes, its name and its table: a line for each class, a
    column for each run, the best first, every value as text."""
    called = data_labels(runs)
    columns = _column_names(runs)
    tables = []
    for group in _groups_of_classes(runs):
        lines = zip(*(run.metrics["per_class"] for run in group), strict=True)
        table = [
            {"class": of_runs[0]["name"], "of pixels": f"{of_runs[0]['share']:.2%}"}
            | {
                columns[run.run]: with_interval(one["iou"])
                for run, one in zip(group, of_runs, strict=True)
            }
            for of_runs in lines
        ]
        tables.append((called[group[0].run], table))
    return tables


def class_lines(runs: list[ScoredRun]) -> list[dict[str, str]]:
    """Return the same table for a program: a line for each run and class, with numbers; empty where
    a class is in no mask and was never predicted."""
    called = data_labels(runs)
    return [
        {
            "data": called[run.run],
            "run": run.run.name,
            "class": one["name"],
            "pixels": str(one["pixels"]),
            **{
                name: "" if one["iou"][end] is None else f"{one['iou'][end]:.6f}"
                for name, end in (("iou", "value"), ("low", "low"), ("high", "high"))
            },
        }
        for group in _groups_of_classes(runs)
        for run in group
        for one in run.metrics["per_class"]
    ]


def _groups_of_classes(runs: list[ScoredRun]) -> list[list[ScoredRun]]:
    """The runs with several classes by the images and the classes that they were scored on, the
    best first."""
    groups: dict[tuple[Any, ...], list[ScoredRun]] = {}
    for key, group in groups_of(runs).items():
        for run in best_first(group):
            if "per_class" in run.metrics:
                groups.setdefault((key, run.labels.names), []).append(run)
    return list(groups.values())


def _column_names(runs: list[ScoredRun]) -> dict[Path, str]:
    """Name the column of each run: by its folder, or by its path if two folders have one name."""
    names = Counter(run.run.name for run in runs)
    return {run.run: str(run.run) if names[run.run.name] > 1 else run.run.name for run in runs}
