"""Batches read from the files of a prepared split: augmented for training, or whole images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segacc.data.loading.augment import PIPELINE, View, draw_view, stream_seed, write_view
from segacc.data.loading.stream import Key, StepSampler
from segacc.data.loading.transforms import Pipeline
from segacc.data.loading.workers import PREFETCH, WorkerPlan, start_worker, worker_context

if TYPE_CHECKING:
    from segacc.data.split import Split

Batch = dict[str, Tensor]

LOOKED_BYTES = 16 << 20
"""The bytes of pixels that a process may have mapped at a time. Mapping them again takes a seventh
of the time of a batch; with a limit twice as high it would take a tenth."""
AROUND_BYTES = 1 << 20
"""About how much the system maps for a small image: it maps the whole pieces in which it has read
the file, of up to 2 MB."""


class TrainSamples(Dataset[Batch]):
    """Augmented samples of a prepared split, fetched a batch at a time."""

    def __init__(
        self,
        split: Split,
        flips: str,
        crop: int | None,
        seed: int,
        pipeline: Pipeline | None = None,
    ) -> None:
        self.split, self.flips, self.crop, self.seed = split, flips, crop, seed
        self.pipeline = pipeline
        self._looked = 0

    def __len__(self) -> int:
        return len(self.split)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the samples."""
        if self.crop:
            return self.crop, self.crop
        assert self.split.shape is not None  # `check_data` asks for a crop otherwise
        return self.split.shape

    def bytes_of(self, samples: int) -> int:
        """Return the bytes that a batch of this many samples takes."""
        if not self.crop:
            return samples * self.split.bytes_of_image
        return samples * self.crop**2 * (self.split.channels + 1)

    def view(self, epoch: int, index: int) -> View:
        """The crop and the flips of a sample in `epoch`."""
        state = stream_seed(self.seed, epoch, index)
        return draw_view(self.flips, self.crop, *self.split.shape_of(index), state)

    def __getitems__(self, keys: list[Key]) -> Batch:
        """A batch: images (B, H, W, C) uint8, label_maps (B, H, W) uint8, index (B,) int64."""
        shape = (len(keys), *self.shape)
        images = np.empty((*shape, self.split.channels), np.uint8)
        label_maps = np.empty(shape, np.uint8)
        for place, (epoch, index) in enumerate(keys):
            image, label_map = self.split[index]
            self._looked += max(AROUND_BYTES, image.nbytes + label_map.nbytes)
            view = self.view(epoch, index)
            if self.pipeline:
                self.pipeline.draw(stream_seed(self.seed, epoch, index, PIPELINE))
                image, label_map, view = self.pipeline.move(image, label_map, view, self.shape)
            write_view(view, image, images[place])
            write_view(view, label_map, label_maps[place])
            if self.pipeline:
                images[place] = self.pipeline.recolour(images[place])
            if self._looked > LOOKED_BYTES:
                self.split.forget()
                self._looked = 0
        return {
            "images": torch.from_numpy(images),
            "label_maps": torch.from_numpy(label_maps),
            "index": torch.tensor([index for _, index in keys]),
        }


def _already_a_batch(batch: Any) -> Any:
    return batch


def _in_shared_memory(batch: Batch) -> Batch:
    """Move a worker's batch into shared memory. An error here is raised in the training process as
    well. torch would move it later, in a thread whose errors are lost."""
    return {name: value.share_memory_() for name, value in batch.items()}


def _as_arrays(batch: Batch) -> dict[str, np.ndarray]:
    """Convert tensors to arrays, whose content goes through a pipe; of a tensor, only the name of
    its shared memory would."""
    return {name: value.numpy() for name, value in batch.items()}


def _as_tensors(batch: dict[str, np.ndarray], pin_memory: bool) -> Batch:
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    return {k: v.pin_memory() for k, v in tensors.items()} if pin_memory else tensors


def train_loader(
    samples: TrainSamples, sampler: StepSampler, plan: WorkerPlan, pin_memory: bool
) -> Iterable[Batch]:
    """The loader of a whole run; its workers live from the first step to the last."""
    workers = plan.workers
    send: Callable[[Any], Any] = (
        _as_arrays if plan.pipes else _in_shared_memory if workers else _already_a_batch
    )
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=send,
        multiprocessing_context=worker_context() if workers else None,
        worker_init_fn=start_worker,
        pin_memory=pin_memory and not plan.pipes,
        prefetch_factor=PREFETCH if workers else None,
    )
    return (_as_tensors(batch, pin_memory) for batch in loader) if plan.pipes else loader


def rank_share(samples: int, rank: int, world_size: int) -> range:
    """The samples of a split that this rank evaluates."""
    return range(rank, samples, world_size)


def full_images(split: Split, indices: list[int]) -> Batch:
    """A batch of whole images, without augmentation: images and label_maps."""
    pairs = [split[i] for i in indices]
    batch = {
        "images": torch.from_numpy(np.stack([image for image, _ in pairs])),
        "label_maps": torch.from_numpy(np.stack([label_map for _, label_map in pairs])),
    }
    split.forget()
    return batch


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) uint8, a view in channels-last order; label maps (B, H, W) uint8."""
    images = batch["images"].to(device, non_blocking=True).permute(0, 3, 1, 2)
    return images, batch["label_maps"].to(device, non_blocking=True)
