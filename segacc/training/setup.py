"""set_up(): everything before the first step of a run, new or resumed."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from segacc.config import Reading, TrainConfig
from segacc.data.classes.weights import find_class_weights
from segacc.data.known import find_to_train, prepare_found
from segacc.data.loading.loader import Batch
from segacc.data.loading.resident import Resident
from segacc.data.loading.start import start_loading
from segacc.data.loading.stream import epoch_end
from segacc.data.reading.depth import WHOLE
from segacc.data.split import Prepared, Split
from segacc.errors import InputError
from segacc.labels import Labels, check_same_classes
from segacc.models.global_batch import (
    Place,
    PlacedDropout,
    normalise_over_ranks,
    place_dropout,
    warn_of_unplaced_random_layers,
)
from segacc.models.pooling import without_random_order
from segacc.models.probe import needs_two_images
from segacc.models.weights import Built, build_model
from segacc.runs import open_run
from segacc.runtime.accelerator import make_accelerator
from segacc.runtime.ranks import run_on_main
from segacc.runtime.threads import keep_memory, set_threads
from segacc.sizes import width_height
from segacc.tracking.start import start_tracker
from segacc.tracking.trackers import Tracker
from segacc.training.banner import about_options, banner
from segacc.training.checkpoint import Progress, Trained, load_state, model_from_state, newest_state
from segacc.training.checks import check_data, check_flags
from segacc.training.losses import Loss, PixelOptions, make_loss
from segacc.training.optim import make_optimizer, make_schedule
from segacc.training.writer import Writer

log = logging.getLogger(__name__)


def _do_nothing(*_: object) -> None:
    """The default of a hook."""


@dataclass(frozen=True)
class Hooks:
    """Functions that `fit` calls at given points of a run. The benchmarks measure with them."""

    ready: Callable[[Job], object] = _do_nothing
    """called before the first step"""
    step_begins: Callable[[int], object] = _do_nothing
    """called before each step, with the number of steps done"""
    step_done: Callable[[int, float], object] = _do_nothing
    """called after each step, with its number (counted from 0) and the seconds that it waited for
    data"""
    steps_done: Callable[[Job], object] = _do_nothing
    """called after the steps of an epoch, before its validation"""
    epoch_done: Callable[[Job], object] = _do_nothing
    """called after the validation of an epoch"""
    clock: Callable[[], float] = time.monotonic
    """gives seconds, from which the run knows when to save a state"""


NO_HOOKS = Hooks()


@dataclass(frozen=True)
class TrainableModel:
    """A model that is ready to train, in one process."""

    wrapped: nn.Module  # by DDP, and by torch.compile if asked for
    trained: Trained
    place: Place  # tells dropout which samples of the global batch this process has
    weights: str  # where its weights come from, for the banner


@dataclass(frozen=True)
class Job:
    """A run that is ready for its next step: all that the training loop needs."""

    config: TrainConfig
    hooks: Hooks
    accelerator: Accelerator
    run: Path
    data: Prepared
    model: TrainableModel
    schedule: LRScheduler
    loss_fn: Loss  # of a step's samples on all ranks
    image_loss_fn: Loss  # of an image by itself, for validation
    batches: Iterator[Batch]  # of this rank, from the next step to the last of the last epoch
    valid: Split | Resident
    progress: Progress  # where the run starts or continues
    tracker: Tracker
    writer: Writer

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prints and writes."""
        return self.accelerator.is_main_process


def set_up(config: TrainConfig, hooks: Hooks) -> Job:
    """Make a run ready, new or resumed, and print the settings in effect.

    Checks that take little time come first.

    Raises:
        InputError: a flag, the data set or the weights cannot be used.
    """
    assert config.size is not None  # `with_protocol` has filled it in
    accelerator = start_processes(config)
    resume = config.resume
    state = run_on_main(accelerator, lambda: newest_state(resume)) if resume else None
    check_flags(config, accelerator)
    source = find_to_train(config.dataset, Reading.of(vars(config)), resume)
    built, place = build(config, source.labels, state, accelerator)
    # A resumed run keeps its range of values, or goes on without one, as 0.1.0 began it.
    own_range = (built.model.value_range or WHOLE) if state else None
    data = prepare_found(source, config.size, own_range)
    built.model.value_range = data.value_range
    check_data(config, data)
    model = make_trainable(config, accelerator, built, place)
    progress = load_state(state, model.trained) if state else Progress()
    return open_outputs(config, hooks, accelerator, data, model, progress)


def start_processes(config: TrainConfig) -> Accelerator:
    """Make the accelerator, and set the threads and the memory of this process."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    accelerator = make_accelerator(config.precision)
    set_threads(accelerator)
    if accelerator.device.type == "cpu":
        keep_memory()
    return accelerator


def build(
    config: TrainConfig, labels: Labels, state: Path | None, accelerator: Accelerator
) -> tuple[Built, Place]:
    """Build the model with the weights that the run starts from; BatchNorm and dropout are made to
    work on the global batch, and parts are frozen if asked to.

    Returns:
        the model; the place in the global batch that its dropout reads.

    Raises:
        InputError: the model cannot be had, has other classes than the data set where it is that of
            a run to resume, or cannot train on one image at a time.
    """
    assert config.weights is not None and config.size is not None
    set_seed(config.seed)
    if state:  # the state has all weights, so nothing is downloaded
        built = Built(model_from_state(state), f"of {state}")
        check_same_classes(labels, built.model.labels, f"--resume {config.resume}")
    else:
        built = build_model(
            config.model,
            config.encoder,
            config.weights,
            labels.logits,
            head_of=labels if config.keep_head else None,
        )
    segmenter = built.model
    segmenter.labels = labels
    # Not those stored with the weights.
    segmenter.size = None if isinstance(config.size, str) else config.size
    segmenter.threshold = 0.5
    if config.deterministic:
        without_random_order(segmenter)
    segmenter.freeze(config.freeze_encoder, config.freeze_bn)
    if config.batch_size == config.accumulate and not config.freeze_bn:
        side = config.crop or (min(width_height(segmenter.size)) if segmenter.size else math.inf)
        side = int(min(side, 2 * segmenter.stride))
        if needs_two_images(segmenter, segmenter.example_input(side=side)):
            raise InputError(
                f"--batch-size {config.batch_size} leaves one image for each forward pass, and "
                f"BatchNorm in {config.model} needs two: give a --batch-size of at least "
                f"{2 * config.accumulate}, or --freeze-bn."
            )
    # The replaced layers keep their names, so saved models do not depend on them.
    place = place_dropout(segmenter)
    warn_of_unplaced_random_layers(segmenter, segmenter.example_input(images=2))
    if accelerator.num_processes > 1 and not config.freeze_bn:
        if accelerator.device.type == "cuda":
            # Unlike torch's function, timm's keeps the activations of timm's BatchNorm layers.
            from timm.layers import convert_sync_batchnorm

            segmenter = convert_sync_batchnorm(segmenter)
        else:
            normalise_over_ranks(segmenter)
    return Built(segmenter, built.weights), place


def make_trainable(
    config: TrainConfig, accelerator: Accelerator, built: Built, place: Place
) -> TrainableModel:
    """Wrap the model for its processes, and make its optimizer."""
    segmenter, world = built.model, accelerator.num_processes
    cuda = accelerator.device.type == "cuda"
    optimizer = make_optimizer(segmenter, config.lr, config.weight_decay)
    accelerator.gradient_accumulation_steps = config.accumulate
    wrapped, optimizer = accelerator.prepare(segmenter, optimizer)
    if world > 1:
        # BatchNorm's statistics are of the samples of all processes, so they are equal everywhere.
        # (torch 2.15 deprecates this argument of DDP, and accelerate does not know the new one.)
        wrapped.broadcast_buffers = False
        lay_out_buckets(wrapped, segmenter.example_input().to(accelerator.device))
    if config.compile:  # validation is not compiled, so that evaluate.py computes the same
        if not cuda:
            log.warning("--compile made no model faster that was measured on a CPU")
        elif world > 1 and not config.freeze_bn:
            log.warning("--compile leaves out BatchNorm over several GPUs, and so gains less")
        for layer in wrapped.modules():
            if isinstance(layer, PlacedDropout):
                layer.leave_uncompiled()
        wrapped = torch.compile(wrapped)
    trained = Trained(segmenter, optimizer, accelerator.scaler)
    return TrainableModel(wrapped, trained, place, built.weights)


def lay_out_buckets(model: nn.Module, images: Tensor) -> None:
    """Have DDP arrange its buckets before the first step, with a gradient that is not used.

    DDP arranges its buckets after the first backward pass. Sums over three or more ranks are
    rounded depending on the place in a bucket. Without this, the first step after a resume would
    be rounded in another way than the same step of a run that was not stopped.
    """
    model.eval()  # so that BatchNorm's statistics do not change
    model(images).sum().backward()
    model.zero_grad()


def pixel_options(config: TrainConfig, data: Prepared) -> PixelOptions:
    """How the pixels of a data set count in the loss; raises InputError as `find_class_weights`."""
    weights = None
    if config.class_weights is not None:
        train = data.splits["train"]
        weights = find_class_weights(config.class_weights, data.labels, train, config.resume)
    return PixelOptions(weights, config.ohem, config.label_smoothing)


def open_outputs(
    config: TrainConfig,
    hooks: Hooks,
    accelerator: Accelerator,
    data: Prepared,
    model: TrainableModel,
    progress: Progress,
) -> Job:
    """Open the run's folder and its tracker, start the stream of batches, and print the banner."""
    segmenter, options = model.trained.model, pixel_options(config, data)
    weights = options.class_weights
    folder = open_run(config, data, segmenter, accelerator, progress.epoch, weights)
    run = folder.path
    tracker = start_tracker(accelerator, config, folder, progress.step, progress.best_epoch)
    last_step = epoch_end(config.epochs - 1, config.batch_size, len(data.splits["train"]))
    batches, valid, loading = start_loading(config, accelerator, data, progress.step, last_step)
    if accelerator.is_main_process:
        more = about_options(options, data.labels)
        more |= {"tracker": tracker.description, "run": str(run)}
        if config.resume:
            more["resumed"] = f"after step {progress.step}{folder.changes}"
        print(
            banner(config, accelerator, data, segmenter, model.weights, loading, more), flush=True
        )
    return Job(
        config=config,
        hooks=hooks,
        accelerator=accelerator,
        run=run,
        data=data,
        model=model,
        schedule=make_schedule(model.trained.optimizer, config.warmup, last_step, progress.step),
        loss_fn=make_loss(config.loss, accelerator.num_processes > 1, options),
        image_loss_fn=make_loss(config.loss, options=options),
        batches=batches,
        valid=valid,
        progress=progress,
        tracker=tracker,
        writer=Writer(run, model.trained, config.keep, accelerator.is_main_process, hooks.clock),
    )
