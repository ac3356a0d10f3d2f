"""Whether the labels of a data set are polygons, and of which tool."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict

from segacc.config.names import SPLIT_NAMES
from segacc.data.polygons.coco import read_coco
from segacc.data.polygons.labelme import read_labelme
from segacc.data.polygons.places import Places, stem_of
from segacc.data.polygons.shapes import Annotations, Labelled
from segacc.data.polygons.yolo import read_yolo
from segacc.data.reading.pairing import (
    Finding,
    Found,
    Pair,
    pair_by_words,
)
from segacc.data.reading.recognition.listing import Listing
from segacc.data.reading.recognition.patterns import pattern_of


def find_annotations(listing: Listing) -> Annotations | None:
    """Read the files of polygons in a folder; None if there are none.

    Masks come first: polygons are looked for only where no file is a mask by its name.
    """
    if not listing.others or pair_by_words(listing.folder, list(listing.images)).count:
        return None
    places = Places(listing.images)
    files = [path for path in listing.others if path.lower().endswith(".json")]
    return (
        read_coco(listing.folder, files, places)
        or read_labelme(listing.folder, files, places)
        or read_yolo(listing.folder, listing.others, places)
    )


def found_of(listing: Listing, annotations: Annotations) -> Found:
    """Convert images with shapes to the form of images with masks."""
    places = Places(listing.images)
    of_split: defaultdict[str | None, list[Labelled]] = defaultdict(list)
    for one in annotations.labelled:
        of_split[one.split].append(one)
    if None in of_split and len(of_split) > 1 and "train" not in of_split:
        of_split["train"] = of_split.pop(None)
    pairs = {}
    for split in (*SPLIT_NAMES, None):
        if split not in of_split:
            continue
        rows = of_split[split]
        short = [places.name_of[one.image] for one in rows]
        # If two images share a short name, all images get their whole paths as names.
        twice = len(set(short)) < len(short)
        whole = [unicodedata.normalize("NFC", stem_of(one.image)) for one in rows]
        if twice and len(set(whole)) < len(whole):
            whole = [one.image for one in rows]
        named = zip(whole if twice else short, rows, strict=True)
        pairs[split] = tuple(
            Pair(
                name, str(listing.folder / one.image), str(listing.folder / one.source), one.shapes
            )
            for name, one in sorted(named, key=lambda both: both[0])
        )
    findings = annotations.findings
    if not pairs and not findings:
        findings = (Finding(annotations.files[0], "says the shapes of no image"),)
    return Found(pairs, {}, findings)


def describe_annotations(listing: Listing, annotations: Annotations) -> str:
    """Say in one line what was found and what was left out."""
    counts = Counter(one.split for one in annotations.labelled)
    images = ", ".join(
        f"{counts[s]} {s}" if s else f"{counts[s]}" for s in (*SPLIT_NAMES, None) if counts[s]
    )
    files = annotations.files
    of = ", ".join(files) if len(files) < 4 else f"{len(files)} {pattern_of(files)}"
    notes = "".join(f"; {note}" for note in annotations.notes)
    used = {one.image for one in annotations.labelled}
    rest = len(listing.images) - len(used)
    left = (
        f"; left out: {rest} images that no file names"
        if annotations.tool == "COCO" and rest
        else ""
    )
    return (
        f"{listing.folder}: {annotations.tool} polygons for {images} images, of "
        f"{len(annotations.categories)} categories, from {of}{notes}{left}"
    )
