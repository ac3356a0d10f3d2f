"""Programs as a person runs them: in a terminal, with keys pressed."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time

from small import ROOT

CTRL_C = "\x03"
CTRL_Z = "\x1a"


def on_terminal(
    words: list[str], *keys: tuple[str, str], within: float = 200, **changed: str
) -> tuple[int, str]:
    """Run a program in a terminal of its own.

    Args:
        keys: pairs of a regular expression and what is typed once it has been printed, in turns:
            each is looked for in what is printed after the one before it.
        within: seconds.
        changed: environment variables.

    Returns:
        the exit code, and all that was printed.
    """
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=own_terminal,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", **changed},
    )
    os.close(inside)
    printed, looked_at, waiting, until = "", 0, list(keys), time.monotonic() + within
    try:
        while chunk := os.read(outside, 4096):
            printed += chunk.decode(errors="replace")
            assert time.monotonic() < until, printed[-3000:]
            if waiting and re.search(waiting[0][0], printed[looked_at:]):
                looked_at = len(printed)
                os.write(outside, waiting.pop(0)[1].encode())
    except OSError:  # on Linux this means that the other side has closed
        pass
    os.close(outside)
    assert not waiting, f"not printed: {waiting[0][0]}\n{printed[-3000:]}"
    return process.wait(timeout=30), printed
