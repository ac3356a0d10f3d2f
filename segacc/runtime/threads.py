"""Threads: how many there may be, and `map` on them in order."""

from __future__ import annotations

import ctypes
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from segacc.runtime.signals import LAUNCHED, PARENT
from segacc.runtime.spinning import watch_cores

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Any], T],
    items: Iterable[Any],
    most: int | None = None,
) -> Iterator[T]:
    """`map` on the threads of `pool`, which reads at most `most` items ahead of the result that is
    asked for (by default four per core)."""
    ahead: deque[Future[T]] = deque()
    most = 4 * cores() if most is None else most
    for item in items:
        ahead.append(pool.submit(function, item))
        if len(ahead) > most:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def cores(root: Path = Path("/")) -> int:
    """The cores that this process may use: at most those of its affinity, and at most as many as
    the CPU quota of its container pays for.

    A quota of 1.5 cores counts as two: two threads use all of it, one thread would leave a third.

    Args:
        root: where /proc and /sys are.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([own, *map(math.ceil, _cpu_quotas(root))]))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """The CPU quotas of this process's control groups and of all groups around them, in cores.

    Sources: the kernel's documentation, admin-guide/cgroup-v2 (cpu.max: "quota period") and
    scheduler/sched-bwc for version 1 (cpu.cfs_quota_us and cpu.cfs_period_us).
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("" if number == "0" else "cpu")
        # In a container, what is mounted may begin at its own group, and the path may not exist.
        path = PurePosixPath(group.lstrip("/"))
        for around in (path, *path.parents):
            if number == "0":
                words = _text(mounted / around / "cpu.max").split()
            else:
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                words = [_text(mounted / around / file).strip() for file in files]
            if len(words) == 2 and all(word.isdecimal() for word in words):  # not "max", not -1
                yield int(words[0]) / int(words[1])


def _text(file: Path) -> str:
    """What the file holds; nothing where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def cores_of_process() -> int:
    """The cores for each training process of this machine, at least one."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def prepare_cpu(device: torch.device) -> None:
    """Where a model runs on the CPU, let torch use this process's share of the cores, or as many
    threads as the user has set in OMP_NUM_THREADS, and let it use its memory again."""
    import torch

    if device.type == "cpu":
        torch.set_num_threads(threads_of_user() or cores_of_process())
        watch_cores(torch.get_num_threads())
        keep_memory()


def threads_of_user(parent: Path | None = None) -> int | None:
    """The user's OMP_NUM_THREADS; None if there is none.

    torchrun and `accelerate launch` set it to 1 for their processes where the user has not, which
    would leave all but one core idle. What the user has set was there when the launcher started.

    Args:
        parent: folder of /proc of the launcher.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not first.isdecimal() or not int(first):
        return None
    if not LAUNCHED:
        return int(first)
    parent = parent or Path("/proc") / str(PARENT)
    try:
        variables = (parent / "environ").read_bytes().split(b"\0")
        words = (parent / "cmdline").read_bytes().replace(b"-", b"_")
    except OSError:  # not Linux, or the launcher is another user's
        return int(first) if first != "1" else None
    given = any(variable.startswith(b"OMP_NUM_THREADS=") for variable in variables)
    return int(first) if given or b"__num_cpu_threads_per_process" in words else None


def keep_memory() -> None:
    """Have glibc keep the memory that is freed, since each step allocates the same again.

    By default glibc gives large tensors back to the system, which then clears their pages for the
    next step. On a CPU that is a tenth of a training step's time with Linknet, and a quarter of a
    prediction's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack it
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, -1)  # M_TRIM_THRESHOLD
