"""start_loading(): the batches of a run, from the GPU's memory or from the mapped files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from segacc.config.train import TrainConfig
from segacc.data.loading.loader import Batch, TrainSamples, train_loader
from segacc.data.loading.resident import Resident, fits, resident_batches, send
from segacc.data.loading.stream import StepSampler
from segacc.data.loading.transforms import Pipeline
from segacc.data.loading.workers import plan_workers
from segacc.data.split import Prepared, Split
from segacc.errors import plural
from segacc.runtime.threads import cores_of_process

if TYPE_CHECKING:
    from accelerate import Accelerator


def start_loading(
    config: TrainConfig,
    accelerator: Accelerator,
    data: Prepared,
    pipeline: Pipeline | None,
    start: int,
    stop: int,
) -> tuple[Iterator[Batch], Split | Resident, str]:
    """Start to load: from the GPU's memory if the images fit there, else from the mapped files.

    Args:
        pipeline: that of `--augment`; None if there are only crops and flips.
        start, stop: the batches are those of the steps from `start` up to `stop`.

    Returns:
        the batches; the validation split; how both are loaded, for the banner.
    """
    assert config.flips is not None
    device, train, valid = accelerator.device, data.splits["train"], data.splits["valid"]
    sampler = StepSampler(
        samples=len(train),
        batch_size=config.batch_size,
        seed=config.seed,
        start=start,
        stop=stop,
        accumulate=config.accumulate,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    samples = TrainSamples(train, config.flips, config.crop, config.seed, pipeline)
    if config.workers is None and pipeline is None and fits(device, [train, valid]):
        batches = resident_batches(send(train, device), samples, sampler)
        return batches, send(valid, device), "all images on the GPU"
    workers = config.workers
    if workers is None and device.type == "cuda":
        workers = min(4, cores_of_process())
    elif workers is None:
        # Crops and flips take no time; a pipeline takes 4 % of a step of a small model.
        workers = 1 if pipeline else 0
    plan = plan_workers(workers, samples.bytes_of(sampler.share), config.accumulate)
    loading, own = str(plan), cores_of_process()
    if plan.workers > own:
        loading += f" (more than its {plural(own, 'core')}: fewer may be faster)"
    loader = train_loader(samples, sampler, plan, pin_memory=device.type == "cuda")
    if config.workers is None and fits(device, [valid]):
        return iter(loader), send(valid, device), loading
    return iter(loader), valid, loading
