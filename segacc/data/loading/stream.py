"""The stream of training steps: which samples a step visits is a function of (seed, step) alone.

The permutations of all epochs are laid end to end and cut into batches. So no batch is short, no
sample is dropped, and an epoch is a mark on the stream: epoch e ends with the step that holds its
last sample. A resumed run starts the stream at its step without loading what came before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]  # epoch, index of the sample in the split


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

    @property
    def share(self) -> int:
        """Samples of a micro-batch that this rank has."""
        return self.batch_size // self.accumulate // self.world_size

    def __iter__(self) -> Iterator[list[Key]]:
        micro, share = self.batch_size // self.accumulate, self.share
        for step in range(self.start, self.stop):
            keys = step_keys(self.seed, step, self.batch_size, self.samples)
            for first in range(self.rank * share, self.batch_size, micro):
                yield keys[first : first + share]
