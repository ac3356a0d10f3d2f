"""The accelerator of a process: its device, its precision and its memory."""

from __future__ import annotations

import atexit
import logging
import os
import random
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env

from segacc.errors import InputError, is_local_main, plural

log = logging.getLogger(__name__)


def uses_gpu() -> bool:
    """Whether this process computes on a GPU.

    ACCELERATE_USE_CPU, which `accelerate launch --cpu` sets, forbids it where there is one.
    """
    return torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")


def make_accelerator(precision: str) -> Accelerator:
    """The accelerator of this process, with `--precision` resolved.

    Raises:
        InputError: the precision does not exist on this device, or the launcher's config asks for
            something that training does not support.
    """
    check_launcher()
    cuda = uses_gpu()
    if cuda:
        check_gpus()
    if AcceleratorState._shared_state:
        # A run that has failed in this process has left it.
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision=choose_precision(precision, cuda),
        cpu=not cuda,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if not accelerator.is_main_process:
        logging.getLogger("segacc").setLevel(logging.ERROR)  # only rank 0 prints warnings
    return accelerator


@contextmanager
def settings_put_back() -> Iterator[None]:
    """Put back what a run changes: torch's settings, and the random numbers of the program."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        # This imports more of torch, which an interrupt may have caught half imported.
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = benchmark
        torch.set_num_threads(threads)


_running = threading.Lock()


@contextmanager
def only_run() -> Iterator[None]:
    """Do one training or evaluation at a time in this process, and put its settings back at the
    end.

    Raises:
        InputError: another one runs, perhaps in another thread, or it has called this one.
    """
    if not _running.acquire(blocking=False):
        raise InputError(
            "a training or an evaluation runs in this process, whose threads and random numbers it "
            "needs for itself: wait until it ends, or use another process."
        )
    try:
        with settings_put_back():
            yield
    finally:
        _running.release()


def end_run(accelerator: Accelerator) -> None:
    """Forget what the accelerator was made with, such as its precision, which accelerate would keep
    for the next one of this process.

    The group of processes stays until the program ends, for its next run: torchrun's processes
    cannot form it twice.
    """
    accelerator.free_memory()
    AcceleratorState._reset_state(reset_partial_state=True)
    _leave_group_at_exit()


@cache
def _leave_group_at_exit() -> None:
    atexit.register(_leave_group)


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def choose_precision(precision: str, cuda: bool) -> str:
    """Return the `mixed_precision` for accelerate: no, bf16 or fp16.

    Args:
        precision: `--precision`; `auto` takes that of the launcher's config, if it names one.
        cuda: whether this process computes on a GPU.

    Raises:
        InputError: fp16 was asked for on a CPU.
    """
    if precision != "auto":
        if precision == "fp16" and not cuda:
            raise InputError(
                "--precision fp16 needs a GPU and this run is on the CPU: give fp32 or bf16."
            )
        return {"fp32": "no"}.get(precision, precision)
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if launched == "no":
        bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if bf16 else "no"
    if cuda:
        return launched
    if not parse_flag_from_env("ACCELERATE_USE_CPU"):
        # The config was written for a GPU; on most CPUs bf16 is ten times slower than float32.
        if is_local_main():
            log.warning(
                f"mixed_precision {launched} of the launcher's config is for a GPU, and there is "
                "none here: this runs on the CPU in fp32 (--precision bf16 for bf16 nevertheless)"
            )
        return "no"
    if launched == "fp16":
        raise InputError(
            "mixed_precision fp16 of the launcher's config needs a GPU, and its use_cpu chooses "
            "the CPU: write no or bf16 there, or give --precision fp32 to segacc."
        )
    return launched


LAUNCHER_SETTINGS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
}
"""Variables that accelerate's launcher sets, and what its config asks for with them."""


def check_launcher() -> None:
    """Raises InputError for a setting of the launcher's config that training does not follow, and
    warns where the launcher starts one process though several were asked for."""
    for variable, name in LAUNCHER_SETTINGS.items():
        if parse_flag_from_env(variable):
            raise InputError(
                f"the launcher's config asks for {name} ({variable}), which segacc does not use: "
                "it trains with one copy of the model for each process, so take "
                "accelerate_configs/ddp.yaml, or distributed_type MULTI_GPU or NO."
            )
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no":
        raise InputError(
            f"the launcher's config asks for dynamo_backend {backend}, which segacc does not use: "
            "leave it out there, and give --compile to `segacc train`."
        )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if precision not in ("no", "bf16", "fp16"):
        raise InputError(
            f"mixed_precision {precision} of the launcher's config is not supported: write no, "
            "bf16 or fp16 there."
        )
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        raise InputError(
            f"the launcher's config asks for gradient_accumulation_steps {steps}, which segacc "
            "does not use: leave it out there, and give --accumulate to `segacc train`."
        )
    # `accelerate launch` sets these for a single process. It then starts one process, whatever its
    # num_processes is.
    if {"ACCELERATE_DYNAMO_BACKEND", "MASTER_ADDR"} <= set(os.environ) and "RANK" not in os.environ:
        log.warning(
            "accelerate launch was asked for several processes, and on a CPU starts only one: "
            "`segacc train --processes 2` starts several"
        )


def check_gpus() -> None:
    """Raises InputError if this machine has fewer GPUs than processes of this launch."""
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise InputError(
            f"{local + 1} processes or more were started on this machine, where each "
            f"needs a GPU of its own and {plural(there, 'GPU')} can be used: start {there}, or set "
            "ACCELERATE_USE_CPU=true for processes on the CPU."
        )


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
    of_torch, of_onnxruntime = "can't allocate memory", "Failed to allocate memory"
    said = str(error)
    return isinstance(error, kinds) or of_torch in said or of_onnxruntime in said
