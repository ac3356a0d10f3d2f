"""What a worker process of a DataLoader does first, and how it ends."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from multiprocessing import active_children, parent_process


def start_worker(worker: int) -> None:
    """What a worker of a DataLoader does first."""
    import cv2

    for number in (signal.SIGINT, signal.SIGTERM):  # the training process says when to stop
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)  # each worker's pool of threads would fight over the cores


def _end_with_parent() -> None:
    # A worker of torch looks for its parent, too, but not while it waits for someone to take what
    # it has made: killed, the parent would leave all of them behind.
    parent = parent_process()
    assert parent
    parent.join()
    os._exit(1)


@atexit.register
def _end_workers() -> None:
    # Left by an error. multiprocessing would send each the SIGTERM that it ignores, and wait. This
    # is registered after torch has imported that, and so is done before.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # of torch, to say that a worker has died
    for worker in active_children():
        if worker.daemon:
            worker.kill()
