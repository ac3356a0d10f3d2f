"""The cache: where it is, and its folders, each made by one process, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segacc.errors import InputError, write_text


def cache_dir() -> Path:
    """Folder of downloads, demo images and prepared data: `SEGACC_CACHE`, or `~/.cache/segacc`."""
    named = os.environ.get("SEGACC_CACHE")
    if named:
        return Path(named).expanduser()
    try:
        return Path.home() / ".cache" / "segacc"
    except RuntimeError:  # HOME is not set, and this user is not in /etc/passwd
        raise InputError(
            "the cache has no place, since HOME is not set: set SEGACC_CACHE (or HOME) to a folder "
            "that can be written."
        ) from None


def once(target: Path, fill: Callable[[Path], None]) -> Path:
    """Make the folder `target` by calling `fill(folder)`, in one process; the others wait for it.

    `fill` writes into a folder beside it, which is renamed at the end, so `target` never exists in
    part.

    Raises:
        InputError: the cache cannot be written.
    """
    if not target.exists():
        with _only_one(target) as aside:
            if not target.exists():  # else another process was faster
                fill(aside)
                aside.rename(target)
    mark_used(target)
    return target


def once_by_content(key: Path, fill: Callable[[Path], str]) -> Path:
    """Like `once`, for a folder beside `key` that is named by its content: equal contents are kept
    once, whatever they were made of.

    Args:
        key: a small file that says which folder was made of this input.
        fill: writes the content into a folder, and returns the name that the folder gets.

    Raises:
        InputError: the cache cannot be written.
    """
    if found := made_of(key):
        mark_used(found)
        return found
    with _only_one(key) as aside:
        if found := made_of(key):  # another process was faster
            return found
        target = key.with_name(fill(aside))
        try:
            aside.rename(target)
        except OSError:
            if not target.exists():  # else the same content was made of another input
                raise
            shutil.rmtree(aside)
        write_text(key, target.name)
    return target


def made_of(key: Path) -> Path | None:
    """The folder that `once_by_content` has made for a key; None if there is none, or none now."""
    try:
        folder = key.with_name(key.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return folder if folder.exists() else None  # it may have been pruned


@contextmanager
def _only_one(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to fill, while no other process fills it; then removed."""
    from filelock import FileLock

    aside = target.with_name(target.name + ".partial")
    with cache_errors(target), FileLock(str(target) + ".lock"):
        shutil.rmtree(aside, ignore_errors=True)  # left by a killed process
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def mark_used(path: Path) -> None:
    """Set the time of the last use, by which the cache is pruned, unless it is read-only."""
    with suppress(OSError):
        os.utime(path)


@contextmanager
def cache_errors(target: Path) -> Iterator[None]:
    """Make the parent folder of `target`, and turn the errors of the disk into a sentence.

    Raises:
        InputError: the cache cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error}): free some space, or set SEGACC_CACHE to "
            "another folder"
        ) from error
