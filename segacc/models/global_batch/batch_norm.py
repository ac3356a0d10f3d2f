"""BatchNorm over the global batch, on CPUs: its statistics are of the samples of all processes."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FEW = 8192  # values of a channel of which torch's own statistics are exact enough
LEAST_ROWS = 1024
MOST_SUMS = 1024  # they stay in a core's cache


def _processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _ranks() -> Any:
    return _group_beside(torch.distributed.group.WORLD)


@cache
def _group_beside(world: Any) -> Any:
    """Return a group apart from DDP's sums. It is made once for each default group: a process has
    another default group when it trains again."""
    return torch.distributed.new_group(backend="gloo")


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of x (B, C, ...), both (C,) float64.

    In channels-last order on a CPU, torch adds up each channel in a single float32: over a million
    pixels its variance is wrong by 5e-4, and differently with half of the images. Here its kernel
    gets several pixels as one of more channels, and their statistics are joined in float64: the
    error is some 1e-6, in the same time.
    """
    channels = x.shape[1]
    pieces = [x]
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        together = max(1, min(len(pixels) // LEAST_ROWS, MOST_SUMS // channels))
        end = len(pixels) // together * together
        pieces = [pixels[:end].reshape(-1, together * channels)]
        if end < len(pixels):
            pieces.append(pixels[end:])
    found, shares = [], []
    for piece in pieces:
        # The results have the type of the running statistics, whose values do not matter here.
        zeros = torch.zeros(piece.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
        of_piece = torch.ops.aten.batch_norm_update_stats(piece, zeros, zeros, 0.0)
        found.append(torch.stack(of_piece).double().view(2, -1, channels))
        parts = found[-1].shape[1]
        shares += [piece.numel() / x.numel() / parts] * parts
    means, variances = torch.cat(found, dim=1)
    return join(means, variances, torch.tensor(shares, dtype=torch.double))


def join(means: Tensor, variances: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of parts together (Chan et al. 1979), both (C,) float64.

    Args:
        means, variances: (parts, C) float64.
        shares: (parts,) float64, the share of the values that is in each part.
    """
    mean = shares @ means
    return mean, shares @ (variances + (means - mean).square())


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and variance over all ranks' x.

    The gradient is that of Ioffe and Szegedy 2015, with its sums over all ranks. The kernels of
    torch's BatchNorm take the sums.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        own, world_size = torch.stack(statistics(x)), _processes()
        if world_size > 1:
            ranks = [torch.empty_like(own) for _ in range(world_size)]
            torch.distributed.all_gather(ranks, own, group=_ranks())
            means, variances = torch.stack(ranks, dim=1)
            shares = own.new_full((world_size,), 1 / world_size)
            own = torch.stack(join(means, variances, shares))
        mean, var = own.to(torch.promote_types(x.dtype, torch.float32))
        ctx.values = x.numel() // x.shape[1] * world_size
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.mark_non_differentiable(mean, var)
        return functional.batch_norm(x, mean, var, weight, bias, eps=eps), mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, var = ctx.saved_tensors
        scale = (var + ctx.eps).rsqrt()
        if _processes() == 1:
            of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                *(gradients[0], x, weight, None, None, mean, scale),
                *(True, ctx.eps, [True, True, True]),
            )
            return of_x, of_weight, of_bias, None
        wide = x.to(mean.dtype)
        # First the gradient as if mean and variance were constants, then what depends on them.
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            *(gradients[0].to(mean.dtype), wide, weight.to(mean.dtype)),
            *(mean, var, mean, scale, False, ctx.eps, [True, True, True]),
        )
        sums = torch.stack([of_bias, of_weight])
        torch.distributed.all_reduce(sums, group=_ranks())
        shape = (1, -1, *[1] * (x.ndim - 2))
        first, second = (sums * (weight * scale / ctx.values)).view(2, *shape)
        of_x -= first
        of_x.addcmul_(wide - mean.view(shape), second * scale.view(shape), value=-1)
        return of_x.to(x.dtype), of_weight.to(weight.dtype), of_bias.to(weight.dtype), None


class OverRanks(nn.Module):
    """Before a BatchNorm class among the bases: in training, its statistics are of the samples of
    all processes."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    weight: Tensor | None
    bias: Tensor | None
    momentum: float | None
    eps: float
    drop: nn.Module  # of timm's layers that normalise and activate
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        few_values = _processes() == 1 and x.numel() <= FEW * x.shape[1]
        if few_values or not self.training:
            return super().forward(x)
        weight = torch.ones_like(self.running_mean) if self.weight is None else self.weight
        bias = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        y, mean, var = _Normalise.apply(x, weight, bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            values = x.numel() // x.shape[1] * _processes()
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(var * (values / (values - 1)), share)
        return self.act(self.drop(y)) if hasattr(self, "act") else y


def normalise_over_ranks(model: nn.Module) -> None:
    """Make every BatchNorm layer take the statistics of the samples of all processes, on CPUs.

    GPUs have torch's SyncBatchNorm, which refuses tensors of a CPU. Without this, a run on CPUs
    would depend on the number of processes. Every process has equally many samples. One process
    has these layers, too, since torch's statistics are less exact.
    """
    classes: dict[Any, Any] = {}
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            kind = type(module)
            if kind not in classes:
                classes[kind] = type(f"{kind.__name__}OverRanks", (OverRanks, kind), {})
            module.__class__ = classes[kind]
