"""fit(): the training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from segacc.config.checks import check_places
from segacc.config.defaults import fill
from segacc.config.train import TrainConfig
from segacc.errors import Stopped, how_to_continue
from segacc.metrics.tables import per_image_csv
from segacc.runs.card import model_card
from segacc.runs.epochs import append_epoch
from segacc.runs.status import marked_as_training
from segacc.runtime.accelerator import only_run
from segacc.runtime.bars import LogLines
from segacc.runtime.ranks import leave_together, stop_together
from segacc.runtime.signals import StopRequest
from segacc.tracking.results import log_epoch_pictures, log_results
from segacc.tracking.trackers import log_epoch
from segacc.training.banner import epoch_rows, final_lines
from segacc.training.checks import explain_errors
from segacc.training.optim import rates_at
from segacc.training.own import NOTHING, Own
from segacc.training.saving.checkpoint import Progress
from segacc.training.saving.finished import Finished, is_done
from segacc.training.setup import NO_HOOKS, Hooks, Job, set_up
from segacc.training.steps import (
    TrainedSteps,
    not_finite_error,
    saved_where_it_fails,
    train_epoch,
    validation_bar,
)
from segacc.training.validate import Validation, validate


def fit(config: TrainConfig, hooks: Hooks = NO_HOOKS, own: Own = NOTHING) -> Path:
    """Train a model, as `config` says.

    The process is left as it was, so that a program can train again. A run to resume that is
    finished stays as it is; a message says what would make it go on.

    Args:
        config: fields that are left open are filled in (see `segacc.config.defaults.fill`).
        hooks: functions to call at given points of the run; see `Hooks`.
        own: objects of a program, where the config only has their names.

    Returns:
        the run's folder.

    Raises:
        InputError: the user has to change something; raised before the first step where possible.
        Stopped: a signal has stopped the run, and its state is saved.
    """
    config = fill(config)
    check_places(config)
    with only_run(), explain_errors(config), ExitStack() as held:
        try:
            job = set_up(config, hooks, held, own)
        except Finished as finished:
            assert config.resume is not None
            if finished.is_main and config.push_to_hub:
                push(config.resume, config.push_to_hub, config.public)
            return config.resume
        return run_epochs(job)


def run_epochs(job: Job) -> Path:
    """Train from where the job is to the end, or until it is stopped; raises as `fit`."""
    config, hooks, progress, is_main = job.config, job.hooks, job.progress, job.is_main
    hooks.ready(job)
    seconds = None  # that a whole epoch takes
    constant = -math.inf
    with (
        marked_as_training(job.run if is_main else None, job.lock),
        explain_errors(config, job.run),
        StopRequest(prints=is_main) as request,
        job.writer,
    ):
        try:
            while not is_done(config, progress):
                steps = train_epoch(job, progress, request.is_made, seconds)
                progress = steps.progress
                if steps.stopped:
                    raise Stopped
                hooks.steps_done(job)
                validation = validate_epoch(job, progress, request.is_made)
                progress = progress.after_epoch(validation.scores["iou"])
                constant = validation.constant_iou
                line = epoch_record(job, steps, validation, progress)
                seconds = steps.whole_epoch(line["seconds"], config.batch_size)
                report_epoch(job, line, validation, progress, seconds)
                if config.save_every is None and job.writer.due:
                    job.writer.save(progress)
                hooks.epoch_done(job)
                with saved_where_it_fails(job, progress):
                    hooks.epoch_read(line)
            finish(job, progress)
        except Stopped:
            raise save_stopped(job, progress, request) from None
        leave_together(job.accelerator)
    if is_main:
        print(final_lines(config, job.run, progress, job.data, constant), flush=True)
        if config.push_to_hub:
            push(job.run, config.push_to_hub, config.public)
    return job.run


def validate_epoch(job: Job, progress: Progress, asked_to_stop: Callable[[], bool]) -> Validation:
    """Score the validation split on full images.

    Raises:
        InputError: the loss is not finite.
        Stopped: at least one rank was asked to stop.
    """
    images, epoch = len(job.valid), f"epoch {progress.epoch + 1}/{job.config.epochs}"
    lines = LogLines(shown=job.is_main)

    def check(scored: int) -> None:
        stop_together(job.accelerator, asked_to_stop)
        bar.update(scored - bar.n)
        if lines.are_due():
            print(f"{epoch}, validation: {scored} of {images} images", flush=True)

    torch.backends.cudnn.benchmark = False
    segmenter = job.model.trained.scored
    loss_fn, labels = job.image_loss_fn, job.data.labels
    with validation_bar(job, epoch) as bar:
        validation = validate(segmenter, job.valid, job.accelerator, loss_fn, labels, check)
    if not math.isfinite(validation.scores["loss"]):
        names = job.data.splits["valid"].names
        wrong = [names[i] for i in (~validation.losses.isfinite()).nonzero().flatten()]
        what = f"validation loss is {validation.scores['loss']}"
        raise not_finite_error(job, what, progress.step, wrong)
    return validation


def epoch_record(
    job: Job, steps: TrainedSteps, validation: Validation, progress: Progress
) -> dict[str, float]:
    """The line of metrics.jsonl of an epoch that was just validated."""
    return {
        "epoch": progress.epoch,
        "step": progress.step,
        "train_loss": steps.progress.mean_loss,
        **{f"valid_{name}": value for name, value in validation.scores.items()},
        **rates_at(job.schedule, progress.step - 1),  # of the step just done
        "img_per_s": steps.images / steps.seconds,
        "data_wait": steps.waited / steps.seconds,
        "seconds": time.perf_counter() - steps.started,
        "memory_gib": steps.memory_gib,
    }


def report_epoch(
    job: Job,
    line: dict[str, float],
    validation: Validation,
    progress: Progress,
    seconds: float | None,
) -> None:
    """Print the row of an epoch, keep the model if it is the best one, and log both.

    Args:
        line: the epoch's line of metrics.jsonl.
        seconds: the time that a whole epoch takes, if it is known.
    """
    is_best = progress.best_epoch == progress.epoch
    segmenter, valid = job.model.trained.scored, job.data.splits["valid"]
    if job.is_main:
        epochs, labels = job.config.epochs, job.data.labels
        left = None if seconds is None else seconds * (epochs - progress.epoch)
        best = (progress.best_epoch, progress.best_iou)
        first, constant = job.progress.epoch + 1, validation.constant_iou
        print(epoch_rows(line, epochs, first, best, constant, left, labels), flush=True)
        append_epoch(job.run, line)
        if is_best:
            card = model_card(job.run, job.config, labels, line)
            table = per_image_csv(valid.names, valid.sizes, validation.counts, labels)
            job.writer.hold_best(validation.scores.get("threshold", 0.5), card, table)
    log_epoch(job.tracker, line, best=is_best)
    log_epoch_pictures(job.tracker, progress.epoch, progress.step, segmenter, valid)


def finish(job: Job, progress: Progress) -> None:
    """Save the last state, wait until all is written, and log the best model and its pictures."""
    job.writer.save(progress)
    job.writer.wait()
    log_results(job.tracker, progress.best_epoch, progress.step, job.data.splits["valid"])


def push(run: Path, repository: str, public: bool) -> None:
    """Push the best model after the other ranks have left, since they would not wait so long.

    Raises:
        InputError: it could not be pushed.
        Stopped: a signal has stopped the push.
    """
    from segacc.hub.push import how_to_push, push_run

    try:
        print(push_run(run, repository, public), flush=True)
    except KeyboardInterrupt:  # Stopped is one
        raise Stopped(f"the push was stopped; {how_to_push(run, repository, public)}") from None


def save_stopped(job: Job, progress: Progress, request: StopRequest) -> Stopped:
    """Save a run that was stopped.

    Returns:
        the exception to raise; its message says who stopped the run, and how to continue it.
    """
    job.writer.save(progress)
    job.writer.wait()
    why = request.reason or "another process"
    request.settle()
    leave_together(job.accelerator)
    return Stopped(f"stopped by {why} after step {progress.step}; {how_to_continue(job.run)}")
