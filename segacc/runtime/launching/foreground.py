"""Ctrl-C under `accelerate launch`: only the training gets it; the launcher waits for its end.

For one process accelerate's launcher waits without a handler: at Ctrl-C it ends with a traceback,
and the shell gives its prompt while the training still saves. A child cannot change that, but a
terminal sends Ctrl-C to one group of processes only, its foreground. So this module makes the
training the foreground. When the training has ended because of Ctrl-C, it ends the launcher, which
would print a traceback below the training's last sentence.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_foreground() -> Iterator[None]:
    """Make this process alone the terminal's foreground, if accelerate's launcher has started it
    there; else change nothing.

    Ctrl-Z suspends the launcher, too, so that the shell sees it.
    """
    launcher = os.getpgrp()
    terminal = _terminal() if _waits_without_handler() else None
    if terminal is None:
        yield
        return

    def hold(number: int, frame: object) -> None:
        _give(terminal, launcher)
        os.setpgid(0, launcher)  # back into the group that the shell suspends and continues
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.killpg(launcher, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, hold)
        if os.tcgetpgrp(terminal) == launcher:  # continued by fg, not by bg
            _take(terminal)

    ended = False

    def end_launcher() -> None:
        if ended and _is_of_accelerate(os.getppid()):
            os.kill(os.getppid(), signal.SIGTERM)

    # The prompt comes back with it, so it has to be the last. Exit handlers run in reverse order,
    # and the libraries that print at the end are imported later.
    atexit.register(end_launcher)
    before = signal.signal(signal.SIGTSTP, hold)
    _take(terminal)
    try:
        yield
    except KeyboardInterrupt:
        ended = True
        raise
    finally:
        if os.tcgetpgrp(terminal) == os.getpgrp():
            _give(terminal, launcher)
        signal.signal(signal.SIGTSTP, before)
        os.close(terminal)


def _waits_without_handler() -> bool:
    """Whether accelerate's launcher has started this process alone."""
    return "ACCELERATE_DYNAMO_BACKEND" in os.environ and "RANK" not in os.environ


def _is_of_accelerate(process: int) -> bool:
    """Whether a process is accelerate's launcher; False where the system does not tell."""
    try:
        return b"accelerate" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def _terminal() -> int | None:
    """The terminal whose foreground this process and the launcher are; None if there is none."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        own = os.getpgrp()
        if os.tcgetpgrp(terminal) == own == os.getpgid(os.getppid()) != os.getpid():
            return terminal
        os.close(terminal)
    except OSError:  # no terminal, or it was closed
        pass
    return None


def _take(terminal: int) -> None:
    """Put this process into a group of its own, and make that the foreground."""
    os.setpgid(0, 0)
    _give(terminal, os.getpgrp())


def _give(terminal: int, group: int) -> None:
    """Make a group the terminal's foreground."""
    # The kernel suspends a background process that does this, if the signal is not blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
