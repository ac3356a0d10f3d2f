"""The command `segacc`; each of its commands is a function or a config.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from typing import Any

import segacc
from segacc.command_line import Groups, list_commands, read_flags
from segacc.commands.data import CHECK_GROUPS, cache, check, prepare
from segacc.commands.export import EXPORT_GROUPS, export
from segacc.commands.predict import PREDICT_GROUPS, predict
from segacc.commands.runs import compare, dashboard, runs
from segacc.commands.study import study
from segacc.commands.training import evaluate, train
from segacc.config.evaluate import EVALUATE_GROUPS, EvaluateConfig
from segacc.config.launch import with_launch
from segacc.config.options import with_home
from segacc.config.train import TRAIN_GROUPS, TrainConfig
from segacc.errors import EXIT_INPUT, InputError, is_local_main, run_program

COMMANDS: dict[str, Callable[..., Any]] = {  # in the order in which a user meets them
    "check": check,
    "train": with_launch(TrainConfig),  # this one and the next only for their help
    "evaluate": with_launch(EvaluateConfig),
    "predict": predict,
    "runs": runs,
    "compare": compare,
    "export": export,
    "study": study,
    "dashboard": dashboard,
    "prepare": prepare,
    "cache": cache,
}
GROUPS: dict[str, Groups] = {  # of the flags of a command, where it has any
    "check": CHECK_GROUPS,
    "train": TRAIN_GROUPS,
    "evaluate": EVALUATE_GROUPS,
    "predict": PREDICT_GROUPS,
    "export": EXPORT_GROUPS,
}


def run_command(args: list[str]) -> int | None:
    """Run the command that `args` begin with; with none, list the commands.

    Returns:
        its exit code, None for 0.

    Raises:
        InputError: there is no such command, or the command raises it.
    """
    name = args[0] if args else ""
    if name == "--version":
        return print(f"segacc {segacc.__version__}")
    if name in ("", "-h", "--help"):
        if is_local_main():
            print(list_commands(COMMANDS, "segacc"))
        return None if name else EXIT_INPUT
    # --resume takes the other flags from the run's folder, which only parse_train knows how to do.
    if name == "train":
        return train(args[1:], prog="segacc train")
    if name == "evaluate":
        return evaluate(args[1:], prog="segacc evaluate")
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"segacc has no command {name}: {hint}`segacc --help` lists all.")
    command = COMMANDS[name]
    code: int | None = command(
        **read_flags(command, GROUPS.get(name, {}), args[1:], f"segacc {name}")
    )
    return code


def main() -> None:
    """Entry point of the command `segacc`."""
    args = with_home(sys.argv[1:])
    sys.exit(run_program(lambda: run_command(args), debug="--debug" in args))
