"""A started tracker, and the rows of numbers that it gets: one for each step and each epoch.

Curves go to W&B, trackio or TensorBoard through accelerate's trackers. Only rank 0 logs, so a job
of many processes is one run. The row of step k belongs to the model after k steps of the optimizer:
it has the scores of this model and the loss of the batch that comes next. A resumed run leaves out
the rows that were logged before. The scores of a step come first, so it never leaves out scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "segacc"

# Names under which trackers show the values of a step. W&B makes a section of the part before the
# slash.
STEP_NAMES = (
    "train/loss",
    "train/grad_norm",
    "throughput/img_per_s",
    "throughput/data_wait",
)
# From the names in metrics.jsonl to the names in trackers. Two names are left out: `step` is the
# x axis, and the learning rates are in the rows of the steps. A name valid_X becomes valid/X.
EPOCH_NAMES = {
    "epoch": "epoch",
    "train_loss": "train/loss_epoch",
    "img_per_s": "throughput/img_per_s_epoch",
    "data_wait": "throughput/data_wait_epoch",
    "seconds": "throughput/seconds_epoch",
    "memory_gib": "throughput/memory_gib",
}


@dataclass(frozen=True)
class Naming:
    """How a tracker shows a run."""

    name: str
    project: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tracker:
    """A tracker of a run. With `--tracker none`, and on all ranks but 0, it logs nothing."""

    accelerator: Accelerator
    name: str
    """wandb, trackio, tensorboard or none"""
    active: bool
    """whether it logs anything"""
    run: Path
    batch_size: int
    pictures: int
    """epochs between pictures, 0 for none"""
    first: int = 0
    """the first step that it has no row of; earlier rows were logged before the run was resumed"""
    description: str = "metrics.jsonl only"
    """where the curves go, for the banner"""

    @property
    def unwrapped(self) -> Any:
        """The run of W&B or trackio, or the writer of TensorBoard."""
        return self.accelerator.get_tracker(self.name, unwrap=True)


def log_row(tracker: Tracker, values: dict[str, Any], step: int) -> None:
    """Log values at a step, unless the tracker has this step already.

    A repeated row would be a warning in W&B, and would be there twice in trackio.
    """
    if step >= tracker.first:
        tracker.accelerator.log(values, step=step)


def log_steps(
    tracker: Tracker,
    first: int,
    results: list[tuple[float, float]],
    rates: list[dict[str, float]],
    took: float,
    waited: float,
) -> None:
    """Log a row for each of the steps since the losses were last read from the device.

    Reading them waits for the GPU, so it is done seldom, and img/s and data_wait are means over
    these steps.

    Args:
        first: the number of the first of these steps.
        results: for each step, the loss of the whole batch and the gradient norm before clipping.
        rates: for each step, its learning rates by name.
        took, waited: seconds since the last reading, and how many of them were waits for data.
    """
    if not tracker.active:
        return
    speed = (len(results) * tracker.batch_size / took, waited / took)
    for step, (result, of_step) in enumerate(zip(results, rates, strict=True), start=first):
        row = dict(zip(STEP_NAMES, (*result, *speed), strict=True))
        log_row(tracker, row | {f"train/{k}": rate for k, rate in of_step.items()}, step)


def log_epoch(tracker: Tracker, line: dict[str, Any], best: bool) -> None:
    """Log a line of metrics.jsonl.

    Args:
        line: the values of an epoch, as in metrics.jsonl.
        best: whether it is the best epoch so far; its scores then become the run's summary in W&B.
    """
    if not tracker.active:
        return
    scores = {
        f"valid/{k.removeprefix('valid_')}": v for k, v in line.items() if k.startswith("valid_")
    }
    others = {name: line[key] for key, name in EPOCH_NAMES.items() if key in line}
    log_row(tracker, {**others, **scores}, line["step"])
    if best and tracker.name == "wandb":
        tracker.unwrapped.summary.update({**scores, "best_epoch": line["epoch"]})
