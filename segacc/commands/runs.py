"""The commands on runs: compare and dashboard.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

Runs = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUNS...", help_behavior_hint="(required)"),
]


def compare(runs: Runs, split: str = "test", out: Path = Path("comparison")) -> None:
    """Put trained models into one table, each compared with the best one.

    Scores have intervals, and a report shows the images.

    Args:
        runs: folders of runs that `segacc evaluate` has scored, such as runs/*
        split: the split that they were scored on, or another folder of results: test-tta-hv.
        out: folder for comparison.md, comparison.csv and a report for each data set.
    """
    from segacc.evaluation.compare import compare as compare_runs

    compare_runs(list(runs), split, out)


def dashboard(project: str = "segacc", entity: str | None = None, out: Path | None = None) -> None:
    """Build the project's workspace in W&B.

    It has panels for training, validation, throughput, pictures and models.

    Args:
        project: the project that runs are logged to.
        entity: a user or a team of W&B; by default who the key belongs to.
        out: write what would be sent into this file instead, as JSON; needs no key and no network.
    """
    from segacc.tracking.dashboard import save_workspace, write_workspace

    if out is not None:
        write_workspace(out, entity or "", project)
        print(f"written: {out}")
    else:
        print(f"saved: {save_workspace(entity, project)}")
