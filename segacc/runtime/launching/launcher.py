"""The launcher: it starts the processes that train together, and ends when all of them have ended.

torchrun and accelerate's launcher would do this, too. They take seconds to start, print tracebacks
below each error, always end with exit code 1 if a process fails, and wait 30 seconds at most for a
run that saves. What processes need of a launcher is little: the variables that PyTorch's `env://`
documents (RANK, WORLD_SIZE and so on). This module loads no large library, except to count GPUs.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from segacc.config.launch import Launch
from segacc.errors import (
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    LAUNCH_FLAGS,
    LAUNCH_FOLDER,
)
from segacc.runtime.launching.plan import Plan, plan_of
from segacc.runtime.threads import cores

LOOK_SECONDS = 0.05
"""seconds between checks whether a process has ended"""
END_SECONDS = 30.0
"""seconds that the other processes have to end when one has failed, as with torchrun"""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def launch(program: Literal["train", "evaluate"], args: list[str], flags: Launch) -> int | None:
    """Start the processes that the flags of the launcher ask for, and wait for all of them.

    Args:
        program: what each of them runs.
        args: its arguments, without the flags of the launcher.

    Returns:
        the exit code: of the process that failed first, or 0. None if one process is enough: then
        nothing was started, and this process does the work.

    Raises:
        InputError: the flags ask for what this machine does not have, or contradict each other.
    """
    plan = plan_of(flags)
    if plan is None:
        return None
    with tempfile.TemporaryDirectory(prefix="segacc-launch-") as folder:
        shared = {LAUNCH_FOLDER: folder, LAUNCH_FLAGS: shlex.join(flags.to_flags())}
        return run_all(plan, [*_program(program), *args], shared)


def _program(program: str) -> list[str]:
    """Return how a new process runs what this one runs; its messages then name the same command."""
    started = Path(sys.argv[0])
    if started.name == f"{program}.py" and started.is_file():
        return [sys.executable, sys.argv[0]]
    if started.name == "segacc" and started.is_file():  # the script that pip has made
        return [sys.executable, sys.argv[0], program]
    return [sys.executable, "-m", "segacc", program]


def run_all(plan: Plan, words: list[str], shared: dict[str, str]) -> int:
    """Run `words` once for each process of this machine; returns as `launch`.

    Each process leads a group of its own: what a terminal sends (Ctrl-C, Ctrl-Z) reaches this
    process alone, which passes it on once.
    """
    told: list[int] = []
    processes: list[subprocess.Popen[bytes]] = []
    with passing_on(told, processes):
        for variables in ranks_of(plan):
            # Without it accelerate warns; segacc sets the threads itself, and sees that the user
            # has not set it (`segacc.runtime.threads.threads_of_user`).
            threads = {"OMP_NUM_THREADS": str(max(1, cores() // plan.processes))}
            environment = threads | os.environ | plan.environment | shared | variables
            started = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, process_group=0
            )
            processes.append(started)
        failed = wait_for_all(processes, told)
    if failed is None:
        return 0
    code = processes[failed].returncode
    if code > 0:
        return code
    return _killed(plan.first_rank + failed, -code, told, Path(shared[LAUNCH_FOLDER]))


def ranks_of(plan: Plan) -> Iterator[dict[str, str]]:
    """The variables of each process of this machine, by which it finds the others."""
    if plan.world == 1:
        yield {}
        return
    port = plan.port or _free_port()
    for local in range(plan.processes):
        yield {
            "RANK": str(plan.first_rank + local),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(plan.world),
            "LOCAL_WORLD_SIZE": str(plan.processes),
            "MASTER_ADDR": plan.address,
            "MASTER_PORT": str(port),
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def passing_on(told: list[int], processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Note signals that stop a run in `told`, and let Ctrl-Z suspend the processes, too."""

    def note(number: int, frame: object) -> None:
        told.append(number)

    def hold(number: int, frame: object) -> None:
        _to_groups(processes, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _to_groups(processes, signal.SIGCONT)  # the shell has continued this process

    # A script ignores SIGINT for its background jobs, nohup ignores SIGHUP: so do the processes.
    handlers = dict.fromkeys(PASSED_ON, note) | {signal.SIGTSTP: hold}
    before = {number: signal.getsignal(number) for number in handlers}
    taken = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in taken:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def wait_for_all(processes: list[subprocess.Popen[bytes]], told: list[int]) -> int | None:
    """Wait until all processes have ended; signals that are noted in `told` are passed on to them.

    When one fails, the others are told to end, and after half a minute they are killed.

    Returns:
        the place of the process that failed first; None where all have ended well.
    """
    failed: int | None = None
    kill_at = float("inf")
    passed_on = 0
    while running := [process for process in processes if process.poll() is None]:
        for number in told[passed_on:]:
            _to_each(running, number)
        passed_on = len(told)
        if failed is None and (failed := _failed(processes)) is not None:
            kill_at = time.monotonic() + END_SECONDS
            _to_each(running, signal.SIGTERM)
        if time.monotonic() > kill_at:
            _to_groups(running, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    return _failed(processes) if failed is None else failed


def _failed(processes: list[subprocess.Popen[bytes]]) -> int | None:
    return next((i for i, process in enumerate(processes) if process.returncode), None)


def _to_each(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        process.send_signal(number)


def _to_groups(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    """Send a signal to the processes and to those that they have started, such as data workers."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _killed(rank: int, number: int, told: list[int], folder: Path) -> int:
    """Say that a process was ended by a signal; returns the exit code."""
    name = signal.Signals(number).name
    if number in told:  # before it could handle signals
        if number == signal.SIGINT:
            return EXIT_INTERRUPTED
        print(
            f"stopped by {name} with nothing to save: give the same command again.", file=sys.stderr
        )
        return EXIT_STOPPED
    why = ", as the system does where memory is short" if number == signal.SIGKILL else ""
    print(f"error: the process of rank {rank} was killed by {name}{why}.", file=sys.stderr)
    return 128 + number
