"""Prepared data sets in the cache: where they are, and how they are opened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from segacc.config.sizes import AnySize
from segacc.data.cache import cache_dir, mark_used
from segacc.data.rows import Source
from segacc.data.split import Prepared, _digest, columns_digest, open_split
from segacc.errors import write_text
from segacc.labels import BINARY, Labels

if TYPE_CHECKING:
    from datasets import DatasetDict

VERSION = 3  # of what a prepared file holds; it is part of the keys and names in the cache
NAME_DIGITS = 32  # of the fingerprint, in the name of a folder


def prepared_dir() -> Path:
    """The folder of the prepared data sets."""
    return cache_dir() / "prepared"


def find_prepared(fingerprint: str) -> Prepared | None:
    """The data set of this fingerprint, if the cache has it; its source is not needed."""
    for folder in prepared_dir().glob(f"{fingerprint[:NAME_DIGITS]}-*"):
        with suppress(FileNotFoundError):  # written by another version, or being pruned
            found = open_prepared(folder)
            if found.fingerprint == fingerprint:
                return found
    return None


def open_prepared(folder: Path) -> Prepared:
    """Map a prepared data set that is in the cache.

    Raises:
        FileNotFoundError: it is not there, or it was written by another version.
    """
    about = _about(folder)
    said = json.loads(about.read_text(encoding="utf-8"))
    mark_used(about)
    return _opened(folder, said["splits"], Labels.from_config(said.get("labels")))


def describe(folder: Path, source: Source, size: AnySize) -> str:
    """Write the description of a prepared set beside its splits.

    Returns:
        the name that its folder gets: it says what is in it.
    """
    labels = source.coding.labels
    about: dict[str, object] = {
        "made_of": _where(source.rows),
        "size": size,
        "splits": list(source.rows),
    }
    about["labels"] = labels.to_config()
    write_text(_about(folder), json.dumps(about))
    # Splits of equal pixels may still differ in other columns.
    columns = [columns_digest(folder / f"{name}.arrow").hex() for name in sorted(source.rows)]
    written = _opened(folder, source.rows, labels)
    more = [] if labels == BINARY else [labels.to_config()]
    name = _digest(VERSION, columns, written.value_range, *more).hex()[:8]
    return f"{written.fingerprint[:NAME_DIGITS]}-{name}"


def _about(folder: Path) -> Path:
    return folder / f"about-{VERSION}.json"


def _where(splits: DatasetDict) -> str:
    """The folder of the images, for people."""
    first = [rows[0]["image"] for rows in splits.values()]
    folders = [os.path.dirname(image["path"]) for image in first if image["bytes"] is None]
    return os.path.commonpath(folders) if folders else "a set of `datasets`"


def _opened(folder: Path, names: Iterable[str], labels: Labels) -> Prepared:
    splits = {name: open_split(folder / f"{name}.arrow") for name in names}
    first = next(iter(splits.values()))
    fingerprint = _digest(first.size, sorted((name, s.fingerprint) for name, s in splits.items()))
    return Prepared(splits, fingerprint.hex(), first.size, labels, first.value_range)
