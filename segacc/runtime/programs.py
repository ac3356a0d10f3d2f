"""Programs that run at the same time, each started by a thread, until they end or are stopped."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from segacc.errors import InputError, Stopped


class Programs:
    """The programs that run now. Each thread runs one; `stop` ends all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopping = False

    def run(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        """Run a program until all its processes have ended; what they print is added to `log`.

        It gets a session of its own, so that Ctrl-C in the terminal does not reach it: only `stop`
        stops it.

        Raises:
            InputError: it has failed, or a study that was started earlier still runs it.
            Stopped: `stop` was called.
        """
        with log.open("ab") as file:
            try:  # the lock is held until the last process that writes to the file has ended
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    "it is still run by a study that was killed, or by another one: wait for it, "
                    "then give the same command again."
                ) from None
            before = file.tell()
            with self._lock:
                if self._stopping:
                    raise Stopped
                process = subprocess.Popen(
                    command, stdout=file, stderr=file, env=environment, start_new_session=True
                )
                self._running.append(process)
        code = process.wait()
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a launcher may end while its training still saves
            file.seek(before)
            printed = file.read().decode(errors="replace")
        with self._lock:
            self._running.remove(process)
            if self._stopping:
                raise Stopped
        if code:
            raise InputError(error_in(printed))

    def stop(self) -> None:
        """Send SIGTERM to all running programs, and start no more."""
        with self._lock:
            self._stopping = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def error_in(printed: str) -> str:
    """The error in what a program printed: our own message, or the last line of a traceback, but
    not that of the launcher."""
    kinds = r"^(?:error: (?P<own>.+)|(?P<raised>(?!subprocess\.)[\w.]*(?:Error|Exception)\b.*))"
    found = [match["own"] or match["raised"] for match in re.finditer(kinds, printed, re.MULTILINE)]
    return (found or printed.splitlines() or ["it printed nothing"])[-1]
