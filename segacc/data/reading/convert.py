"""A folder of images and masks -> `datasets.DatasetDict`.

It has the splits train, valid (and test), with the columns image, mask and name.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segacc.config.names import SPLIT_NAMES
from segacc.data.polygons.find import describe_annotations, find_annotations, found_of
from segacc.data.polygons.shapes import Annotations
from segacc.data.reading.division.divide import Division, divide_rows
from segacc.data.reading.division.folds import folded_pairs
from segacc.data.reading.foreign import HEAD_BYTES, what_it_seems
from segacc.data.reading.pairing import Finding, Found, Pair, pair_by_words, split_of, wrapper_depth
from segacc.data.reading.recognition.listing import Listing, count_types, list_files
from segacc.data.reading.recognition.patterns import EXAMPLE, SHOWN, describe, pattern_of
from segacc.data.reading.recognition.peek import share_of_masks
from segacc.data.reading.recognition.splits import splits_from_lists
from segacc.data.reading.recognition.ways import find_pairs
from segacc.data.rows import row_of
from segacc.errors import InputError, quoted
from segacc.labels import BINARY_CODING

if TYPE_CHECKING:
    from datasets import DatasetDict

LAYOUTS = (
    "train/ and valid/ (and test/) with images NAME.jpg and masks NAME.png side by side or in "
    "images/ and masks/ folders"
)


@dataclass(frozen=True)
class Undivided:
    """Pairs that neither folders nor lists put into splits, sorted by name."""

    pairs: tuple[Pair, ...]
    why: str
    """the start of a sentence"""
    has_test: bool
    """whether there is a test split, so that these are for train and valid"""


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
    categories: tuple[str, ...] = ()
    """the categories of polygons; without any, the labels are masks"""
    undivided: Undivided | None = None
    """pairs for `divided` to put into splits"""


def convert_folder(folder: Path, patterns: Sequence[str] = ()) -> DatasetDict:
    """The pairs in a folder as a DatasetDict {train, valid[, test]} of {image, mask, name}.

    Image and mask are `datasets.Image(decode=False)`: rows hold {"path": absolute path, "bytes":
    None}; saving or pushing the result embeds the files. Rows are sorted by name.

    Raises:
        InputError: with the first finding of `scan_folder` and how many there are.
    """
    return rows_of(scan_to_load(folder, patterns), Division(BINARY_CODING))


def scan_to_load(
    folder: Path, patterns: Sequence[str] = (), class_files: Sequence[Path] = ()
) -> Scan:
    """Call `scan_folder`, and accept only a folder with which nothing is wrong.

    Raises:
        InputError: with the first finding and how many there are.
    """
    scan = scan_folder(folder, patterns, class_files)
    for note in scan.notes:
        logging.getLogger("segacc").warning(note)
    if scan.findings:
        first, rest = scan.findings[0], len(scan.findings) - 1
        check = f"segacc check {quoted(scan.folder)}"
        more = f" ({rest} more: run `{check}` to list all)" if rest else ""
        raise InputError(f"{scan.folder / first.file}: {first.problem}{more}")
    return scan


def divided(scan: Scan, division: Division) -> Scan:
    """Put all pairs of the scan into splits, and into the fold that was asked for. This reads
    images, and logs how the pairs were divided.

    Raises:
        InputError: as `divide_rows`; --group-by has no effect.
    """
    rest = scan.undivided
    if rest is None:
        division.require_no_effect(str(scan.folder), list(scan.pairs))
        return replace(scan, pairs=folded_pairs(scan.pairs, division, str(scan.folder)))
    rows = [row_of(pair) for pair in rest.pairs]
    parts, note = divide_rows(rows, division, str(scan.folder), in_two=rest.has_test)
    pairs = {split: tuple(rest.pairs[i] for i in part) for split, part in parts.items() if part}
    logging.getLogger("segacc").warning(f"{rest.why}: {note}")
    pairs = folded_pairs(pairs | scan.pairs, division, str(scan.folder))
    return replace(scan, pairs=pairs, undivided=None)


def rows_of(scan: Scan, division: Division) -> DatasetDict:
    """Divide the pairs of a scan, and return them as rows; raises as `divided`."""
    scan = divided(scan, division)
    from datasets import Dataset, DatasetDict, Features, Image, Value
    from datasets.table import InMemoryTable

    features = Features(image=Image(decode=False), mask=Image(decode=False), name=Value("string"))
    return DatasetDict(
        {
            # Not by from_dict, which drops the bytes where a path is that of a file.
            split: Dataset(
                InMemoryTable.from_pydict(
                    {column: [row_of(pair)[column] for pair in pairs] for column in features},
                    schema=features.arrow_schema,
                )
            )
            for split, pairs in scan.pairs.items()
        }
    )


def scan_folder(
    folder: Path, patterns: Sequence[str] = (), class_files: Sequence[Path] = ()
) -> Scan:
    """Find the images of a folder, their masks, and their splits where it says these.

    A file is opened only where names leave open which are the images and which the masks.

    Args:
        patterns: what `--pairs` says; these alone count if there are any.
        class_files: the files of the folder that say the classes, and so are not left out.

    Raises:
        InputError: a pattern is not one, or finds nothing; a folder cannot be read.
    """
    listing = list_files(Path(os.path.abspath(folder)))
    if odd := [shown for path in listing.images if (shown := _printable(path)) != path]:
        problem = "has a name that is not UTF-8 (? marks the place): rename it"
        return Scan(listing.folder, {}, tuple(Finding(path, problem) for path in odd), ())
    if not listing.images and not (patterns and listing.others):
        problem = f"holds no images (found {_what_else(listing)}): expected {LAYOUTS}"
        return Scan(listing.folder, {}, (Finding(".", problem),), ())
    if not patterns and (annotations := find_annotations(listing)):
        of_polygons = _scan_of_polygons(listing, annotations)
        # Boxes, for example, may lie beside masks.
        if of_polygons.pairs or not find_pairs(listing, ()).count:
            return of_polygons
    found = find_pairs(listing, patterns)
    if not found.count:
        return Scan(listing.folder, {}, found.findings or (_nothing_paired(listing),), ())
    pairs, rest, notes, findings = _into_splits(listing, found)
    line = describe(listing, found, class_files)
    named = {finding.file for finding in findings}
    places = [_empty_folder(listing, split) for split in SPLIT_NAMES]
    empty = [place for place in places if place and place not in named]
    if empty:
        line += f"; without images: {', '.join(empty)}"
    problems = (*found.findings, *findings)
    return Scan(listing.folder, pairs, problems, (line, *notes), undivided=rest)


def _scan_of_polygons(listing: Listing, annotations: Annotations) -> Scan:
    found = found_of(listing, annotations)
    if not found.count:
        return Scan(listing.folder, {}, found.findings, ())
    pairs, rest, notes, findings = _into_splits(listing, found)
    said = (describe_annotations(listing, annotations), *notes)
    problems = (*found.findings, *findings)
    return Scan(listing.folder, pairs, problems, said, annotations.categories, rest)


def _what_else(listing: Listing) -> str:
    """Count by type the files that are no images, and say what the first file of the most frequent
    type seems to be."""
    if not listing.others:
        return "no files"
    types = Counter(os.path.splitext(path)[1].lower() for path in listing.others)
    usual = types.most_common(1)[0][0]
    first = next(path for path in listing.others if path.lower().endswith(usual))
    try:
        with open(listing.folder / first, "rb") as file:
            seems = what_it_seems(file.read(HEAD_BYTES))
    except OSError as error:
        seems = f"not readable ({error.strerror})"
    return f"{count_types(listing.others)}; {first} is {seems}"


def _nothing_paired(listing: Listing) -> Finding:
    by_folder: defaultdict[str, list[str]] = defaultdict(list)
    for path in listing.images:
        by_folder[os.path.dirname(path)].append(path)
    names = [f"{len(files)} {pattern_of(files)}" for files in by_folder.values()]
    more = f" and {len(names) - SHOWN} more folders" if len(names) > SHOWN else ""
    others = f"; not looked at: {count_types(listing.others)}" if listing.others else ""
    found = f"(found {', '.join(names[:SHOWN])}{more}{others})"
    problem = f"has no image with a mask of a name that fits {found}"
    if share_of_masks(listing.folder, listing.images) == 0:
        problem = f"has images and, as far as a few of them show, no masks {found}"
    remedy = f"if there are masks, say what belongs together with --pairs {EXAMPLE}"
    return Finding(".", f"{problem}: expected {LAYOUTS}; {remedy}")


def _into_splits(
    listing: Listing, found: Found
) -> tuple[dict[str, tuple[Pair, ...]], Undivided | None, list[str], list[Finding]]:
    """Return the pairs of each split, as folders or lists say; the pairs that neither names; notes,
    and findings."""
    folder, notes = listing.folder, list[str]()
    pairs = {split: found.pairs[split] for split in SPLIT_NAMES if split in found.pairs}
    rows = found.pairs.get(None, ())
    findings = list(found.lone)
    if not pairs and (listed := splits_from_lists(folder, listing.others, _paths(folder, rows))):
        pairs, note = _listed_pairs(folder, rows, *listed, lone=len(findings))
        notes, findings = [note], []
    if not pairs:
        if len(rows) < 2:
            findings.append(Finding(".", f"holds a single image and mask: expected {LAYOUTS}"))
        why = f"{folder} has no train and valid folders"
        return {}, Undivided(rows, why, has_test=False), [], findings
    enough = "valid" not in pairs and len(pairs.get("train", ())) > 1
    if enough and not _valid_is_elsewhere(listing, found):
        why = f"{folder} has no valid folder with masks"
        rest = Undivided(pairs.pop("train"), why, has_test="test" in pairs)
        return pairs, rest, notes, findings
    missing = [split for split in ("train", "valid") if split not in pairs]
    return pairs, None, notes, [*findings, *(_missing(listing, split) for split in missing)]


def _listed_pairs(
    folder: Path, rows: Sequence[Pair], splits: dict[int, str], place: str, lone: int
) -> tuple[dict[str, tuple[Pair, ...]], str]:
    """The pairs in the splits that lists say, and a note about it."""
    pairs = {
        split: tuple(rows[i] for i in sorted(splits) if splits[i] == split)
        for split in SPLIT_NAMES
        if split in splits.values()
    }
    rest = len(rows) - len(splits) + lone
    more = f"; {rest} that no list names are left out" if rest else ""
    counts = ", ".join(f"{split} {len(its)}" for split, its in pairs.items())
    return pairs, f"{folder}: the lists in {place} say which images are for what: {counts}{more}"


def _valid_is_elsewhere(listing: Listing, found: Found) -> bool:
    """Whether images and masks for validation may be in a folder of another name, or were to be
    in an empty one, so that none should be taken from the training images."""
    unused = [path for group in found.unused for path in group]
    if unused and pair_by_words(listing.folder, unused).count:
        return True
    return "valid" not in found.unlabelled and _empty_folder(listing, "valid") is not None


def _missing(listing: Listing, split: str) -> Finding:
    """Return the finding for a split that has no pairs."""
    if empty := _empty_folder(listing, split):
        return Finding(empty, "holds no images: put images and masks in it or remove it")
    problem = (
        f"has no {split} folder: expected {LAYOUTS}; or say what belongs together with --pairs"
    )
    return Finding(".", f"{problem} {EXAMPLE}")


def _empty_folder(listing: Listing, split: str) -> str | None:
    """A folder without images that is named after a split."""
    wrapper = wrapper_depth(list(listing.images)) if listing.images else 0
    named = [path for path in listing.folders if split_of(path, wrapper) == split]
    used = {os.path.dirname(image) + "/" for image in listing.images}
    return next((p for p in named if not any(f.startswith(p + "/") for f in used)), None)


def _paths(folder: Path, rows: Sequence[Pair]) -> list[str]:
    return [os.path.relpath(pair.image, folder) for pair in rows]


def _printable(path: str) -> str:
    return path.encode("utf-8", "replace").decode()
