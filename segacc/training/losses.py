"""Losses on logits, in float32 at least; region losses (Dice and friends) are of the global batch.

Every loss takes logits (B, C, H, W) and masks (B, C, H, W) in {0, 1} and returns a scalar in
float32 (float64 for logits in float64). With `distributed=True` the loss of W ranks with B/W
samples each, and after DDP's averaging its gradient, equal those of one rank with all B samples.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from segacc.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]


def sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of `x` over all ranks, differentiable, for a loss that every rank computes alike.

    DDP divides the sum of all ranks' gradients by the world size W. Every rank holds the same
    loss of the global sum, so each passes on W times its own part's gradient. That needs no
    second all-reduce in the backward pass.
    """
    world = torch.distributed.get_world_size()
    total = x.detach().clone()
    torch.distributed.all_reduce(total)
    return total + world * (x - x.detach())


def _wide(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 at least."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), masks.to(dtype)


def _region_sums(logits: Tensor, masks: Tensor, distributed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Per class: sum of p*t, of p, of t over all pixels of the (global) batch; float32, (3, C)."""
    logits, t = _wide(logits, masks)
    p = logits.sigmoid()
    # Per image first: float32 then sums some 10^5 pixels at a time, not a whole batch.
    sums = torch.stack([x.sum(dim=(2, 3)).sum(dim=0) for x in (p * t, p, t)])
    if distributed:
        sums = sum_over_ranks(sums)
    return sums[0], sums[1], sums[2]


def tversky_loss(
    logits: Tensor, masks: Tensor, distributed: bool = False, alpha: float = 0.5, beta: float = 0.5
) -> Tensor:
    """1 - TP / (TP + alpha FP + beta FN) with soft counts over the batch, averaged over classes.

    alpha = beta = 1/2 is the Dice loss (Milletari et al. 2016), alpha = beta = 1 the Jaccard loss;
    Salehi et al. 2017 weight misses more (alpha 0.3, beta 0.7).

    A class that is in no mask of the batch has TP = FN = 0: the ratio is then 0 whatever is
    predicted and its gradient vanishes. Its loss is instead the mean probability, which is 0 for
    a perfect prediction and punishes every false positive.
    """
    tp, p, t = _region_sums(logits, masks, distributed)
    pixels = masks[:, 0].numel() * (torch.distributed.get_world_size() if distributed else 1)
    ratio = tp / (tp + alpha * (p - tp) + beta * (t - tp)).clamp_min(1e-7)
    return torch.where(t > 0, 1 - ratio, p / pixels).mean()


def bce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, mean over pixels."""
    return functional.binary_cross_entropy_with_logits(*_wide(logits, masks))


def focal_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017; gamma 2, alpha 0.25), mean over pixels."""
    from torchvision.ops import sigmoid_focal_loss

    return sigmoid_focal_loss(*_wide(logits, masks), reduction="mean")


def lovasz_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovasz hinge (Berman et al. 2018) of each image, mean over images."""
    from segmentation_models_pytorch.losses import LovaszLoss

    return LovaszLoss(mode="binary", per_image=True)(*_wide(logits, masks))


REGION_LOSSES: dict[str, tuple[float, float]] = {  # name -> alpha, beta of tversky_loss
    "dice": (0.5, 0.5),
    "jaccard": (1.0, 1.0),
    "tversky": (0.3, 0.7),
}
PIXEL_LOSSES: dict[str, Loss] = {"bce": bce_loss, "focal": focal_loss, "lovasz": lovasz_loss}


def is_of_batch(name: str) -> bool:
    """Whether the loss of a batch is not the mean of the losses of its parts."""
    return any(term in REGION_LOSSES for term in name.split("+"))


def make_loss(name: str, distributed: bool = False) -> Loss:
    """The loss `--loss NAME`; terms joined by `+` are added.

    Raises:
        InputError: a term is not known.
    """
    terms: list[Loss] = []
    for term in name.split("+"):
        if term in REGION_LOSSES:
            alpha, beta = REGION_LOSSES[term]
            terms.append(partial(tversky_loss, distributed=distributed, alpha=alpha, beta=beta))
        elif term in PIXEL_LOSSES:
            terms.append(PIXEL_LOSSES[term])
        else:
            known = [*REGION_LOSSES, *PIXEL_LOSSES]
            near = difflib.get_close_matches(term, known, n=1)
            raise InputError(
                f"--loss {name}: {term!r} is not known"
                + (f"; did you mean {near[0]}?" if near else ".")
                + f" Expected one of {', '.join(known)}, or a sum such as dice+bce."
            )

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        return torch.stack([term(logits, masks) for term in terms]).sum()

    return loss
