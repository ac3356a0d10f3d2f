"""The command line of training and evaluation: from flags to a config.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro

from segacc.config.checks import check_evaluate, check_values
from segacc.config.evaluate import EvaluateConfig
from segacc.config.options import Reading, with_all_epochs, with_home
from segacc.config.records import read_run_config
from segacc.config.sizes import AnySize
from segacc.config.train import (
    RECIPES,
    SEGFORMER_B0,
    RecipeName,
    TrainConfig,
    default_weights,
    is_own,
)
from segacc.errors import InputError, is_local_main, quoted

# What may differ when a run is continued: nothing that would make it another run.
MAY_CHANGE = [
    *("workers", "compile", "epochs", "patience", "save_every", "keep", "tracker", "pictures"),
    *("push_to_hub", "public"),
]
# The data set may lie in another place: its fingerprint is compared once it is read.
RESUME_MAY_CHANGE = {*MAY_CHANGE, "dataset", "resume", "output_dir", "debug"}
RESUME_MAY_CHANGE |= {field.name for field in dataclasses.fields(Reading)} - {"fold"}


def parse_train(args: Sequence[str], prog: str | None = None) -> TrainConfig:
    """The command line of train.py. With --resume, flags not given come from the run's config.

    Args:
        args: the flags.
        prog: the program's name in its help; None for that of the file that was started.

    Raises:
        InputError: a value is out of range, or a flag would make the resumed run another run.
        SystemExit: help was asked for, or a flag does not exist (argparse's convention, code 2).
    """
    prints, args = is_local_main(), with_all_epochs(with_home(args))
    default = with_recipe(TrainConfig(recipe=_recipe_of(args)))
    config = tyro.cli(TrainConfig, prog=prog, args=args, default=default, console_outputs=prints)
    resume = config.resume
    if resume is None:
        return filled(config)
    saved = read_run_config(resume)
    config = tyro.cli(TrainConfig, prog=prog, args=args, default=saved, console_outputs=prints)
    return continued(config, saved, resume)


def continued(config: TrainConfig, saved: TrainConfig, resume: Path) -> TrainConfig:
    """The config of a run that is resumed.

    Args:
        config: as it is wanted.
        saved: that of the run in the folder `resume`.

    Raises:
        InputError: a value is out of range, or would make it another run.
    """
    if config.output_dir not in (saved.output_dir, resume):
        raise InputError(
            f"--output-dir {config.output_dir} has no effect beside --resume {resume}, "
            "which goes on in the run's own folder: leave it out, or copy the folder and resume "
            "the copy."
        )
    config = with_paths(config)
    config = dataclasses.replace(config, output_dir=resume)  # it may have been moved
    check_values(config)
    changed = [
        f"{_flag(name)} {_shown(value)} (the run has {_shown(getattr(saved, name))})"
        for name, value in vars(config).items()
        if name not in RESUME_MAY_CHANGE and value != getattr(saved, name)
    ]
    if changed:
        allowed = ", ".join(map(_flag, MAY_CHANGE))
        raise InputError(
            f"--resume {resume} would become another run with {'; '.join(changed)}: leave "
            f"these flags out (only {allowed}, the place of the data set (--dataset) and the "
            f"number of processes may change) or start a new run, such as one from this model with "
            f"--weights {quoted(resume)}."
        )
    return config


def fill(config: TrainConfig) -> TrainConfig:
    """The config with no field left open, as `fit` needs it; a filled one stays as it is.

    Where a field is open, the recipe changes those that have their defaults. Of a run to resume,
    open fields are those of the run, and so are all others that may not change.

    Raises:
        InputError: a value is out of range or has no effect, or there is no run to resume.
    """
    if config.resume is None and _is_open(config):
        config = with_recipe(config)
    return filled(config)


def with_recipe(config: TrainConfig) -> TrainConfig:
    """The config with the recipe's values for the fields that have their defaults."""
    default = TrainConfig()
    values = {
        name: value
        for name, value in RECIPES[config.recipe].items()
        if getattr(config, name) == getattr(default, name)
    }
    return dataclasses.replace(config, **values)


def _recipe_of(args: Sequence[str]) -> RecipeName:
    """The recipe that the flags name, if it is one; needed for the defaults of all others."""
    recipe: RecipeName = "default"
    for flag, value in pairwise(part for arg in args for part in arg.split("=", 1)):
        if flag == "--recipe" and value in RECIPES:
            recipe = value
    return recipe


def _is_open(config: TrainConfig) -> bool:
    return None in (config.size, config.flips, config.augment, config.weights)


def filled(config: TrainConfig) -> TrainConfig:
    """The config with no field left open, as `fill`, but for the recipe; raises as that."""
    config = with_paths(config)
    if config.resume is None:
        config = with_protocol(config)
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
    encoder = None if own_encoder else config.encoder or "resnet34"
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
    return dataclasses.replace(
        config, size=size, flips=flips, augment=augment, encoder=encoder, weights=weights
    )


def has_own_encoder(model: str) -> bool:
    """Whether --encoder says nothing to --model: one of transformers, or of a program."""
    return model == "segformer" or "/" in model or is_own(model)


def with_paths(config: TrainConfig) -> TrainConfig:
    """The config with ~ expanded, and with the types of its fields where a program gave others."""
    values: dict[str, Any] = {}
    for name in ("output_dir", "resume"):
        value = getattr(config, name)
        values[name] = None if value is None else Path(value).expanduser()
    for name in ("dataset", "weights", "model"):
        value = getattr(config, name)
        values[name] = None if value is None else with_home([str(value)])[0]
    if isinstance(config.freeze_encoder, bool):  # as it was given before there were epochs
        values["freeze_encoder"] = "all" if config.freeze_encoder else 0
    for name in ("classes", "class_weights", "augment"):
        if (value := getattr(config, name)) and os.path.isfile(value):
            values[name] = os.path.abspath(value)
    return dataclasses.replace(config, **values)


def _shown(value: object) -> object:
    """A flag's value as the user gives it."""
    if isinstance(value, tuple) and value and isinstance(value[0], int):
        return "{}x{}".format(*value)
    return " ".join(value) or "none" if isinstance(value, tuple) else value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse_evaluate(args: Sequence[str], prog: str | None = None) -> EvaluateConfig:
    """The command line of evaluate.py; `prog` as in `parse_train`.

    Raises:
        InputError: a value is out of range.
        SystemExit: help was asked for, or a flag does not exist.
    """
    args = with_home(args)
    config = tyro.cli(EvaluateConfig, prog=prog, args=args, console_outputs=is_local_main())
    check_evaluate(config)
    return config
