"""Losses of the global batch, in float32 at least.

Every loss takes logits (B, K, H, W) and label maps (B, H, W) uint8, in which IGNORE marks pixels
that do not count, and returns a scalar in float32 (float64 for logits in float64). K = 1 is two
classes, background and one thing; else there is one logit per class.

With `distributed=True` a loss is of all ranks' samples together: its value is the same on every
rank, and equals that of one rank with all samples, as does its gradient after DDP's averaging. Sums
and the numbers of counted pixels are added up over the ranks before they are divided, since a mean
per rank would weight pixels differently where ignored ones are unevenly spread.

With --accumulate a step is computed in parts, whose losses are averaged. Pixel losses also take the
label maps of all its parts, `of_step` (N, H, W), and divide by the pixels of these, so that the
average is the loss of the whole batch. Region losses and --ohem are of each part by itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from segacc.errors import InputError
from segacc.labels import IGNORE
from segacc.training.losses.inputs import LossInput, region_sums, sum_over_ranks

Loss = Callable[..., Tensor]
"""(logits, label_maps, of_step=None) -> scalar, as said above"""
Term = Callable[..., Tensor]
"""(LossInput, of_step, distributed, and PixelOptions if it takes them) -> scalar"""


@dataclass(frozen=True)
class PixelOptions:
    """How the pixels count in cross-entropy and focal loss."""

    class_weights: tuple[float, ...] | None = None
    """the weight of each class; a pixel has the weight of its true class, and the loss is a
    weighted mean"""
    ohem: float | None = None
    """the share of the pixels that count, those of the largest loss"""
    label_smoothing: float = 0.0
    """in cross-entropy, the probability that is spread evenly over all classes"""


PLAIN = PixelOptions()


def tversky_loss(
    given: LossInput, of_step: Tensor | None, distributed: bool, alpha: float, beta: float
) -> Tensor:
    """1 - TP / (TP + alpha FP + beta FN) with soft counts over the batch, mean over classes; in a
    step of several parts, over each part, since the soft counts of later ones are not known yet.

    alpha = beta = 1/2 is the Dice loss (Milletari et al. 2016), alpha = beta = 1 the Jaccard loss;
    Salehi et al. 2017 weight misses more (alpha 0.3, beta 0.7).

    A class that is in no label map of the batch has TP = FN = 0: the ratio is then 0 whatever is
    predicted and its gradient vanishes. Its loss is instead its mean probability, which is 0 for
    a perfect prediction and punishes every false positive.
    """
    tp, p, t, pixels = region_sums(given, distributed)
    ratio = tp / (tp + alpha * (p - tp) + beta * (t - tp)).clamp_min(1e-7)
    return torch.where(t > 0, 1 - ratio, p / pixels.clamp_min(1)).mean()


def cross_entropy_loss(
    given: LossInput, of_step: Tensor | None, distributed: bool, options: PixelOptions
) -> Tensor:
    """Cross-entropy (for K = 1 the binary one), mean over the pixels that count."""
    per_pixel = _cross_entropy(given, options.label_smoothing)
    return _mean_over_counted(per_pixel, given.label_maps, of_step, distributed, options)


def focal_loss(
    given: LossInput, of_step: Tensor | None, distributed: bool, options: PixelOptions
) -> Tensor:
    """Focal loss (Lin et al. 2017), mean over the pixels that count: the cross-entropy times
    (1 - p)^2, where p is the probability of the true class. For K = 1 the foreground has the
    weight 0.25 and the background 0.75, as in the paper."""
    if given.classes == 1:
        from torchvision.ops import sigmoid_focal_loss

        t = given.foreground
        per_pixel = sigmoid_focal_loss(given.logits, t, alpha=0.25, gamma=2).squeeze(1)
    else:
        cross_entropy = _cross_entropy(given)
        per_pixel = (1 - torch.exp(-cross_entropy)) ** 2 * cross_entropy
    return _mean_over_counted(per_pixel, given.label_maps, of_step, distributed, options)


def lovasz_loss(given: LossInput, of_step: Tensor | None, distributed: bool) -> Tensor:
    """Lovasz hinge for K = 1, else Lovasz-softmax over the classes that are in the image (Berman et
    al. 2018), over the pixels of each image that count; mean over the images that have any."""
    from segmentation_models_pytorch.losses import LovaszLoss

    mode = "binary" if given.classes == 1 else "multiclass"
    of_image = LovaszLoss(mode, per_image=False, ignore_index=IGNORE)
    label_maps, losses = given.label_maps, []
    for own_logits, own_labels in zip(given.logits.split(1), label_maps.split(1), strict=True):
        losses.append(of_image(own_logits, own_labels.long()).sum())  # () also if no pixel counts
    images = _of_part(lambda of: (of != IGNORE).flatten(1).any(dim=1).sum(), label_maps, of_step)
    return _divide(torch.stack(losses).sum(), images, distributed)


def _cross_entropy(given: LossInput, smoothing: float = 0.0) -> Tensor:
    """(B, H, W), 0 for ignored pixels, whose logits may be infinite. Smoothing is that of Szegedy
    et al. 2016: the true distribution is mixed with the uniform one."""
    counted = given.label_maps != IGNORE
    if given.classes == 1:
        t = given.foreground
        t = (1 - smoothing) * t + smoothing / 2 if smoothing else t
        per_pixel = functional.binary_cross_entropy_with_logits(given.logits, t, reduction="none")
        return per_pixel.squeeze(1).where(counted, 0.0)
    # On a CPU, torch's cross_entropy takes twice as long as these two steps of it.
    per_pixel = -given.log_of_true.squeeze(1)
    if smoothing:
        per_pixel = (1 - smoothing) * per_pixel - smoothing * given.log_probabilities.mean(dim=1)
    return per_pixel.where(counted, 0.0)


def _mean_over_counted(
    per_pixel: Tensor,
    label_maps: Tensor,
    of_step: Tensor | None,
    distributed: bool,
    options: PixelOptions,
) -> Tensor:
    of_values = per_pixel.new_zeros(IGNORE + 1)
    if options.class_weights is not None:
        of_values[: len(options.class_weights)] = per_pixel.new_tensor(options.class_weights)

    def weigh(maps: Tensor) -> Tensor:
        return maps != IGNORE if options.class_weights is None else of_values[maps.long()]

    weights = weigh(label_maps)
    if options.ohem is None:
        count = _of_part(lambda maps: weigh(maps).sum(), label_maps, of_step)
    else:  # which pixels of the other parts count is not known yet
        counted = label_maps != IGNORE
        weights = weights * _hardest(per_pixel.detach(), counted, options.ohem, distributed)
        count = weights.sum()
    return _divide((weights * per_pixel.where(weights > 0, 0.0)).sum(), count, distributed)


def _of_part(
    count: Callable[[Tensor], Tensor], label_maps: Tensor, of_step: Tensor | None
) -> Tensor:
    """Count in a batch. In a part of a step, return the part's share of the step's count, as if all
    images had the same count."""
    if of_step is None:
        return count(label_maps)
    return count(of_step).double() * len(label_maps) / len(of_step)


def _hardest(losses: Tensor, counted: Tensor, share: float, distributed: bool) -> Tensor:
    """(B, H, W) bool: of the pixels that count, on all ranks together, the share whose losses are
    the largest, and those that are equal to the smallest of these.

    Online hard example mining (Shrivastava et al. 2016). The smallest loss is found byte by byte,
    from histograms, which ranks can add up. This works since the bits of floats from 0 on, read as
    integers, have the same order.
    """
    bits = losses.float().clamp_min(0.0).view(torch.int32).long()
    smallest = torch.zeros((), dtype=torch.long, device=losses.device)
    wanted: Tensor | None = None
    for shift in (24, 16, 8, 0):
        near = counted & (bits >> (shift + 8) == smallest)
        histogram = torch.bincount(bits[near] >> shift & 255, minlength=256)
        if distributed:
            torch.distributed.all_reduce(histogram)
        if wanted is None:
            wanted = (share * histogram.sum().double()).ceil().long()
        from_above = histogram.flip(0).cumsum(0)
        above = (from_above < wanted).sum()
        wanted = wanted - torch.where(above > 0, from_above[above - 1], 0)
        smallest = smallest << 8 | 255 - above
    return counted & (bits >= smallest)


def _divide(total: Tensor, count: Tensor, distributed: bool) -> Tensor:
    """Divide the sum over ranks by the number, or the weight, over ranks; 0 if nothing counts."""
    both = torch.stack([total, count.to(total.dtype)])
    total, count = sum_over_ranks(both) if distributed else both
    return total / torch.where(count > 0, count, 1.0)


REGION_LOSSES: dict[str, tuple[float, float]] = {  # name -> alpha, beta of tversky_loss
    "dice": (0.5, 0.5),
    "jaccard": (1.0, 1.0),
    "tversky": (0.3, 0.7),
}
WEIGHED_LOSSES: dict[str, Term] = {  # those that take PixelOptions
    "bce": cross_entropy_loss,
    "ce": cross_entropy_loss,  # its usual name for more than two classes
    "focal": focal_loss,
}
PIXEL_LOSSES: dict[str, Term] = {**WEIGHED_LOSSES, "lovasz": lovasz_loss}


def has_region_loss(name: str) -> bool:
    """Whether the loss of a batch is not the mean of the losses of its parts."""
    return any(term in REGION_LOSSES for term in name.split("+"))


def make_loss(name: str, distributed: bool = False, options: PixelOptions = PLAIN) -> Loss:
    """The loss `--loss NAME`; terms joined by `+` are added.

    Args:
        options: for the terms in `WEIGHED_LOSSES`.

    Raises:
        InputError: a term is not known.
    """
    terms: list[Callable[[LossInput, Tensor | None], Tensor]] = []
    for term in name.split("+"):
        if term in REGION_LOSSES:
            alpha, beta = REGION_LOSSES[term]
            terms.append(partial(tversky_loss, distributed=distributed, alpha=alpha, beta=beta))
        elif term in WEIGHED_LOSSES:
            terms.append(partial(WEIGHED_LOSSES[term], distributed=distributed, options=options))
        elif term in PIXEL_LOSSES:
            terms.append(partial(PIXEL_LOSSES[term], distributed=distributed))
        else:
            known = [*REGION_LOSSES, *PIXEL_LOSSES]
            near = difflib.get_close_matches(term, known, n=1)
            raise InputError(
                f"--loss {name}: {term!r} is not known"
                + (f"; did you mean {near[0]}?" if near else ".")
                + f" Expected one of {', '.join(known)}, or a sum such as dice+bce."
            )

    def loss(logits: Tensor, label_maps: Tensor, of_step: Tensor | None = None) -> Tensor:
        given = LossInput(logits, label_maps)
        return torch.stack([term(given, of_step) for term in terms]).sum()

    return loss
