"""The commands that train and score one model.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence

from segacc.config.checks import check_places
from segacc.config.flags import asks_for_help, parse_evaluate, parse_train
from segacc.config.launch import split_launch
from segacc.config.names import A_DATASET, check_place
from segacc.config.records import read_run_record
from segacc.config.train import print_title
from segacc.errors import USUAL_THRESHOLDS
from segacc.runtime.bars import show_doing
from segacc.runtime.launching.foreground import in_foreground
from segacc.runtime.launching.launcher import launch


def train(args: Sequence[str], prog: str | None = None) -> int:
    """Train as the flags say, in this process or in as many processes as they ask for.

    Args:
        args: the flags.
        prog: as in `parse_train`.

    Returns:
        the exit code.
    """
    flags, args = split_launch(args)
    # Before the slow import of torch, which of several processes each one does.
    config = parse_train(args, prog)
    check_places(config)
    if not flags.machine_rank:
        print_title(config)
    if (code := launch("train", args, flags)) is not None:
        return code
    with in_foreground():
        show_doing("loading PyTorch")
        from segacc.training.fit import fit
        from segacc.training.setup import Hooks

        fit(config, Hooks(ready=lambda job: freeze_loaded_objects()))
    return 0


def evaluate(args: Sequence[str], prog: str | None = None) -> int:
    """Score a trained model as the flags say; arguments and result as in `train`."""
    flags, args = split_launch(args)
    if not asks_for_help(args) and (code := launch("evaluate", args, flags)) is not None:
        return code
    config = parse_evaluate(args, prog)
    read_run_record(config.run)  # before the slow import of torch
    if config.dataset is not None:
        check_place("--dataset", config.dataset, A_DATASET)
    with in_foreground():
        show_doing("loading PyTorch")
        from segacc.evaluation.evaluate import evaluate as evaluate_run

        evaluate_run(config)
    return 0


def freeze_loaded_objects() -> None:
    """Exclude the objects that exist now from garbage collection, since they stay to the end. So
    full collections are quick, and Python's usual thresholds can be set again."""
    gc.freeze()
    gc.set_threshold(*USUAL_THRESHOLDS)
    # Else triton's binding prints, at the end, that these objects have leaked.
    atexit.register(gc.unfreeze)
