"""Optimizer, its parameter groups, and the learning-rate schedule."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from segacc.models.segmenter import Segmenter


def make_optimizer(
    model: Segmenter,
    lr: float,
    weight_decay: float,
    encoder_lr: float = 1.0,
    layer_decay: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) for the parameters that are not frozen.

    Biases and the parameters of normalisation layers get no weight decay.

    Args:
        encoder_lr: factor on the learning rate of the encoder.
        layer_decay: factor on the learning rate from a block of the encoder to the one before it;
            the last one has it once (as in timm, after Bao et al. 2022, BEiT).

    Returns:
        an optimizer whose first group is of the decoder and the head, and whose last one is of the
        first layers.
    """
    *encoder, head = model.layers
    blocks = [(1.0, head)]
    for depth, block in enumerate(reversed(encoder), start=1):
        blocks.append((encoder_lr * layer_decay**depth, block))
    if encoder_lr == layer_decay == 1:
        blocks = [(1.0, [name for name, _ in model.named_parameters()])]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups = [
        {"params": parameters, "weight_decay": decay, "lr": factor * lr}
        for factor, names in blocks
        for members in ([trained[name] for name in names if name in trained],)
        for parameters, decay in (
            ([p for p in members if p.ndim > 1], weight_decay),
            ([p for p in members if p.ndim <= 1], 0.0),
        )
        if parameters
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, warmup: float, total_steps: int, done: int = 0
) -> LambdaLR:
    """The learning rate of each step: linear warmup over a share of the steps, then half a cosine.

    The training loop steps it once per optimizer step. (The wrapper of accelerate would step it
    once per process, so that with more GPUs the schedule would end earlier.)

    Args:
        warmup: share of the steps in which the rate rises.
        done: steps that the run has done already.
    """
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    rising = math.ceil(warmup * total_steps)
    share = partial(share_of_peak, rising=rising, total=total_steps)
    return LambdaLR(optimizer, share, last_epoch=done - 1)


def share_of_peak(step: int, rising: int, total: int) -> float:
    """The learning rate of a step as a share of the peak rate.

    It is never 0 in a step that is done: it begins with 1 / (rising + 1), is 1 in the step after
    the rise, and would come to 0 in the step after the last.

    Args:
        step: counted from 0.
        rising: in how many steps the rate rises.
        total: steps of the whole run.
    """
    if step < rising:
        return (step + 1) / (rising + 1)
    fallen = (step - rising) / max(1, total - rising)
    return (1 + math.cos(math.pi * fallen)) / 2


def rates_at(schedule: LRScheduler, step: int) -> dict[str, float]:
    """The learning rate of any step, counted from 0: `lr` of the head, and `lr_first_layer` if that
    is another one. The state of the schedule does not change."""
    assert isinstance(schedule, LambdaLR)
    head, first_layer = schedule.base_lrs[0], schedule.base_lrs[-1]
    share = schedule.lr_lambdas[0](step)
    rates = {"lr": float(head * share)}
    return rates if first_layer == head else rates | {"lr_first_layer": float(first_layer * share)}
