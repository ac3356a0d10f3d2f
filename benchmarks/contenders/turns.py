"""How a contender takes turns with the others, so that all are measured side by side."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "@turn "


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
    return Task(**vars(parser.parse_args()))


class Turns:
    """The clock of a contender. It waits for its turn before each epoch and says what it took."""

    def __init__(self) -> None:
        self._began = self._trained = 0.0
        self._first: float | None = None
        self._told: dict[str, Any] = {}

    def wait(self) -> None:
        """Before the first step of an epoch, and after all that belongs to the one before. After
        the last one it waits as well, so that nothing is cleared away in another's turn."""
        _finish_gpu()
        told = {"ready": True, "epoch": time.perf_counter() - self._began, **self._told}
        print(f"{MARK}{json.dumps(told)}", flush=True)
        if not sys.stdin.readline():
            raise SystemExit("benchmarks.throughput has ended")
        self._began = time.perf_counter()

    def stepped(self) -> None:
        """After a step; only that of the first one counts, which ends the launch."""
        if self._first is None:
            self._first = time.perf_counter() - self._began

    def trained(self) -> None:
        """After the last step of an epoch, on a GPU too."""
        _finish_gpu()
        self._trained = time.perf_counter()

    def done(self, **more: Any) -> None:
        """After the validation."""
        self._told = {
            "train": self._trained - self._began,
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

    torch.set_num_threads(len(os.sched_getaffinity(0)))
