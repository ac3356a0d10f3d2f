"""The command `segacc`, of which each command is a function or a config.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from segacc.commands.data import cache, check, prepare
from segacc.commands.export import export
from segacc.commands.predict import predict
from segacc.commands.runs import compare, dashboard
from segacc.commands.study import study
from segacc.commands.training import evaluate, train
from segacc.config.evaluate import EvaluateConfig
from segacc.config.launch import with_launch
from segacc.config.options import with_home
from segacc.config.train import TrainConfig
from segacc.errors import is_local_main, run_program

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": with_launch(TrainConfig),  # this one and the next only for the list in --help
    "evaluate": with_launch(EvaluateConfig),
    "prepare": prepare,
    "check": check,
    "cache": cache,
    "predict": predict,
    "export": export,
    "compare": compare,
    "study": study,
    "dashboard": dashboard,
}


def run_command(args: list[str]) -> int | None:
    """Run the command that `args` begin with.

    Returns:
        its exit code, None for 0.
    """
    # --resume takes the other flags from the run's folder, which only parse_train knows how to do.
    if args[:1] == ["train"]:
        return train(args[1:], prog="segacc train")
    if args[:1] == ["evaluate"]:
        return evaluate(args[1:], prog="segacc evaluate")
    code: int | None = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="segacc", args=args, console_outputs=is_local_main()
    )
    return code


def main() -> None:
    """Entry point of the command `segacc`."""
    args = with_home(sys.argv[1:])
    sys.exit(run_program(lambda: run_command(args), debug="--debug" in args))
