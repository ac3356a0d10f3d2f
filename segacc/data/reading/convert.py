"""A folder of images and masks -> `datasets.DatasetDict`.

It has the splits train, valid (and test), with the columns image, mask and name.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segacc.data.reading.division import divide, division_note
from segacc.data.reading.pairing import (
    EXTENSIONS,
    File,
    Finding,
    Pair,
    pair_up,
    read_path,
    split_of,
    wrapper_depth,
)
from segacc.errors import InputError

if TYPE_CHECKING:
    from datasets import DatasetDict

LAYOUTS = (
    "train/ and valid/ (and test/) with images NAME.jpg and masks NAME.png side by side or in "
    "images/ and masks/ folders"
)


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    `pairs` has the splits in the order train, valid, test, each sorted by name; a split without
    pairs is left out. `findings` is everything that is wrong, and `notes` say what segacc has
    decided itself.
    """

    folder: Path
    pairs: dict[str, tuple[Pair, ...]]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def convert_folder(folder: Path) -> DatasetDict:
    """The pairs in a folder as a DatasetDict {train, valid[, test]} of {image, mask, name}.

    Image and mask are `datasets.Image(decode=False)`: rows hold {"path": absolute path, "bytes":
    None}; saving or pushing the result embeds the files. Rows are sorted by name.

    Raises:
        InputError: with the first finding of `scan_folder` and how many there are.
    """
    scan = scan_folder(folder)
    for note in scan.notes:
        logging.getLogger("segacc").warning(note)
    if scan.findings:
        first, rest = scan.findings[0], len(scan.findings) - 1
        more = f" ({rest} more: run `segacc check {folder}` to list all)" if rest else ""
        raise InputError(f"{Path(folder) / first.file}: {first.problem}{more}")

    from datasets import Dataset, DatasetDict, Features, Image, Value

    features = Features(image=Image(decode=False), mask=Image(decode=False), name=Value("string"))
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {
                    "image": [pair.image for pair in pairs],
                    "mask": [pair.mask for pair in pairs],
                    "name": [pair.name for pair in pairs],
                },
                features=features,
            )
            for split, pairs in scan.pairs.items()
        }
    )


def scan_folder(folder: Path) -> Scan:
    """Pair images and masks by their names alone; no file is opened."""
    folder = Path(os.path.abspath(folder))
    paths, folders, others = walk(folder)
    if not paths:
        found = ", ".join(f"{n} {ext or 'without extension'}" for ext, n in others.most_common(3))
        problem = f"holds no images (found {found or 'no files'}): expected {LAYOUTS}"
        return Scan(folder, {}, (Finding(".", problem),), ())
    if odd := [shown for path in paths if (shown := _printable(path)) != path]:
        problem = "has a name that is not UTF-8 (? marks the place): rename it"
        return Scan(folder, {}, tuple(Finding(path, problem) for path in odd), ())

    wrapper = wrapper_depth(paths)
    files = [read_path(path, wrapper) for path in paths]
    split_names = {file.split for file in files} | {split_of(path, wrapper) for path in folders}
    if split_names == {None}:
        return _scan_unsplit(folder, files)

    pairs: dict[str, tuple[Pair, ...]] = {}
    findings: list[Finding] = []
    for split in ("train", "valid", "test"):
        inside = [file for file in files if file.split == split]
        pairs_of_split, problems = pair_up(folder, inside)
        findings += problems
        if pairs_of_split:
            pairs[split] = pairs_of_split
        elif split in split_names and not inside:
            empty = next(path for path in folders if split_of(path, wrapper) == split)
            problem = "holds no images: put images and masks in it or remove it"
            findings.append(Finding(empty, problem))
        elif split not in split_names and split != "test":
            problem = f"has no {split} folder: expected {LAYOUTS}"
            findings.append(Finding(".", problem))
    outside = [file.path for file in files if file.split is None]
    note = (
        f"{folder}: {len(outside)} image files lie outside of the split folders and are not used, "
        f"the first is {''.join(outside[:1])}"
    )
    return Scan(folder, pairs, tuple(findings), (note,) if outside else ())


def _scan_unsplit(folder: Path, files: list[File]) -> Scan:
    rows, findings = pair_up(folder, files)
    if len(rows) < 2 and not findings:
        findings = [Finding(".", f"holds a single image and mask: expected {LAYOUTS}")]
    names = [pair.name for pair in rows]
    parts = divide(names)
    note = (
        f"{folder} has no train and valid folders: {division_note(names, parts)}; where images are "
        "related (one scene, one patient) make the folders yourself"
    )
    pairs = {split: tuple(rows[i] for i in part) for split, part in parts.items() if part}
    return Scan(folder, pairs, tuple(findings), (note,))


def walk(folder: Path) -> tuple[list[str], list[str], Counter[str]]:
    """Relative posix paths of image files and of folders, both sorted, and what else there is.

    Raises:
        InputError: a folder cannot be read.
    """
    paths: list[str] = []
    folders: list[str] = []
    others: Counter[str] = Counter()
    for root, names, file_names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        names[:] = [
            name
            for name in names
            if not name.startswith(".") and name != "__MACOSX" and not _leads_up(root, name)
        ]
        prefix = "" if root == str(folder) else os.path.relpath(root, folder) + "/"
        folders += [prefix + name for name in names]
        for name in file_names:
            extension = os.path.splitext(name)[1].lower()
            if extension in EXTENSIONS and not name.startswith("."):
                paths.append(prefix + name)
            elif not name.startswith(".") and name != "Thumbs.db":
                others[extension] += 1
    return sorted(paths), sorted(folders), others


def _printable(path: str) -> str:
    return path.encode("utf-8", "replace").decode()


def _refuse_folder(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror}): check its permissions")


def _leads_up(root: str, name: str) -> bool:
    """Whether this folder is a link to a folder that contains it; following it would never end."""
    path = os.path.join(root, name)
    if not os.path.islink(path):
        return False
    return Path(os.path.realpath(root)).is_relative_to(os.path.realpath(path))
