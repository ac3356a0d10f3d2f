"""What states cost: a run that saves after every other epoch, and its epochs compared.

    python -m benchmarks.state_cost --dataset DIR [--crop 256] [--epochs 21]

An epoch is timed from one save to the next, so that both the copying, which training waits for, and
the writing, which goes on beside the next steps, are in it.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise

import tyro

from segacc.config import parse_train
from segacc.runtime.threads import cores
from segacc.training import checkpoint
from segacc.training.fit import fit


@dataclass(frozen=True)
class Args:
    dataset: str
    crop: int = 256
    model: str = "linknet"
    batch_size: int = 14
    """divides the 70 images of GlaS, so that all epochs have as many steps"""
    epochs: int = 21
    """the first one is not counted"""


def main(args: Args) -> None:
    save, every = checkpoint.Writer.save, checkpoint.SAVE_SECONDS
    began: list[float] = []
    copying: list[float] = []
    writing: list[tuple[float, float]] = []

    def timed_save(writer, progress):  # type: ignore[no-untyped-def]
        began.append(time.perf_counter())
        if len(began) % 2 == 0 and len(began) < args.epochs:
            writer.hold_best("# the best model, too: the dearest case", "")
            save(writer, progress)
            copying.append(time.perf_counter() - began[-1])

    def timed(write):  # type: ignore[no-untyped-def]
        def timed_write(*arguments):  # type: ignore[no-untyped-def]
            wall, cpu = time.perf_counter(), time.thread_time()
            write(*arguments)
            writing.append((time.perf_counter() - wall, time.thread_time() - cpu))

        return timed_write

    checkpoint.SAVE_SECONDS = 0.0
    checkpoint.Writer.save = timed_save  # type: ignore[method-assign]
    checkpoint.write_state = timed(checkpoint.write_state)
    checkpoint.save_best = timed(checkpoint.save_best)
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--dataset", args.dataset, "--crop", f"{args.crop}", "--model", args.model]
        flags += ["--weights", "none", "--tracker", "none", "--output-dir", f"{folder}/run"]
        flags += ["--batch-size", f"{args.batch_size}"]
        run = fit(parse_train([*flags, "--epochs", f"{args.epochs}", "--patience", "1000"]))
        size = checkpoint.states(run)[-1].stat().st_size / 1e6
    took = [later - earlier for earlier, later in pairwise(began)]
    without, with_state = took[0 : args.epochs - 1 : 2], took[1 : args.epochs - 1 : 2]
    base, more = statistics.median(without), statistics.median(with_state)
    waited = statistics.median(copying)
    wall, cpu = (sum(times) / len(copying) for times in zip(*writing, strict=True))
    print(
        f"\n{args.model}, {args.dataset}, crop {args.crop}, batch {args.batch_size}, "
        f"{cores()} cores ({platform.machine()}), torch {version('torch')}; a state of "
        f"{size:.0f} MB and the best model after every other epoch\n"
        f"  epochs without    median {base:.2f} s, {min(without):.2f} to {max(without):.2f}, "
        f"{len(without)} of them\n"
        f"  epochs with       median {more:.2f} s, {min(with_state):.2f} to "
        f"{max(with_state):.2f}, {len(with_state)} of them\n"
        f"  difference        {more / base - 1:+.2%}\n"
        f"  training waits    {waited:.3f} s for the copy: {waited / base:.2%} of an epoch\n"
        f"  beside it         {wall:.2f} s of writing, {cpu:.2f} s of it on one of the cores: "
        f"{cpu / base / cores():.2%} of what they can do in an epoch\n"
        f"  a save each {every:.0f} s  is what segacc does, and so {(more - base) / every:+.2%}"
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
