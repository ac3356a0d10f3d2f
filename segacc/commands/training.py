"""The commands that train and score one model.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

from collections.abc import Sequence

from segacc.config.checks import check_places
from segacc.config.flags import parse_evaluate, parse_train
from segacc.config.names import A_DATASET, check_place
from segacc.config.records import read_run_record


def train(args: Sequence[str], prog: str | None = None) -> None:
    """Train as the flags say; `prog` as in `parse_train`."""
    config = parse_train(args, prog)
    check_places(config)  # before the slow import of torch
    from segacc.training.fit import fit

    fit(config)


def evaluate(args: Sequence[str], prog: str | None = None) -> None:
    """Score a trained model as the flags say; `prog` as in `parse_train`."""
    config = parse_evaluate(args, prog)
    read_run_record(config.run)  # before the slow import of torch
    if config.dataset is not None:
        check_place("--dataset", config.dataset, A_DATASET)
    from segacc.evaluation.evaluate import evaluate as evaluate_run

    evaluate_run(config)
