"""States from which a run can be resumed: one safetensors file each, never half written."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from segacc.errors import InputError, quoted
from segacc.models.segmenter import Segmenter
from segacc.models.weights.tensors import Tensors

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3

log = logging.getLogger(__name__)

UMASK = os.umask(0)
os.umask(UMASK)


@dataclass(frozen=True)
class Progress:
    """How far a run has come. With the tensors of a state, it is all that a resumed run needs."""

    step: int = 0
    """optimizer steps done"""
    epoch: int = 0
    """epochs done, validation included"""
    best_iou: float = -1.0
    best_epoch: int = 0
    """the epoch (counted from 1) of the best validation IoU"""
    epochs_without_gain: int = 0
    losses: tuple[float, ...] = ()
    """the losses of the steps since the last complete epoch"""

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
    """The objects that training changes."""

    model: Segmenter  # not wrapped
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    average: ModelEmaV3 | None = None

    @property
    def scored(self) -> Segmenter:
        """The model that is scored, saved as the best and predicted with: the moving average of
        the weights, if there is one."""
        return self.average.module if self.average else self.model


@dataclass(frozen=True)
class State:
    """A copy of all that a run needs to continue; further training does not change it."""

    progress: Progress
    tensors: Tensors  # model.NAME, average.NAME, optimizer.PARAMETER.MOMENT, on the CPU
    scalars: dict[str, Any]


def copy_to_cpu(tensors: Tensors) -> Tensors:
    """Copies on the CPU, in the contiguous memory order that safetensors needs."""
    plain = torch.contiguous_format
    return {k: v.detach().to("cpu", copy=True, memory_format=plain) for k, v in tensors.items()}


def take_state(progress: Progress, trained: Trained) -> State:
    """Copy what a run needs to continue from here."""
    tensors = {f"model.{name}": value for name, value in trained.model.state_dict().items()}
    if trained.average:
        average = trained.average.module.state_dict()
        tensors |= {f"average.{name}": value for name, value in average.items()}
    names = [name for group in _parameter_names(trained) for name in group]
    for i, moments in trained.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{names[i]}.{moment}": value for moment, value in moments.items()}
    return State(
        progress,
        copy_to_cpu(tensors),
        {
            "model": trained.model.config(),
            "parameters": _parameter_names(trained),
            "scaler": trained.scaler.state_dict() if trained.scaler else {},
        },
    )


def _parameter_names(trained: Trained) -> list[list[str]]:
    """The names of the parameters in each group of the optimizer, in its order."""
    names = {parameter: name for name, parameter in trained.model.named_parameters()}
    return [[names[p] for p in group["params"]] for group in trained.optimizer.param_groups]


def model_from_state(path: Path, net: nn.Module | None = None) -> Segmenter:
    """Build the model that a state is of, without a download. Its weights are random until
    `load_state` puts those of the state into it.

    Args:
        net: the network of a program (`segacc.models.own`), if the model has one.
    """
    return Segmenter(**_read_metadata(path)["scalars"]["model"], net=net)


def _read_metadata(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:  # fails if the file has another length
        return json.loads(file.metadata()["state"])


def read_progress(path: Path) -> Progress:
    """Read how far the run of a state had come."""
    values = _read_metadata(path)["progress"]
    return Progress(**values | {"losses": tuple(values["losses"])})


def load_state(path: Path, trained: Trained) -> Progress:
    """Put a state back; the inverse of `take_state` and `write_state`.

    Raises:
        InputError: the state is of an optimizer with other parameters, or in another order, or was
            written by segacc 0.1.0, which did not name them.
    """
    metadata = _read_metadata(path)
    scalars = metadata["scalars"]
    run = path.parent.parent
    names = _parameter_names(trained)
    if scalars.get("parameters") != names:
        raise InputError(
            f"--resume {run}: {path.name} {_difference(scalars.get('parameters'), names)}: resume "
            f"with the version that wrote it (config.json names it), or start a new run from its "
            f"best model with --weights {quoted(run)}."
        )
    tensors = load_file(path)
    try:
        trained.model.load_state_dict(_of_part("model.", tensors))
    except RuntimeError as error:  # names are equal, so a shape differs
        raise InputError(
            f"--resume {run}: {path.name} is of a network with other shapes "
            f"({str(error).splitlines()[-1].strip()}): give one that is made as the run's was."
        ) from error
    if trained.average:
        trained.average.module.load_state_dict(_of_part("average.", tensors))
    parameters = dict(trained.model.named_parameters())
    places = {name: i for i, name in enumerate(name for group in names for name in group)}
    moments = defaultdict[int, Tensors](dict)
    for key, value in _of_part("optimizer.", tensors).items():
        name, _, moment = key.rpartition(".")
        if value.shape == parameters[name].shape:
            # In the parameter's memory order: fused AdamW pairs elements by their place in memory.
            value = torch.empty_like(parameters[name], device="cpu").copy_(value)
        moments[places[name]][moment] = value
    groups = trained.optimizer.state_dict()["param_groups"]  # a function of the config
    trained.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    if trained.scaler:
        trained.scaler.load_state_dict(scalars["scaler"])
    return read_progress(path)


def _of_part(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors of one part of a state, by their own names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _difference(found: list[list[str]] | None, expected: list[list[str]]) -> str:
    """How the optimizer of a state differs from this one, as the end of a sentence."""
    if found is None:
        return "was written by segacc 0.1.0, whose optimizer states do not name their parameters"
    ours = [name for group in expected for name in group]
    theirs = [name for group in found for name in group]
    only = [name for name in ours if name not in theirs] + [n for n in theirs if n not in ours]
    if only:
        return f"is of a model with other parameters, such as {only[0]}"
    return "holds the same parameters in another order or in other groups"


def write_state(run: Path, state: State, keep: int) -> Path:
    """Write a state into `run/checkpoints/` and drop all but the newest `keep`.

    Raises:
        OSError: the disk is full or not writable; earlier states are untouched.
    """
    done = state.progress
    path = run / "checkpoints" / f"epoch-{done.epoch:04d}-step-{done.step:08d}.safetensors"
    partial = path.with_suffix(".partial")
    path.parent.mkdir(exist_ok=True)
    metadata = {"progress": dataclasses.asdict(done), "scalars": state.scalars}
    save_tensors(state.tensors, partial, {"state": json.dumps(metadata)})
    partial.replace(path)
    sync(path.parent)
    newest = states(run)[-keep:]
    for old in path.parent.iterdir():  # also the unfinished files of a killed run
        if old not in newest and old.is_file():
            old.unlink()
    return path


def states(run: Path) -> list[Path]:
    """The files of the finished states of a run, oldest first."""
    return sorted((run / "checkpoints").glob("epoch-*.safetensors"))


def start_from(run: Path) -> str:
    """Say what to do with a run that cannot go on."""
    return f"start a new run from its best model with --weights {quoted(run)}."


def newest_state(run: Path) -> Path | None:
    """The state that `--resume` continues from; None when the run stopped before its first state.

    A damaged state is renamed with a warning, and the one before it is taken.

    Raises:
        InputError: there are states and none can be used.
    """
    instead = start_from(run)
    damaged = []
    for path in reversed(states(run)):
        try:
            _read_metadata(path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            log.warning("%s is damaged (%s): the state before it is used.", path, error)
            damaged.append(path)
            continue
        for other in damaged:
            other.rename(other.with_suffix(".damaged"))
        return path
    folder = run / "checkpoints"
    if any(folder.glob("step-*")):
        why = "its states were saved by segacc 0.1.0, which this version cannot read"
        raise InputError(f"--resume {run}: {why}: {instead}")
    # Files with other names are what a kill left of a first write, some by safetensors itself.
    if any(folder.glob("epoch-*.safetensors")) or any(folder.glob("epoch-*.damaged")):
        why = f"no state in {folder} can be read: restore one from a copy"
        raise InputError(f"--resume {run}: {why}, or {instead}")
    return None


def save_tensors(tensors: Tensors, path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, and bring it to the disk.

    `save_file` does not block other threads, but turns the system's errors into its own.

    Raises:
        OSError: the disk is full or not writable.
    """
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    path.chmod(0o666 & ~UMASK)  # `save_file` writes files that no other user may read
    sync(path)


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
