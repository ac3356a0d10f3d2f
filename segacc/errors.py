"""How programs of segacc end: an error that a user can cause is one sentence and an exit code.

This module imports no other module of segacc and no large library.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import select
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

EXIT_INPUT = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: stopped by a signal, to be continued
EXIT_INTERRUPTED = 130  # the shell's own code for Ctrl-C
EXIT_PIPE = 141  # the shell's own code when the reader of a pipe has ended

USUAL_THRESHOLDS = gc.get_threshold()
"""Python's own thresholds of garbage collections, which `run_program` changes"""

LAUNCH_FOLDER = "SEGACC_LAUNCH_FOLDER"
"""the variable that names the folder shared by the processes of our launcher"""
LAUNCH_FLAGS = "SEGACC_LAUNCH_FLAGS"
"""the variable with the flags of the launch, for sentences that say what to do next"""
LAUNCHERS = (LAUNCH_FOLDER, "TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND", "RANK")
"""Variables that say that a launcher has started this process: ours, torchrun, accelerate, Slurm or
another one."""
ERROR_SAID = "segacc-error-said"
"""a file in the folder of a launch: a process has printed its error"""


class InputError(ValueError):
    """Something the user gave is wrong. The message is one sentence: the file or flag, what was
    found, what was expected, what to do. The programs print it and exit with code 2."""


class Stopped(KeyboardInterrupt):  # not an Exception, which libraries may catch
    """The program was told to stop. The programs print the message and exit with code 75."""


@contextmanager
def disk_errors(folder: Path, remedy: str | None = None) -> Iterator[None]:
    """Turn an error of the disk under a folder into one sentence.

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
        remedy = remedy or f"its states are intact: free space, then {how_to_continue(folder)}"
        raise InputError(f"{folder} could not be written ({what}); {remedy}") from error


def is_interactive() -> bool:
    """Whether a person types Python into this process: a notebook, or Python's own prompt."""
    return hasattr(sys, "ps1")


def how_to_continue(run: Path) -> str:
    """The end of a sentence that says how to continue a run."""
    if is_interactive():
        return f"continue with: segacc.train(resume={str(run)!r})"
    flags = os.environ.get(LAUNCH_FLAGS, "")
    return f"continue with: {command('train')} --resume {quoted(run)} {flags}".rstrip()


def how_to_train_on(run: Path, flags: Mapping[str, str]) -> str:
    """How to continue a run with other values of these flags, which are given by name."""
    if is_interactive():
        more = ", ".join(f"{flag}={value}" for flag, value in flags.items())
        return f"segacc.train(resume={str(run)!r}, {more})"
    more = " ".join(f"--{flag} {value}" for flag, value in flags.items())
    return f"{command('train')} --resume {quoted(run)} {more}"


def how_to_score(run: Path, split: str, has_own_net: bool = False) -> str:
    """How to score a run on a split; with a network of a program, only Python can do that."""
    if has_own_net or is_interactive():
        more = "" if split == "test" else f", split={split!r}"
        return f"segacc.evaluate({str(run)!r}{more}{', net=net' if has_own_net else ''})"
    flag = "" if split == "test" else f" --split {split}"
    return f"{command('evaluate')} {quoted(run)}{flag}"


def quoted(given: str | Path) -> str:
    """A path or another word in a printed command, so that a shell takes it as one word."""
    return shlex.quote(str(given))


def command(program: Literal["train", "evaluate"]) -> str:
    """How this user starts `program`, for a sentence that says what to do next.

    A user who started train.py or evaluate.py of the repository gets the names of these files, and
    accelerate's launcher if one that is not ours has started train.py. Any other (the command
    `segacc`, a program that calls `fit`) gets those of an installed segacc.
    """
    started = Path(sys.argv[0])
    repository = Path(__file__).resolve().parents[1]
    if started.name in ("train.py", "evaluate.py") and started.resolve().parent == repository:
        script = quoted(started.with_name(f"{program}.py"))
        around = [name for name in LAUNCHERS if name in os.environ]
        launched = program == "train" and around and LAUNCH_FOLDER not in around
        return f"{'accelerate launch' if launched else 'python'} {script}"
    return f"segacc {program}"


def first_line(error: Exception) -> str:
    """A library's error inside a sentence: its type, and the first line of its message."""
    lines = str(error).strip().splitlines() or ["no reason"]
    return f"{type(error).__name__}: {lines[0].rstrip('. ')}"


def hub_errors() -> tuple[type[Exception], ...]:
    """What the client of the Hugging Face Hub raises. The bases of HfHubHTTPError are the errors of
    the HTTP library, which is requests or httpx, depending on the version of huggingface-hub."""
    from huggingface_hub.errors import HfHubHTTPError

    of_http = (base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    return (OSError, ValueError, RuntimeError, *of_http)


def some_names(names: Sequence[str], shown: int = 3) -> str:
    """The first few of many names for a sentence, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 mask`, `1,200 masks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole: readers see the old text or the new one, also after a crash."""
    aside = path.with_name(path.name + ".partial")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def is_main() -> bool:
    """Whether this is the first process of all machines, as launchers count them."""
    return os.environ.get("RANK", "0") == "0"


def is_local_main() -> bool:
    """Whether this is the first process of its machine, which prints what all would print."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _launch_folder() -> Path | None:
    """The folder that the processes of this launch on this machine share; None without a launcher.

    Our own launcher makes one such folder. torchrun and `accelerate launch` make one for each
    process, all inside of one folder.
    """
    shared, own_file = os.environ.get(LAUNCH_FOLDER), os.environ.get("TORCHELASTIC_ERROR_FILE")
    if shared is None and own_file is None:
        return None
    return Path(shared) if shared else Path(own_file or "").parent.parent


def error_is_said() -> bool:
    """Whether a process of this launch has printed its error: the others then have nothing to say,
    since they end because of it."""
    folder = _launch_folder()
    return folder is not None and (folder / ERROR_SAID).exists()


def _is_first_error() -> bool:
    """Whether no other process of this launch on this machine has printed its error before.

    The process that fails first knows the cause; the others fail because it has ended. A file in
    the folder of the launch marks that an error was printed.
    """
    folder = _launch_folder()
    if folder is None:
        return True
    try:
        (folder / ERROR_SAID).touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # printing an error twice is better than not printing it
        return True
    return True


def run_program(program: Callable[[], int | None], debug: bool) -> int:
    """Run a program; an error that the user can cause becomes one sentence and an exit code.

    Of several processes only the one that fails first prints its error.

    Returns:
        the exit code: what the program returns, 0 for None, or one of the codes above.
    """
    # Full garbage collections come seldom: each looks at all objects, and finds nothing while
    # libraries are imported. Training puts the thresholds back.
    gc.set_threshold(*USUAL_THRESHOLDS[:2], 1000)
    atexit.register(_ignore_signals)  # after what libraries have registered
    ends, handled = False, [signal.SIGTERM, signal.SIGHUP]

    def stop_before_start(number: int, frame: object) -> None:
        leave_closed_outputs()
        # At its end nothing catches Stopped, and an error says more than this signal.
        if not ends and sys.exc_info()[1] is None:
            name = signal.Signals(number).name
            raise Stopped(f"stopped by {name} with nothing to save: give the same command again.")

    before = {number: signal.getsignal(number) for number in handled}
    for number in handled:
        if before[number] != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, stop_before_start)
    try:
        return program() or 0
    except InputError as error:
        if debug:
            raise
        if _is_first_error():
            print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_INPUT
    except KeyboardInterrupt as error:
        for number in (signal.SIGINT, *handled):
            signal.signal(number, signal.SIG_IGN)
        stopped = _message_of_stop(error)
        if is_local_main() and (stopped or sys.stderr.isatty()):  # at least the end of the line
            print(stopped, file=sys.stderr)
        code = EXIT_STOPPED if stopped else EXIT_INTERRUPTED
        # The signal may come again, from a launcher or a user in a hurry. All is saved and said.
        for number in (signal.SIGINT, *handled):
            signal.signal(number, lambda *_: os._exit(code))
        return code
    except BrokenPipeError:
        if not leave_closed_outputs():
            raise
        return EXIT_PIPE
    finally:
        ends = True
        for number in handled:
            if signal.getsignal(number) is stop_before_start:
                signal.signal(number, before[number])
        try:
            sys.stdout.flush()
        except OSError:
            leave_closed_outputs()


def _message_of_stop(error: BaseException | None) -> str:
    """The message of a stopped program; empty if it has saved nothing. Ctrl-C may also interrupt
    what a stopped program does at its end, even twice."""
    while error is not None and not (isinstance(error, Stopped) and error.args):
        error = error.__context__
    return "" if error is None else str(error)


def _ignore_signals() -> None:
    """Ignore signals while Python ends: without handlers, a signal would change the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def leave_closed_outputs() -> bool:
    """Print to nowhere from now on where stdout or stderr has lost its reader.

    Printing to a terminal that was closed, or to a program such as `head` that has ended, raises an
    error, which would end a run that only has to be saved.

    Returns:
        whether one of the two was closed.
    """
    closed = [descriptor for descriptor in (1, 2) if _has_no_reader(descriptor)]
    if closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in closed:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(closed)


def _has_no_reader(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
