"""The folds of cross-validation: train and valid together, divided anew."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from segacc.config.options import fold_of_text
from segacc.data.reading.division.divide import (
    Division,
    about_groups,
    about_look_alikes,
    grouped_rows,
    has_classes,
)
from segacc.data.reading.division.shares import share_in_folds
from segacc.data.reading.pairing import Pair
from segacc.data.rows import Source, row_of
from segacc.errors import InputError, plural

POOLED = ("train", "valid")
"""splits that are divided anew"""


def folded_pairs(
    splits: dict[str, tuple[Pair, ...]], division: Division, source: str
) -> dict[str, tuple[Pair, ...]]:
    """Return the splits, with train and valid as --fold says, if it is given; logs how it is done.

    If an image of train and one of valid have the same name, the name of the split is put in front
    of both names.

    Raises:
        InputError: as `fold_rows`.
    """
    if not division.fold or not {*POOLED} <= splits.keys():
        return splits
    names = Counter(pair.name for split in POOLED for pair in splits[split])
    pool = [
        replace(pair, name=f"{split}/{pair.name}") if names[pair.name] > 1 else pair
        for split in POOLED
        for pair in splits[split]
    ]
    pool.sort(key=lambda pair: pair.name)
    train, valid, note = fold_rows([row_of(pair) for pair in pool], division, source)
    logging.getLogger("segacc").warning(note)
    parts = {"train": tuple(pool[i] for i in train), "valid": tuple(pool[i] for i in valid)}
    return splits | parts


def pooled(source: Source, name: str) -> Source:
    """Join the train and valid of a fold again, as one split of this name, sorted by the names of
    the images."""
    from datasets import DatasetDict, concatenate_datasets

    whole = concatenate_datasets([source.rows[split] for split in POOLED])
    names = list(whole["name"])
    in_order = sorted(range(len(names)), key=names.__getitem__)
    return replace(source, rows=DatasetDict({name: whole.select(in_order)}))


def fold_rows(
    rows: Collection[dict[str, Any]], division: Division, source: str
) -> tuple[list[int], list[int], str]:
    """The indices of the rows for training and of those for validation, as --fold says, and how the
    rows were divided, as a sentence.

    The parts depend on the names, the groups and the classes of the images, and on nothing else: so
    all runs of a data set, of any seed and model, have the same ones.

    Args:
        rows: {image, mask, name}, of train and valid together, in the order of their names.
        source: the data set, for messages.

    Raises:
        InputError: there are fewer groups than parts, or as `divide_rows`.
    """
    assert division.fold
    fold, folds = fold_of_text(division.fold)
    grouped, looks, _ = grouped_rows(rows, division, folds)
    groups = len(grouped.groups)
    if groups < folds:
        raise InputError(
            f"--fold {division.fold}: the {plural(len(rows), 'image')} of train and valid in "
            f"{source} make {plural(groups, 'group')} of images that belong together: give "
            f"--fold K/N with an N of {groups} at most."
        )
    parts = share_in_folds(grouped.groups, has_classes(looks), folds)
    train = sorted(row for part in parts[: fold - 1] + parts[fold:] for row in part)
    why = about_groups(grouped, division)
    note = (
        f"{source}: of its {plural(len(rows), 'image')} of train and valid{why} --fold "
        f"{division.fold} takes {len(parts[fold - 1])} for validation and {len(train)} for "
        f"training, with each class in proportion{about_look_alikes(grouped)}"
    )
    return train, parts[fold - 1], note
