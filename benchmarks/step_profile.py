"""What takes the time of training steps: PyTorch's profiler on the training loop.

    python -m benchmarks.step_profile [--model linknet] [--dataset demo-pedestrian] [--size 128]

Prints the operators that take most of the time (on a GPU, of the GPU's time), the time in which no
operator of PyTorch runs (Python's own, and on a GPU its idle time), and how long the program waits
for batches. The profiler itself costs a few per cent.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch.autograd import DeviceType

from benchmarks.throughput import machine
from segacc.config.flags import parse_train
from segacc.training.fit import fit
from segacc.training.setup import Hooks

SKIPPED = 4  # steps before the first one that is profiled


@dataclass(frozen=True)
class Args:
    model: str = "linknet"
    dataset: str = "demo-pedestrian"
    """what train.py takes"""
    size: int = 128
    crop: int | None = None
    steps: int = 8
    """steps that are profiled, after a few that are not"""
    top: int = 16
    """number of operators to print"""


def main(args: Args) -> None:
    profiler = torch.profiler.profile()
    began, waited = 0.0, 0.0

    def begin(step: int) -> None:
        nonlocal began
        if step == SKIPPED:
            finish_gpu()
            profiler.start()
            began = time.perf_counter()

    def end(step: int, wait: float) -> None:
        nonlocal waited
        waited += wait if step >= SKIPPED else 0.0
        if step == SKIPPED + args.steps - 1:
            finish_gpu()
            took = time.perf_counter() - began
            profiler.stop()
            report(args, profiler, took, waited)
            raise SystemExit  # ends the run; its temporary folder is removed

    with tempfile.TemporaryDirectory() as folder:
        flags = ["--dataset", args.dataset, "--model", args.model, "--weights", "none"]
        flags += ["--size", str(args.size), "--tracker", "none", "--output-dir", f"{folder}/run"]
        flags += ["--crop", str(args.crop)] if args.crop else []
        fit(parse_train(flags), Hooks(step_begins=begin, step_done=end))


def finish_gpu() -> None:
    """Wait until the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(args: Args, profiler: torch.profiler.profile, took: float, waited: float) -> None:
    """Print the operators' shares of `took` seconds."""
    cuda = torch.cuda.is_available()
    events = profiler.key_averages()
    if cuda:
        kernels = [e for e in events if e.device_type == DeviceType.CUDA]
        events = [e for e in kernels if not e.is_user_annotation]
    seconds = {
        e.key: (e.self_device_time_total if cuda else e.self_cpu_time_total) / 1e6 for e in events
    }
    crop = f", crop {args.crop}" if args.crop else ""
    print(
        f"\n{args.model}, {Path(args.dataset).name} at {args.size} px{crop}: "
        f"{1e3 * took / args.steps:.0f} ms a step, {args.steps} steps.\n\n{machine()}.\n\n"
        f"| {'on the GPU' if cuda else 'operator'} "
        "| of the time |\n|---|---|"
    )
    for name in sorted(seconds, key=lambda name: seconds[name], reverse=True)[: args.top]:
        print(f"| `{name}` | {seconds[name] / took:.1%} |")
    rest = took - sum(seconds.values())
    print(f"| no operator | {rest / took:.1%} |\n| `next(batches)` | {waited / took:.2%} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
