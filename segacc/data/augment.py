"""albumentations pipelines with one random stream per (seed, epoch, index)."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import albumentations

# The import must not look for updates on the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def train_transform(flips: str, crop: int | None) -> albumentations.Compose:
    """Random crop, then flips.

    Args:
        flips: `none`, `h`, `hv`, or `d4` (all eight symmetries of the square).
        crop: side of the random crop in px, None for the full image.
    """
    import albumentations as A

    steps: list[A.DualTransform] = []
    if crop:
        steps.append(A.RandomCrop(crop, crop))
    if flips in ("h", "hv"):
        steps.append(A.HorizontalFlip(p=0.5))
    if flips == "hv":
        steps.append(A.VerticalFlip(p=0.5))
    if flips == "d4":
        steps.append(A.D4(p=1))
    return A.Compose(steps)


def stream_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of the random stream of sample `index` in `epoch`."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def augment(
    transform: albumentations.Compose,
    image: np.ndarray,
    mask: np.ndarray,
    seed: int,
    epoch: int,
    index: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Augment one sample, alike in every process, worker and restart.

    albumentations draws from the worker's state by default: two workers repeat each other's
    stream, and every epoch repeats the first. All transforms draw from this one stream:
    `Compose.set_random_seed` would give each the same one, and flips both ways or not at all.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8 in {0, 1}; flips and crops move its pixels, none is interpolated.
    """
    state = stream_seed(seed, epoch, index)
    transform.set_random_state(np.random.default_rng(state), random.Random(state))
    out = transform(image=image, mask=mask)
    return out["image"], out["mask"]
