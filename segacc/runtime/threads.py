"""Threads: how many there may be, and work on them in order."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator


T = TypeVar("T")


def in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Any], T],
    items: Iterable[Any],
    most: int | None = None,
) -> Iterator[T]:
    """`map` over all threads that reads at most so many items ahead; by default as many as keep
    all threads busy."""
    ahead: deque[Future[T]] = deque()
    most = 4 * cores() if most is None else most
    for item in items:
        ahead.append(pool.submit(function, item))
        if len(ahead) > most:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def cores() -> int:
    """The cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_process() -> int:
    """Cores for each training process of this machine."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads(accelerator: Accelerator) -> int:
    """Use this process's share of the cores; `accelerate launch` would leave it one thread."""
    import torch

    if accelerator.device.type == "cpu":
        torch.set_num_threads(cores_of_process())
    return torch.get_num_threads()


def keep_memory() -> None:
    """Have glibc keep what training frees, since the next step allocates the same again.

    By default large tensors go back to the system with each free, which clears their pages for the
    next one: 0.1 of a step's time with Linknet on a CPU, 0.15 with SegFormer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack it
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, -1)  # M_TRIM_THRESHOLD
