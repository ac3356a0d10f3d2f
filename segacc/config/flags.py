"""The command line of training and evaluation: from flags to a config.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from segacc.command_line import read_flags
from segacc.config.checks import check_evaluate, check_values
from segacc.config.defaults import (
    MAY_CHANGE,
    filled,
    from_file,
    with_names,
    with_paths,
    with_protocol,
    with_recipe,
)
from segacc.config.evaluate import EVALUATE_GROUPS, EvaluateConfig
from segacc.config.launch import with_launch
from segacc.config.options import Reading, with_all_epochs, with_home, with_none
from segacc.config.records import is_given, read_config_file, read_run_config
from segacc.config.sizes import size_text
from segacc.config.train import (
    RECIPES,
    TRAIN_GROUPS,
    TrainConfig,
    is_own,
)
from segacc.errors import InputError, quoted

# The data set may lie in another place: its fingerprint is compared once it is read.
RESUME_MAY_CHANGE = {*MAY_CHANGE, "dataset", "resume", "output_dir", "debug", "config"}
RESUME_MAY_CHANGE |= {field.name for field in dataclasses.fields(Reading)} - {"fold"}
# The results do not depend on these, so the command that repeats a run omits them.
NOT_OF_RESULTS = {*MAY_CHANGE, "output_dir", "resume", "debug", "config", "name", "project"} - {
    "epochs",
    "patience",
}


def parse_train(args: Sequence[str], prog: str | None = None) -> TrainConfig:
    """Parse the command line of train.py. With --resume, flags not given come from the run's
    config.

    Args:
        args: the flags.
        prog: the program's name in its help; None for that of the file that was started.

    Raises:
        InputError: a value is out of range, a flag would make the resumed run another run, or the
            file of --config cannot be used.
        SystemExit: help was asked for, or a flag does not exist (argparse's convention, code 2).
    """
    if args and not args[0].startswith("-"):
        raise InputError(
            f"training has a flag for its data set, and {args[0]} comes without one: expected such "
            f"as --dataset {quoted(args[0])}."
        )
    args = with_none(with_all_epochs(with_home(args)))
    first = _first_of(args)
    default = with_recipe(TrainConfig(**first))
    if asks_for_help(args):
        read_flags(with_launch(TrainConfig), TRAIN_GROUPS, args, prog, default)
    config = TrainConfig(**read_flags(TrainConfig, TRAIN_GROUPS, args, prog, default))
    resume, file = config.resume, config.config
    if resume is None and file is None:
        return filled(config)
    if resume is None:
        assert file is not None
        default = from_file(given_by(file) | first)
        config = TrainConfig(**read_flags(TrainConfig, TRAIN_GROUPS, args, prog, default))
        return filled(config)
    saved = read_run_config(resume)
    config = TrainConfig(**read_flags(TrainConfig, TRAIN_GROUPS, args, prog, saved))
    return continued(config, saved, resume)


def asks_for_help(args: Sequence[str]) -> bool:
    """Whether the arguments ask for --help; no processes are started then."""
    return bool({"-h", "--help"} & set(args))


def continued(config: TrainConfig, saved: TrainConfig, resume: Path) -> TrainConfig:
    """The config of a run that is resumed.

    Args:
        config: the config that is wanted.
        saved: the config of the run in the folder `resume`.

    Raises:
        InputError: a value is out of range, or would make it another run.
    """
    if config.output_dir not in (saved.output_dir, resume):
        raise InputError(
            f"--output-dir {config.output_dir} has no effect beside --resume {resume}, "
            "which goes on in the run's own folder: leave it out, or copy the folder and resume "
            "the copy."
        )
    if config.config is not None:
        raise InputError(
            f"--config {config.config} has no effect beside --resume {resume}, which takes the "
            "run's own config: leave it out."
        )
    config = with_names(with_paths(config))
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


def _first_of(args: Sequence[str]) -> dict[str, Any]:
    """The recipe, if it exists, and the weights that the flags name. The defaults of other flags
    depend on them."""
    first = {}
    for flag, value in pairwise(part for arg in args for part in arg.split("=", 1)):
        if flag == "--weights" or (flag == "--recipe" and value in RECIPES):
            first[flag.removeprefix("--")] = value
    return first


def command_of(config: TrainConfig) -> str | None:
    """The command that trains such a run once more, with the flags that are not at their defaults.

    Args:
        config: filled.

    Returns:
        None if a network, a loss or a data set is an object of a program.
    """
    if any(is_own(str(name)) for name in (config.dataset, config.model, config.loss)):
        return None
    given = {n: value for n, value in chosen(config).items() if n not in NOT_OF_RESULTS}
    return shlex.join(["segacc", "train", *_to_flags(given)])


def evaluate_command(config: EvaluateConfig) -> str | None:
    """The command that scores these runs in the same way; None as in `command_of`."""
    if is_own(str(config.dataset)):
        return None
    usual = vars(EvaluateConfig(config.run))
    left_out = {"others", "batch_size", "device", "explain", "debug"}
    given = {n: v for n, v in vars(config).items() if v != usual[n] and n not in left_out}
    runs = map(str, (config.run, *config.others))
    return shlex.join(["segacc", "evaluate", *runs, *_to_flags(given)])


def _to_flags(given: Mapping[str, Any]) -> list[str]:
    flags = []
    for name, value in given.items():
        if value is True:
            flags.append(_flag(name))
        elif value is None:
            flags += [_flag(name), "None"]
        elif name == "pairs":
            flags += ["--pairs", *value]
        else:  # with a sign of equality where a value begins with a minus
            text = size_text(value) if name == "size" else str(value)
            flags += [f"{_flag(name)}={text}"] if text[:1] == "-" else [_flag(name), text]
    return flags


def given_by(file: Path) -> dict[str, Any]:
    """The flags that the file of --config gives. For a run's config.json, these are only the flags
    that differ from their defaults, so that another --recipe or --model brings its own defaults.

    Raises:
        InputError: as in `read_config_file`.
    """
    given, is_of_run = read_config_file(file)
    return chosen(TrainConfig(**given)) if is_of_run else given


def chosen(config: TrainConfig) -> dict[str, Any]:
    """The fields of a filled config that are not at their defaults, which are those of its recipe,
    its data set and its model."""
    # The defaults of `with_protocol` and `with_recipe` depend on these.
    first = {name: getattr(config, name) for name in ("dataset", "model", "recipe", "crop")}
    for name in ("augment", "weights"):
        if getattr(config, name) == "none":
            first[name] = "none"
    default = with_protocol(with_recipe(TrainConfig(**first)))
    found = {}
    for name, value in vars(config).items():
        usual = getattr(TrainConfig() if name in first else default, name)
        if value != usual and is_given(name, value):  # runs of 0.1.0 have open fields
            found[name] = value
    return found


def _shown(value: object) -> object:
    """A flag's value as the user gives it."""
    if isinstance(value, tuple) and value and isinstance(value[0], int):
        return "{}x{}".format(*value)
    return " ".join(value) or "none" if isinstance(value, tuple) else value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse_evaluate(args: Sequence[str], prog: str | None = None) -> EvaluateConfig:
    """Parse the command line of evaluate.py; `prog` as in `parse_train`.

    Raises:
        InputError: a value is out of range.
        SystemExit: help was asked for, or a flag does not exist.
    """
    args = with_home(args)
    if asks_for_help(args):
        read_flags(with_launch(EvaluateConfig), EVALUATE_GROUPS, args, prog)
    config = EvaluateConfig(**read_flags(EvaluateConfig, EVALUATE_GROUPS, args, prog))
    check_evaluate(config)
    return config
