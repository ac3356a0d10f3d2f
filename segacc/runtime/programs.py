"""Programs that run beside each other until they end or are all told to stop."""

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
    """Those of one thread each, that one word stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopping = False

    def run(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        """Run a program until all its processes have ended; what they print is added to `log`.

        It has a session of its own, so that Ctrl-C reaches it through `stop` alone.

        Raises:
            InputError: it has failed, or another life of the study still runs it.
            Stopped: all were told to stop.
        """
        with log.open("ab") as file:
            try:  # the lock lives as long as a process that has inherited the file as its output
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
            fcntl.flock(file, fcntl.LOCK_EX)  # a launcher ends before a training that saves
            file.seek(before)
            said = file.read().decode(errors="replace")
        with self._lock:
            self._running.remove(process)
            if self._stopping:
                raise Stopped
        if code:
            raise InputError(error_in(said))

    def stop(self) -> None:
        """Tell all that run to stop, and let nothing start any more."""
        with self._lock:
            self._stopping = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def error_in(said: str) -> str:
    """Our own sentence, or the error that a traceback ends with, but not that of the launcher."""
    kinds = r"^(?:error: (?P<own>.+)|(?P<raised>(?!subprocess\.)[\w.]*(?:Error|Exception)\b.*))"
    found = [match["own"] or match["raised"] for match in re.finditer(kinds, said, re.MULTILINE)]
    return (found or said.splitlines() or ["it said nothing"])[-1]
