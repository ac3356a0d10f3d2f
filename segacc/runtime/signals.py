"""Being told to stop: signals, and a launcher that is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SECONDS = 1.0
"""A terminal and a launcher that passes signals on may both send what the user sent once."""

# A launcher that is killed tells its processes nothing. Without one, the parent is a shell, which
# a run in the background may outlive.
LAUNCHED = bool({"ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID"} & set(os.environ))
PARENT = os.getppid()


class StopRequest:
    """While this is entered, a first signal is only noted, and a second one leaves at once.

    A thread hears them, since the main one may wait inside a library, for a rank that is lost.
    """

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks
        self._signal: str | None = None
        self._before = {number: signal.getsignal(number) for number in SIGNALS}

    @property
    def reason(self) -> str | None:
        """What told this process to stop; None so far."""
        if self._signal is None and LAUNCHED and os.getppid() != PARENT:
            return "the end of the launcher"
        return self._signal

    def is_made(self) -> bool:
        """Whether this process was told to stop."""
        return self.reason is not None

    def settle(self) -> None:
        """All is saved: a launcher for which another process was faster changes nothing now."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._before.pop(signal.SIGTERM)

    def __enter__(self) -> StopRequest:
        self._ears, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        signal.set_wakeup_fd(self._bell)
        for number, before in self._before.items():
            if before != signal.SIG_IGN:  # as in a background job of a script
                signal.signal(number, lambda number, frame: None)
        threading.Thread(target=self._listen, name="segacc-signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(-1)
        os.close(self._bell)

    def _listen(self) -> None:
        heard_at = 0.0
        while number := os.read(self._ears, 1):
            if number[0] not in SIGNALS:
                continue
            if self._signal is None:
                self._signal, heard_at = signal.Signals(number[0]).name, time.monotonic()
                if self._speaks:
                    said = f"\n{self._signal}: saving; once more leaves at once\n"
                    os.write(2, said.encode())
            elif time.monotonic() - heard_at > SAME_SECONDS:
                os._exit(128 + number[0])  # the shell's code for a death by this signal
        os.close(self._ears)
