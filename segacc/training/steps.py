"""The steps of an epoch, and their losses, averaged over the ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from segacc.data.loading.augment import stream_seed
from segacc.data.loading.loader import to_device
from segacc.data.loading.stream import epoch_end, step_keys
from segacc.errors import InputError, quoted
from segacc.runtime.accelerator import memory_gib
from segacc.runtime.bars import LogLines, make_bar
from segacc.runtime.ranks import any_rank
from segacc.tracking.trackers import log_steps
from segacc.training.banner import duration, share_text
from segacc.training.optim import rates_at
from segacc.training.saving.checkpoint import Progress, states
from segacc.training.setup import Job, Step

READ_SECONDS = 0.5  # between readings of the losses, since each of them waits for the GPU


@dataclass(frozen=True)
class TrainedSteps:
    """The steps that `train_epoch` did: to the end of the epoch, or until the run was stopped."""

    progress: Progress
    stopped: bool
    images: int
    started: float
    """time.perf_counter() before the first step"""
    seconds: float
    waited: float
    """seconds of waiting for data, part of `seconds`"""
    memory_gib: float
    """peak memory of the run so far"""

    def whole_epoch(self, seconds: float, batch_size: int) -> float | None:
        """Estimate the seconds of a whole epoch with its validation, from these steps and from the
        validation, which took `seconds`; None if this process did no step."""
        done = self.images / batch_size
        if not done:
            return None
        return seconds + self.seconds * (len(self.progress.losses) / done - 1)


def train_epoch(
    job: Job,
    progress: Progress,
    asked_to_stop: Callable[[], bool],
    epoch_seconds: float | None = None,
) -> TrainedSteps:
    """Train from the next step to the end of its epoch.

    Args:
        asked_to_stop: whether this process was asked to stop; all ranks then stop after the same
            step.
        epoch_seconds: the time that the epoch before took, if it is known.

    Raises:
        InputError: a loss or a gradient is not finite, or a state could not be written.
    """
    config, train = job.config, job.data.splits["train"]
    first_step, last_step = progress.step, epoch_end(progress.epoch, config.batch_size, len(train))
    begin_epoch(job, progress.epoch)
    pending: list[Tensor] = []
    started = read = time.perf_counter()
    waited = waited_before = 0.0
    stop, lines = False, LogLines(shown=job.is_main)
    with progress_bar(job, progress, last_step) as bar:
        for step in range(first_step, last_step):
            job.hooks.step_begins(step)
            result, wait = train_step(job, step)
            job.hooks.step_done(step, wait)
            pending.append(result)
            waited += wait
            bar.update()
            due = config.save_every is not None and (step + 1) % config.save_every == 0
            is_time = job.is_main and time.perf_counter() - read > READ_SECONDS
            stop, is_time = any_rank(job.accelerator, asked_to_stop(), is_time)
            if stop or is_time or due or step + 1 == last_step:
                results = reduce_losses(job, pending, progress.step)
                rates = [rates_at(job.schedule, progress.step + i) for i in range(len(results))]
                spent = (time.perf_counter() - read, waited - waited_before)
                done = progress.after_steps([loss for loss, _ in results])
                images = (step + 1 - first_step) * config.batch_size
                elapsed = time.perf_counter() - started
                left = time_left(job, done, images, elapsed, epoch_seconds)
                show_speed(bar, done.mean_loss, images / elapsed, waited / elapsed, left)
                if lines.are_due() and step + 1 < last_step:
                    print(step_line(job, done, last_step, left), flush=True)
                log_steps(job.tracker, progress.step, results, rates, *spent)
                with saved_where_it_fails(job, done):
                    tell_steps(job, progress, results, rates)
                job.writer.check()
                progress, pending, waited_before = done, [], waited
                read = time.perf_counter()
            if stop:
                break
            if due:
                job.writer.save(progress)
    images = (progress.step - first_step) * config.batch_size
    seconds = time.perf_counter() - started
    memory = memory_gib(job.accelerator.device)
    return TrainedSteps(progress, stop, images, started, seconds, waited, memory)


def begin_epoch(job: Job, epoch: int) -> None:
    """Have the model and the device ready to train in an epoch, counted from 0."""
    held = job.config.freeze_encoder
    job.model.trained.model.hold_encoder(held != "all" and epoch < held)
    job.model.wrapped.train()
    # Shapes stay the same, so it pays that cuDNN measures its algorithms. But each rank may then
    # choose another one, so not for deterministic runs.
    torch.backends.cudnn.benchmark = not job.config.deterministic


def train_step(job: Job, step: int) -> tuple[Tensor, float]:
    """One step of the optimizer.

    Returns:
        This rank's loss and the gradient norm, (2,) on the device; seconds waited for data.
    """
    config, accelerator, model = job.config, job.accelerator, job.model.wrapped
    segmenter, average = job.model.trained.model, job.model.trained.average
    rank, world = accelerator.process_index, accelerator.num_processes
    # Random numbers that the model draws depend on the step, so a resumed run draws the same ones.
    torch.manual_seed(stream_seed(config.seed, step, rank))
    part = config.batch_size // config.accumulate
    loss_sum, norm = torch.zeros((), device=accelerator.device), None
    began = time.perf_counter()
    batches = [next(job.batches) for _ in range(config.accumulate)]
    waited = time.perf_counter() - began
    parts = [to_device(batch, accelerator.device) for batch in batches]
    # How many pixels of the step count has to be known before the gradient of its first part.
    of_step = torch.cat([label_maps for _, label_maps in parts]) if len(parts) > 1 else None
    for place, (images, label_maps) in enumerate(parts):
        own_first = place * part + rank * (part // world)
        with (
            accelerator.accumulate(model),
            job.model.place.set(config.seed, step, own_first, config.batch_size),
        ):
            loss = job.loss_fn(model(images), label_maps, of_step)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                segmenter.leave_out_held()
                norm = accelerator.clip_grad_norm_(model.parameters(), config.clip or math.inf)
            job.model.trained.optimizer.step()
            job.model.trained.optimizer.zero_grad()
        loss_sum += loss.detach() / config.accumulate
    job.schedule.step()
    if average:
        average.update(segmenter, step + 1)
    assert norm is not None
    return torch.stack([loss_sum, norm]), waited


def reduce_losses(job: Job, results: list[Tensor], first_step: int) -> list[tuple[float, float]]:
    """Losses and gradient norms of the global batch, the same on all ranks.

    Args:
        results: from `train_step`, of the steps from `first_step` on.

    Raises:
        InputError: a loss or a gradient is NaN or infinite.
    """
    # In float64: how a sum over ranks is rounded depends on how many numbers are reduced at once.
    values = job.accelerator.reduce(torch.stack(results).double(), reduction="mean").tolist()
    for step, (loss, norm) in enumerate(values, start=first_step):
        # With fp16 the scaler skips steps that have an infinite gradient, as it should.
        if not math.isfinite(loss) or not (math.isfinite(norm) or job.model.trained.scaler):
            what = f"gradient is {norm}" if math.isfinite(loss) else f"loss is {loss}"
            raise not_finite_error(job, what, step + 1, names_of(job, step))
    return [(loss, norm) for loss, norm in values]


@contextmanager
def saved_where_it_fails(job: Job, progress: Progress) -> Iterator[None]:
    """Save the run if the code inside fails, which is a function of the user's program."""
    try:
        yield
    except Exception:
        job.writer.save(progress)
        job.writer.wait()
        raise


def tell_steps(
    job: Job,
    progress: Progress,
    results: list[tuple[float, float]],
    rates: list[dict[str, float]],
) -> None:
    """Call the hook of each step that was read, of those since `progress`."""
    for i, ((loss, norm), of_step) in enumerate(zip(results, rates, strict=True), start=1):
        job.hooks.step_read(Step(progress.step + i, progress.epoch + 1, loss, norm, of_step))


def names_of(job: Job, step: int) -> list[str]:
    """The names of the images in a step's global batch."""
    names = job.data.splits["train"].names
    keys = step_keys(job.config.seed, step, job.config.batch_size, len(names))
    return [names[index] for _, index in keys]


def not_finite_error(job: Job, what: str, step: int, names: list[str]) -> InputError:
    """The error for a run in which a number has become NaN or infinite."""
    shown = ", ".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")
    kept = "its last good state" if states(job.run) else "no state yet"
    return InputError(
        f"the {what} at step {step} on the images {shown}: look at them with `segacc check "
        f"{quoted(job.config.dataset)}`, then start again with a lower --lr or with "
        f"--precision fp32; {job.run} keeps {kept}."
    )


def time_left(
    job: Job, progress: Progress, images: int, elapsed: float, epoch_seconds: float | None
) -> float:
    """Seconds to the end of the last epoch, which early stopping may make fewer.

    Args:
        images: trained on in this epoch, by this process.
        elapsed: seconds since it began with them.
        epoch_seconds: the time that the epoch before took. In the first epoch, an image of the
            validation is assumed to take as long as one of the training.
    """
    config, splits = job.config, job.data.splits
    epochs = config.epochs - progress.epoch
    if epoch_seconds is not None:
        return max(0.0, epochs * epoch_seconds - elapsed)
    steps = epoch_end(config.epochs - 1, config.batch_size, len(splits["train"])) - progress.step
    return (steps * config.batch_size + epochs * len(splits["valid"])) * elapsed / images


def progress_bar(job: Job, progress: Progress, last_step: int) -> tqdm:
    """A bar over the steps of the epoch, on rank 0 only."""
    done = len(progress.losses)  # of this epoch, where the run was resumed in its middle
    return make_bar(
        shown=job.is_main,
        in_log=False,
        total=done + last_step - progress.step,
        initial=done,
        desc=f"epoch {progress.epoch + 1}/{job.config.epochs}",
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt}{postfix}",
        leave=False,
    )


def validation_bar(job: Job, epoch: str) -> tqdm:
    """A bar over the validation's images, on rank 0 only, if it takes more than some seconds."""
    return make_bar(
        shown=job.is_main,
        in_log=False,
        total=len(job.valid),
        desc=f"{epoch}, validation",
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} images",
        leave=False,
        delay=2,
    )


def show_speed(bar: tqdm, loss: float, speed: float, wait: float, left: float) -> None:
    """Show the mean loss, the time left and the speed at the end of the bar.

    Args:
        speed: images per second.
        wait: share of the time that waits for data; shown from 1 % on.
        left: seconds to the end of the run, at most.
    """
    waits = f", wait {share_text(wait)}" if wait >= 0.01 else ""
    # What a narrow terminal cuts off comes last.
    bar.set_postfix_str(f"loss {loss:.4f}, at most {duration(left)} left, {speed:.0f} img/s{waits}")


def step_line(job: Job, done: Progress, last_step: int, left: float) -> str:
    """A line for a log in the middle of an epoch.

    Args:
        done: after the last step.
        last_step: the last one of the epoch.
        left: seconds to the end of the run, at most.
    """
    steps = len(done.losses)
    return (
        f"epoch {done.epoch + 1}/{job.config.epochs}, step {steps} of "
        f"{steps + last_step - done.step}, loss {done.mean_loss:.4f}, at most {duration(left)} left"
    )
