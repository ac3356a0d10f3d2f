"""One stateless stream of training steps, (seed, step) -> samples, and what loads it.

The permutations of all epochs are laid end to end and cut into batches. So no batch is short, no
sample is dropped, and an epoch is a mark on the stream: epoch e ends with the step that holds its
last sample. A resumed run starts the stream at its step without loading what came before.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from functools import lru_cache
from multiprocessing import active_children, parent_process
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from segacc.data.augment import View, draw_view, stream_seed, write_view

if TYPE_CHECKING:
    from segacc.data.prepare import Split

Key = tuple[int, int]  # epoch, index of the sample in the split
Batch = dict[str, Tensor]

LOOKED_BYTES = 16 << 20
"""Of pixels, that a process may have mapped at a time. Mapping them again costs a seventh of the
time of a batch; with twice as many a tenth."""
AROUND_BYTES = 1 << 20
"""What the system maps with a small image, roughly: it does so by the folios that the file was read
in, of up to 2 MB."""


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The permutation of 0..samples-1 in which `epoch` visits the samples."""
    return np.random.default_rng([seed, epoch]).permutation(samples)


def step_keys(seed: int, step: int, batch_size: int, samples: int) -> list[Key]:
    """The global batch of `step`: (epoch, index) of each of its samples."""
    keys = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(position, samples)
        keys.append((epoch, int(epoch_order(seed, epoch, samples)[place])))
    return keys


def epoch_end(epoch: int, batch_size: int, samples: int) -> int:
    """Number of steps after which `epoch` (counted from 0) is complete."""
    return -(-(epoch + 1) * samples // batch_size)


class StepSampler(Sampler[list[Key]]):
    """This rank's share of every micro-batch from step `start` up to step `stop`."""

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert batch_size % (accumulate * world_size) == 0
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.start, self.stop, self.accumulate = start, stop, accumulate
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        micro = self.batch_size // self.accumulate
        share = micro // self.world_size
        for step in range(self.start, self.stop):
            keys = step_keys(self.seed, step, self.batch_size, self.samples)
            for first in range(self.rank * share, self.batch_size, micro):
                yield keys[first : first + share]


class TrainSamples(Dataset[Batch]):
    """Augmented samples of a prepared split, fetched a batch at a time."""

    def __init__(self, split: Split, flips: str, crop: int | None, seed: int) -> None:
        self.split, self.flips, self.crop, self.seed = split, flips, crop, seed
        self._looked = 0

    def __len__(self) -> int:
        return len(self.split)

    def view(self, epoch: int, index: int) -> View:
        """What `epoch` shows of a sample."""
        state = stream_seed(self.seed, epoch, index)
        return draw_view(self.flips, self.crop, self.split.side, state)

    def __getitems__(self, keys: list[Key]) -> Batch:
        """images (B, H, W, 3) uint8, masks (B, H, W) uint8 in {0, 1}, index (B,) int64."""
        side = self.crop or self.split.side
        images = np.empty((len(keys), side, side, 3), np.uint8)
        masks = np.empty((len(keys), side, side), np.uint8)
        for place, (epoch, index) in enumerate(keys):
            image, mask = self.split[index]
            view = self.view(epoch, index)
            write_view(view, image, images[place])
            write_view(view, mask, masks[place])
            self._looked += max(AROUND_BYTES, self.split.side**2 * 4)
            if self._looked > LOOKED_BYTES:
                self.split.forget()
                self._looked = 0
        return {
            "images": torch.from_numpy(images),
            "masks": torch.from_numpy(masks),
            "index": torch.tensor([index for _, index in keys]),
        }


def start_worker(worker: int) -> None:
    """What a worker of a DataLoader does first."""
    import cv2

    for number in (signal.SIGINT, signal.SIGTERM):  # the training process says when to stop
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)  # each worker's pool of threads would fight over the cores


def _end_with_parent() -> None:
    # A worker of torch looks for its parent, too, but not while it waits for someone to take what
    # it has made: killed, the parent would leave all of them behind.
    parent = parent_process()
    assert parent
    parent.join()
    os._exit(1)


@atexit.register
def _end_workers() -> None:
    # Left by an error. multiprocessing would send each the SIGTERM that it ignores, and wait. This
    # is registered after torch has imported that, and so is done before.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # of torch, to say that a worker has died
    for worker in active_children():
        if worker.daemon:
            worker.kill()


def _already_a_batch(batch: Any) -> Any:
    return batch


def train_loader(
    samples: TrainSamples, sampler: StepSampler, workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """The loader of a whole run: its workers live from the first step to the last."""
    return DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_already_a_batch,
        worker_init_fn=start_worker,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
    )


def rank_share(samples: int, rank: int, world_size: int) -> range:
    """The samples of a split that this rank evaluates."""
    return range(rank, samples, world_size)


def full_images(split: Split, indices: list[int]) -> Batch:
    """A batch of whole images, as they are."""
    pairs = [split[i] for i in indices]
    batch = {
        "images": torch.from_numpy(np.stack([image for image, _ in pairs])),
        "masks": torch.from_numpy(np.stack([mask for _, mask in pairs])),
    }
    split.forget()
    return batch


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) uint8, as a view in channels-last order, and masks (B, 1, H, W) uint8."""
    images = batch["images"].to(device, non_blocking=True).permute(0, 3, 1, 2)
    masks = batch["masks"].to(device, non_blocking=True).unsqueeze(1)
    return images, masks
