"""States to resume from: one safetensors file each, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import re
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from segacc.errors import InputError, disk_errors, write_text
from segacc.models.segmenter import Segmenter

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]

UMASK = os.umask(0)
os.umask(UMASK)

SAVE_SECONDS = 120.0
"""Between states where the user has not said when. Writing them takes cores from training on a
CPU, a second or two for a model of 20 million parameters: so, below 2 % of its time."""


@dataclass(frozen=True)
class Progress:
    """Where a run is. With the tensors of a state, all that a run remembers."""

    step: int = 0
    """optimizer steps done"""
    epoch: int = 0
    """epochs done, validation included"""
    best_iou: float = -1.0
    best_epoch: int = 0
    """the epoch (counted from 1) of the best validation IoU"""
    epochs_without_gain: int = 0
    losses: tuple[float, ...] = ()
    """of the steps since the last complete epoch"""

    @property
    def mean_loss(self) -> float:
        """Mean of the losses, summed without rounding."""
        return math.fsum(self.losses) / len(self.losses)

    def after_steps(self, losses: list[float]) -> Progress:
        """The progress after one more step for each of `losses`."""
        return dataclasses.replace(
            self, step=self.step + len(losses), losses=(*self.losses, *losses)
        )

    def after_epoch(self, iou: float) -> Progress:
        """The progress after the validation of an epoch, which found the IoU `iou`."""
        gained = iou > self.best_iou
        return Progress(
            step=self.step,
            epoch=self.epoch + 1,
            best_iou=iou if gained else self.best_iou,
            best_epoch=self.epoch + 1 if gained else self.best_epoch,
            epochs_without_gain=0 if gained else self.epochs_without_gain + 1,
        )


@dataclass(frozen=True)
class Trained:
    """What training changes, as the loop holds it."""

    model: Segmenter  # not wrapped
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None


@dataclass(frozen=True)
class State:
    """A copy that training does not change any more."""

    progress: Progress
    tensors: Tensors  # model.NAME and optimizer.PARAMETER.MOMENT, on the CPU
    scalars: dict[str, Any]


@dataclass(frozen=True)
class Best:
    """A copy of the best model, on the CPU."""

    config: dict[str, Any]
    weights: Tensors
    card: str
    per_image: str
    """table of the validation split, as CSV"""


def _copy(tensors: Tensors) -> Tensors:
    plain = torch.contiguous_format  # as safetensors wants them
    return {k: v.detach().to("cpu", copy=True, memory_format=plain) for k, v in tensors.items()}


def take_state(progress: Progress, trained: Trained) -> State:
    """Copy what a run needs to go on from here."""
    tensors = {f"model.{name}": value for name, value in trained.model.state_dict().items()}
    for i, moments in trained.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
    return State(
        progress,
        _copy(tensors),
        {
            "model": trained.model.config(),
            "scaler": trained.scaler.state_dict() if trained.scaler else {},
        },
    )


def model_of(path: Path) -> Segmenter:
    """The architecture of a state, which needs no download; `load_state` brings its weights."""
    return Segmenter(**_described(path)["scalars"]["model"])


def _described(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:  # compares the file's length with its contents
        return json.loads(file.metadata()["state"])


def load_state(path: Path, trained: Trained) -> Progress:
    """Put a state back; the inverse of `take_state` and `write_state`."""
    described = _described(path)
    tensors = load_file(path)
    scalars, moments = described["scalars"], defaultdict[int, Tensors](dict)
    parameters = [p for group in trained.optimizer.param_groups for p in group["params"]]
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        _, i, moment = name.split(".")
        value, parameter = tensors.pop(name), parameters[int(i)]
        if value.shape == parameter.shape:
            # In the parameter's memory order: fused AdamW pairs elements by their place in memory.
            value = torch.empty_like(parameter, device="cpu").copy_(value)
        moments[int(i)][moment] = value
    trained.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()})
    groups = trained.optimizer.state_dict()["param_groups"]  # a function of the config
    trained.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    if trained.scaler:
        trained.scaler.load_state_dict(scalars["scaler"])
    return Progress(**described["progress"] | {"losses": tuple(described["progress"]["losses"])})


def write_state(run: Path, state: State, keep: int) -> Path:
    """Write a state into `run/checkpoints/` and drop all but the newest `keep`.

    Raises:
        OSError: the disk is full or not writable; earlier states are untouched.
    """
    done = state.progress
    path = run / "checkpoints" / f"epoch-{done.epoch:04d}-step-{done.step:08d}.safetensors"
    aside = path.with_suffix(".partial")
    path.parent.mkdir(exist_ok=True)
    described = {"progress": dataclasses.asdict(done), "scalars": state.scalars}
    _save_tensors(state.tensors, aside, {"state": json.dumps(described)})
    aside.replace(path)
    _sync(path.parent)
    newest = states(run)[-keep:]
    for old in path.parent.iterdir():  # what a kill left half done, too
        if old not in newest and old.is_file():
            old.unlink()
    return path


def states(run: Path) -> list[Path]:
    """The states of a run, oldest first; one that was not finished does not count."""
    return sorted((run / "checkpoints").glob("epoch-*.safetensors"))


def newest_state(run: Path) -> Path | None:
    """What `--resume` goes on from; None when the run stopped before its first state.

    Damaged states are set aside with a warning, for the one before them.

    Raises:
        InputError: there are states and none can be used.
    """
    damaged = []
    for path in reversed(states(run)):
        try:
            _described(path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            log.warning("%s is damaged (%s): the state before it is used.", path, error)
            damaged.append(path)
            continue
        for other in damaged:
            other.rename(other.with_suffix(".damaged"))
        return path
    folder = run / "checkpoints"
    if folder.exists() and any(path.suffix != ".partial" for path in folder.iterdir()):
        raise InputError(
            f"--resume {run}: no state in {folder} can be read: restore one from a copy, or start "
            f"a new run from its best model with --weights {run}."
        )
    return None


def save_best(run: Path, best: Best) -> None:
    """Write the from_pretrained folder `run/best`; every file is replaced whole.

    Raises:
        OSError: the disk is full or not writable; the best model before it is untouched.
    """
    folder = run / "best"
    folder.mkdir(exist_ok=True)
    write_text(folder / "config.json", json.dumps(best.config, indent=2, sort_keys=True))
    aside = run / "checkpoints" / "best.partial"  # where the next state cleans up
    aside.parent.mkdir(exist_ok=True)
    _save_tensors(best.weights, aside, {"format": "pt"})
    aside.replace(folder / "model.safetensors")
    write_text(folder / "README.md", best.card)
    write_text(folder / "valid_per_image.csv", best.per_image)


class Writer:
    """Copies what is to be saved at once and writes it in a thread of its own, beside the next
    steps. One state at most waits in memory. On ranks that are not `active` it does nothing.

    The best model waits for the next state. Should the run be killed before, it goes on from the
    state before, and comes to the same best model again.
    """

    def __init__(self, run: Path, trained: Trained, keep: int, active: bool) -> None:
        self.run, self.trained, self.keep, self.active = run, trained, keep, active
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segacc-writer")
        self._job: Future[None] | None = None
        self._best: Best | None = None
        self._saved: Progress | None = None
        self._saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for a state, where the user has not said when."""
        return time.monotonic() - self._saved_at > SAVE_SECONDS

    def hold_best(self, card: str, per_image: str) -> None:
        """Copy the best model, with its model card and its scores on each validation image."""
        if self.active:
            model = self.trained.model
            self._best = Best(model.config(), _copy(model.state_dict()), card, per_image)

    def save(self, progress: Progress) -> None:
        """Start to write the best model, if it is new, and then the state, unless it is there."""
        if not self.active or progress == self._saved:
            return
        self.wait()
        state, best = take_state(progress, self.trained), self._best

        def write() -> None:
            with disk_errors(self.run):
                if best is not None:
                    save_best(self.run, best)
                write_state(self.run, state, self.keep)

        self._job = self._pool.submit(write)
        self._best, self._saved, self._saved_at = None, progress, time.monotonic()

    def check(self) -> None:
        """Raises InputError when the last write, if it is over, has failed."""
        if self._job and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the last write. Raises InputError when it has failed."""
        if self._job:
            job, self._job = self._job, None
            job.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()


def _save_tensors(tensors: Tensors, path: Path, metadata: dict[str, str]) -> None:
    """safetensors' own writer lets other threads work, but wraps what the system says."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    path.chmod(0o666 & ~UMASK)  # it goes through a temporary file that no other user may read
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
