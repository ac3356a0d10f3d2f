"""fit(): the one training loop."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from segacc.config import TrainConfig
from segacc.data.loading.stream import epoch_end
from segacc.errors import Stopped, goes_on
from segacc.metrics.counts import constant_mask_iou
from segacc.runs import append_line, model_card, per_image_csv
from segacc.runtime.accelerator import memory_gib
from segacc.runtime.ranks import any_rank, leave_together
from segacc.runtime.signals import StopRequest
from segacc.tracking.trackers import log_epoch, log_epoch_pictures, log_results, log_steps
from segacc.training.banner import epoch_line
from segacc.training.checkpoint import Writer
from segacc.training.checks import explained
from segacc.training.setup import set_up
from segacc.training.steps import not_finite, seen, train_step
from segacc.training.validate import validate

LOOK_SECONDS = 0.5  # between looks at the losses, each of which waits for the GPU


def fit(config: TrainConfig) -> Path:
    """Train as `config` (with its protocol filled in) says and return the run's folder.

    Raises:
        InputError: what the user gave cannot work; said before the first step where possible.
        Stopped: by a signal, with the state saved.
    """
    job = set_up(config)
    accelerator, run, progress = job.accelerator, job.run, job.progress
    train, valid = job.data.splits["train"], job.data.splits["valid"]
    main = accelerator.is_main_process
    writer = Writer(run, job.trained, config.keep, active=main)

    with StopRequest(speaks=main) as request, explained(config, run), writer:

        def check() -> None:
            if any_rank(accelerator, request.reason is not None)[0]:
                raise Stopped

        try:
            while progress.epoch < config.epochs and progress.epochs_without_gain < config.patience:
                epoch, first_step = progress.epoch + 1, progress.step
                last_step = epoch_end(progress.epoch, config.batch_size, len(train))
                bar = tqdm(
                    total=len(progress.losses) + last_step - first_step,
                    initial=len(progress.losses),
                    desc=f"epoch {epoch}/{config.epochs}",
                    unit="step",
                    leave=False,
                    disable=not main or not sys.stderr.isatty(),
                )
                job.model.train()
                # Shapes stay, so cuDNN may try its algorithms; each rank tries for itself, though.
                torch.backends.cudnn.benchmark = not config.deterministic
                started = looked = time.perf_counter()
                waited, waited_before, unseen = 0.0, 0.0, list[Tensor]()
                for step in range(first_step, last_step):
                    result, wait = train_step(job, config, step)
                    unseen.append(result)
                    waited += wait
                    bar.update()
                    # All ranks look, and stop, at the same step.
                    due = config.save_every is not None and (step + 1) % config.save_every == 0
                    look = main and time.perf_counter() - looked > LOOK_SECONDS
                    stop, look = any_rank(accelerator, request.reason is not None, look)
                    if stop or look or due or step + 1 == last_step:
                        results = seen(unseen, job, config, progress)
                        spent = (time.perf_counter() - looked, waited - waited_before)
                        log_steps(job.tracker, progress.step, results, job.schedule, *spent)
                        progress = progress.after_steps([loss for loss, _ in results])
                        writer.check()
                        unseen, waited_before, looked = [], waited, time.perf_counter()
                        took, images = looked - started, (step + 1 - first_step) * config.batch_size
                        bar.set_postfix_str(
                            f"loss {progress.mean_loss:.4f}, {images / took:.1f} img/s, "
                            f"data_wait {waited / took:.1%}"
                        )
                    if stop:
                        raise Stopped
                    if due:
                        writer.save(progress)
                bar.close()
                trained_for = time.perf_counter() - started

                torch.backends.cudnn.benchmark = False
                found = validate(job.trained.model, job.valid, accelerator, config.loss, check)
                if not math.isfinite(found.scores["loss"]):
                    names = [valid.names[i] for i in (~found.losses.isfinite()).nonzero().flatten()]
                    what = f"validation loss is {found.scores['loss']}"
                    raise not_finite(what, last_step, names, config, run)
                train_loss, progress = progress.mean_loss, progress.after_epoch(found.scores["iou"])
                line = {
                    "epoch": epoch,
                    "step": last_step,
                    "train_loss": train_loss,
                    **{f"valid_{name}": value for name, value in found.scores.items()},
                    "lr": float(job.schedule.get_last_lr()[0]),
                    "img_per_s": (last_step - first_step) * config.batch_size / trained_for,
                    "data_wait": waited / trained_for,
                    "seconds": time.perf_counter() - started,
                    "memory_gib": memory_gib(accelerator.device),
                }
                log_epoch(job.tracker, line, best=progress.best_epoch == epoch)
                if main:
                    append_line(run, line)
                    best = (progress.best_epoch, progress.best_iou)
                    constant = constant_mask_iou(found.counts)
                    print(epoch_line(line, config.epochs, *best, constant), flush=True)
                    if progress.best_epoch == epoch:
                        job.trained.model.threshold = found.scores["threshold"]
                        table = per_image_csv(valid.names, valid.sizes, found.counts[:, 0])
                        writer.hold_best(model_card(config, line), table)
                    if config.save_every is None and writer.due:
                        writer.save(progress)
                log_epoch_pictures(job.tracker, epoch, last_step, job.trained.model, valid)
            writer.save(progress)
            writer.wait()
            log_results(job.tracker, progress, valid)
        except Stopped:
            writer.save(progress)
            writer.wait()
            why = request.reason or "another process"
            request.settle()
            leave_together(accelerator)
            told = f"stopped by {why} after step {progress.step}; {goes_on(run)}"
            raise Stopped(told) from None
        leave_together(accelerator)

    if main:
        score = f"python evaluate.py {run}" + " --split valid" * ("test" not in job.data.splits)
        why = "patience ran out" if progress.epoch < config.epochs else "all epochs are done"
        print(
            f"\n{why}: best epoch {progress.best_epoch} of {progress.epoch}, validation iou "
            f"{progress.best_iou:.4f}, its model in {run / 'best'}\nnext: {score}",
            flush=True,
        )
    return run
