"""Networks that a program gives as objects, in place of a name.

Such a network takes images (B, 3, H, W) float32, normalised by the mean and standard deviation of
ImageNet, and returns logits (B, K, h, w): K = 1 for two classes, else one per class of the data
set. Logits at a lower resolution than the image's are enlarged bilinearly. It may return an object
with the attribute `logits`, as models of transformers do, or a dictionary with `logits` or `out`,
as those of torchvision do. Height and width are padded to multiples of its attribute `stride`, or
of 32 where it has none. What `--freeze-encoder` freezes is its attribute `encoder` or `backbone`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from segacc.config.train import OWN
from segacc.errors import InputError, first_line
from segacc.models.probe import evaluating, logits_of

STRIDE = 32


def own_name(given: Any) -> str:
    """The name of an object in a config: of its class, or of the function."""
    return OWN + getattr(given, "__name__", type(given).__name__)


def copy_of_own_net(architecture: str, net: nn.Module | None) -> nn.Module:
    """Copy the network that a program has given, to the CPU, in evaluation mode.

    Raises:
        InputError: none was given, or one of another class than `architecture` says.
    """
    name = architecture.removeprefix(OWN)
    if net is None:
        raise InputError(
            f"the network {name} of this model is Python code, which no file of a run holds: give "
            "it to the function in Python, as in segacc.load(RUN, net=net) or "
            "segacc.train(resume=RUN, model=net)."
        )
    if not isinstance(net, nn.Module) or own_name(net) != architecture:
        found = f"the class {net.__name__}" if isinstance(net, type) else f"a {type(net).__name__}"
        raise InputError(
            f"the network is {found}, and this model is of a {name}: give an object of that class."
        )
    try:
        return copy.deepcopy(net).cpu().eval()
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"the network {name} cannot be copied ({first_line(error)}): keep no activations in "
            "it, and give it before its first forward pass."
        ) from error


def freeze_what_is_not_learnt(net: nn.Module, channels: int, stride: int) -> None:
    """Freeze the parameters on which the logits do not depend in training, since DDP would wait for
    their gradients. Nothing else of the network changes."""
    tried = copy.deepcopy(net).train()  # a pass moves BatchNorm's statistics
    tried.zero_grad()
    with torch.enable_grad():
        logits_of(tried(torch.rand(2, channels, 4 * stride, 4 * stride))).sum().backward()
    for own, copied in zip(net.parameters(), tried.parameters(), strict=True):
        own.requires_grad_(copied.grad is not None)
        own.grad = None


def own_stride(net: nn.Module) -> int:
    """The number to whose multiples height and width are padded."""
    stride = getattr(net, "stride", STRIDE)
    return stride if isinstance(stride, int) and stride > 0 else STRIDE


def check_own_net(
    architecture: str, net: nn.Module, classes: int, channels: int, stride: int
) -> None:
    """Raises InputError where the network does not return logits as said above."""
    name, side = architecture.removeprefix(OWN), max(64, 2 * stride)
    with evaluating(net), torch.no_grad():
        logits: Any = logits_of(net(torch.rand(1, channels, side, side)))
    if not isinstance(logits, Tensor):
        found = f"a {type(logits).__name__}"
    elif logits.ndim != 4 or logits.shape[:2] != (1, classes):
        found = f"a tensor of shape {tuple(logits.shape)}"
    else:
        return
    why = "1 logit for two classes, that of the foreground" if classes == 1 else "1 for each class"
    raise InputError(
        f"the network {name} returned {found} for an image of {side} x {side} px: expected logits "
        f"(1, {classes}, height, width), {why}."
    )
