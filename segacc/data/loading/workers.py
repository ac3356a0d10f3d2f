"""Worker processes of a DataLoader: how they start, and how they end."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from copy import copy
from functools import cache
from multiprocessing.context import BaseContext


class Worker(multiprocessing.Process):
    """A worker of one of our loaders. Its type tells it from a host program's own processes."""


@cache
def worker_context() -> BaseContext:
    """What a DataLoader takes as `multiprocessing_context`, so that its workers are `Worker`s.

    At the end of the program all of them are killed, and nothing else is.
    """
    context = copy(multiprocessing.get_context())
    context.Process = Worker  # type: ignore[misc]
    # multiprocessing would send its children the SIGTERM that workers ignore, and wait for them
    # for ever. Functions of atexit run last in, first out, so this one runs before that.
    atexit.register(_kill_workers)
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
