"""Average pooling whose backward pass gives the same bits in every run on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MatmulAvgPool2d(nn.Module):
    """Computes nn.AdaptiveAvgPool2d as two products of matrices: cuBLAS has a deterministic
    backward pass, the pooling itself has none (torch 2.15)."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, *output_size), the means of cells that cover the image."""
        rows, columns = (
            _mean_of_cells(cells, length).to(x)
            for cells, length in zip(self.output_size, x.shape[-2:], strict=True)
        )
        return rows @ x @ columns.T


def _mean_of_cells(cells: int, length: int) -> Tensor:
    """(cells, length): the weights, in row i, of the places floor(i L / C) to ceil((i+1) L / C)."""
    cell, place = torch.arange(cells)[:, None], torch.arange(length)[None]
    inside = (place >= cell * length // cells) & (place < -(-(cell + 1) * length // cells))
    return inside / inside.sum(dim=1, keepdim=True)


def without_random_order(model: nn.Module) -> None:
    """Replace layers whose backward pass on a GPU sums in an order that varies between runs."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size = child.output_size
                height, width = size if isinstance(size, tuple) else (size, size)
                if height is not None and width is not None:
                    setattr(module, name, MatmulAvgPool2d((height, width)))
