"""Data sets that the `datasets` library loads: a Hub id, or a folder of `save_to_disk`."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from segacc.data.reading.division import divide, division_note
from segacc.data.reading.pairing import IMAGE_WORDS, MASK_WORDS, SPLITS
from segacc.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DATASET_FORMATS = ("parquet", "imagefolder", "arrow", "cache")
"""The modules of `datasets` that we let read a repository; `cache` reads what was loaded before.
Others hold no images, and one of them, `pandas`, unpickles files, which can run code."""


def from_hub(repository: str) -> DatasetDict:
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
    return _in_our_form(loaded, f"--dataset {repository}")


def from_saved(folder: Path) -> DatasetDict:
    """The data set that `DatasetDict.save_to_disk` wrote to the folder.

    Raises:
        InputError: it cannot be loaded, or has another form than expected.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, LookupError) as error:
        raise InputError(
            f"{folder} has a dataset_dict.json but cannot be loaded ({error!r}): a file is missing "
            "or damaged or a split is empty, write it again with DatasetDict.save_to_disk"
        ) from error
    return _in_our_form(loaded, str(folder))


def _in_our_form(loaded: DatasetDict, source: str) -> DatasetDict:
    """The data set with our names: splits train, valid, test; columns image, mask, name."""
    from datasets import DatasetDict

    splits = {SPLITS[name]: data for name, data in loaded.items() if name in SPLITS and len(data)}
    splits = {name: _three_columns(data, source) for name, data in splits.items()}
    if list(splits) == ["train"] and len(loaded) == 1:
        data = splits["train"]
        names = data["name"][:]
        parts = divide(names)
        splits = {name: data.select(rows) for name, rows in parts.items() if rows}
        logging.getLogger("segacc").warning(
            f"{source} has one split: {division_note(names, parts)}"
        )
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

    columns = [name for name, feature in data.features.items() if isinstance(feature, Image)]
    images = [name for name in columns if name.lower() in IMAGE_WORDS]
    masks = [name for name in columns if name.lower() in MASK_WORDS]
    if len(images) != 1 or len(masks) != 1:
        found = ", ".join(f"{name} ({type(f).__name__})" for name, f in data.features.items())
        raise InputError(
            f"{source}: expected one Image column named image and one named mask (or label, "
            f"annotation, segmentation, ...), found {found}; rename them and save or publish it "
            "again"
        )
    names = _names(data, images[0])
    data = data.select_columns([images[0], masks[0]])
    data = data.rename_columns({images[0]: "image", masks[0]: "mask"})
    data = data.cast_column("image", Image(decode=False)).cast_column("mask", Image(decode=False))
    return data.add_column("name", names)


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
