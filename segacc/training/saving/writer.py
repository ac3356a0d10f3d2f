"""Saving states and the best model in a thread, while training goes on."""

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
from segacc.models.weights.tensors import Tensors
from segacc.training.saving.checkpoint import (
    Progress,
    Trained,
    copy_to_cpu,
    save_tensors,
    take_state,
    write_state,
)

log = logging.getLogger(__name__)

SAVE_SECONDS = 120.0
"""Seconds between states without `--save-every`. Writing a state of a model with 20 million
parameters takes a second or two on a CPU: below 2 % of the training time."""


@dataclass(frozen=True)
class Best:
    """A copy of the best model, on the CPU."""

    config: dict[str, Any]
    weights: Tensors
    card: str
    per_image: str
    """table of the validation split, as CSV"""


def save_best(run: Path, best: Best) -> None:
    """Write the folder `run/best`, for `from_pretrained`; each file is replaced as a whole.

    Raises:
        OSError: the disk is full or not writable; the best model before it is untouched.
    """
    folder = run / "best"
    folder.mkdir(exist_ok=True)
    write_text(folder / "config.json", json.dumps(best.config, indent=2, sort_keys=True))
    partial = run / "checkpoints" / "best.partial"  # if it stays, the next state removes it
    partial.parent.mkdir(exist_ok=True)
    save_tensors(best.weights, partial, {"format": "pt"})
    partial.replace(folder / "model.safetensors")
    write_text(folder / "README.md", best.card)
    write_text(folder / "valid_per_image.csv", best.per_image)


class Writer:
    """Saves states and the best model of a run.

    They are copied at once, and a thread writes the copies during the next steps. At most one state
    waits in memory. On ranks that are not `active` nothing is saved.

    The best model is written together with the next state. If the run is killed before that, it is
    resumed from the state before, and computes the same best model again.

    Args:
        keep: number of newest states that are kept on the disk.
        clock: gives seconds, from which the writer knows when a state is due.
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
        """Whether the last state is old enough for a new one (without `--save-every`)."""
        return self._clock() - self._saved_at > SAVE_SECONDS

    def hold_best(self, threshold: float, card: str, per_image: str) -> None:
        """Copy the best model, with its threshold, its model card and its scores on each validation
        image."""
        if self.active:
            model = self.trained.scored
            config = {**model.config(), "threshold": threshold}
            weights = copy_to_cpu(model.state_dict())
            self._best = Best(config, weights, card, per_image)

    def save(self, progress: Progress) -> None:
        """Start to write the state, unless it is saved already, and the best model, if it is new.

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
