"""The values that a loss's terms compute from logits and label maps: probabilities, and sums over
pixels and ranks."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from segacc.labels import FOREGROUND, IGNORE


class LossInput:
    """Logits (B, K, H, W) in float32 at least, their label maps (B, H, W), and what the terms of a
    loss compute from them, once for all terms."""

    def __init__(self, logits: Tensor, label_maps: Tensor) -> None:
        assert logits.ndim == 4 and label_maps.ndim == 3
        images, self.classes, *size = logits.shape
        assert label_maps.shape == (images, *size), "one label per pixel"
        assert label_maps.dtype == torch.uint8
        self.logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        self.label_maps = label_maps

    @cached_property
    def counted(self) -> Tensor:
        """(B, 1, H, W) like the logits: 1, and 0 for ignored pixels."""
        return (self.label_maps != IGNORE).unsqueeze(1).to(self.logits.dtype)

    @cached_property
    def labels(self) -> Tensor:
        """(B, 1, H, W) int64, 0 for ignored pixels."""
        return self.label_maps.where(self.label_maps != IGNORE, 0).unsqueeze(1).long()

    @cached_property
    def foreground(self) -> Tensor:
        """(B, 1, H, W) like the logits, 1 where the foreground is."""
        return (self.label_maps == FOREGROUND).unsqueeze(1).to(self.logits.dtype)

    @cached_property
    def log_probabilities(self) -> Tensor:  # for K > 1, as the next one
        return self.logits.log_softmax(dim=1)

    @cached_property
    def log_of_true(self) -> Tensor:
        """(B, 1, H, W), the logarithm of the true class's probability; it is undefined for ignored
        pixels."""
        return self.log_probabilities.gather(1, self.labels)

    @cached_property
    def probabilities(self) -> Tensor:
        """Probabilities of each class, of the logits' shape; for K = 1 of the foreground."""
        if self.classes == 1:
            return self.logits.sigmoid()
        # On a CPU, a second softmax takes three times as long. So does exp, and 20 times as long
        # where probabilities are near the smallest floats.
        return (self.log_probabilities / math.log(2)).exp2_()


def region_sums(given: LossInput, distributed: bool) -> Tensor:
    """Return (4, K): the sums of p*t, of p and of t over all pixels that count, and the number of
    these. p is the probability of each class, and t is 1 where it is the true class, else 0."""
    p, counted = given.probabilities, given.counted
    if given.classes == 1:
        t = given.foreground
        of_true = [_sum(p * t), _sum(t)]
    else:
        p_true = given.log_of_true.exp() * counted
        of_true = [_sum_by_class(x, given) for x in (p_true, counted)]
    pixels = _sum(counted).expand_as(of_true[0])
    stacked = torch.stack([of_true[0], _sum(p * counted), of_true[1], pixels])
    return sum_over_ranks(stacked) if distributed else stacked


def _sum(x: Tensor) -> Tensor:
    """(B, K, H, W) -> (K,); per image first: float32 then sums some 10^5 pixels at a time."""
    return x.sum(dim=(2, 3)).sum(dim=0)


def _sum_by_class(x: Tensor, given: LossInput) -> Tensor:
    """(B, 1, H, W) -> (K,), over the pixels of each true class."""
    if x.device.type != "cpu":
        return _sum(_at_true_class(x, given))
    # On a CPU this takes a seventh of the time, with 20 classes. On a GPU all pixels would wait for
    # each other, to add to the same few sums, in an order that changes. In float64, since one pixel
    # is added after the other.
    sums = x.new_zeros(len(x), given.classes, dtype=torch.float64)
    sums = sums.scatter_add(1, given.labels.flatten(1), x.flatten(1).double())
    return sums.sum(dim=0).to(x.dtype)


def _at_true_class(x: Tensor, given: LossInput) -> Tensor:
    """(B, 1, H, W) -> (B, K, H, W), 0 for all other classes."""
    return x.new_zeros(given.logits.shape).scatter(1, given.labels, x)


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of `x` over all ranks, differentiable, for a loss that is the same on every rank.

    DDP divides the sum of all ranks' gradients by the world size W. Every rank holds the same
    loss of the global sum, so each passes on W times its own part's gradient. That needs no
    second all-reduce in the backward pass.
    """
    world = torch.distributed.get_world_size()
    total = x.detach().clone()
    torch.distributed.all_reduce(total)
    return total + world * (x - x.detach())
