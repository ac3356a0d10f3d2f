"""The data of a run: found again from any folder, and the images that it was trained on."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segacc.config.options import Reading
from segacc.config.records import read_run_record
from segacc.config.sizes import AnySize
from segacc.data.prepare import prepare
from segacc.data.reading.depth import ValueRange
from segacc.data.reading.sources import CORPORA, is_drawn, load_dataset, resolve
from segacc.data.rows import Source
from segacc.data.split import Prepared, Split
from segacc.data.store import find_prepared
from segacc.errors import InputError

TRAINED_ON = "trained_on.csv"
"""a file in a run's folder: a digest of each image that it learns from or is validated on"""


@dataclass(frozen=True)
class KnownData:
    """The data of a run, as its config.json or the metrics.json of an evaluation says."""

    dataset: str
    """the value of --dataset; for a folder or an archive its absolute path, except in runs of
    earlier versions"""
    reading: Reading
    source: str | None
    """where that was: the absolute path of the folder or archive, or a name; None in runs
    of earlier versions"""
    fingerprint: str


def data_record(dataset: str, data: Prepared) -> dict[str, Any]:
    """Return what config.json says of the data; `known_data` reads it."""
    return {
        "source": resolve(dataset),
        "fingerprint": data.fingerprint,
        "images": {name: len(split) for name, split in data.splits.items()},
        "labels": data.labels.to_config(),
        "value_range": data.value_range,
    }


def absolute(dataset: str) -> str:
    """Return --dataset in a form that is valid from any folder; the name of a known set stays."""
    return dataset if dataset in CORPORA else resolve(dataset)


def known_data(run: Path) -> KnownData:
    """Read what the run's config.json says of its data.

    Raises:
        InputError: the folder is not a run's.
    """
    return known_by(read_run_record(run))


def known_by(record: Mapping[str, Any]) -> KnownData:
    """Return what the parsed config.json of a run says of its data."""
    data = record.get("data", {})
    config = record["config"]
    return KnownData(
        dataset=config["dataset"],
        reading=Reading.of(config),
        source=data.get("source"),
        fingerprint=data.get("fingerprint", ""),
    )


def find_again(known: KnownData) -> Source | Prepared:
    """The data set: its source where that still is, else its prepared images in the cache.

    Raises:
        InputError: neither is there, or the source cannot be used.
    """
    place = known.source or known.dataset
    if is_drawn(place) or (place not in CORPORA and os.path.exists(place)):
        return load_dataset(place, known.reading)
    if prepared := find_prepared(known.fingerprint):
        logging.getLogger("segacc").warning(
            "%s is not here: its prepared images are taken from the cache", place
        )
        return prepared
    try:
        return load_dataset(known.dataset, known.reading)
    except InputError as error:
        raise InputError(
            f"the run's data set {place} is not here and the cache has no images of it: give "
            f"--dataset with the place where it is now ({error})"
        ) from error


def find_to_train(dataset: str, reading: Reading, known: KnownData | None) -> Source | Prepared:
    """The data set that the flags name. A resumed run finds its own data again, unless the flags
    name other data.

    Args:
        known: the data of a run that is resumed; None for a new one.

    Raises:
        InputError: it is not there, or cannot be used.
    """
    if known and (dataset, reading) == (known.dataset, known.reading):
        return find_again(known)
    return load_dataset(dataset, reading)


def prepare_found(
    source: Source | Prepared, size: AnySize, value_range: ValueRange | None = None
) -> Prepared:
    """`prepare` of a source; what is prepared stays as it is."""
    return source if isinstance(source, Prepared) else prepare(source, size, value_range)


def trained_on_csv(data: Prepared) -> str:
    """A table of the images that training sees: split, name and digest of the pixels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", "name", "pixels"])
    for name in ("train", "valid"):
        split = data.splits[name]
        writer.writerows(zip([name] * len(split), split.names, split.images, strict=True))
    return text.getvalue()


def images_seen(run: Path, data: Prepared, split: Split) -> dict[str, list[str]] | None:
    """Return the images of `split` that the run has seen: their names, under "train" and "valid".

    An image is known by its prepared pixels, whatever its name and its mask are.

    Args:
        data: the data set that `split` belongs to.

    Returns:
        None where it is not known what the run has seen: older versions did not store it.
    """
    digests = _digests_seen(run, data)
    if digests is None:
        return None
    named = list(zip(split.names, split.images, strict=True))
    return {
        use: [name for name, digest in named if digest in seen] for use, seen in digests.items()
    }


def _digests_seen(run: Path, data: Prepared) -> Mapping[str, set[str]] | None:
    path, known = run / TRAINED_ON, known_data(run)
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {
            use: {row["pixels"] for row in rows if row["split"] == use}
            for use in ("train", "valid")
        }
    same = data if data.fingerprint == known.fingerprint else find_prepared(known.fingerprint)
    if same is None:
        return None
    return {use: set(same.splits[use].images) for use in ("train", "valid")}
