"""Being told to stop: signals, and a launcher that is gone."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SECONDS = 1.0
"""A terminal and a launcher that passes signals on may both send what the user sent once."""


class StopRequest:
    """While this is entered, a first signal is only noted, and a second one leaves at once."""

    def __init__(self, speaks: bool) -> None:
        self.speaks = speaks
        self._reason: str | None = None
        self._heard_at = 0.0
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        # A launcher that is killed tells its processes nothing.
        launched = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & set(os.environ)
        self._launcher = os.getppid() if launched else None

    def __enter__(self) -> StopRequest:
        for number, before in self._before.items():
            if before != signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._reason:  # and then by a launcher, for which another process was faster
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @property
    def reason(self) -> str | None:
        """What told this process to stop; None so far."""
        if self._reason is None and self._launcher and os.getppid() != self._launcher:
            self._reason = "the end of the launcher"
        return self._reason

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._reason is None:
            self._reason, self._heard_at = signal.Signals(number).name, now
            if self.speaks:  # print() could be interrupted by itself
                os.write(2, f"\n{self._reason}: saving; once more leaves at once\n".encode())
        elif now - self._heard_at > SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
