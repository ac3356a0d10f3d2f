"""Threads: how many there may be, and work on them in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

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
