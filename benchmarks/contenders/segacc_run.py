"""segacc as users run it: all of fit(), which waits while others have their turn."""

from __future__ import annotations

import ctypes
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.turns import Task, Turns, task

if TYPE_CHECKING:
    from segacc.training.setup import Job

FLAGS = {"1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"], "compile": ["--compile"]}
"""The flags of train.py that `--without` adds; other defaults are undone when the run is ready."""


def undo_default(job: Job, default: str) -> None:
    """Undo what segacc does by default."""
    import torch

    model = job.model.trained.model
    if default == "memory":
        # What glibc comes to on its own after some steps: it keeps 64 MB and maps what is larger
        # than 32 MB.
        libc = ctypes.CDLL(None)
        for option, value in ((-4, 65536), (-3, 32 << 20), (-1, 64 << 20)):
            libc.mallopt(option, value)  # M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    elif default == "format":
        last = model.memory_format == torch.channels_last
        model.memory_format = torch.contiguous_format if last else torch.channels_last
        model.to(memory_format=model.memory_format)
    elif default == "fused":
        for group in job.model.trained.optimizer.param_groups:
            group["fused"] = None  # PyTorch's default
    elif default == "threads":
        torch.set_num_threads(1)
    elif default and default not in FLAGS:
        raise SystemExit(f"--without {default} is not known")


class Watch:
    """Measures a run by its hooks."""

    def __init__(self, task: Task) -> None:
        self.task, self.turns = task, Turns()
        self.away = 0.0  # seconds in others' turns
        self.began = 0.0
        self.start_epoch()

    def start_epoch(self) -> None:
        self.steps, self.waited, self.in_model = 0, 0.0, 0.0

    def clock(self) -> float:
        """Seconds in own turns: states are due by a clock that stops in the turns of others."""
        return time.monotonic() - self.away

    def ready(self, job: Job) -> None:
        undo_default(job, self.task.without)
        model = job.model.trained.model
        model.register_forward_pre_hook(self.prediction_begins)
        model.register_forward_hook(self.prediction_ends)
        self.turns.wait()

    def step_begins(self, step: int) -> None:
        self.began = time.perf_counter()

    def step_done(self, step: int, waited: float) -> None:
        self.in_model += time.perf_counter() - self.began - waited
        self.steps, self.waited = self.steps + 1, self.waited + waited
        away = self.turns.away
        self.turns.stepped()
        self.away += self.turns.away - away

    def prediction_begins(self, model: Any, images: Any) -> None:
        if not model.training:
            self.began = time.perf_counter()

    def prediction_ends(self, model: Any, images: Any, logits: Any) -> None:
        if not model.training:
            self.in_model += time.perf_counter() - self.began

    def steps_done(self, job: Job) -> None:
        self.turns.trained()

    def epoch_done(self, job: Job) -> None:
        import torch

        # A GPU works on after a call has returned, so the seconds of calls say nothing about it.
        share = {} if torch.cuda.is_available() else {"in_model": self.in_model}
        images = self.steps * self.task.batch_size
        self.turns.done(images=images, data_wait=self.waited, **share)
        self.start_epoch()
        job.writer.wait()  # so that nothing is written in another one's turn
        left = time.monotonic()
        self.turns.wait()
        self.away += time.monotonic() - left


def main(task: Task) -> None:
    from segacc.config.flags import parse_train
    from segacc.training.fit import fit
    from segacc.training.setup import Hooks

    watch = Watch(task)
    hooks = Hooks(
        ready=watch.ready,
        step_begins=watch.step_begins,
        step_done=watch.step_done,
        steps_done=watch.steps_done,
        epoch_done=watch.epoch_done,
        clock=watch.clock,
    )
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--dataset", str(task.data), "--model", task.model, "--weights", "none"]
        flags += ["--size", str(task.size), "--batch-size", str(task.batch_size), "--flips", "h"]
        flags += ["--crop", str(task.crop)] if task.crop else []
        flags += ["--tracker", "none", "--precision", task.precision]
        flags += ["--loss", "dice"]  # as the others
        flags += FLAGS.get(task.without, [])
        flags += ["--epochs", str(task.epochs), "--patience", "1000"]
        fit(parse_train([*flags, "--output-dir", f"{folder}/run"]), hooks)


if __name__ == "__main__":
    main(task())
