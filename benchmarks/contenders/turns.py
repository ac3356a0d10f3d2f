"""How a contender takes turns with the others, so that all are measured side by side.

A turn is a second of steps, or the last steps of an epoch and its validation. So other load on the
machine affects all contenders alike. A contender that waits is stopped, with its workers.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segacc.runtime.threads import cores

MARK = "@turn "
TURN_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """What a contender has to train, the same for all of them."""

    model: str
    data: Path  # train/ and valid/ with NAME.jpg and NAME.png
    size: int
    crop: int | None
    batch_size: int
    epochs: int
    workers: int
    precision: str  # fp32 or bf16
    without: str  # what benchmarks.defaults has segacc do without
    persistent_workers: bool  # of the Lightning script


def task() -> Task:
    """The task on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--precision", choices=["fp32", "bf16"], required=True)
    parser.add_argument("--without", default="")
    parser.add_argument("--persistent-workers", action="store_true")
    return Task(**vars(parser.parse_args()))


class Turns:
    """The clock of a contender: it waits for its turns, and reports how long epochs took."""

    def __init__(self) -> None:
        self.away = 0.0  # seconds in others' turns since the epoch began
        self._began = self._turn_began = self._trained = 0.0
        self._first: float | None = None
        self._report: dict[str, Any] = {}

    def wait(self) -> None:
        """Call this before the first step of an epoch, when the one before is over in all parts.

        Call it after the last epoch, too, so that no cleaning up takes time in another one's turn.
        """
        _finish_gpu()
        self._hand_over({"epoch": self._spent(), **self._report})
        self._began, self.away = self._turn_began, 0.0

    def stepped(self) -> None:
        """Call this after each step; the first step ends the launch."""
        if self._first is None:
            self._first = self._spent()
        if time.perf_counter() - self._turn_began > TURN_SECONDS:
            _finish_gpu()
            left = time.perf_counter()
            self._hand_over({})
            self.away += self._turn_began - left

    def trained(self) -> None:
        """Call this after the last step of an epoch; it waits for the GPU."""
        _finish_gpu()
        self._trained = self._spent()

    def _spent(self) -> float:
        """Seconds of the epoch, in own turns only."""
        return time.perf_counter() - self._began - self.away

    def _hand_over(self, report: dict[str, Any]) -> None:
        # The line break comes first, since a progress bar may have begun a line.
        print(f"\n{MARK}{json.dumps(report)}", flush=True)
        if not sys.stdin.readline():
            raise SystemExit("benchmarks.throughput has ended")
        self._turn_began = time.perf_counter()

    def done(self, **more: Any) -> None:
        """After the validation."""
        self._report = {
            "train": self._trained,
            "first_step": self._first,
            "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            **more,
        }


def _finish_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def use_cores() -> None:
    """`accelerate launch` and torchrun leave one thread; no contender is held to that."""
    import torch

    torch.set_num_threads(cores())
