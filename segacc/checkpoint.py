"""States to resume from, written so that a complete one is always there."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

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


def _disk_problem(error: OSError, folder: Path) -> InputError:
    what = "the disk is full" if error.errno == errno.ENOSPC else str(error)
    return InputError(
        f"{folder} could not be written ({what}); the state before it is intact: free space, then "
        f"continue with --resume {folder.parent.parent}."
    )


def save_state(run: Path, progress: Progress, model: Segmenter, others: dict[str, Any]) -> Path:
    """Write a state into `run/checkpoints/` and drop all but the newest.

    Args:
        model: not wrapped.
        others: name -> object with a state_dict: optimizer, schedule, scaler.

    Raises:
        InputError: the disk is full or not writable; earlier states are untouched.
    """
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    aside = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file(_tensors(model), aside / "model.safetensors")
        torch.save({k: o.state_dict() for k, o in others.items()}, aside / "optimizer.pt")
        (aside / "progress.json").write_text(json.dumps(dataclasses.asdict(progress)))
        for file in aside.iterdir():
            _sync(file)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise _disk_problem(error, folder) from error
    for old in complete_states(run)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def complete_states(run: Path) -> list[Path]:
    """The states of a run, oldest first; one that was not finished does not count."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if p.suffix != ".partial")


def newest_state(run: Path) -> Path:
    """What `--resume` goes on from.

    Raises:
        InputError: there is no complete state.
    """
    states = complete_states(run)
    if not states:
        raise InputError(
            f"--resume {run} has no state in its folder checkpoints/ (it stopped before its first "
            "epoch was done): start it again without --resume."
        )
    return states[-1]


def load_state(run: Path, model: Segmenter, others: dict[str, Any]) -> Progress:
    """Put the newest state of `run` into model and others."""
    newest = newest_state(run)
    model.load_state_dict(load_file(newest / "model.safetensors"))
    saved = torch.load(newest / "optimizer.pt", map_location="cpu", weights_only=True)
    for name, other in others.items():
        other.load_state_dict(saved[name])
    return Progress(**json.loads((newest / "progress.json").read_text()))


def save_best(run: Path, model: Segmenter, card: str) -> None:
    """Write the from_pretrained folder `run/best`; every file is replaced whole.

    Raises:
        InputError: the disk is full or not writable; the best model before it is untouched.
    """
    best, aside = run / "best", run / "best.partial"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        (aside / "README.md").write_text(card, encoding="utf-8")
        model.save_pretrained(aside)
        best.mkdir(exist_ok=True)
        for file in aside.iterdir():
            _sync(file)
            file.replace(best / file.name)
        aside.rmdir()
    except OSError as error:
        raise _disk_problem(error, run / "checkpoints" / "best") from error


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    # safetensors wants plain memory order; channels_last tensors are strided views.
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
