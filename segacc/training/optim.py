"""Optimizer, its parameter groups, and the learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) for the parameters that are not frozen.

    Biases and the parameters of normalisation layers get no weight decay.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, warmup: float, total_steps: int, done: int = 0
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warmup over a share of the steps, then half a cosine down to 0.

    The training loop steps it once per optimizer step. (The wrapper of accelerate would step it
    once per process, so that with more GPUs the schedule would end earlier.)

    Args:
        warmup: share of the steps in which the rate rises.
        done: steps that the run has done already.
    """
    from transformers.optimization import get_cosine_schedule_with_warmup

    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return get_cosine_schedule_with_warmup(
        optimizer, math.ceil(warmup * total_steps), total_steps, last_epoch=done - 1
    )


def rate_at(schedule: torch.optim.lr_scheduler.LRScheduler, step: int) -> float:
    """The learning rate of any step; the state of the schedule does not change."""
    assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
    return float(schedule.base_lrs[0] * schedule.lr_lambdas[0](step))
