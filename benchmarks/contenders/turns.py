"""How a contender takes turns with the others, so that all are measured side by side.

A turn is a second of steps, or the last steps of an epoch and what is left of it after them. So
what else the machine does meets all alike. Who waits stands still, its workers too.
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
    """What every contender gets."""

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
    """The clock of a contender. It waits for its turn, and says what an epoch took."""

    def __init__(self) -> None:
        self.away = 0.0  # seconds in others' turns since the epoch began
        self._began = self._turn_began = self._trained = 0.0
        self._first: float | None = None
        self._told: dict[str, Any] = {}

    def wait(self) -> None:
        """Before the first step of an epoch, and after all that belongs to the one before. After
        the last one it waits as well, so that nothing is cleared away in another's turn."""
        _finish_gpu()
        self._hand_over({"epoch": self._spent(), **self._told})
        self._began, self.away = self._turn_began, 0.0

    def stepped(self) -> None:
        """After a step; the first one ends the launch."""
        if self._first is None:
            self._first = self._spent()
        if time.perf_counter() - self._turn_began > TURN_SECONDS:
            _finish_gpu()
            gone = time.perf_counter()
            self._hand_over({})
            self.away += self._turn_began - gone

    def trained(self) -> None:
        """After the last step of an epoch, on a GPU too."""
        _finish_gpu()
        self._trained = self._spent()

    def _spent(self) -> float:
        """Seconds of the epoch, in its own turns."""
        return time.perf_counter() - self._began - self.away

    def _hand_over(self, told: dict[str, Any]) -> None:
        print(f"\n{MARK}{json.dumps(told)}", flush=True)  # on a line of its own: bars end none
        if not sys.stdin.readline():
            raise SystemExit("benchmarks.throughput has ended")
        self._turn_began = time.perf_counter()

    def done(self, **more: Any) -> None:
        """After the validation."""
        self._told = {
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
