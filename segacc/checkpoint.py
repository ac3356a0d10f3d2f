"""States to resume from, written so that a complete one is always there."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from segacc.config import InputError
from segacc.models import Segmenter

KEEP = 2


@dataclass(frozen=True)
class Progress:
    """Where a run is. With the tensors of a state, all that a run remembers."""

    step: int = 0
    """optimizer steps done"""
    epoch: int = 0
    """epochs done"""
    best_iou: float = -1.0
    best_epoch: int = 0
    """the epoch (counted from 1) of the best validation IoU"""
    epochs_without_gain: int = 0

    def after_epoch(self, step: int, iou: float) -> Progress:
        """The progress after one more epoch that ended at `step` with validation IoU `iou`."""
        gained = iou > self.best_iou
        return Progress(
            step=step,
            epoch=self.epoch + 1,
            best_iou=iou if gained else self.best_iou,
            best_epoch=self.epoch + 1 if gained else self.best_epoch,
            epochs_without_gain=0 if gained else self.epochs_without_gain + 1,
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(run: Path) -> Iterator[None]:
    """Say it in a sentence when the run's folder cannot be written.

    Raises:
        InputError: the disk is full or not writable; the states before are untouched.
    """
    try:
        yield
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise InputError(
            f"{run} could not be written ({what}); its states are intact: free space, then "
            f"continue with --resume {run}."
        ) from error


def save_state(run: Path, progress: Progress, model: Segmenter, others: dict[str, Any]) -> Path:
    """Write a state into `run/checkpoints/` and drop all but the newest.

    Args:
        model: not wrapped.
        others: name -> object with a state_dict: optimizer, schedule, scaler.

    Raises:
        OSError: the disk is full or not writable; earlier states are untouched.
    """
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    # Through memory: writing files themselves, both libraries hide what the system says of a disk.
    tensors = io.BytesIO()
    torch.save({k: o.state_dict() for k, o in others.items()}, tensors)
    (aside / "optimizer.pt").write_bytes(tensors.getbuffer())
    (aside / "model.safetensors").write_bytes(save(model.tensors()))
    (aside / "progress.json").write_text(json.dumps(dataclasses.asdict(progress)))
    for file in aside.iterdir():
        _sync(file)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    _sync(folder.parent)
    for old in complete_states(run)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def complete_states(run: Path) -> list[Path]:
    """The states of a run, oldest first; one that was not finished does not count."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if p.suffix != ".partial")


def newest_state(run: Path) -> Path | None:
    """What `--resume` goes on from; None when the run stopped before its first state."""
    states = complete_states(run)
    return states[-1] if states else None


def load_state(state: Path, model: Segmenter, others: dict[str, Any]) -> Progress:
    """Put a state into model and others."""
    model.load_state_dict(load_file(state / "model.safetensors"))
    saved = torch.load(state / "optimizer.pt", map_location="cpu", weights_only=True)
    for name, other in others.items():
        other.load_state_dict(saved[name])
    return Progress(**json.loads((state / "progress.json").read_text()))


def save_best(run: Path, model: Segmenter, card: str) -> None:
    """Write the from_pretrained folder `run/best`; every file is replaced whole.

    Raises:
        OSError: the disk is full or not writable; the best model before it is untouched.
    """
    best, aside = run / "best", run / "best.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    (aside / "README.md").write_text(card, encoding="utf-8")
    model.save_pretrained(aside)
    best.mkdir(exist_ok=True)
    for file in aside.iterdir():
        _sync(file)
        file.replace(best / file.name)
    aside.rmdir()
