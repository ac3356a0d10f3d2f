"""How torch's threads wait for each other: awake on cores of their own, asleep on shared ones.

torch computes with a team of threads (OpenMP, which is GNU's libgomp in torch's wheels for Linux).
A thread that is done before the others spins, that is, it looks again and again, for milliseconds,
since falling asleep and waking up costs more. Alone this gains a quarter of the speed of a small
model. Where another program wants the same cores, though, each spinning thread keeps the others
from their work: two trainings beside each other fell to a sixth of their speed.

No one setting of OMP_WAIT_POLICY or GOMP_SPINCOUNT serves both, and libgomp reads them only once.
But it spins for a moment only while it has more threads than cores (its manual, on GOMP_SPINCOUNT).
So one more team of threads, which does nothing, ends the spinning, and the end of that team
starts it again. The results do not change, since the first team stays as it is.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

PERIOD = 0.5  # seconds between looks
SHARED = 0.1  # of the processor time of our cores: others take more, so our threads sleep
ALONE = 0.05  # others take less, so our threads may spin again, after
QUIET_PERIODS = 6
MOST_THREADS = 64  # of the team that does nothing; more may break a limit of the container
WATCH = "segacc-watch-cores"


def watch_cores(threads: int) -> None:
    """From now on, have the threads of this process sleep while other programs want their cores.

    A warning says so, once. Does nothing where it would not help or where it cannot work: one
    thread, OMP_WAIT_POLICY or GOMP_SPINCOUNT set by the user, another OpenMP than libgomp, no
    /proc/self/schedstat. Call it after the import of torch.

    Args:
        threads: how many torch uses, which is the number of cores that this process should have.
    """
    if threads == 1 or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        return
    if any(thread.name == WATCH for thread in threading.enumerate()):
        return
    if loaded_libgomps() and Path("/proc/self/schedstat").exists():
        watched = (shares_taken(threads), threads)
        threading.Thread(target=follow, args=watched, name=WATCH, daemon=True).start()


def follow(shares: Iterable[float], threads: int) -> None:
    """Switch spinning off and on as others take more or less of the processor time."""
    sleeping, warned, quiet = False, False, 0
    with ExitStack() as team:
        for taken in shares:
            quiet = quiet + 1 if taken < ALONE else 0
            if taken > SHARED and not sleeping:
                if not warned:
                    log.warning(
                        f"other processes take {taken:.0%} of the time of this process's {threads} "
                        "cores: its threads sleep now while they wait for each other, which is "
                        "slower than on cores of its own; for full speed end the others, or start "
                        "each on its own cores (taskset --cpu-list 0-3 ..., 4-7 ...)"
                    )
                warned = sleeping = True
                team.enter_context(no_spinning(threads))
            elif sleeping and quiet >= QUIET_PERIODS:
                team.close()
                sleeping = False


def shares_taken(threads: int) -> Iterator[float]:
    """Yield every half second the share (0 to 1) of this process's cores that others had since the
    last time while threads of this process were ready to run."""
    before, began = _thread_times(), time.monotonic()
    while True:
        time.sleep(PERIOD)
        now, ended = _thread_times(), time.monotonic()
        ran, waited = (
            sum(times[column] - before.get(name, (0.0, 0.0))[column] for name, times in now.items())
            for column in (0, 1)
        )
        yield share_taken(ran, waited, threads * (ended - began))
        before, began = now, ended


def share_taken(ran: float, waited: float, own: float) -> float:
    """Return the share of `own` core-seconds that others had while our threads waited for a core.

    Where this process runs more threads than it has cores, they wait for each other. Ranks that
    share a machine do not take from each other, since each has only its share of the cores.

    Args:
        ran: seconds for which threads of this process ran, summed over threads.
        waited: seconds for which they were ready to run and had no core, likewise.
    """
    return max(0.0, min(waited, own - ran)) / own


def _thread_times() -> dict[str, tuple[float, float]]:
    """Return for each thread of this process the seconds for which it ran, and those for which it
    was ready to run but had no core. Source: the kernel's documentation, scheduler/sched-stats."""
    times = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            ran, waited, _ = (task / "schedstat").read_text().split()
        except OSError:  # the thread has ended
            continue
        times[task.name] = int(ran) / 1e9, int(waited) / 1e9
    return times


def loaded_libgomps() -> list[ctypes.CDLL]:
    """The copies of libgomp that this process has loaded; wheels bring their own."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux
        return []
    paths = {line.split(maxsplit=5)[5] for line in mapped.splitlines() if "libgomp" in line}
    return [ctypes.CDLL(path) for path in sorted(paths)]


@contextmanager
def no_spinning(threads: int) -> Iterator[None]:
    """While this is entered, threads of libgomp that wait for each other sleep.

    Args:
        threads: how many threads torch uses.
    """
    # A team's threads are counted from its start to the end of the thread that started it.
    ready, done = threading.Event(), threading.Event()

    def keep_teams() -> None:
        nothing = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p)  # what the team calls
        for libgomp in loaded_libgomps():
            # One of these threads is not counted, since it is this one.
            size = libgomp.omp_get_num_procs() - threads + 2
            if size <= MOST_THREADS:
                libgomp.GOMP_parallel(nothing, None, ctypes.c_uint(size), ctypes.c_uint(0))
        ready.set()
        done.wait()

    keeper = threading.Thread(target=keep_teams, name="segacc-no-spinning", daemon=True)
    keeper.start()
    ready.wait()
    try:
        yield
    finally:
        done.set()
        keeper.join()
