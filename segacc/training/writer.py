"""Saving beside the training: states to resume from, and the best model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from segacc.errors import disk_errors, write_text
from segacc.training.checkpoint import (
    Progress,
    Tensors,
    Trained,
    copy_to_cpu,
    save_tensors,
    take_state,
    write_state,
)

log = logging.getLogger(__name__)

SAVE_SECONDS = 120.0
"""Between states where the user has not said when. Writing one takes a second or two of a CPU's
cores for a model of 20 million parameters: below 2 % of the training time."""


@dataclass(frozen=True)
class Best:
    """A copy of the best model, on the CPU."""

    config: dict[str, Any]
    weights: Tensors
    card: str
    per_image: str
    """table of the validation split, as CSV"""


def save_best(run: Path, best: Best) -> None:
    """Write the from_pretrained folder `run/best`; every file is replaced whole.

    Raises:
        OSError: the disk is full or not writable; the best model before it is untouched.
    """
    folder = run / "best"
    folder.mkdir(exist_ok=True)
    write_text(folder / "config.json", json.dumps(best.config, indent=2, sort_keys=True))
    aside = run / "checkpoints" / "best.partial"  # where the next state cleans up
    aside.parent.mkdir(exist_ok=True)
    save_tensors(best.weights, aside, {"format": "pt"})
    aside.replace(folder / "model.safetensors")
    write_text(folder / "README.md", best.card)
    write_text(folder / "valid_per_image.csv", best.per_image)


class Writer:
    """Saves a run. What is to be saved is copied at once and written by a thread beside the next
    steps; one state at most waits in memory. On ranks that are not `active` it does nothing.

    The best model is written together with the next state. If the run is killed before that, it
    continues from the state before, and finds the same best model again.

    Args:
        keep: number of states that stay on the disk.
        clock: seconds; tells when it is time for a state.
    """

    def __init__(
        self,
        run: Path,
        trained: Trained,
        keep: int,
        active: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run, self.trained, self.keep, self.active = run, trained, keep, active
        self._clock = clock
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segacc-writer")
        self._writing: Future[None] | None = None
        self._best: Best | None = None
        self._saved: Progress | None = None
        self._saved_at = clock()

    @property
    def due(self) -> bool:
        """Whether it is time for a state, where the user has not said when."""
        return self._clock() - self._saved_at > SAVE_SECONDS

    def hold_best(self, threshold: float, card: str, per_image: str) -> None:
        """Copy the best model, with its threshold, its model card and its scores on each validation
        image."""
        if self.active:
            config = {**self.trained.model.config(), "threshold": threshold}
            weights = copy_to_cpu(self.trained.model.state_dict())
            self._best = Best(config, weights, card, per_image)

    def save(self, progress: Progress) -> None:
        """Start to write the best model, if it is new, and the state, unless it is saved already.

        Raises:
            InputError: the write before this one has failed.
        """
        if not self.active or progress == self._saved:
            return
        self.wait()
        began = time.perf_counter()
        state, best = take_state(progress, self.trained), self._best
        copied = time.perf_counter() - began

        def write() -> None:
            began, cpu = time.perf_counter(), time.thread_time()
            with disk_errors(self.run):
                if best is not None:
                    save_best(self.run, best)
                write_state(self.run, state, self.keep)
            log.debug(
                "the state of step %d was copied in %.3f s and written in %.3f s, %.3f s of CPU",
                progress.step,
                copied,
                time.perf_counter() - began,
                time.thread_time() - cpu,
            )

        self._writing = self._pool.submit(write)
        self._best, self._saved, self._saved_at = None, progress, self._clock()

    def check(self) -> None:
        """Raises InputError when the last write is over and has failed."""
        if self._writing and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the last write. Raises InputError when it has failed."""
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()
