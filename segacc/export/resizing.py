"""Resizing by products of matrices, which every format can hold, at sizes known when it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Kernel = Callable[[Tensor], Tensor]

PILLOW_ONE = 2.0**22
"""the integer that Pillow uses for a weight of 1"""


def resize_like_pillow(images: Tensor, height: int, width: int) -> Tensor:
    """Resize bit for bit as `segacc.data.prepare.resize_image`: Pillow's bicubic filter, with
    weights that are multiples of 2**-22 and with integers after each pass. Float64 holds their
    sums.

    Args:
        images: (B, C, H, W) in 0..255.

    Returns:
        (B, C, height, width) float32 whole numbers in 0..255.
    """
    rows, columns = (
        _whole(resizing_weights(old, new, bicubic) * PILLOW_ONE)
        for old, new in zip(images.shape[-2:], (height, width), strict=True)
    )
    wide = _rounded(images.to(torch.float64) @ columns.T)
    return _rounded(rows @ wide).to(torch.float32)


def resize_maps(maps: Tensor, height: int, width: int) -> Tensor:
    """Resize maps (B, K, h, w) to another height and width: torch's bilinear interpolation with
    `antialias`, as `segacc predict` resizes probabilities."""
    rows, columns = (
        resizing_weights(old, new, triangle).to(torch.float32)
        for old, new in zip(maps.shape[-2:], (height, width), strict=True)
    )
    return rows @ maps @ columns.T


def resizing_weights(old: int, new: int, kernel: Kernel) -> Tensor:
    """(new, old) float64: how much of each old pixel is in each new one; the sum of a row is 1.

    Where the image shrinks, the kernel is wider by the same factor.
    """
    place = torch.arange(old, dtype=torch.float64)[None] + 0.5
    scale = torch.ones((), dtype=torch.float64) * old / new
    centre = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * scale
    weights = kernel((place - centre) / scale.clamp(min=1))
    return weights / weights.sum(dim=1, keepdim=True)


def triangle(x: Tensor) -> Tensor:
    """The kernel of bilinear interpolation."""
    return (1 - x.abs()).clamp(min=0)


def bicubic(x: Tensor) -> Tensor:
    """The kernel of Keys (1981) with a = -0.5, as Pillow has it."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _whole(weights: Tensor) -> Tensor:
    """The nearest whole numbers, as in C: halves go away from 0."""
    return weights.sign() * torch.floor(weights.abs() + 0.5)


def _rounded(sums: Tensor) -> Tensor:
    """Sums of pixels times whole weights, as pixels."""
    return torch.floor((sums + PILLOW_ONE / 2) / PILLOW_ONE).clamp(0, 255)
