"""fit(): the one training loop."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from segacc.checkpoint import Progress, Writer, states
from segacc.config import TrainConfig
from segacc.data.augment import stream_seed
from segacc.data.loader import epoch_end, step_keys, to_device
from segacc.inference import validate
from segacc.launch import any_rank, explained, leave_together, memory_gib
from segacc.metrics import constant_mask_iou
from segacc.program import InputError, Stopped, goes_on
from segacc.record import epoch_line, model_card, per_image_csv
from segacc.setup import Job, set_up
from segacc.stop import StopRequest
from segacc.tracking import append_line, log_epoch, log_epoch_pictures, log_results, log_steps

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


def train_step(job: Job, config: TrainConfig, step: int) -> tuple[Tensor, float]:
    """One step of the optimizer.

    Returns:
        This rank's loss and the gradient norm, (2,) on the device; seconds waited for data.
    """
    # What else a model may draw is a function of the step as well, for a resumed run.
    torch.manual_seed(stream_seed(config.seed, step, job.accelerator.process_index))
    part = config.batch_size // config.accumulate
    share = part // job.accelerator.num_processes
    job.place.seed, job.place.step, job.place.total = config.seed, step, config.batch_size
    loss_sum, norm, waited = torch.zeros((), device=job.accelerator.device), None, 0.0
    for first in range(0, config.batch_size, part):
        job.place.first = first + job.accelerator.process_index * share
        asked = time.perf_counter()
        batch = next(job.batches)
        waited += time.perf_counter() - asked
        images, masks = to_device(batch, job.accelerator.device)
        with job.accelerator.accumulate(job.model):
            loss = job.loss_fn(job.model(images), masks)
            job.accelerator.backward(loss)
            if job.accelerator.sync_gradients:
                norm = job.accelerator.clip_grad_norm_(
                    job.model.parameters(), config.clip or math.inf
                )
            job.trained.optimizer.step()
            job.trained.optimizer.zero_grad()
        loss_sum += loss.detach() / config.accumulate
    job.schedule.step()
    assert norm is not None
    return torch.stack([loss_sum, norm]), waited


def seen(
    results: list[Tensor], job: Job, config: TrainConfig, before: Progress
) -> list[tuple[float, float]]:
    """Losses and gradient norms of the steps after `before`, of the whole batch and so the same on
    all ranks.

    Raises:
        InputError: a loss or a gradient is NaN or infinite.
    """
    # In float64, since the order of a sum over ranks depends on how many numbers there are.
    values = job.accelerator.reduce(torch.stack(results).double(), reduction="mean").tolist()
    for step, (loss, norm) in enumerate(values, start=before.step):
        # The scaler of fp16 skips steps with an infinite gradient, as it should.
        if not math.isfinite(loss) or not (math.isfinite(norm) or job.trained.scaler):
            train = job.data.splits["train"]
            keys = step_keys(config.seed, step, config.batch_size, len(train))
            what = f"gradient is {norm}" if math.isfinite(loss) else f"loss is {loss}"
            raise not_finite(what, step + 1, [train.names[i] for _, i in keys], config, job.run)
    return [(loss, norm) for loss, norm in values]


def not_finite(
    what: str, step: int, names: list[str], config: TrainConfig, run: Path
) -> InputError:
    """The error for a run whose numbers have left the range of floating point."""
    shown = ", ".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")
    return InputError(
        f"the {what} at step {step} on the images {shown}: look at them with `segacc "
        f"check {config.dataset}`, then start again with a lower --lr or with --precision fp32; "
        f"{run} keeps {'its last good state' if states(run) else 'no state yet'}."
    )
