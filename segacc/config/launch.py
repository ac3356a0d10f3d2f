"""The flags of the launcher: how many processes train or score together.

They are no part of a run's config, since a run does not depend on the number of its processes.
This module imports nothing heavy, so that `segacc train --help` is instant.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from segacc.config.options import shown_as
from segacc.errors import LAUNCHERS, InputError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Launch:
    """Several processes that work together, on any number of machines. The results are the same."""

    gpus: Annotated[
        str | None, shown_as("N|all", "the first GPU if there is one, else the CPU")
    ] = None
    """use this many GPUs of this machine, with a process for each"""
    processes: Annotated[int | None, shown_as("N", "1")] = None
    """start this many processes on this machine, on a GPU each, or on the CPU, which they share"""
    machines: Annotated[int | None, shown_as("N", "1")] = None
    """give the same command on this many machines, each with its own --machine-rank"""
    machine_rank: Annotated[int | None, shown_as("K", "0")] = None
    """which machine this is, counted from 0"""
    main_address: Annotated[str | None, shown_as("HOST[:PORT]", "none; port 29500")] = None
    """an address of machine 0 that the other machines can reach"""
    launch_config: Annotated[Path | None, shown_as("FILE", "none")] = None
    """take all this from a config file of accelerate (docs/launching.md); flags win"""

    def to_flags(self) -> list[str]:
        """Return the arguments of a command; what is not given is left out."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        words = ((f"--{name.replace('_', '-')}", str(value)) for name, value in given.items())
        return [word for pair in words for word in pair]


def with_launch(config: type[Config]) -> type[Config]:
    """A config with the flags of the launcher in a group of their own, for its --help."""
    options = Annotated[Launch, tyro.conf.OmitArgPrefixes]
    field = ("launch", options, dataclasses.field(default=Launch()))
    made = dataclasses.make_dataclass(config.__name__, [field], bases=(config,), frozen=True)
    made.__doc__ = config.__doc__
    return made


def split_launch(
    args: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[Launch, list[str]]:
    """The flags of the launcher, and all other arguments in their order.

    Raises:
        InputError: a value is out of range or has no effect, or a launcher has started this
            process already.
        SystemExit: a flag has no value (argparse's convention, code 2).
    """
    found: Any = tyro.cli(Launch, args=list(args), return_unknown_args=True, add_help=False)
    launch, others = found
    flags = launch.to_flags()
    around = [name for name in LAUNCHERS if name in environment]
    if flags and around:
        raise InputError(
            f"{' '.join(flags)}: a launcher has started this process already ({around[0]} is set), "
            "and it says how many there are: leave the launcher out, or these flags."
        )
    check_launch(launch)
    return launch, others


def check_launch(launch: Launch) -> None:
    """Raises InputError for values that are out of range or have no effect."""
    for flag, value, least in (
        ("--gpus", number_of(launch.gpus), 1),
        ("--processes", launch.processes, 1),
        ("--machines", launch.machines, 1),
        ("--machine-rank", launch.machine_rank, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"{flag} {value}: expected a number of at least {least}.")
    if launch.gpus is not None and launch.processes is not None:
        raise InputError(
            f"--gpus {launch.gpus} and --processes {launch.processes} both say how many processes "
            "there are: leave one of them out."
        )


def number_of(gpus: str | None) -> int | None:
    """The number that --gpus gives; None where it gives none, or all. InputError for a word."""
    if gpus in (None, "all"):
        return None
    if not gpus.removeprefix("-").isdecimal():
        raise InputError(f"--gpus {gpus}: expected a number such as 4, or all.")
    return int(gpus)
