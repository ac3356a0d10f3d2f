"""The weights of the classes in a loss: --class-weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from segacc.data.split import Split
from segacc.errors import InputError
from segacc.labels import Labels, first_few

EXPECTED = "expected a line for each class, such as `pole: 2.5`"


def find_class_weights(
    flag: str, labels: Labels, train: Split, stored: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The weight of each class that `--class-weights FLAG` asks for.

    Args:
        stored: for a resumed run, the weights that it began with, since the file may have changed.
            Runs of older versions have not stored them.

    Raises:
        InputError: there is no such file, or it does not give each class a weight.
    """
    if stored:
        return tuple(stored)
    if flag == "balanced":
        return balanced_weights(train, labels.classes)
    return read_weights(Path(flag), labels)


def balanced_weights(train: Split, classes: int) -> tuple[float, ...]:
    """Return for each class: counted pixels / (number of classes * pixels of this class). It is 1
    for a class without pixels. (scikit-learn calls this balanced.)"""
    pixels = np.zeros(256, dtype=np.int64)
    for index in range(len(train)):
        pixels += np.bincount(train[index][1].ravel(), minlength=256)
    train.forget()
    of_class = pixels[:classes]
    present = of_class > 0
    even = of_class.sum() / present.sum().clip(1)
    return tuple(np.where(present, even / of_class.clip(1), 1.0).tolist())


def read_weights(path: Path, labels: Labels) -> tuple[float, ...]:
    """The weights in a file of `name: weight` lines, which is YAML (so JSON does, too).

    Raises:
        InputError: it cannot be read, or its names are not those of the classes.
    """
    flag = f"--class-weights {path}"
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"{flag}: there is no such file ({error.strerror}): give `balanced`, or a file with a "
            "weight for each class."
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{flag} cannot be read ({error}): {EXPECTED}.") from None
    if not isinstance(said, dict):
        raise InputError(f"{flag} holds {type(said).__name__}: {EXPECTED}.")
    weights = {str(name): weight for name, weight in said.items()}
    missing = [name for name in labels.names if name not in weights]
    if missing:
        raise InputError(f"{flag} has no weight for {first_few(missing)}: {EXPECTED}.")
    if unknown := [name for name in weights if name not in labels.names]:
        raise InputError(
            f"{flag} has weights for {first_few(unknown)}, and the classes of the data set are "
            f"{first_few(list(labels.names))}: {EXPECTED}."
        )
    for name, weight in weights.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < math.inf:
            raise InputError(f"{flag}: {name} has the weight {weight!r}, expected a number from 0.")
    if not any(weights.values()):
        raise InputError(f"{flag}: all weights are 0, so nothing would be learnt.")
    return tuple(float(weights[name]) for name in labels.names)
