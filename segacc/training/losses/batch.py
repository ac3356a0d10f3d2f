"""What the terms of a loss compute from a batch: probabilities, and sums over pixels and ranks."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from segacc.labels import FOREGROUND, IGNORE


class Batch:
    """Logits (B, K, H, W) in float32 at least, their label maps (B, H, W), and what the terms of a
    loss compute from them, once for all terms."""

    def __init__(self, logits: Tensor, label_maps: Tensor) -> None:
        assert logits.ndim == 4 and label_maps.ndim == 3, "(B, K, H, W) and (B, H, W)"
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
    def log_probability(self) -> Tensor:
        """(B, 1, H, W), of the true class; of no meaning for ignored pixels."""
        return self.log_probabilities.gather(1, self.labels)

    @cached_property
    def probabilities(self) -> Tensor:
        """Like the logits, of each class; for K = 1 of the foreground."""
        # exp of the logarithms takes ten times as long where probabilities are near the smallest
        # floats.
        return self.logits.sigmoid() if self.classes == 1 else self.logits.softmax(dim=1)


def region_sums(batch: Batch, distributed: bool) -> Tensor:
    """Over all pixels of the batch that count, the sums of p*t, of p and of t, and their number:
    (4, K), for the probability p of each class and t = 1 where it is the true one, else 0."""
    p, one = batch.probabilities, batch.counted
    if batch.classes == 1:
        t = batch.foreground
        of_true = [_sum(p * t), _sum(t)]
    else:
        p_true = batch.log_probability.exp() * one
        of_true = [_sum_by_class(x, batch) for x in (p_true, one)]
    pixels = _sum(one).expand_as(of_true[0])
    stacked = torch.stack([of_true[0], _sum(p * one), of_true[1], pixels])
    return sum_over_ranks(stacked) if distributed else stacked


def _sum(x: Tensor) -> Tensor:
    """(B, K, H, W) -> (K,); per image first: float32 then sums some 10^5 pixels at a time."""
    return x.sum(dim=(2, 3)).sum(dim=0)


def _sum_by_class(x: Tensor, batch: Batch) -> Tensor:
    """(B, 1, H, W) -> (K,), over the pixels of each true class; float64, since one is added after
    the other. With 20 classes on a CPU, a product with ones where they are takes a third longer."""
    sums = x.new_zeros(len(x), batch.classes, dtype=torch.float64)
    sums = sums.scatter_add(1, batch.labels.flatten(1), x.flatten(1).double())
    return sums.sum(dim=0).to(x.dtype)


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
