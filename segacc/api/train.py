"""segacc.train(): what train.py does, as a function."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from segacc.api.data import Data, file_of, place_of
from segacc.api.flags import checked, with_flags_of
from segacc.config.defaults import filled, from_file
from segacc.config.flags import continued, given_by
from segacc.config.records import read_run_config
from segacc.config.train import TrainConfig, print_title
from segacc.errors import InputError
from segacc.models.own import own_name
from segacc.runs.epochs import read_epochs
from segacc.training.fit import fit
from segacc.training.own import ImageLoss, Own
from segacc.training.setup import Hooks, Step, do_nothing

if TYPE_CHECKING:
    from albumentations import BaseCompose


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that was trained. Wherever segacc takes the folder of a run, it takes this, too."""

    path: Path
    """the run's folder"""

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> TrainConfig:
        """The flags in effect."""
        return read_run_config(self.path)

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl: for each epoch its losses, scores and times by name."""
        return read_epochs(self.path)

    @property
    def best(self) -> dict[str, float]:
        """The epoch with the largest validation IoU, the first of several. Its model is the one
        that is scored and predicted with."""
        epochs = self.epochs
        if not epochs:
            raise InputError(f"{self.path} has not finished its first epoch.")
        return max(epochs, key=lambda line: line["valid_iou"])


@with_flags_of(TrainConfig)
def train(
    *,
    dataset: str | os.PathLike[str] | Data | None = None,
    model: str | nn.Module | None = None,
    loss: str | ImageLoss | None = None,
    augment: str | os.PathLike[str] | BaseCompose | None = None,
    resume: str | os.PathLike[str] | None = None,
    on_step: Callable[[Step], object] | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
    **flags: Any,
) -> Run:
    """Train a model: every flag of train.py is an argument, with the same name and meaning.

    Under `accelerate launch` each process calls this, and they train together. An interrupt
    (Ctrl-C, the stop button of a notebook) saves the run, which `resume` continues.

    Args:
        dataset: what `--dataset` takes; or a `torch.utils.data.Dataset`, a `datasets.Dataset`, or
            one for each of the splits train, valid and test, in a dictionary (see
            `segacc.api.data`).
        model: what `--model` takes; or a network that returns logits (see `segacc.models.own`),
            of which a copy is trained.
        loss: what `--loss` takes; or a function of one image's logits (1, K, H, W) float32 and its
            label map (1, H, W) int64, where 255 is ignored, that returns a scalar. The mean over
            the images of a batch is minimised.
        augment: what `--augment` takes; or a pipeline of albumentations.
        resume: the run to continue. Objects that it was started with are given again. A run that
            is finished is returned as it is; `epochs` or `patience` make it go on.
        on_step: called once for each step, in their order, up to half a second after it.
        on_epoch: called after each epoch with its line of metrics.jsonl. All processes call both
            functions, with the same losses and scores. An exception in one of them ends the run.
        **flags: the other flags of train.py, such as `epochs=3` for `--epochs 3`.

    Returns:
        the run, whose folder holds the best model.

    Raises:
        InputError: something that was given has to be changed. It is a ValueError, and its message
            is one sentence.
        Stopped: the run was interrupted, and is saved. It is a KeyboardInterrupt.
        TypeError: a flag does not exist.

    >>> import segacc
    >>> run = segacc.train(dataset="demo-pedestrian", model="linknet", encoder="resnet18",
    ...     weights="none", size=64, epochs=1, tracker="none", output_dir="runs/first")
    >>> run.best["epoch"]
    1
    """
    check_objects(model, loss, on_step, on_epoch)
    flags |= {"model": name_of(model), "loss": name_of(loss), "resume": resume}
    flags = checked(TrainConfig, flags, "train")
    # The slow steps come last.
    files = {"dataset": place_of(dataset), "augment": file_of(augment)}
    config = config_of(flags | checked(TrainConfig, files, "train"))
    own_loss = None if loss is None or isinstance(loss, str) else loss
    own = Own(net=model if isinstance(model, nn.Module) else None, loss=own_loss)
    print_title(config)
    hooks = Hooks(step_read=on_step or do_nothing, epoch_read=on_epoch or do_nothing)
    return Run(fit(config, hooks, own))


def check_objects(model: Any, loss: Any, *callbacks: Any) -> None:
    """Raises InputError for an argument that is an object of the wrong kind."""
    if not isinstance(model, str | os.PathLike | nn.Module | None):
        found = f"the class {model.__name__}" if isinstance(model, type) else f"{model!r}"
        raise InputError(
            f"model: expected a name, or a network as an object (Net() for a class Net), found "
            f"{found}."
        )
    for name, given in (("loss", loss), ("on_step", callbacks[0]), ("on_epoch", callbacks[1])):
        if not (given is None or callable(given) or (name == "loss" and isinstance(given, str))):
            raise InputError(f"{name}: expected a function, found {given!r}.")


def name_of(given: Any) -> str | None:
    """Return the name under which a config stores an argument that is a name or an object."""
    if given is None or isinstance(given, str | os.PathLike):
        return None if given is None else os.fspath(given)
    return own_name(given)


def config_of(flags: Mapping[str, Any]) -> TrainConfig:
    """The config that the flags give; a resumed run keeps its values where flags are not given.

    Raises:
        InputError: a value would make the resumed run another run.
    """
    resume = flags.get("resume")
    if resume is None:
        file = flags.get("config")
        return filled(from_file({**(given_by(file) if file else {}), **flags}))
    saved = read_run_config(resume)
    return continued(dataclasses.replace(saved, **flags), saved, resume)
