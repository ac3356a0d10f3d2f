"""A user's program: own data, network, loss and callbacks, two trainings and a scoring.

python program.py FOLDER; also under torchrun.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import segacc


class Discs(torch.utils.data.Dataset):
    """Bright discs on noise, in numbers that depend on the index alone."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        rng = np.random.default_rng(self.first + index)
        y, x = np.mgrid[:48, :64]
        mask = (y - rng.integers(12, 36)) ** 2 + (x - rng.integers(12, 52)) ** 2 < 100
        image = rng.integers(0, 120, (48, 64, 3), dtype=np.uint8) + 120 * mask[..., None]
        return image.astype(np.uint8), mask, f"disc{self.first + index}"


class Net(nn.Module):
    """Logits at half the resolution, BatchNorm and dropout inside."""

    stride = 4

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(8, classes, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images))


def loss(logits: torch.Tensor, label_map: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the pixels that count, of one image."""
    assert logits.shape[0] == 1 and label_map.shape == (1, *logits.shape[2:])
    assert logits.dtype == torch.float32 and label_map.dtype == torch.int64
    counts = label_map != 255
    return nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0][counts], label_map[counts].float()
    )


RANK = int(os.environ.get("RANK", "0"))
DATA = {"train": Discs(0, 12), "valid": Discs(100, 5), "test": Discs(200, 4)}
FLAGS = {"size": (64, 48), "batch_size": 4, "epochs": 2, "tracker": "none", "lr": 1e-2}


def main(folder: Path) -> None:
    steps, epochs = [], []
    first = segacc.train(
        dataset=DATA,
        model=Net(),
        loss=loss,
        output_dir=folder / "own",
        on_step=lambda step: steps.append((step.step, step.epoch, step.loss)),
        on_epoch=epochs.append,
        **FLAGS,
    )
    scores = segacc.evaluate(first, net=Net())
    second = segacc.train(
        dataset=DATA,
        model="linknet",
        encoder="tu-test_resnet",
        weights="none",
        output_dir=folder / "named",
        **FLAGS,
    )
    found = {"steps": steps, "epochs": [line["valid_loss"] for line in epochs]}
    found |= {"iou": scores.iou, "second": second.best["valid_loss"]}
    (folder / f"rank{RANK}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.manual_seed(RANK)  # so that each process makes a network with other weights
    main(Path(sys.argv[1]))
