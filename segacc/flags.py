"""The command line of training and evaluation: from flags to a config.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tyro

from segacc.config import (
    EvaluateConfig,
    TrainConfig,
    check_values,
    read_run_config,
    with_protocol,
)
from segacc.errors import InputError, is_local_main

# What may differ when a run is continued: nothing that would make it another run.
MAY_CHANGE = [
    "workers",
    "compile",
    "epochs",
    "patience",
    "save_every",
    "keep",
    "tracker",
    "pictures",
]
RESUME_MAY_CHANGE = {*MAY_CHANGE, "resume", "output_dir", "debug"}


def parse_train(args: Sequence[str], prog: str | None = None) -> TrainConfig:
    """The command line of train.py. With --resume, flags not given come from the run's config.

    Args:
        args: the flags.
        prog: the program's name in its help; None for that of the file that was started.

    Raises:
        InputError: a value is out of range, or a flag would make the resumed run another run.
        SystemExit: help was asked for, or a flag does not exist (argparse's convention, code 2).
    """
    prints = is_local_main()
    config = tyro.cli(TrainConfig, prog=prog, args=args, console_outputs=prints)
    if config.resume is None:
        config = with_protocol(config)
        check_values(config)
        return config
    saved = read_run_config(config.resume)
    config = tyro.cli(TrainConfig, prog=prog, args=args, default=saved, console_outputs=prints)
    config = dataclasses.replace(config, output_dir=saved.output_dir)
    check_values(config)
    changed = [
        f"{_flag(name)} {_shown(value)} (the run has {_shown(getattr(saved, name))})"
        for name, value in vars(config).items()
        if name not in RESUME_MAY_CHANGE and value != getattr(saved, name)
    ]
    if changed:
        allowed = ", ".join(map(_flag, MAY_CHANGE))
        raise InputError(
            f"--resume {config.resume} would become another run with {'; '.join(changed)}: leave "
            f"these flags out (only {allowed} and the number of processes may change) or start a "
            f"new run, such as one from this model with --weights {config.resume}."
        )
    return config


def _shown(value: object) -> object:
    """A flag's value as the user gives it."""
    return " ".join(value) or "none" if isinstance(value, tuple) else value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse_evaluate(args: Sequence[str], prog: str | None = None) -> EvaluateConfig:
    """The command line of evaluate.py; `prog` as in `parse_train`.

    Raises:
        InputError: a value is out of range.
        SystemExit: help was asked for, or a flag does not exist.
    """
    config = tyro.cli(EvaluateConfig, prog=prog, args=args, console_outputs=is_local_main())
    if config.threshold is not None and not 0 < config.threshold < 1:
        raise InputError(f"--threshold {config.threshold}: expected a number between 0 and 1.")
    if config.batch_size < 1:
        raise InputError(f"--batch-size {config.batch_size}: expected 1 or more.")
    if config.tile is not None and config.tile < 32:
        raise InputError(f"--tile {config.tile}: expected 32 or more.")
    return config
