"""Checks of the values of a config's fields."""

from __future__ import annotations

import difflib
import re

from segacc.config.evaluate import EvaluateConfig
from segacc.config.names import A_DATASET, A_MODEL, SPLIT_NAMES, WEIGHTS, check_place
from segacc.config.options import Reading
from segacc.config.sizes import check_size, spacing_of_text
from segacc.config.train import TrainConfig, default_weights, is_own
from segacc.errors import InputError


def check_values(config: TrainConfig) -> None:
    """Raises InputError for a value out of range. (In __post_init__, tyro would change the
    message.)"""
    for flag, value, least in (
        ("--crop", config.crop, 8),
        ("--batch-size", config.batch_size, 1),
        ("--accumulate", config.accumulate, 1),
        ("--epochs", config.epochs, 1),
        ("--patience", config.patience, 1),
        ("--workers", config.workers, 0),
        ("--save-every", config.save_every, 1),
        ("--keep", config.keep, 1),
        ("--pictures", config.pictures, 0),
        ("--seed", config.seed, 0),
        ("--weight-decay", config.weight_decay, 0),
        ("--clip", config.clip, 0),
        ("--freeze-encoder", 0 if config.freeze_encoder == "all" else config.freeze_encoder, 0),
    ):
        if value is not None and not value >= least:  # NaN is not
            raise InputError(f"{flag} {value}: expected {least} or more.")
    Reading.of(vars(config)).check()
    if config.name is not None and not re.fullmatch(r"\w[\w.+-]*", config.name):
        raise InputError(
            f"--name '{config.name}': expected letters, digits and any of . _ - + without blanks, "
            "since the run's folder has this name (--output-dir names any other folder)."
        )
    if config.seed >= 2**32:
        raise InputError(f"--seed {config.seed}: expected a number below 2**32.")
    if not 0 < config.lr <= 10:
        raise InputError(f"--lr {config.lr}: expected a number above 0 and at most 10.")
    if not 0 < config.encoder_lr <= 10:
        raise InputError(f"--encoder-lr {config.encoder_lr}: expected a factor, above 0 to 10.")
    if not 0 < config.layer_decay <= 1:
        raise InputError(f"--layer-decay {config.layer_decay}: expected a factor, above 0 to 1.")
    if config.ema is not None and not 0 < config.ema < 1:
        raise InputError(
            f"--ema {config.ema}: expected a decay per step between 0 and 1, such as 0.999."
        )
    if not 0 <= config.warmup < 1:
        raise InputError(f"--warmup {config.warmup}: expected a share of the steps, 0 to below 1.")
    if config.ohem is not None and not 0 < config.ohem <= 1:
        raise InputError(f"--ohem {config.ohem}: expected a share of the pixels, above 0 to 1.")
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"--label-smoothing {config.label_smoothing}: expected 0 to below 1.")
    check_size(config.size, config.crop, config.flips)
    if config.batch_size % config.accumulate:
        raise InputError(
            f"--batch-size {config.batch_size} cannot be computed in {config.accumulate} equal "
            f"parts: give an --accumulate that divides it."
        )


def check_device_name(name: str | None) -> None:
    """Raises InputError for a --device that no machine has."""
    if name is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"--device {name}: expected cpu, cuda, or one of several GPUs: cuda:1.")


def check_places(config: TrainConfig) -> None:
    """Raises InputError for a path that does not exist, before anything that takes time."""
    if config.resume is not None:  # the model is in its state, and the images may be in the cache
        return
    if not is_own(config.model):
        check_place("--model", config.model, A_MODEL)
    if config.weights is not None and config.weights != default_weights(config.model):
        check_place("--weights", config.weights, WEIGHTS)
    check_place("--dataset", config.dataset, A_DATASET)


def check_evaluate(config: EvaluateConfig) -> None:
    """Raises InputError for a value out of range."""
    Reading.of(vars(config)).check()
    check_device_name(config.device)
    if config.split not in SPLIT_NAMES:
        near = difflib.get_close_matches(config.split, SPLIT_NAMES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"--split {config.split}: expected {', '.join(SPLIT_NAMES)}{hint}.")
    if config.threshold is not None and not 0 < config.threshold < 1:
        raise InputError(f"--threshold {config.threshold}: expected a number between 0 and 1.")
    if config.spacing is not None:
        spacing_of_text(config.spacing)
    if config.out is not None and not config.others:
        raise InputError(
            f"--out {config.out} has no effect on a single run, whose results go into its folder: "
            "leave it out."
        )
    if config.out is not None and (config.out / "config.json").exists():
        raise InputError(f"--out {config.out} is the folder of a run: give one of its own.")
    runs = [config.run, *config.others]
    if twice := next((run for run in runs if runs.count(run) > 1), None):
        raise InputError(f"{twice} is given twice: name each run once.")
    if config.batch_size < 1:
        raise InputError(f"--batch-size {config.batch_size}: expected 1 or more.")
    if config.tile is not None and config.tile < 32:
        raise InputError(f"--tile {config.tile}: expected 32 or more.")
