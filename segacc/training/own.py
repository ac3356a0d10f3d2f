"""Objects that a program gives to `fit`; a config can only hold their names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segacc.config.train import OWN, TrainConfig, is_own
from segacc.errors import InputError
from segacc.labels import IGNORE
from segacc.training.losses.terms import Loss

ImageLoss = Callable[[Tensor, Tensor], Tensor]
"""A loss of one image: logits (1, K, H, W) float32, and its label map (1, H, W) int64, in which
IGNORE (255) marks pixels that do not count -> a scalar. K = 1 is two classes. Such are, with
`ignore_index=255`, the Dice, Focal, Tversky and Lovasz losses of segmentation_models_pytorch and,
for more than two classes, torch's CrossEntropyLoss."""


@dataclass(frozen=True)
class Own:
    """The objects of a program."""

    net: nn.Module | None = None
    """see `segacc.models.own`; `config.model` then is `own:` and the name of its class"""
    loss: ImageLoss | None = None
    """`config.loss` then is `own:` and its name"""


NOTHING = Own()


def own_loss(config: TrainConfig, own: Own) -> Loss | None:
    """Make the loss of a program a loss of the global batch; None if the config names one of
    segacc's.

    It is the mean over the images of the batch, and so does not depend on how these are spread over
    processes and parts of a step: each has equally many. An image whose pixels are all ignored
    counts 0.

    Raises:
        InputError: the config needs a loss that the program has not given.
    """
    if not is_own(config.loss):
        return None
    name, function = config.loss.removeprefix(OWN), own.loss
    if function is None:
        raise InputError(
            f"the loss {name} of this run is Python code, which no file of a run holds: give it "
            "again in Python, as in segacc.train(resume=RUN, loss=loss)."
        )

    if isinstance(function, nn.Module):
        if any(parameter.requires_grad for parameter in function.parameters()):
            raise InputError(
                f"the loss {name} has parameters, which would not be trained: freeze them "
                "(requires_grad_(False)), or make them part of the network."
            )
        function = copy.deepcopy(function)

    def of_batch(logits: Tensor, label_maps: Tensor, of_step: Tensor | None = None) -> Tensor:
        if isinstance(function, nn.Module):
            function.to(logits.device)
        losses = []
        for one, label_map in zip(logits.split(1), label_maps.split(1), strict=True):
            if (label_map == IGNORE).all():
                losses.append(0.0 * one.sum())
            else:
                found = function(one.float(), label_map.long())
                losses.append(_checked(found, name, logits.requires_grad))
        return torch.stack(losses).mean()

    return of_batch


def _checked(loss: Any, name: str, is_learnt_from: bool) -> Tensor:
    """The loss of an image as a scalar; raises InputError where it is none."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        raise InputError(
            f"the loss {name} returned a {type(loss).__name__}{shape} for one image: expected a "
            "tensor with one number, such as the mean over its pixels."
        )
    if is_learnt_from and not loss.requires_grad:
        raise InputError(
            f"the loss {name} returned a number without a gradient: compute it of the logits by "
            "functions of torch, without detach() and item()."
        )
    return loss.reshape(())
