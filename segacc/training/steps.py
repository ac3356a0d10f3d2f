"""One step of the optimizer, and its losses, summed over the ranks."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import Tensor

from segacc.config import TrainConfig
from segacc.data.loading.augment import stream_seed
from segacc.data.loading.loader import to_device
from segacc.data.loading.stream import step_keys
from segacc.errors import InputError
from segacc.training.checkpoint import Progress, states
from segacc.training.setup import Job


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
