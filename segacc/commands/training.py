"""The commands that train and score one model.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

from collections.abc import Sequence

from segacc.config.flags import parse_evaluate, parse_train


def train(args: Sequence[str], prog: str | None = None) -> None:
    """Train as the flags say; `prog` as in `parse_train`."""
    config = parse_train(args, prog)
    from segacc.training.fit import fit

    fit(config)


def evaluate(args: Sequence[str], prog: str | None = None) -> None:
    """Score a trained model as the flags say; `prog` as in `parse_train`."""
    config = parse_evaluate(args, prog)
    from segacc.evaluation.evaluate import evaluate as evaluate_run

    evaluate_run(config)
