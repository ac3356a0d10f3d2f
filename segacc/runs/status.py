"""How a run is doing: status.json, which the process that trains it keeps locked and fresh.

The system takes the lock away from a process that ends, also from one that is killed. Where a file
system has no locks, or not those of other machines, the time of the file says that somebody trains.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from segacc.errors import InputError, Stopped, disk_errors, first_line

log = logging.getLogger(__name__)

STATUS = "status.json"
BEAT_SECONDS = 30.0
"""seconds between two touches of the file while a run is trained"""
STALE_SECONDS = 4 * BEAT_SECONDS
WAIT_SECONDS = 20.0
"""how long a resumed run waits for the process before it to end: it may still save a state"""

StateName = Literal["training", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class Status:
    """What status.json says of a run."""

    state: StateName
    why: str = ""
    """the reason, as a sentence, if it was stopped or has failed"""
    host: str = ""
    pid: int = 0
    """the process that trains it, or was the last to do so"""
    cleaned: bool = False
    """whether the saved states of the finished run were removed"""


def read_status(run: Path, held: bool = False) -> Status | None:
    """The status of a run, None where it has none: older versions wrote none.

    The state is `training` only while a process trains; for a run that was killed it is `stopped`.

    Args:
        held: whether this process has the lock itself; else the lock means that a process trains.
    """
    path = run / STATUS
    try:
        status = _parsed(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    host, pid = (status.host, status.pid) if status else ("", 0)
    if not held and _is_locked(path):
        return Status("training", host=host, pid=pid)
    if status is not None and status.state == "training":
        elsewhere = host != socket.gethostname()
        if elsewhere and time.time() - path.stat().st_mtime < STALE_SECONDS:
            return status
        return Status("stopped", "its process was killed", host, pid)
    return status


def _parsed(text: str) -> Status | None:
    """Parse status.json; None if it was not written to its end, or by a newer version."""
    try:
        return Status(**json.loads(text))
    except (ValueError, TypeError):
        return None


@contextmanager
def marked_as_training(run: Path | None, lock: IO[bytes] | None = None) -> Iterator[None]:
    """Mark a run as one that this process trains; record in the end how that went.

    Args:
        run: None on the ranks that leave this to rank 0.
        lock: from `held_by_nobody_else`, where this process has it already.

    Raises:
        InputError: another process trains the run.
    """
    if run is None:
        yield
        return
    host, pid = socket.gethostname(), os.getpid()
    taken = nullcontext(lock) if lock else _locked(run, WAIT_SECONDS)
    with taken as file, _touched(file):
        _write(file, Status("training", host=host, pid=pid))
        end = Status("failed", host=host, pid=pid)
        try:
            yield
            end = Status("finished", host=host, pid=pid)
        except Stopped as stopped:
            end = Status("stopped", str(stopped).partition(";")[0], host, pid)
            raise
        except KeyboardInterrupt:
            end = Status("stopped", "stopped by Ctrl-C", host, pid)
            raise
        except Exception as error:
            why = str(error) if isinstance(error, InputError) else first_line(error)
            end = Status("failed", why, host, pid)
            raise
        finally:
            with suppress(OSError):  # the disk is full: that error is being raised already
                _write(file, end)


@contextmanager
def marked_if_it_fails(run: Path | None) -> Iterator[None]:
    """Record why a new run could not be started, so that `segacc runs` says it.

    Args:
        run: None on the ranks that leave this to rank 0, and for a resumed run, whose lock this
            process has.
    """
    try:
        yield
    except InputError as error:
        if run is not None:
            with suppress(OSError), _opened(run) as file:
                _write(file, Status("failed", str(error), socket.gethostname(), os.getpid()))
        raise


@contextmanager
def held_by_nobody_else(run: Path, wait: float = WAIT_SECONDS) -> Iterator[IO[bytes]]:
    """Keep other processes from training a run.

    Raises:
        InputError: one does.
    """
    with _locked(run, wait) as file:
        yield file


def mark_as_cleaned(run: Path) -> None:
    """Record that the states of a finished run were removed."""
    (run / STATUS).write_text(json.dumps(asdict(Status("finished", cleaned=True))))


@contextmanager
def _locked(run: Path, wait: float) -> Iterator[IO[bytes]]:
    with _opened(run) as file:
        # A forked process, such as a data worker, has the lock too, and may outlive this one.
        os.register_at_fork(after_in_child=file.close)
        ends = time.monotonic() + wait
        if wait and not _try_lock(file):
            log.warning("%s is still trained by another process: waiting for its end", run)
        while not _try_lock(file):
            if time.monotonic() > ends:
                raise InputError(_taken(run))
            time.sleep(0.1)
        yield file


def _opened(run: Path) -> IO[bytes]:
    with disk_errors(run):
        # Not buffered, so that a process that is forked meanwhile has nothing to write.
        return (run / STATUS).open("ab", buffering=0)


def _try_lock(file: IO[bytes]) -> bool:
    """Whether the file is this process's now, or the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.debug("%s cannot be locked: %s", file.name, error)
    return True


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # the file system has no locks
            return False
    return False


def _taken(run: Path) -> str:
    status = read_status(run)
    who = f"process {status.pid} on {status.host}" if status and status.pid else "another process"
    return (
        f"{who} trains {run} at this moment: wait until it ends, or stop it with Ctrl-C or SIGTERM "
        "(it then saves a state)."
    )


def _write(file: IO[bytes], status: Status) -> None:
    file.truncate(0)  # in place, since the lock is the file's; it was opened to append
    file.write(json.dumps(asdict(status)).encode())
    os.fsync(file.fileno())


@contextmanager
def _touched(file: IO[bytes]) -> Iterator[None]:
    """Keep the time of a file fresh."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(file.fileno())

    thread = threading.Thread(target=touch, name="segacc-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
