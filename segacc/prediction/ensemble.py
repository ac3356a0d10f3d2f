"""Several models that predict together: the mean of their probabilities."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segacc.config.sizes import NATIVE, AnySize
from segacc.data.prepare import resize_image
from segacc.data.reading.depth import WHOLE, ValueRange, to_8_bits
from segacc.errors import InputError
from segacc.labels import Labels, first_few
from segacc.models.load import Predictor, load_predictor


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Models of the same classes. Each sees an image at its own size; the mean is taken of their
    probabilities at the image's size."""

    members: tuple[Predictor, ...]

    @property
    def labels(self) -> Labels | None:
        """The classes."""
        return self.members[0].labels

    @property
    def threshold(self) -> float:
        """The mean of the models' thresholds."""
        return sum(one.threshold for one in self.members) / len(self.members)

    @property
    def value_range(self) -> ValueRange | None:
        """The range of the first model, for images with 16 bits per channel."""
        return self.members[0].value_range


@dataclass(frozen=True)
class ModelInput:
    """How a model sees an image."""

    size: AnySize
    value_range: ValueRange | None


def members_of(model: Predictor | Ensemble) -> tuple[Predictor, ...]:
    """The models of an ensemble; a single model is one."""
    return model.members if isinstance(model, Ensemble) else (model,)


def inputs_of(
    model: Predictor | Ensemble, tile: int | None, size: AnySize | None
) -> tuple[ModelInput, ...]:
    """How each model sees an image: at the size that was given, else with windows at the image's
    own, else at the model's."""
    return tuple(
        ModelInput(size or (NATIVE if tile else one.size or NATIVE), one.value_range)
        for one in members_of(model)
    )


def seen_by(inputs: Sequence[ModelInput], values: np.ndarray) -> tuple[np.ndarray, ...]:
    """(H, W, 3) uint8 for each input; equal inputs have the same array.

    Args:
        values: as `to_8_bits` takes them.
    """
    found = {
        one: resize_image(to_8_bits(values, one.value_range or WHOLE), one.size)
        for one in dict.fromkeys(inputs)
    }
    return tuple(found[one] for one in inputs)


def mean_maps(maps: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
    """Yield the mean of the models' `probability_maps`, class by class."""
    if len(maps) == 1:
        yield from maps[0]
        return
    for of_class in zip(*maps, strict=True):
        yield torch.stack(of_class).mean(dim=0)


def load_models(
    sources: Sequence[str | os.PathLike[str]], device: torch.device
) -> Predictor | Ensemble:
    """One model, or several to predict together, on a device.

    Raises:
        InputError: a model cannot be loaded, or they have different classes.
    """
    return together([load_predictor(source).to(device) for source in sources], sources)


def together(
    members: Sequence[Predictor], sources: Sequence[str | os.PathLike[str]] | None = None
) -> Predictor | Ensemble:
    """One model as it is, or several as one; raises as `load_models`.

    Args:
        sources: their names, for messages; without these, they are numbered.
    """
    if not members:
        raise InputError("no model was given: name one at least.")
    if len(members) == 1:
        return members[0]
    sources = sources or [f"model {number}" for number in range(len(members))]
    check_models_agree(sources, [one.labels for one in members])
    return Ensemble(tuple(members))


def check_models_agree(sources: Sequence[object], labels: Sequence[Labels | None]) -> None:
    """Raises InputError where models that predict together have different classes.

    Args:
        sources: the names of the models.
        labels: those of each model; None if nobody has named them.
    """
    names = [list(of_model.names) if of_model else [] for of_model in labels]
    for source, own in zip(sources, names, strict=True):
        if own != names[0] and not len(own) == len(names[0]) == 2:  # two may have any names
            raise InputError(
                f"{source} has a model for the classes {first_few(own)}, and {sources[0]} for "
                f"{first_few(names[0])}: give models of the same classes."
            )
