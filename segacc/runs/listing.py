"""Which runs there are, how each is doing, and what to do next; and which states may go.

This module imports nothing heavy, so that `segacc runs` is instant.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segacc.config.records import ENSEMBLE, read_run_record, read_scored_record
from segacc.config.train import is_own
from segacc.errors import InputError, command, how_to_score, quoted
from segacc.runs.epochs import read_epochs
from segacc.runs.status import (
    StateName,
    Status,
    held_by_nobody_else,
    mark_as_cleaned,
    read_status,
)

log = logging.getLogger(__name__)

DEEPEST = 3
"""runs are looked for up to this many folders below a given one; those of a study are in
runs/study"""


@dataclass(frozen=True)
class ListedRun:
    """A run as `segacc runs` shows it."""

    path: Path
    state: StateName
    why: str
    """the reason, as a sentence, if it was stopped or has failed"""
    epochs: int
    """epochs that are done"""
    most_epochs: int
    best: float | None
    """the largest validation IoU; None before the first epoch"""
    best_epoch: int
    size: int
    """bytes on the disk"""
    size_of_states: int
    """bytes, how many of them are saved states"""
    used: float
    """when it was last trained, in seconds as of `time.time()`"""
    has_model: bool
    cleaned: bool
    next: str
    """the command, or the file to open; empty while it is trained"""

    @property
    def may_be_cleaned(self) -> bool:
        """Whether its states are of no more use: it is finished, and has its best model."""
        return self.state == "finished" and self.has_model and self.size_of_states > 0


def list_runs(folders: Iterable[Path]) -> list[ListedRun]:
    """The runs in these folders and below them, the one that was last trained as the last one.

    Raises:
        InputError: a folder does not exist.
    """
    found = {}
    for folder in folders:
        folder = folder.expanduser()
        if folder == Path("runs") and not folder.exists():  # nobody has trained here
            continue
        if not folder.is_dir():
            kind = "is a file" if folder.exists() else "does not exist"
            raise InputError(f"{folder} {kind}: expected a folder with runs, such as runs.")
        for run, record in _runs_below(folder, DEEPEST):
            try:
                found[run.resolve()] = _listed(run, record)
            except (json.JSONDecodeError, KeyError):
                log.warning("%s is left out: its metrics.jsonl is damaged", run)
    return sorted(found.values(), key=lambda run: run.used)


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder and below it, those that were scored together as one; the folder itself
    if it has none."""
    if not folder.is_dir():
        return [folder]
    return [run for run, _ in _runs_below(folder, DEEPEST, read_scored_record)] or [folder]


def _runs_below(
    folder: Path, depth: int, read: Callable[[Path], dict[str, Any]] = read_run_record
) -> Iterator[tuple[Path, dict[str, Any]]]:
    if (folder / "config.json").is_file() or (folder / ENSEMBLE).is_file():
        try:
            record = read(folder)
        except InputError:  # the config of something else
            return
        yield folder, record
        return
    if depth == 0:
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _runs_below(entry, depth - 1, read)


def _listed(run: Path, record: dict[str, Any], held: bool = False) -> ListedRun:
    config, lines = record["config"], read_epochs(run)
    best = max(lines, key=lambda line: line["valid_iou"], default=None)  # the first of several
    status = _status_of(read_status(run, held), run, config, lines, best)
    has_model = (run / "best" / "model.safetensors").is_file()
    return ListedRun(
        path=run,
        state=status.state,
        why=status.why,
        epochs=len(lines),
        most_epochs=config.get("epochs", 0),
        best=best["valid_iou"] if best else None,
        best_epoch=best["epoch"] if best else 0,
        size=sum(_files(run).values()),
        size_of_states=sum(_files(run / "checkpoints").values()),
        used=max((run / name).stat().st_mtime for name in _dated(run)),
        has_model=has_model,
        cleaned=status.cleaned,
        next=_next(run, record, status.state),
    )


def _dated(run: Path) -> Iterator[str]:
    return (name for name in ("config.json", "metrics.jsonl") if (run / name).exists())


def _files(folder: Path) -> dict[Path, int]:
    """The sizes of all files in a folder and in those below it."""
    sizes = {}
    for place, _, names in os.walk(folder):
        for name in names:
            # A link may lead nowhere, and a training removes files.
            with suppress(FileNotFoundError):
                sizes[Path(place, name)] = os.stat(Path(place, name)).st_size
    return sizes


def _status_of(
    status: Status | None,
    run: Path,
    config: dict[str, Any],
    lines: list[dict[str, Any]],
    best: dict[str, Any] | None,
) -> Status:
    """Return the status of a run; for a run of an older version, what its files say."""
    if status is not None and status.state != "finished":
        return status
    last = lines[-1]["epoch"] if lines else 0
    waited = last - best["epoch"] if best else 0
    # The config is from the last resume, which may have asked for more epochs.
    ended = last >= config.get("epochs", 0) or waited >= config.get("patience", last + 1)
    if status is not None and ended:
        return status
    saved = [_epoch_of(file.name) for file in _files(run / "checkpoints")]
    known = [epoch for epoch in saved if epoch]
    if status is None and ended and lines and max(known, default=last) >= last:
        return Status("finished")
    return Status("stopped")


def _epoch_of(name: str) -> int:
    """The epochs that were done in a state, by its name; 0 for another file."""
    found = re.match(r"epoch-(\d+)-step-\d+\.safetensors$", name)
    return int(found[1]) if found else 0


def _next(run: Path, record: dict[str, Any], state: StateName) -> str:
    if state == "training":
        return ""
    own = is_own(record["config"].get("model", ""))
    if state != "finished" and own:
        return f"segacc.train(resume={str(run)!r}, model=net)"
    if state != "finished":
        return f"{command('train')} --resume {quoted(run)}"
    images = record.get("data", {}).get("images", {"test": 1})
    split = "test" if "test" in images else "valid"
    report = run / split / "report.html"
    if report.is_file():
        return quoted(report)
    return how_to_score(run, split, own)


def clean(run: Path) -> int:
    """Remove the saved states of a finished run, from which it could only be continued with more
    epochs. Its model, its results and all else stay.

    Returns:
        the bytes that are free now; 0 where the run is not finished any more.

    Raises:
        InputError: a process trains it at this moment.
    """
    with held_by_nobody_else(run, wait=0):
        now = _listed(run, read_run_record(run), held=True)  # what was listed may be old
        if not now.may_be_cleaned:
            return 0
        mark_as_cleaned(run)
        shutil.rmtree(run / "checkpoints")
    return now.size_of_states
