"""A data set written as a `datasets.DatasetDict` with its classes, for `load_from_disk`, the Hub
and --dataset."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from segacc.data.classes.files import write_classes
from segacc.data.classes.palettes import with_palette
from segacc.data.reading.alignment import ORIENTATION, turned_back
from segacc.data.reading.tables.columns import CLASSES
from segacc.data.rows import Source, read_row
from segacc.labels import BINARY, IGNORE, Coding


def save(source: Source, folder: Path) -> None:
    """Write the images as they are, the masks, a file of classes, and a column of the classes of
    each mask, which goes to the Hub with their names.

    Binary masks without names stay as they are. Others, and polygons, become PNGs whose values are
    the numbers of the classes and IGNORE, with a palette.

    Args:
        folder: a new one, or empty.

    Raises:
        DecodeError: a file cannot be used.
    """
    from datasets import ClassLabel, DatasetDict, Features, List, Value
    from datasets import Image as ImageFeature

    rows, coding = source.rows, source.coding
    as_they_are = coding.is_binary and coding.labels.names == BINARY.names
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as aside:
        if not as_they_are:
            as_file = ImageFeature(decode=False)
            features = Features(image=as_file, mask=as_file, name=Value("string"))
            features[CLASSES] = List(ClassLabel(names=list(coding.labels.names)))
            rows = DatasetDict(
                {
                    name: its_rows.map(
                        _with_label_map,
                        fn_kwargs={"coding": coding},
                        features=features,
                        cache_file_name=str(Path(aside) / f"{name}.arrow"),
                        new_fingerprint=f"label-maps-{name}",
                        desc=f"masks of {name}",
                    )
                    for name, its_rows in rows.items()
                }
            )
        # segacc reads the encoded bytes itself; other users of the data set expect images.
        shown = rows.cast_column("image", ImageFeature()).cast_column("mask", ImageFeature())
        shown.save_to_disk(str(folder))
    if not as_they_are:
        write_classes(folder, coding.labels)


def _with_label_map(row: dict[str, Any], coding: Coding) -> dict[str, Any]:
    pair = read_row(row, coding)
    # With the orientation of its image: without it, the mask's orientation may be ambiguous.
    picture = with_palette(turned_back(pair.label_map, pair.orientation), coding.labels)
    exif = Image.Exif()
    if pair.orientation != 1:
        exif[ORIENTATION] = pair.orientation
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    present = [int(number) for number in np.unique(pair.label_map) if number != IGNORE]
    return {"mask": {"path": None, "bytes": file.getvalue()}, CLASSES: present}
