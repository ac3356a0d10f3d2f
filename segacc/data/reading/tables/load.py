"""Data sets that the `datasets` library loads: a Hub id, a folder of `save_to_disk`, parquet."""

from __future__ import annotations

import logging
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from segacc.config.names import SPLIT_NAMES
from segacc.config.options import Reading
from segacc.data.cache import cache_dir
from segacc.data.classes.choose import coding_of
from segacc.data.reading.division.divide import Division, divide_rows
from segacc.data.reading.division.folds import POOLED, fold_rows
from segacc.data.reading.pairing import SPLITS
from segacc.data.reading.recognition.listing import list_files
from segacc.data.reading.recognition.splits import splits_of
from segacc.data.reading.tables.columns import (
    class_colours,
    class_names,
    find_columns,
    three_columns,
)
from segacc.data.rows import Source
from segacc.errors import InputError, hub_errors
from segacc.labels import Colour
from segacc.runtime.bars import is_watched

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DATASET_FORMATS = ("parquet", "imagefolder", "arrow", "cache")
"""The modules of `datasets` that may read a repository; `cache` reads what was loaded before. Other
modules read no images, and one of them, `pandas`, unpickles files, which can run code."""

ROW_SPLITS = SPLITS | {"dev": "valid"}
NAMES = "id2label.json"
"""the file in which repositories of segmentation sets usually name their classes"""


@contextmanager
def _bars_where_watched() -> Iterator[None]:
    """Hide the progress bars of `datasets` where nobody looks, such as in a log."""
    import datasets

    hides = not is_watched() and not datasets.are_progress_bars_disabled()
    if hides:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hides:
            datasets.enable_progress_bars()


@_bars_where_watched()
def from_hub(repository: str, reading: Reading) -> Source:
    """The data set `owner/name` of the Hub, in one of DATASET_FORMATS. Its code never runs.

    Raises:
        InputError: it cannot be loaded, or has another form than expected.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetsError

    try:
        builder = datasets.load_dataset_builder(repository)
        kind = type(builder).__module__.rpartition(".")[2]
        if kind not in DATASET_FORMATS:
            raise ValueError(f"it holds {kind} data, expected parquet or an image folder")
        builder.download_and_prepare()
        loaded = builder.as_dataset()
    # What the library raises for a repository that is missing, not reachable, gated, malformed, or
    # holds a script or several configurations.
    except (DatasetsError, *hub_errors()) as error:
        known = error.__cause__ if isinstance(error, DatasetGenerationError) else None
        reason = textwrap.shorten(str(known or error), 300, placeholder=" ...")
        raise InputError(
            f"--dataset {repository!r} is no folder or archive here and could not be loaded from "
            f"the Hub ({reason}): check the spelling and the network; where the Hub cannot be "
            "reached, fetch it elsewhere, write it with datasets' save_to_disk and give that "
            "folder, or set HF_ENDPOINT to a mirror"
        ) from error
    return _source(loaded, f"--dataset {repository}", reading, repository)


@_bars_where_watched()
def from_saved(path: Path, reading: Reading) -> Source:
    """The data set in a folder that `save_to_disk` wrote, in a parquet file or a folder of these.

    Raises:
        InputError: it cannot be loaded, or has another form than expected.
    """
    import datasets
    from datasets import Dataset, DatasetDict
    from datasets.exceptions import DatasetsError

    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            files = _parquet_files(path)
            loaded = datasets.load_dataset(
                "parquet", data_files=files, cache_dir=str(cache_dir() / "parquet")
            )
    except (DatasetsError, OSError, ValueError, LookupError, RuntimeError) as error:
        reason = textwrap.shorten(str(error) or repr(error), 300, placeholder=" ...")
        raise InputError(
            f"{path} cannot be loaded by the datasets library ({reason}): a file is missing or "
            "damaged or a split is empty, write it again with save_to_disk or to_parquet"
        ) from error
    if isinstance(loaded, Dataset):
        loaded = DatasetDict({"train": loaded})
    return _source(loaded, str(path), reading, path if path.is_dir() else None)


def _parquet_files(path: Path) -> dict[str, list[str]]:
    """The parquet files of each split, by words in the names of files and folders such as
    data/train-00000-of-00001.parquet; all are for training where these say nothing."""
    if path.is_file():
        return {"train": [str(path)]}
    names = [name for name in list_files(path).others if name.lower().endswith(".parquet")]
    said = splits_of({part for name in names for part in PurePath(name).with_suffix("").parts})
    files: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = PurePath(name).with_suffix("").parts
        split = next((said[part][0] for part in parts if part in said), "train")
        files[split].append(str(path / name))
    return dict(files)


def _source(loaded: DatasetDict, source: str, reading: Reading, place: Path | str | None) -> Source:
    """The data set with our names: splits train, valid, test; columns image, mask, name.

    Args:
        source: the data set, for messages.
        place: where a file may say the classes: a folder, or a repository of the Hub.
    """
    from datasets import DatasetDict

    theirs = _our_splits(loaded)
    splits = {name: three_columns(data, source, reading) for name, data in theirs.items()}
    names: list[str] = []
    colours: list[Colour] = []
    if theirs:
        first = next(iter(theirs.values()))
        mask = find_columns(first.features, source, reading)[1]
        names = class_names(first.features, mask)
        colours = class_colours(first, mask, len(names))
    if isinstance(place, str):
        place = None if names or reading.classes else _folder_of_names(place)
    coding = coding_of(reading, place, names=names, colours=colours)
    division = Division(coding, reading.group_by, reading.fold)
    one = list(splits) == ["train"] and len(loaded) == 1
    in_two = "valid" not in splits and "test" in splits and len(splits.get("train", ())) > 1
    if one or in_two:
        data = splits["train"]
        parts, note = divide_rows(data, division, source, in_two)
        splits |= {name: data.select(rows) for name, rows in parts.items() if rows}
        why = "has no valid split; of train," if in_two else "has one split:"
        logging.getLogger("segacc").warning(f"{source} {why} {note}")
    missing = [name for name in ("train", "valid") if name not in splits]
    if missing:
        found = ", ".join(f"{name} ({len(data)} rows)" for name, data in loaded.items())
        raise InputError(
            f"{source} has no {missing[0]} split: expected train and valid (or validation, val, "
            f"dev), found {found or 'none'}; publish or save it with these splits"
        )
    if not one and not in_two:
        division.require_no_effect(source, list(splits))
    if reading.fold:
        splits |= _folded(splits, division, source)
    ours = DatasetDict({name: splits[name] for name in SPLIT_NAMES if name in splits})
    return Source(ours, coding)


def _folded(splits: dict[str, Dataset], division: Division, source: str) -> dict[str, Dataset]:
    """Return train and valid as --fold says; names and errors are as in `folded_pairs`."""
    from datasets import concatenate_datasets

    taken = [splits[split] for split in POOLED]
    if {*taken[0]["name"]} & {*taken[1]["name"]}:
        taken = [
            data.map(lambda row, split=split: {"name": f"{split}/{row['name']}"})
            for data, split in zip(taken, POOLED, strict=True)
        ]
    whole = concatenate_datasets(taken)
    names = list(whole["name"])
    pool = whole.select(sorted(range(len(names)), key=names.__getitem__))
    train, valid, note = fold_rows(pool, division, source)
    logging.getLogger("segacc").warning(note)
    return {"train": pool.select(train), "valid": pool.select(valid)}


def _our_splits(loaded: DatasetDict) -> dict[str, Dataset]:
    """The splits that are for training, validation and test, by our names; others are left out."""
    splits: dict[str, Dataset] = {}
    for name, data in loaded.items():
        ours = ROW_SPLITS.get(name.casefold())
        if ours and ours not in splits and len(data):
            splits[ours] = data
        elif len(data):
            logging.getLogger("segacc").warning(f"the split {name} ({len(data)} rows) is left out")
    return splits


def _folder_of_names(repository: str) -> Path | None:
    """A folder with the id2label.json of a repository; None where it has none."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repository, NAMES, repo_type="dataset")
    except hub_errors():
        return None  # there is none, or no network
    return Path(path).parent
