"""Where the time of a run's steps goes: PyTorch's profiler over the loop as it is.

    python -m benchmarks.step_profile [--model linknet] [--dataset demo-pedestrian] [--size 128]

Prints what takes most, on a GPU of its time; what of the steps' time no operator of PyTorch
accounts for, which is Python, and on a GPU its idle time; and how long the program waits for its
batches. The profiler itself costs a few per cent.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.autograd import DeviceType

from benchmarks.throughput import machine
from segacc.config import parse_train
from segacc.training import fit as loop


@dataclass(frozen=True)
class Args:
    model: str = "linknet"
    dataset: str = "demo-pedestrian"
    """what train.py takes"""
    size: int = 128
    crop: int | None = None
    steps: int = 8
    """that are profiled, after four that are not"""
    top: int = 16
    """operators shown"""


def main(args: Args) -> None:
    train_step, began, waited = loop.train_step, 0.0, 0.0
    profiler = torch.profiler.profile()

    def step(*given: Any) -> Any:
        nonlocal began, waited
        number = given[2]
        if number == 4:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            profiler.start()
            began, waited = time.perf_counter(), 0.0
        result, wait = train_step(*given)
        waited += wait
        if number == 3 + args.steps:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            took = time.perf_counter() - began
            profiler.stop()
            report(args, profiler, took, waited)
            raise SystemExit  # as if it had been stopped; the folder goes
        return result, wait

    loop.train_step = step
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--dataset", args.dataset, "--model", args.model, "--weights", "none"]
        flags += ["--size", str(args.size), "--tracker", "none", "--output-dir", f"{folder}/run"]
        flags += ["--crop", str(args.crop)] if args.crop else []
        loop.fit(parse_train(flags))


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
