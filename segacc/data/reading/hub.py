"""Data sets that the `datasets` library loads: a Hub id, a folder of `save_to_disk`, parquet."""

from __future__ import annotations

import logging
import textwrap
from collections import defaultdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from segacc.config import cache_dir
from segacc.data.reading.division.divide import Division, divide_rows
from segacc.data.reading.pairing import IMAGE_WORDS, MASK_WORDS, SPLITS
from segacc.data.reading.recognition.listing import list_files
from segacc.data.reading.recognition.splits import splits_of
from segacc.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DATASET_FORMATS = ("parquet", "imagefolder", "arrow", "cache")
"""The modules of `datasets` that we let read a repository; `cache` reads what was loaded before.
Others hold no images, and one of them, `pandas`, unpickles files, which can run code."""


def from_hub(repository: str, division: Division) -> DatasetDict:
    """The data set `owner/name` of the Hub, in one of DATASET_FORMATS. Its code never runs.

    Raises:
        InputError: it cannot be loaded, or has another form than expected.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        builder = datasets.load_dataset_builder(repository)
        kind = type(builder).__module__.rpartition(".")[2]
        if kind not in DATASET_FORMATS:
            raise ValueError(f"it holds {kind} data, expected parquet or an image folder")
        builder.download_and_prepare()
        loaded = builder.as_dataset()
    # What the library raises for a repository that is missing, not reachable, gated, malformed, or
    # holds a script or several configurations. The bases of HfHubHTTPError are the errors of the
    # HTTP library, which is requests or httpx, depending on the version of huggingface-hub.
    except (DatasetsError, OSError, ValueError, RuntimeError, *HfHubHTTPError.__bases__) as error:
        known = error.__cause__ if isinstance(error, DatasetGenerationError) else None
        reason = textwrap.shorten(str(known or error), 300, placeholder=" ...")
        raise InputError(
            f"--dataset {repository!r} is no folder or archive here and could not be loaded from "
            f"the Hub ({reason}): check the spelling and the network; where the Hub cannot be "
            "reached, fetch it elsewhere, write it with datasets' save_to_disk and give that "
            "folder, or set HF_ENDPOINT to a mirror"
        ) from error
    return _in_our_form(loaded, f"--dataset {repository}", division)


def from_saved(path: Path, division: Division) -> DatasetDict:
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
    return _in_our_form(loaded, str(path), division)


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


def _in_our_form(loaded: DatasetDict, source: str, division: Division) -> DatasetDict:
    """The data set with our names: splits train, valid, test; columns image, mask, name."""
    from datasets import DatasetDict

    splits = {SPLITS[name]: data for name, data in loaded.items() if name in SPLITS and len(data)}
    splits = {name: _three_columns(data, source) for name, data in splits.items()}
    one = list(splits) == ["train"] and len(loaded) == 1
    in_two = "valid" not in splits and "test" in splits and len(splits.get("train", ())) > 1
    if one or in_two:
        data = splits["train"]
        parts, note = divide_rows(data, division, source, in_two)
        splits |= {name: data.select(rows) for name, rows in parts.items() if rows}
        why = "has no valid split; of train," if in_two else "has one split:"
        logging.getLogger("segacc").warning(f"{source} {why} {note}")
    else:
        division.require_no_effect(source, list(splits))
    missing = [name for name in ("train", "valid") if name not in splits]
    if missing:
        found = ", ".join(f"{name} ({len(data)} rows)" for name, data in loaded.items())
        raise InputError(
            f"{source} has no {missing[0]} split: expected train and valid (or validation), found "
            f"{found or 'none'}; publish or save it with these splits"
        )
    return DatasetDict(
        {name: splits[name] for name in ("train", "valid", "test") if name in splits}
    )


def _three_columns(data: Dataset, source: str) -> Dataset:
    from datasets import Image

    columns = [name for name, feature in data.features.items() if _may_be_images(feature)]
    images = [name for name in columns if name.lower() in IMAGE_WORDS]
    masks = [name for name in columns if name.lower() in MASK_WORDS]
    if len(images) != 1 or len(masks) != 1:
        found = ", ".join(f"{name} ({type(f).__name__})" for name, f in data.features.items())
        raise InputError(
            f"{source}: expected one Image column named image and one named mask (or label, "
            f"annotation, segmentation, ...), found {found}; rename them and save or publish it "
            "again"
        )
    for column in (images[0], masks[0]):
        data = data.cast_column(column, Image(decode=False))
    names = _names(data, images[0])
    data = data.select_columns([images[0], masks[0]])
    data = data.rename_columns({images[0]: "image", masks[0]: "mask"})
    return data.add_column("name", names)


def _may_be_images(feature: object) -> bool:
    """Whether a column holds images, or files as bytes, as parquet that others have written."""
    from datasets import Image, Value

    is_file = isinstance(feature, dict) and feature.keys() == {"bytes", "path"}
    return (
        isinstance(feature, Image) or is_file or feature in (Value("binary"), Value("large_binary"))
    )


def _names(data: Dataset, image: str) -> list[str]:
    """One name per row: the name column if its values are unique, else the images' file names if
    they are, else numbers."""
    import pyarrow.compute as pc
    from datasets import Value

    if data.features.get("name") == Value("string"):
        names = data["name"][:]
    else:
        paths = pc.struct_field(data.data.column(image), "path").to_pylist()
        names = [path and PurePath(path).stem for path in paths]
    if all(names) and len(set(names)) == len(names):
        return list(names)
    return [f"{index:06d}" for index in range(len(data))]
