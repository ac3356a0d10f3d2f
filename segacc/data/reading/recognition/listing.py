"""The files of a data set's folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segacc.data.reading.pairing import EXTENSIONS
from segacc.errors import InputError


@dataclass(frozen=True)
class Listing:
    """What a folder holds, as posix paths relative to it, sorted."""

    folder: Path
    images: tuple[str, ...]
    """files of types that images and masks have"""
    folders: tuple[str, ...]
    others: tuple[str, ...]
    """all other files"""


def list_files(folder: Path) -> Listing:
    """The files in a folder and in those below it, without hidden ones.

    Raises:
        InputError: a folder cannot be read.
    """
    images: list[str] = []
    folders: list[str] = []
    others: list[str] = []
    for root, names, file_names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        names[:] = [
            name
            for name in names
            if not name.startswith(".") and name != "__MACOSX" and not _leads_up(root, name)
        ]
        prefix = "" if root == str(folder) else os.path.relpath(root, folder) + "/"
        folders += [prefix + name for name in names]
        for name in file_names:
            if name.startswith(".") or name == "Thumbs.db":
                continue
            known = os.path.splitext(name)[1].lower() in EXTENSIONS
            (images if known else others).append(prefix + name)
    return Listing(folder, tuple(sorted(images)), tuple(sorted(folders)), tuple(sorted(others)))


def count_types(files: Iterable[str]) -> str:
    """The files by their type: 22 .json, 1 .txt, 1 without extension."""
    types = Counter(os.path.splitext(file)[1].lower() for file in files)
    return ", ".join(f"{n} {kind or 'without extension'}" for kind, n in types.most_common())


def _refuse_folder(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror}): check its permissions")


def _leads_up(root: str, name: str) -> bool:
    """Whether this folder is a link to a folder that contains it; following it would never end."""
    path = os.path.join(root, name)
    if not os.path.islink(path):
        return False
    return Path(os.path.realpath(root)).is_relative_to(os.path.realpath(path))
