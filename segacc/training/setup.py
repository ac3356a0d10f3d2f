"""Everything before the first step: checks, processes, data, model, run folder, tracker."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from segacc.config import TrainConfig, read_run_config
from segacc.data.loading.loader import Batch, TrainSamples, train_loader
from segacc.data.loading.resident import Resident, fits, resident_batches, send
from segacc.data.loading.stream import StepSampler, epoch_end
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.data.split import Prepared, Split
from segacc.models.global_batch import Place, normalise_over_ranks, place_dropout
from segacc.models.segmenter import without_random_order
from segacc.models.weights import Built, build_model
from segacc.runs import check_output_dir, keep_epochs, open_run
from segacc.runtime.accelerator import make_accelerator
from segacc.runtime.ranks import any_rank, on_main
from segacc.runtime.threads import cores_of_process, keep_memory, set_threads
from segacc.tracking.trackers import Tracker, check_tracker, start_tracker
from segacc.training.banner import banner
from segacc.training.checkpoint import Progress, Trained, load_state, model_of, newest_state
from segacc.training.checks import check_batch, check_batchnorm, check_data
from segacc.training.losses import Loss, make_loss
from segacc.training.optim import make_optimizer, make_schedule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run that is ready for its next step."""

    accelerator: Accelerator
    run: Path
    data: Prepared
    model: nn.Module  # wrapped for DDP
    trained: Trained
    schedule: LRScheduler
    loss_fn: Loss
    place: Place  # where dropout looks which samples it has
    batches: Iterator[Batch]  # of this rank, from the next step to the last of the last epoch
    valid: Split | Resident
    progress: Progress
    tracker: Tracker


def set_up(config: TrainConfig) -> Job:
    """Make a run ready, new or resumed, and say what is in effect.

    Raises:
        InputError: what the user gave cannot work.
    """
    assert config.size is not None and config.flips is not None and config.weights is not None
    # What can be wrong is looked at in order of what it costs to find out.
    make_loss(config.loss)
    check_tracker(config.tracker)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    accelerator = make_accelerator(config.precision)
    main, world = accelerator.is_main_process, accelerator.num_processes
    cuda = accelerator.device.type == "cuda"
    check_batch(config, world)
    if main and not config.resume:
        check_output_dir(config.output_dir)
    threads = set_threads(accelerator)
    if not cuda:
        keep_memory()
    source = load_dataset(config.dataset)

    set_seed(config.seed)
    resume = config.resume
    state = on_main(accelerator, lambda: newest_state(resume)) if resume else None
    if state:  # needs no pretrained weights, and so no network
        built = Built(model_of(state), f"of {state}")
    else:
        built = build_model(config.model, config.encoder, config.weights)
    segmenter = built.model
    segmenter.size, segmenter.threshold = config.size, 0.5  # not those of what it starts from
    if config.deterministic:
        without_random_order(segmenter)
    segmenter.freeze(config.freeze_encoder, config.freeze_bn)
    check_batchnorm(config, segmenter)
    data = prepare(source, config.size)
    check_data(config, data)
    train = data.splits["train"]

    # Names, and so saved models, stay those of plain layers.
    place = place_dropout(segmenter)
    if world > 1 and not config.freeze_bn:
        if cuda:  # timm's conversion, unlike torch's, keeps the activation of its layers
            from timm.layers import convert_sync_batchnorm

            segmenter = convert_sync_batchnorm(segmenter)
        else:
            normalise_over_ranks(segmenter)
    optimizer = make_optimizer(segmenter, config.lr, config.weight_decay)
    accelerator.gradient_accumulation_steps = config.accumulate
    model, optimizer = accelerator.prepare(segmenter, optimizer)
    if world > 1:
        lay_out_buckets(model, segmenter.stride, accelerator.device)
        any_rank(accelerator, False)  # so that what cannot connect is said now
    if config.compile:  # validation stays as evaluate.py will compute it
        if not cuda:
            log.warning("--compile has not repaid on a CPU with any model that was measured")
        elif world > 1 and not config.freeze_bn:
            log.warning("--compile compiles around each BatchNorm of several GPUs, and gains less")
        model = torch.compile(model)
    trained = Trained(segmenter, optimizer, accelerator.scaler)
    progress = load_state(state, trained) if state else Progress()
    total_steps = epoch_end(config.epochs - 1, config.batch_size, len(train))
    schedule = make_schedule(optimizer, config.warmup, total_steps, progress.step)

    before = read_run_config(resume) if resume else config
    run, run_id = on_main(accelerator, lambda: open_run(config, data, segmenter, accelerator))
    batches, valid, loading = start_loading(config, accelerator, data, progress.step, total_steps)
    tracker = start_tracker(accelerator, config, run, run_id, progress)
    if main:
        print(banner(config, accelerator, data, segmenter, built.weights, threads, loading))
        print(f"  tracker     {tracker.says}\n  run         {run}", flush=True)
        if resume:
            keep_epochs(run, progress.epoch)
            changed = [
                f", {name} {getattr(before, name)} -> {getattr(config, name)}"
                for name in ("epochs", "patience")
                if getattr(before, name) != getattr(config, name)
            ]
            print(f"  resumed     after step {progress.step}{''.join(changed)}", flush=True)
    loss_fn = make_loss(config.loss, distributed=world > 1)
    return Job(
        accelerator=accelerator,
        run=run,
        data=data,
        model=model,
        trained=trained,
        schedule=schedule,
        loss_fn=loss_fn,
        place=place,
        batches=batches,
        valid=valid,
        progress=progress,
        tracker=tracker,
    )


def start_loading(
    config: TrainConfig, accelerator: Accelerator, data: Prepared, start: int, stop: int
) -> tuple[Iterator[Batch], Split | Resident, str]:
    """This rank's batches of the steps from `start` up to `stop`, the validation split from where
    it is read fastest, and how both are loaded, for the banner."""
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
    samples = TrainSamples(train, config.flips, config.crop, config.seed)
    if config.workers is None and not any_rank(accelerator, not fits(device, [train, valid]))[0]:
        batches = resident_batches(send(train, device), samples, sampler)
        return batches, send(valid, device), "all images on the GPU"
    workers = config.workers
    if workers is None:
        workers = min(4, cores_of_process()) if device.type == "cuda" else 0
    loader = train_loader(samples, sampler, workers, pin_memory=device.type == "cuda")
    return iter(loader), valid, f"{workers} data workers"


def lay_out_buckets(model: nn.Module, stride: int, device: torch.device) -> None:
    """Have DDP arrange its buckets before the first step, by a gradient that is thrown away.

    It does so after the first backward pass. Sums of three ranks and more round by the place in
    the bucket, so the first step after a resume would otherwise differ from what it was.
    """
    model.eval()  # leaves BatchNorm's statistics alone
    model(
        torch.zeros(1, 3, 2 * stride, 2 * stride, dtype=torch.uint8, device=device)
    ).sum().backward()
    model.zero_grad()
