"""How a program of ours ends: what the user can cause is one sentence and an exit code.

This module imports nothing of ours and nothing heavy.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

EXIT_INPUT = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: stopped by a signal, to be continued
EXIT_INTERRUPTED = 130  # the shell's own code for Ctrl-C


class InputError(ValueError):
    """Something the user gave is wrong. The message is one sentence: the file or flag, what was
    found, what was expected, what to do. The programs print it and exit with code 2."""


class Stopped(BaseException):  # no library may take it for an error of its own
    """The program was told to stop. The programs print the message and exit with code 75."""


@contextmanager
def disk_errors(folder: Path, remedy: str | None = None) -> Iterator[None]:
    """Say it in a sentence when a folder cannot be written.

    Args:
        folder: a run's, or one inside it.
        remedy: the end of the sentence; None for how to continue the training of the run, whose
            earlier states are untouched.

    Raises:
        InputError: the disk is full or not writable.
    """
    try:
        yield
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        remedy = remedy or f"its states are intact: free space, then {goes_on(folder)}"
        raise InputError(f"{folder} could not be written ({what}); {remedy}") from error


def goes_on(run: Path) -> str:
    """The end of a sentence that says how to continue a run."""
    return f"continue with: {command('train')} --resume {run}"


def command(program: Literal["train", "evaluate"]) -> str:
    """How this user starts `program`, for a sentence that says what to do next.

    Whoever started train.py or evaluate.py of the repository reads their names. Everybody else (the
    command `segacc`, a program that calls `fit`) reads what an installed segacc has.
    """
    started = Path(sys.argv[0])
    repository = Path(__file__).resolve().parents[1]
    if started.name in ("train.py", "evaluate.py") and started.resolve().parent == repository:
        script = started.with_name(f"{program}.py")
        return f"{'accelerate launch' if program == 'train' else 'python'} {script}"
    return "accelerate launch -m segacc train" if program == "train" else "segacc evaluate"


def write_text(path: Path, text: str) -> None:
    """Replace a file whole, and have it on the disk."""
    aside = path.with_name(path.name + ".partial")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def speaks() -> bool:
    """Whether this is the first process of its machine, the one that says what all would say."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _may_say_error() -> bool:
    """Whether no other process of this launch on this machine has said its error before.

    The first one to fail knows why; the others fail since it is gone. torchrun and `accelerate
    launch` give their processes a folder each, in one that they share.
    """
    own_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if own_file is None:
        return True
    try:
        (Path(own_file).parent.parent / "segacc-error-said").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # better said twice than not at all
        return True
    return True


def run_program(program: Callable[[], int | None], debug: bool) -> int:
    """Run a program and turn what the user can cause into one sentence and an exit code.

    Of several processes the one that fails first says its error, and no other.

    Returns:
        the exit code: what the program returns, 0 for None, or one of the codes above.
    """
    before = signal.signal(signal.SIGTERM, _stop_before_start)
    try:
        return program() or 0
    except InputError as error:
        if debug:
            raise
        if _may_say_error():
            print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_INPUT
    except Stopped as stopped:
        if speaks():
            print(stopped, file=sys.stderr)
        return EXIT_STOPPED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        if signal.getsignal(signal.SIGTERM) is _stop_before_start:
            signal.signal(signal.SIGTERM, before)


def _stop_before_start(number: int, frame: object) -> None:
    raise Stopped("stopped by SIGTERM with nothing to save: give the same command again.")
