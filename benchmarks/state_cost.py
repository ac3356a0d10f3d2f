"""How much time saving a state takes: epochs with and without a saved state are compared.

    python -m benchmarks.state_cost --dataset DIR [--crop 256] [--epochs 21]

A run saves a state after every second epoch. An epoch is timed from the end of the steps of the one
before to the end of its own. So its time contains the copying, for which training waits, and the
writing, which a thread does during the next steps.
"""

from __future__ import annotations

import logging
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise

import tyro

from segacc.config.flags import parse_train
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.runtime.threads import cores
from segacc.training.fit import fit
from segacc.training.saving.checkpoint import states
from segacc.training.saving.writer import SAVE_SECONDS
from segacc.training.setup import Hooks


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
    began: list[float] = []
    copying: list[float] = []
    writing: list[tuple[float, float]] = []

    class Listen(logging.Handler):
        """Reads from the writer's log how long each state took."""

        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.args, tuple):
                _, copied, wall, cpu = record.args
                copying.append(float(copied))  # type: ignore[arg-type]
                writing.append((float(wall), float(cpu)))  # type: ignore[arg-type]

    log = logging.getLogger("segacc.training.saving.writer")
    log.setLevel(logging.DEBUG)
    log.addHandler(Listen())
    log.propagate = False

    def mark(step: int, waited: float) -> None:
        if (step + 1) % steps == 0:
            began.append(time.perf_counter())

    flags = ["--dataset", args.dataset, "--crop", f"{args.crop}", "--model", args.model]
    flags += ["--weights", "none", "--tracker", "none", "--batch-size", f"{args.batch_size}"]
    flags += ["--epochs", f"{args.epochs}", "--patience", "1000"]
    size = parse_train(flags).size
    assert size is not None
    images = len(prepare(load_dataset(args.dataset), size).splits["train"])
    steps = images // args.batch_size
    if images % args.batch_size:
        raise SystemExit(f"--batch-size {args.batch_size} does not divide {images} images")
    # After every second epoch; the best model is written each time, too, which is the worst case.
    flags += ["--save-every", f"{2 * steps}"]
    best = Hooks(
        step_done=mark, epoch_done=lambda job: job.writer.hold_best(0.5, "# the best model", "")
    )
    with tempfile.TemporaryDirectory() as folder:
        run = fit(parse_train([*flags, "--output-dir", f"{folder}/run"]), best)
        size = round(states(run)[-1].stat().st_size / 1e6)
    took = [later - earlier for earlier, later in pairwise(began)]
    # The first epoch ends with the first mark; a state is saved after every second mark.
    without, with_state = took[0::2], took[1::2]
    base, more = statistics.median(without), statistics.median(with_state)
    waited = statistics.median(copying)
    wall, cpu = (sum(times) / len(copying) for times in zip(*writing, strict=True))
    print(
        f"\n{args.model}, {args.dataset}, crop {args.crop}, batch {args.batch_size}, "
        f"{cores()} cores ({platform.machine()}), torch {version('torch')}; a state of "
        f"{size} MB and the best model after every other epoch\n"
        f"  epochs without    median {base:.2f} s, {min(without):.2f} to {max(without):.2f}, "
        f"{len(without)} of them\n"
        f"  epochs with       median {more:.2f} s, {min(with_state):.2f} to "
        f"{max(with_state):.2f}, {len(with_state)} of them\n"
        f"  difference        {more / base - 1:+.2%}\n"
        f"  training waits    {waited:.3f} s for the copy: {waited / base:.2%} of an epoch\n"
        f"  beside it         {wall:.2f} s of writing, {cpu:.2f} s of it on one of the cores: "
        f"{cpu / base / cores():.2%} of what they can do in an epoch\n"
        f"  a save each {SAVE_SECONDS:.0f} s  is what segacc does, and so "
        f"{(more - base) / SAVE_SECONDS:+.2%}"
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
