"""The accelerator of a process: its device, its precision and its memory."""

from __future__ import annotations

import logging
import os
import resource
import sys

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import parse_flag_from_env

from segacc.errors import InputError

log = logging.getLogger(__name__)


def uses_gpu() -> bool:
    """Whether this process computes on a GPU.

    ACCELERATE_USE_CPU, which `accelerate launch --cpu` sets, forbids it where there is one.
    """
    return torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")


def make_accelerator(precision: str) -> Accelerator:
    """The accelerator of this process, with `--precision` resolved.

    Raises:
        InputError: the precision does not exist on this device.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    cuda = uses_gpu()
    if precision == "auto" and asked == "no":
        asked = "bf16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    elif precision != "auto":
        asked = {"fp32": "no"}.get(precision, precision)
    if asked == "fp16" and not cuda:
        raise InputError(
            "--precision fp16 needs a GPU and this run is on the CPU: give fp32 or bf16."
        )
    accelerator = Accelerator(
        mixed_precision=asked,
        cpu=not cuda,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if not accelerator.is_main_process:
        logging.getLogger("segacc").setLevel(logging.ERROR)  # only rank 0 prints warnings
    return accelerator


def memory_gib(device: torch.device) -> float:
    """Peak memory so far: of the GPU's tensors, or of this process (resident set)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def resolved_precision(accelerator: Accelerator) -> str:
    """The precision in effect: fp32, bf16 or fp16."""
    return {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU or the machine has no more memory."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
