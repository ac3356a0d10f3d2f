"""List what the cache holds, and remove entries by age or size."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segacc.config.sizes import size_in_words, size_of_json
from segacc.data.cache import cache_dir
from segacc.data.store import prepared_dir

DAY = 24 * 60 * 60


@dataclass(frozen=True)
class CacheEntry:
    """Something in the cache."""

    path: Path
    what: str
    """what it is, in words"""
    size: int
    """its size in bytes"""
    used: float
    """when it was used last, in seconds as of `time.time()`"""
    may_go: bool
    """False for downloads, which may be the user's own files and cannot always be had again"""


def list_cache() -> list[CacheEntry]:
    """List all entries of the cache, the latest use first."""
    cache = cache_dir()
    entries = [
        *(_entry(path, *_prepared(path)) for path in _folders(prepared_dir())),
        *(_entry(path, "an archive, unpacked", path) for path in _folders(cache / "extracted")),
        *(_entry(path, "a demo set", path) for path in _folders(cache / "demo")),
        *(_entry(path, "what images look like", path) for path in _folders(cache / "looks")),
        *(_entry(path, "a data set of a program", path) for path in _folders(cache / "own")),
    ]
    downloads = [path for path in _inside(cache / "downloads") if path.suffix not in _MARKS]
    entries += [_entry(path, "a download", path, may_go=False) for path in downloads]
    return sorted(entries, key=lambda entry: entry.used, reverse=True)


_MARKS = {".lock", ".sha256"}


def table(entries: list[CacheEntry]) -> str:
    """Entries for a terminal, with their sum."""
    rows = [
        (
            f"{entry.size / 1e6:,.1f} MB",
            f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}",
            os.path.relpath(entry.path, cache_dir()),
            entry.what,
        )
        for entry in entries
    ]
    total = sum(entry.size for entry in entries)
    rows = [("size", "last use", f"in {cache_dir()}", ""), *rows]
    rows.append((f"{total / 1e6:,.1f} MB", "", "in all", ""))
    wide = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{size:>{wide}}  {used:<16}  {path}" + (f"  ({what})" if what else "")
        for size, used, path, what in rows
    )


def prune_cache(
    unused_days: float | None, most_bytes: float | None
) -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Remove what was not used for `unused_days`, then what was used longest ago, until the cache
    takes at most `most_bytes`. Downloads stay, and so does what is in use.

    Returns:
        what was removed; what should have been removed but is in use.
    """
    entries = list_cache()
    total = sum(entry.size for entry in entries)
    removed, in_use = [], []
    for entry in reversed(entries):
        old = unused_days is not None and time.time() - entry.used > unused_days * DAY
        too_much = most_bytes is not None and total > most_bytes
        if not entry.may_go or not (old or too_much):
            continue
        if _remove(entry.path):
            removed.append(entry)
            total -= entry.size
        else:
            in_use.append(entry)
    for key in (prepared_dir()).glob("*.key"):
        if not key.with_name(key.read_text()).exists():
            key.unlink()
    return removed, in_use


def _remove(folder: Path) -> bool:
    """Remove a folder of the cache; False where a process uses it."""
    with ExitStack() as locks:
        try:
            for path in _locks_of(folder):
                locks.enter_context(_alone(path))
        except OSError:
            return False
        # Renamed first, so that nobody finds a part of it.
        aside = folder.with_name(f"{folder.name}.removed")
        folder.rename(aside)
        shutil.rmtree(aside)
    return True


def _locks_of(folder: Path) -> Iterator[Path]:
    """The files that are locked while the folder is used.

    A prepared split is locked by those who map it. The files of other folders are read only while a
    set is prepared, which locks the set that is made.
    """
    if folder.parent.name == "prepared":
        yield from folder.glob("*.arrow")
        partial = folder.name.removesuffix(".partial")
        yield from folder.parent.glob(f"{partial}.lock")
    else:
        yield from folder.parent.glob("*.lock")
        yield from (prepared_dir()).glob("*.lock")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock a file that no other process has locked.

    Raises:
        OSError: another process has.
    """
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _entry(path: Path, what: str, used: Path, may_go: bool = True) -> CacheEntry:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return CacheEntry(path, what, size, used.stat().st_mtime, may_go)


def _prepared(folder: Path) -> tuple[str, Path]:
    """Describe a prepared set, and name the file or folder whose time is that of its last use."""
    if folder.suffix == ".partial":
        return "not finished", folder
    for about in folder.glob("about-*.json"):
        found = json.loads(about.read_text(encoding="utf-8"))
        size = size_in_words(size_of_json(found["size"]))
        return f"{found['made_of']} at {size}", about
    return "prepared by an earlier version", folder


def _folders(parent: Path) -> list[Path]:
    return [path for path in _inside(parent) if path.is_dir()]


def _inside(parent: Path) -> list[Path]:
    return sorted(parent.iterdir()) if parent.is_dir() else []
