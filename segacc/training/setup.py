"""set_up(): everything before the first step of a run, new or resumed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LRScheduler

from segacc.config.options import Reading
from segacc.config.records import read_run_record
from segacc.config.train import TrainConfig
from segacc.data.classes.weights import find_class_weights
from segacc.data.known import find_to_train, known_by, prepare_found
from segacc.data.loading.loader import Batch
from segacc.data.loading.pipelines import find_pipeline
from segacc.data.loading.resident import Resident
from segacc.data.loading.start import start_loading
from segacc.data.loading.stream import epoch_end
from segacc.data.loading.transforms import Pipeline
from segacc.data.reading.depth import WHOLE
from segacc.data.split import Prepared, Split
from segacc.runs.folder import open_run
from segacc.runs.status import held_by_nobody_else, marked_if_it_fails
from segacc.runtime.accelerator import make_accelerator
from segacc.runtime.bars import show_doing
from segacc.runtime.ranks import run_on_main
from segacc.runtime.threads import prepare_cpu
from segacc.tracking.start import start_tracker
from segacc.tracking.trackers import Tracker
from segacc.training.banner import about_fine_tuning, about_options, banner
from segacc.training.checks import check_data, check_flags
from segacc.training.losses.terms import Loss, PixelOptions, make_loss
from segacc.training.optim import make_schedule
from segacc.training.own import NOTHING, Own, own_loss
from segacc.training.saving.checkpoint import (
    Progress,
    load_state,
    newest_state,
)
from segacc.training.saving.finished import end_if_finished
from segacc.training.saving.writer import Writer
from segacc.training.trainable import TrainableModel, build, make_trainable


def do_nothing(*_: object) -> None:
    """The default of a hook."""


@dataclass(frozen=True)
class Step:
    """A step that was done; loss and norm are of the global batch, the same on all ranks."""

    step: int
    """its number, counted from 1"""
    epoch: int
    """the epoch that it belongs to, counted from 1"""
    loss: float
    grad_norm: float
    """before clipping"""
    rates: dict[str, float]
    """its learning rates by name, as in metrics.jsonl"""


@dataclass(frozen=True)
class Hooks:
    """Functions that `fit` calls at given points of a run, on every rank: the benchmarks measure
    with them, and they call what a program gives (`segacc.train`)."""

    ready: Callable[[Job], object] = do_nothing
    """called before the first step"""
    step_begins: Callable[[int], object] = do_nothing
    """called before each step, with the number of steps done"""
    step_done: Callable[[int, float], object] = do_nothing
    """called after each step, with its number (counted from 0) and the seconds that it waited for
    data"""
    steps_done: Callable[[Job], object] = do_nothing
    """called after the steps of an epoch, before its validation"""
    epoch_done: Callable[[Job], object] = do_nothing
    """called after the validation of an epoch"""
    step_read: Callable[[Step], object] = do_nothing
    """called for each step, in their order, once its loss is read: up to half a second later"""
    epoch_read: Callable[[dict[str, float]], object] = do_nothing
    """called after each epoch with its line of metrics.jsonl"""
    clock: Callable[[], float] = time.monotonic
    """gives seconds, from which the run knows when to save a state"""


NO_HOOKS = Hooks()


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
    lock: IO[bytes] | None = None
    """for a resumed run, on rank 0: the locked file that keeps other processes from training it"""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prints and writes."""
        return self.accelerator.is_main_process


def set_up(config: TrainConfig, hooks: Hooks, held: ExitStack, own: Own = NOTHING) -> Job:
    """Make a run ready, new or resumed, and print the settings in effect.

    Checks that take little time come first.

    Args:
        held: the open file whose lock keeps other processes from training a resumed run.

    Raises:
        InputError: a flag, the data set or the weights cannot be used.
        Finished: the run to resume is finished.
    """
    assert config.size is not None  # `with_protocol` has filled it in
    accelerator = start_processes(config)
    resume = config.resume
    record = read_run_record(resume) if resume else {}
    lock = None
    if resume and accelerator.is_main_process:
        lock = held.enter_context(held_by_nobody_else(resume))
    state = run_on_main(accelerator, lambda: newest_state(resume)) if resume else None
    if resume:
        end_if_finished(config, resume, record, state, accelerator)
    check_flags(config, accelerator, own)
    pipeline = find_pipeline(
        config.augment or "flips", record.get("augmentation"), config.size, config.crop
    )
    show_doing("reading the data")
    known = known_by(record) if record else None
    source = find_to_train(config.dataset, Reading.of(vars(config)), known)
    show_doing("building the model")
    built, place = build(config, source.labels, state, accelerator, own.net)
    # A resumed run keeps its range of values, or goes on without one, as 0.1.0 began it.
    own_range = (built.model.value_range or WHOLE) if state else None
    show_doing("preparing the images")
    data = prepare_found(source, config.size, own_range)
    built.model.value_range = data.value_range
    check_data(config, data)
    options = pixel_options(config, data, record.get("class_weights"))
    show_doing("starting")
    model = make_trainable(config, accelerator, built, place)
    progress = load_state(state, model.trained) if state else Progress()
    job = open_outputs(config, hooks, own, accelerator, data, pipeline, options, model, progress)
    return replace(job, lock=lock)


def start_processes(config: TrainConfig) -> Accelerator:
    """Make the accelerator, and set the threads and the memory of this process."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    accelerator = make_accelerator(config.precision)
    prepare_cpu(accelerator.device)
    return accelerator


def pixel_options(
    config: TrainConfig, data: Prepared, stored: Sequence[float] | None
) -> PixelOptions:
    """Decide how the pixels of a data set count in the loss; arguments and errors are those of
    `find_class_weights`."""
    weights = None
    if config.class_weights is not None:
        train = data.splits["train"]
        weights = find_class_weights(config.class_weights, data.labels, train, stored)
    return PixelOptions(weights, config.ohem, config.label_smoothing)


def open_outputs(
    config: TrainConfig,
    hooks: Hooks,
    own: Own,
    accelerator: Accelerator,
    data: Prepared,
    pipeline: Pipeline | None,
    options: PixelOptions,
    model: TrainableModel,
    progress: Progress,
) -> Job:
    """Open the run's folder and its tracker, start the stream of batches, and print the banner."""
    segmenter = model.trained.model
    loss = own_loss(config, own)
    # The content of files at the start, since they may change before the run is resumed.
    given = {
        "class_weights": options.class_weights,
        "augmentation": pipeline.record if pipeline else None,
    }
    folder = open_run(config, data, segmenter, accelerator, progress.epoch, given)
    run = folder.path
    with marked_if_it_fails(run if accelerator.is_main_process and not config.resume else None):
        tracker = start_tracker(accelerator, config, folder, progress.step, progress.best_epoch)
    last_step = epoch_end(config.epochs - 1, config.batch_size, len(data.splits["train"]))
    batches, valid, loading = start_loading(
        config, accelerator, data, pipeline, progress.step, last_step
    )
    if accelerator.is_main_process:
        more = about_fine_tuning(config) | about_options(options, data.labels)
        if pipeline:
            more |= {"augment": f"{config.augment}: {', '.join(pipeline.names)}"}
        more |= {"tracker": tracker.description, "run": str(run)}
        if config.resume:
            more["resumed"] = f"after step {progress.step}{folder.changes}"
        show_doing()
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
        loss_fn=loss or make_loss(config.loss, accelerator.num_processes > 1, options),
        image_loss_fn=loss or make_loss(config.loss, options=options),
        batches=batches,
        valid=valid,
        progress=progress,
        tracker=tracker,
        writer=Writer(run, model.trained, config.keep, accelerator.is_main_process, hooks.clock),
    )
