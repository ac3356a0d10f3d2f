"""Folders of the cache, each made by one process, once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segacc.errors import InputError


def once(target: Path, fill: Callable[[Path], None]) -> Path:
    """Make the folder `target` by calling `fill(folder)`, in one process; the others wait for it.

    `fill` writes into a folder beside it, which is renamed at the end, so `target` never exists in
    part.

    Raises:
        InputError: the cache cannot be written.
    """
    from filelock import FileLock

    if target.exists():
        return target
    aside = target.with_name(target.name + ".partial")
    with cache_errors(target), FileLock(str(target) + ".lock"):
        if target.exists():  # another process was faster
            return target
        shutil.rmtree(aside, ignore_errors=True)  # left by a killed process
        aside.mkdir()
        try:
            fill(aside)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


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
