"""The commands on runs: runs, compare and dashboard.

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


Folders = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDERS...]")]


def runs(folders: Folders = (Path("runs"),), clean: bool = False) -> None:
    """List runs: their states, best scores, and what to do next.

    A run is trained now, stopped, failed or finished. With --clean, free the disk of what finished
    runs do not need.

    Args:
        folders: runs, or folders with runs in them.
        clean: remove the saved states of the finished runs, from which they could only be continued
            with more --epochs. Models and results stay, and so do runs that are not finished.
    """
    from segacc.runs.listing import list_runs
    from segacc.runs.table import cleaned, overview

    found = list_runs(folders)
    print(cleaned(found) if clean else overview(found, folders))


def compare(runs: Runs, split: str = "test", out: Path = Path("comparison")) -> None:
    """Put trained models into one table, each compared with the best one.

    Scores have intervals, and a report shows the images.

    Args:
        runs: runs that `segacc evaluate` has scored, or folders with runs in them, such as runs/*
        split: the split that they were scored on, or another folder of results: test-tta-hv.
        out: folder for comparison.md, comparison.csv and a report for each data set.
    """
    from segacc.evaluation.compare import compare as compare_runs
    from segacc.runs.listing import runs_in

    compare_runs([run for folder in runs for run in runs_in(folder)], split, out)


def dashboard(project: str = "segacc", entity: str | None = None, out: Path | None = None) -> None:
    """Build the project's workspace in W&B.

    It has panels for training, validation, throughput, pictures and models.

    Args:
        project: the project that runs are logged to.
        entity: a user or a team of W&B; by default the owner of the key.
        out: write what would be sent into this file instead, as JSON; needs no key and no network.
    """
    from segacc.tracking.dashboard import save_workspace, write_workspace

    if out is not None:
        write_workspace(out, entity or "", project)
        print(f"written: {out}")
    else:
        print(f"saved: {save_workspace(entity, project)}")
