"""Requests to stop: SIGINT, SIGTERM, SIGHUP, and the end of the launcher."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import TracebackType

from segacc.errors import LAUNCH_FOLDER, error_is_said, is_interactive, leave_closed_outputs
from segacc.runtime.bars import close_bars

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The last one says that the terminal is closed, for example when an ssh connection is lost."""
SAME_SECONDS = 1.0
"""Ctrl-C may arrive twice: from the terminal, and from a launcher that passes it on. Signals that
come within this time count as one."""
AGAIN_SECONDS = 0.1

# A launcher that is killed sends its processes no signal, so they look whether it still runs. A
# process without a launcher has a shell as its parent, and may run longer than that.
STARTED_BY = {LAUNCH_FOLDER, "ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID"}
LAUNCHED = bool(STARTED_BY & set(os.environ))
PARENT = os.getppid()


class StopRequest:
    """While this is entered, the first signal is only noted, and a second one ends the process; in
    a notebook, whose variables would be lost with it, a second one raises KeyboardInterrupt.

    A thread receives the signals: the main thread may hang in a library, for example when it waits
    for a rank that is lost, and Python would not run its signal handlers then.

    Python lets only the main thread handle signals. Where `fit` runs in another one, the program
    around it keeps its own handlers, and only the end of a launcher stops the run.

    Args:
        prints: print a line at the first signal.
    """

    def __init__(self, prints: bool) -> None:
        self._prints = prints
        self._signal: str | None = None
        self._raises = False
        self._raised = threading.Event()
        self._listens = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in SIGNALS}

    @property
    def reason(self) -> str | None:
        """What asked this process to stop; None as long as nothing has."""
        if self._signal is None and LAUNCHED and os.getppid() != PARENT:
            return "the end of the launcher"
        return self._signal

    def is_made(self) -> bool:
        """Whether this process was told to stop."""
        return self.reason is not None

    def settle(self) -> None:
        """Call this when all is saved: a later SIGTERM, which a launcher sends when another process
        has ended first, is ignored."""
        if self._listens and LAUNCHED:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._before.pop(signal.SIGTERM)

    def __enter__(self) -> StopRequest:
        if not self._listens:
            return self
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._wakeup = signal.set_wakeup_fd(self._write_end)
        for number, before in self._before.items():
            # A script ignores SIGINT for its background jobs, and nohup ignores SIGHUP.
            if before != signal.SIG_IGN:
                signal.signal(number, self._interrupt)
        threading.Thread(target=self._listen, name="segacc-signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._listens:
            return
        self._raised.set()  # no more signals to the program around the run
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._write_end)

    def _interrupt(self, number: int, frame: object) -> None:
        """Python calls this in the main thread, perhaps long after the signal, perhaps before the
        other thread has seen it."""
        leave_closed_outputs()  # this thread may print next
        if self._raises:
            self._raised.set()
            raise KeyboardInterrupt

    def _listen(self) -> None:
        first_at = 0.0
        while number := os.read(self._read_end, 1):  # empty once the pipe is closed
            if number[0] not in SIGNALS:
                continue
            if self._signal is None:
                leave_closed_outputs()  # before the main thread sees the signal, and prints
                self._signal, first_at = signal.Signals(number[0]).name, time.monotonic()
                if self._prints and not error_is_said():
                    close_bars()
                    start = "\r\x1b[K" if os.isatty(2) else ""  # over the ^C of the terminal
                    line = f"{start}{self._signal}: saving; the same again ends it at once\n"
                    os.write(2, line.encode())
            elif not self._raises and time.monotonic() - first_at > SAME_SECONDS:
                if not is_interactive():
                    os._exit(128 + number[0])  # the shell's exit code for the end by this signal
                self._raises = True
                # Again and again: one that comes just before the main thread begins to wait in the
                # system does not end the wait.
                while not self._raised.is_set():
                    signal.pthread_kill(threading.main_thread().ident or 0, number[0])
                    self._raised.wait(AGAIN_SECONDS)
        os.close(self._read_end)
