"""What a run stands on: accelerator, threads, and a batch that fits both data and processes."""

from __future__ import annotations

import copy
import ctypes
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list, parse_flag_from_env

from segacc.config import TrainConfig
from segacc.data.prepare import Prepared
from segacc.data.threads import cores
from segacc.models import Segmenter
from segacc.program import InputError, OwnError, goes_on

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def make_accelerator(precision: str) -> Accelerator:
    """The accelerator of this process, with `--precision` resolved.

    Raises:
        InputError: the precision does not exist on this device.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    cuda = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
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
        kwargs_handlers=[
            # BatchNorm's statistics are those of all processes' samples, and so alike on all.
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
        ],
    )
    if not accelerator.is_main_process:
        logging.getLogger("segacc").setLevel(logging.ERROR)  # rank 0 alone speaks
    return accelerator


def cores_of_process() -> int:
    """Cores for each training process of this machine."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads(accelerator: Accelerator) -> int:
    """Use this process's share of the cores; `accelerate launch` would leave it one thread."""
    if accelerator.device.type == "cpu":
        torch.set_num_threads(cores_of_process())
    return torch.get_num_threads()


def keep_memory() -> None:
    """Have glibc keep what training frees, since the next step allocates the same again.

    By default large tensors go back to the system with each free, which clears their pages for the
    next one: 0.1 of a step's time with Linknet on a CPU, 0.15 with SegFormer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack it
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, -1)  # M_TRIM_THRESHOLD


def on_main(accelerator: Accelerator, action: Callable[[], Result]) -> Result:
    """The result of `action`, run by rank 0 alone, on every rank."""
    box = [action() if accelerator.is_main_process else None]
    return broadcast_object_list(box)[0]


def any_rank(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """For each flag whether a rank raises it. All ranks ask at the same point, and none waits for
    its GPU, since the votes travel between the CPUs."""
    if accelerator.num_processes == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.uint8)
    torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MAX, group=_cpu_group())
    return [bool(vote) for vote in votes]


@cache
def _cpu_group() -> Any:
    if torch.distributed.get_backend() == "gloo":
        return None  # the default group is one
    return torch.distributed.new_group(backend="gloo")


def leave_together(accelerator: Accelerator) -> None:
    """End trackers and processes; no rank is gone before the others may go.

    When one process ends, launchers may end those that still write.
    """
    try:
        for tracker in accelerator.trackers:
            tracker.finish()
    except OSError as error:  # a signal to all processes of the machine ends W&B's as well
        log.warning("the tracker could not finish (%s): its last lines may be missing.", error)
    accelerator.trackers = []
    any_rank(accelerator, False)
    accelerator.end_training()


@contextmanager
def explained(config: TrainConfig, run: Path) -> Iterator[None]:
    """Say in a sentence what the machine or another process has done to a run.

    Raises:
        InputError: in place of the libraries' errors.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OwnError(
            f"the GPU has too little memory for --batch-size {config.batch_size} in "
            f"{config.accumulate} parts: give a larger --accumulate, or a smaller --crop, --size "
            "or --batch-size"
            + (", or --workers 2, which keeps the images off it." if not config.workers else ".")
        ) from error
    except RuntimeError as error:
        said = str(error).strip()
        if said.startswith("DataLoader worker"):
            rank = os.environ.get("RANK", "0")
            raise OwnError(
                f"a process that loads data for rank {rank} has ended ({said.splitlines()[0]}): "
                f"if the system killed it for want of memory, give fewer --workers; {goes_on(run)}"
            ) from error
        if config.compile and isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise InputError(
                f"--compile: PyTorch could not compile {config.model} "
                f"({' '.join(said.splitlines()[:2])}): give --no-compile, or "
                "install what it misses, such as a C++ compiler."
            ) from error
        if "does not have a deterministic implementation" in said:
            raise InputError(
                f"--deterministic: {config.model} with --loss {config.loss} uses an operation that "
                f"PyTorch has no deterministic version of ({said.split()[0]}): choose another "
                "model or loss, or leave the flag out."
            ) from error
        if isinstance(error, torch.distributed.DistError) or "/gloo/" in said:
            raise InputError(
                "this process cannot talk to the others, one of which has probably ended: its own "
                f"error is above, or named by the launcher below ({said.splitlines()[-1]}); "
                f"{goes_on(run)}"
            ) from error
        raise


def check_data(config: TrainConfig, data: Prepared) -> None:
    """Raises InputError when the batch is larger than the training set."""
    samples = len(data.splits["train"])
    if config.batch_size > samples:
        raise InputError(
            f"--batch-size {config.batch_size} is larger than the training set of "
            f"{config.dataset}, which has {samples} images: give --batch-size {samples} or less."
        )


def check_batch(config: TrainConfig, world_size: int) -> None:
    """Raises InputError when the batch cannot be split evenly."""
    parts = world_size * config.accumulate
    if config.batch_size % parts:
        lower = config.batch_size // parts * parts
        raise InputError(
            f"--batch-size {config.batch_size} cannot be split over {world_size} processes"
            + (f" in {config.accumulate} parts each" if config.accumulate > 1 else "")
            + f": give a multiple of {parts}, such as {lower or parts}."
        )


def check_batchnorm(config: TrainConfig, model: Segmenter) -> None:
    """Raises InputError when BatchNorm would get one value of the one image of a step.

    DeepLabV3 pools an image to one value per channel, of which BatchNorm can take no variance.
    """
    if config.batch_size > config.accumulate or config.freeze_bn:
        return
    probe = copy.deepcopy(model).train()  # the probe would move BatchNorm's statistics
    side = min(config.crop or config.size or 0, 2 * model.stride)
    try:
        with torch.no_grad():
            probe(torch.zeros(1, 3, side, side))
    except ValueError as error:
        raise InputError(
            f"--batch-size {config.batch_size} leaves one image for each forward pass, and "
            f"BatchNorm in {config.model} needs two: give a --batch-size of at least "
            f"{2 * config.accumulate}, or --freeze-bn."
        ) from error


def memory_gib(device: torch.device) -> float:
    """Peak memory so far: of the GPU's tensors, or of this process (resident set)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
