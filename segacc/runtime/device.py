"""The device that --device names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from segacc.errors import InputError, plural

USE_CPU = "ACCELERATE_USE_CPU"


@contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Compute on a device: the accelerator uses it, and new tensors on the GPU go there.

    Args:
        name: `cpu`, `cuda` or `cuda:1`; None leaves it to the launcher, or takes a GPU where there
            is one.

    Raises:
        InputError: there is no such device, or the launcher has given each process its own.
    """
    if name is None:
        yield
        return
    check_device(name)
    before = os.environ.get(USE_CPU)
    os.environ[USE_CPU] = str(name == "cpu").lower()  # which accelerate reads, and `uses_gpu`
    index = torch.device(name).index
    try:
        with nullcontext() if index is None else torch.cuda.device(index):
            yield
    finally:
        del os.environ[USE_CPU]
        if before is not None:
            os.environ[USE_CPU] = before


def check_device(name: str) -> None:
    """Raises InputError where this machine has no such device, or this process may not choose."""
    if name == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise InputError(
            f"--device {name}: PyTorch finds no GPU here: leave it out, or give --device cpu "
            "(`nvidia-smi` and CUDA_VISIBLE_DEVICES say which GPUs there are)."
        )
    index = torch.device(name).index
    if index is not None and index >= count:
        raise InputError(
            f"--device {name}: found {plural(count, 'GPU')}, so give cuda:0"
            + (f" to cuda:{count - 1}." if count > 1 else ".")
        )
    if index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            f"--device {name} is for one process, and the launcher gives each of its processes a "
            "GPU: leave it out (CUDA_VISIBLE_DEVICES chooses among the GPUs)."
        )
