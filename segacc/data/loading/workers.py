"""Worker processes of a DataLoader: how many can start, how they start, and how they end."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from copy import copy
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import BaseContext
from pathlib import Path

from segacc.errors import plural

log = logging.getLogger(__name__)

PREFETCH = 4
"""batches that each worker loads ahead"""
MORE_ROOM = "(docker run --shm-size=2g, or --ipc=host)"


@dataclass(frozen=True)
class WorkerPlan:
    """How a loader works: with how many workers, and how these send their batches."""

    workers: int
    pipes: bool = False
    """through pipes, not through shared memory"""

    def __str__(self) -> str:
        return plural(self.workers, "data worker") + (
            " without shared memory" if self.pipes else ""
        )


def plan_workers(
    workers: int, batch_bytes: int, held: int = 1, shared: Path = Path("/dev/shm")
) -> WorkerPlan:
    """Plan as many workers as were asked for, and use shared memory if it has room for them.

    Containers often have little of it: 64 MB in Docker, unless --shm-size says otherwise. A worker
    that finds it full would crash, and training would wait for its batch for ever.

    Args:
        workers: the workers that were asked for in this process.
        batch_bytes: the size of one batch of this process.
        held: batches that training holds at a time, the parts of a step.
        shared: where Linux keeps shared memory; other systems have no such folder.
    """
    if not workers:
        return WorkerPlan(0)
    try:  # the queues between processes need these
        semaphores = [multiprocessing.get_context().Semaphore() for _ in range(3 * workers + 16)]
        del semaphores
    except OSError as error:
        log.warning(
            f"--workers {workers}: {shared} cannot be used ({error.strerror}), so images are "
            "loaded by the training process itself, with the same results; for workers give the "
            f"container shared memory that can be written {MORE_ROOM}"
        )
        return WorkerPlan(0)
    if not shared.is_dir():
        return WorkerPlan(workers)
    disk = os.statvfs(shared)
    free = disk.f_bavail * disk.f_frsize // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = (PREFETCH * workers + held + 1) * batch_bytes  # one more is being written
    if needed <= free:
        return WorkerPlan(workers)
    log.warning(
        f"--workers {workers} would need {needed / 1e6:.0f} MB of shared memory, and {shared} has "
        f"{free / 1e6:.0f} MB free for this process: batches go through pipes, which is slower; "
        f"give the container more {MORE_ROOM}"
    )
    return WorkerPlan(workers, pipes=True)


class Worker(multiprocessing.Process):
    """A worker of one of our loaders. Its type distinguishes it from a host program's own
    processes."""


@cache
def worker_context() -> BaseContext:
    """Return the `multiprocessing_context` for a DataLoader whose workers are `Worker`s.

    At the end of the program all of them are killed, and nothing else is.
    """
    context = copy(multiprocessing.get_context())
    context.Process = Worker  # type: ignore[misc]
    # multiprocessing would send its children the SIGTERM that workers ignore, and wait for them
    # for ever. Functions of atexit run last in, first out, so this one runs before that.
    atexit.register(_kill_workers)
    # The banner says it in fewer words.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    return context


def start_worker(worker: int) -> None:
    """The `worker_init_fn` of our loaders."""
    import cv2

    # The training process says when to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)  # each worker's pool of threads would fight over the cores


def _end_with_parent() -> None:
    # torch's workers look for their parent too, but not while they wait for someone to take a
    # batch from them. After a SIGKILL of the parent they would wait for ever.
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _kill_workers() -> None:
    workers = [child for child in multiprocessing.active_children() if isinstance(child, Worker)]
    if workers:
        # torch's handler would report each killed worker as an error.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in workers:
        worker.kill()
