"""Errors of an evaluation whose cause is known, as a sentence for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segacc.config.evaluate import EvaluateConfig
from segacc.errors import InputError
from segacc.runtime.accelerator import is_out_of_memory
from segacc.runtime.ranks import is_lost_connection


@contextmanager
def explain_evaluation_errors(config: EvaluateConfig) -> Iterator[None]:
    """Turn errors of libraries that have a known cause into one sentence for the user.

    Raises:
        InputError: in place of such an error; others are raised as they are.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
            tile = f"a --tile below {config.tile}" if config.tile else "--tile 256"
            raise InputError(
                f"{where} has too little memory for --batch-size {config.batch_size}: give a "
                f"smaller --batch-size, or {tile} to predict in smaller windows."
            ) from error
        if is_lost_connection(error):
            raise InputError(
                "this process cannot talk to the others, one of which has probably ended: its own "
                "error is above; give the same command again."
            ) from error
        raise
