"""Some images as a training will see them: the first draws of its crops, flips and pipeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segacc.config.train import TrainConfig
from segacc.data.loading.transforms import Pipeline
from segacc.data.split import Split

IMAGES = 8
EPOCHS = 6


@dataclass(frozen=True, eq=False)
class Draws:
    """A training image, and what it becomes in the first epochs."""

    name: str
    image: np.ndarray
    """(H, W, 3) uint8, as prepared"""
    label_map: np.ndarray
    """(H, W) uint8"""
    drawn: list[tuple[np.ndarray, np.ndarray]]
    """image and label map in each epoch"""


def draw_samples(config: TrainConfig, train: Split, pipeline: Pipeline | None) -> list[Draws]:
    """Return evenly spaced images, as `config` would train on them.

    Args:
        config: with size and flips filled in.
        pipeline: that of --augment.
    """
    from segacc.data.loading.loader import TrainSamples

    assert config.flips is not None
    samples = TrainSamples(train, config.flips, config.crop, config.seed, pipeline)
    found = []
    for index in np.linspace(0, len(train) - 1, min(IMAGES, len(train))).round().astype(int):
        batch = samples.__getitems__([(epoch, int(index)) for epoch in range(EPOCHS)])
        drawn = zip(batch["images"].numpy(), batch["label_maps"].numpy(), strict=True)
        image, label_map = train[index]
        found.append(Draws(train.names[index], np.array(image), np.array(label_map), list(drawn)))
    return found
