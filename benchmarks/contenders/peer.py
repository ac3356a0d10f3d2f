"""What the other programs share: the networks, and files that are decoded each time they are used,
as in all tutorials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from benchmarks.contenders.turns import Task


class SegFormer(nn.Module):
    """SegFormer-B0 of transformers, with logits at the image's size as its example makes them."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        self.net = SegformerForSemanticSegmentation(SegformerConfig(num_labels=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.net(images).logits
        return functional.interpolate(
            logits, size=images.shape[-2:], mode="bilinear", align_corners=False
        )


def build(model: str) -> nn.Module:
    """The network of that name, random weights, (B, 3, H, W) normalised -> (B, 1, H, W) logits."""
    if model == "segformer":
        return SegFormer()
    return smp.create_model(model, encoder_name="resnet34", encoder_weights=None, classes=1)


def pairs(task: Task, split: str) -> list[tuple[Path, Path]]:
    """Image and mask of each sample."""
    images = sorted((task.data / split).glob("*.jpg"))
    return [(image, image.with_suffix(".png")) for image in images]


def decode(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and mask (H, W) uint8 in {0, 1}, as large as the files have them."""
    image = np.asarray(Image.open(pair[0]).convert("RGB"))
    return image, (np.asarray(Image.open(pair[1])) > 127).astype(np.uint8)
