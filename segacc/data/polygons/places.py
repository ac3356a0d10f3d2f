"""The image that a file of polygons means by a path."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from segacc.data.polygons.shapes import ShapeError
from segacc.data.reading.pairing import read_path, wrapper_depth
from segacc.data.reading.recognition.splits import splits_of
from segacc.errors import InputError


class Places:
    """The images of a data set. Only these are ever opened, whatever a file says."""

    def __init__(self, images: Sequence[str]) -> None:
        """
        Args:
            images: paths relative to the data set.
        """
        self.images = images
        self._by_path = {_normal(path): path for path in images}
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in images:
            self._by_name[_normal(posixpath.basename(path))].append(path)
        wrapper = wrapper_depth(list(images))
        said = splits_of({part for path in images for part in path.split("/")[wrapper:-1]})
        self.split_of: dict[str, str | None] = {}
        """the split that each image's folders name"""
        self.name_of: dict[str, str] = {}
        """each image's path without these folders and those that say that it is an image"""
        for path in images:
            read = read_path(path, wrapper)
            parts = read.key.split("/")
            more = next((said[part][0] for part in parts[:-1] if part in said), None)
            self.split_of[path] = read.split or more
            kept = [part for part in parts[:-1] if part not in said]
            self.name_of[path] = "/".join([*kept, parts[-1]])

    def find(self, said: str, beside: str, split: str | None) -> str | None:
        """Find the image that a file means: by its path from the file's folder or from the data
        set's, or else the only one (in the split) whose path ends like it; None if there is none.

        Args:
            said: the path in the file.
            beside: the folder of the file.
            split: the split of the file, if it has one.

        Raises:
            ShapeError: that is outside of the data set, or several images may be meant.
        """
        said = _normal(said.replace("\\", "/"))
        place = posixpath.normpath(posixpath.join(beside, said))
        if said.startswith("/") or re.match(r"[A-Za-z]:", said) or place.split("/")[0] == "..":
            raise ShapeError(
                f"names the image {said}, which is outside of the data set's folder: write its "
                "path from this folder"
            )
        plain = posixpath.normpath(said)
        for path in (place, plain):
            if path in self._by_path:
                return self._by_path[path]
        named = self._by_name.get(posixpath.basename(plain), [])
        fitting = [path for path in named if _normal(path).endswith(f"/{plain}")]
        of_split = [path for path in fitting if self.split_of[path] == split]
        if len(fitting) > 1 and len(of_split) != 1:
            raise ShapeError(
                f"names the image {said}, which may be {fitting[0]} or {fitting[1]}: write its "
                "path from the data set's folder"
            )
        return next(iter(of_split or fitting), None)


def read_file(folder: Path, file: str) -> bytes:
    """The content of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return (folder / file).read_bytes()
    except OSError as error:
        raise InputError(
            f"{folder / file} cannot be read ({error.strerror}): check its permissions"
        ) from error


def stem_of(path: str) -> str:
    """A path without the ending of the file."""
    return os.path.splitext(path)[0]


def _normal(path: str) -> str:
    """Convert a path to Unicode's form NFC, so that names that look equal are equal."""
    return unicodedata.normalize("NFC", path)
