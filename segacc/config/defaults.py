"""Fill the open fields of a config: from a recipe, the study's protocol, or a run.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segacc.config.checks import check_values
from segacc.config.names import encoder_name, model_name
from segacc.config.options import with_home
from segacc.config.records import read_run_config
from segacc.config.sizes import AnySize
from segacc.config.train import (
    ENCODER,
    FROM_RANDOM,
    RECIPES,
    SEGFORMER_B0,
    TrainConfig,
    default_weights,
    has_own_encoder,
)
from segacc.errors import InputError

# What may differ when a run is continued: nothing that would make it another run.
MAY_CHANGE = [
    *("workers", "compile", "epochs", "patience", "save_every", "keep", "tracker", "pictures"),
    *("push_to_hub", "public", "tags"),
]


def fill(config: TrainConfig) -> TrainConfig:
    """Fill the open fields of a config, as `fit` needs it; a filled config stays as it is.

    If a field is open, the recipe replaces the fields that have their defaults. For a run to
    resume, open fields get the run's values, and so do all other fields that may not change.

    Raises:
        InputError: a value is out of range or has no effect, or there is no run to resume.
    """
    if config.resume is None and _is_open(config):
        config = with_recipe(config)
    return filled(config)


def with_recipe(config: TrainConfig) -> TrainConfig:
    """The config with the recipe's values for the fields that have their defaults."""
    default, values = TrainConfig(), RECIPES[config.recipe]
    if config.weights == "none":
        values = values | FROM_RANDOM.get(config.recipe, {})
    values = {
        name: value
        for name, value in values.items()
        if getattr(config, name) == getattr(default, name)
    }
    return dataclasses.replace(config, **values)


def from_file(given: Mapping[str, Any]) -> TrainConfig:
    """The config with these values of a file or a program; other fields get the recipe's values."""
    return dataclasses.replace(with_recipe(TrainConfig(**given)), **given)


def _is_open(config: TrainConfig) -> bool:
    return None in (config.size, config.flips, config.augment, config.weights, config.patience)


def filled(config: TrainConfig) -> TrainConfig:
    """Fill the open fields as `fill` does, but without the recipe; raises as `fill`."""
    config = with_names(with_paths(config))
    if config.resume is None:
        config = dataclasses.replace(with_protocol(config), config=None)  # the file is read
    elif _is_open(config):
        default = TrainConfig()
        given = {name: getattr(config, name) for name in (*MAY_CHANGE, "resume", "debug")}
        given = {name: value for name, value in given.items() if value != getattr(default, name)}
        config = dataclasses.replace(read_run_config(config.resume), **given)
    check_values(config)
    return config


def with_protocol(config: TrainConfig) -> TrainConfig:
    """Fill open fields: sizes and flips are those of the study. InputError for flags without
    effect."""
    street = config.dataset in ("pedestrian", "demo-pedestrian", "demo-street")
    small = street or config.dataset == "gland-128"
    flips, weights = config.flips, config.weights
    size: AnySize | None = config.size
    own_encoder = has_own_encoder(config.model)
    if own_encoder and config.encoder is not None:
        raise InputError(
            f"--encoder {config.encoder} has no effect on --model {config.model}, which has its "
            "own encoder: leave it out. (A larger SegFormer is --weights nvidia/mit-b2, for one.)"
        )
    encoder = None if own_encoder else config.encoder or ENCODER
    if size is None:
        size = 128 if small else 512 if config.crop else 256
    augment = config.augment or "flips"
    if augment == "none" and flips not in (None, "none"):
        raise InputError(
            f"--augment none and --flips {flips} contradict each other: leave one of them out."
        )
    if augment == "none":
        flips = "none"
    elif flips is None:
        flips = "h" if street or config.crop else "hv"
    if weights is None:
        weights = default_weights(config.model)
    if config.keep_head and (not own_encoder or weights == "none"):
        what = "--weights none" if own_encoder else f"--model {config.model}"
        raise InputError(
            f"--keep-head has no effect on {what}: it needs a model of transformers (--model "
            "segformer, or a Hub id) and weights that were trained to segment, such as "
            f"{SEGFORMER_B0}; leave it out for a new head."
        )
    patience = config.patience
    if patience is None:  # random weights have long stretches without a gain
        patience = 20 if weights == "none" else 10
    return dataclasses.replace(
        config,
        size=size,
        flips=flips,
        augment=augment,
        encoder=encoder,
        weights=weights,
        patience=patience,
    )


def with_names(config: TrainConfig) -> TrainConfig:
    """The config with our names of the model and its encoder, however they were written."""
    encoder = None if config.encoder is None else encoder_name(config.encoder)
    return dataclasses.replace(config, model=model_name(config.model), encoder=encoder)


def with_paths(config: TrainConfig) -> TrainConfig:
    """The config with ~ expanded, and with the types of its fields where a program gave others."""
    values: dict[str, Any] = {}
    for name in ("output_dir", "resume", "config"):
        value = getattr(config, name)
        values[name] = None if value is None else Path(value).expanduser()
    for name in ("dataset", "weights", "model"):
        value = getattr(config, name)
        values[name] = None if value is None else with_home([str(value)])[0]
    if isinstance(config.freeze_encoder, bool):  # older versions had no number of epochs
        values["freeze_encoder"] = "all" if config.freeze_encoder else 0
    for name in ("classes", "class_weights", "augment"):
        if (value := getattr(config, name)) and os.path.isfile(value):
            values[name] = os.path.abspath(value)
    return dataclasses.replace(config, **values)
