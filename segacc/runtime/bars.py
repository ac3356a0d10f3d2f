"""Progress bars for terminals and notebooks; a log gets lines instead."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from tqdm.auto import tqdm as tqdm_here  # the notebook's, where this is one

from segacc.errors import is_main

log = logging.getLogger(__name__)

LOG_SECONDS = 30.0
"""seconds between two lines of a log"""


def make_bar(shown: bool = True, in_log: bool = True, **options: Any) -> tqdm:
    """Make a tqdm bar with these options. A log has no bar, but a line every 30 seconds.

    Args:
        shown: False shows nothing anywhere.
        in_log: False leaves the lines of a log to the caller.
    """
    if shown and in_log and not is_watched():
        return _BarOfLog(**options)
    return tqdm_here(disable=not (shown and is_watched()), **options)


def close_bars() -> None:
    """End all bars, so that what is printed next has a line of its own."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def show_doing(what: str = "") -> None:
    """Say on a terminal what is being done, until something else is printed; "" removes it.

    The cursor is left at the start of the line: whatever is printed next writes over it.
    """
    if sys.stderr.isatty() and is_main():
        sys.stderr.write(f"\r\x1b[K  {what} ...\r" if what else "\r\x1b[K")
        sys.stderr.flush()


class LogLines:
    """Decides when a log gets a line about progress: every 30 seconds, in place of a bar.

    Args:
        shown: False for processes that print nothing.
        clock: gives seconds.
    """

    def __init__(self, shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._shown = shown and not is_watched()
        self._clock = clock
        self._last = clock()

    def are_due(self) -> bool:
        """Whether to print a line now; if so, the 30 seconds start again."""
        if not self._shown or self._clock() - self._last < LOG_SECONDS:
            return False
        self._last = self._clock()
        return True


class _BarOfLog(tqdm):
    """Writes lines such as `preparing at 256 px: 4,100 of 10,000`."""

    monitor_interval = 0  # else tqdm starts a thread for this class

    def __init__(self, **options: Any) -> None:
        super().__init__(disable=True, total=options["total"])
        self._doing, self._lines = options["desc"], LogLines(shown=True)

    def update(self, n: float | None = 1) -> None:
        self.n += n or 0
        if self._lines.are_due():
            log.info(f"{self._doing}: {self.n:,.0f} of {self.total:,}")


def is_watched() -> bool:
    """Whether bars are seen: in a terminal or a notebook."""
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")
