"""Joint actions of ranks (the processes of one run): vote, gather values, act once, end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from segacc.errors import Stopped
from segacc.runtime.accelerator import end_run

log = logging.getLogger(__name__)

T = TypeVar("T")


def gather_images(accelerator: Accelerator, samples: int, own: Tensor) -> Tensor:
    """Bring the per-image values of all ranks together, each image exactly once.

    Args:
        samples: number of images in the split, over all ranks.
        own: (n, ...) values of this rank's share, in its order.

    Returns:
        (samples, ...) on the CPU, in the order of the split, the same on every rank.
    """
    world = accelerator.num_processes
    longest = -(-samples // world)
    # Gathering needs the same shape on all ranks: shorter shares are padded, and cut again below.
    padded = own.new_zeros((longest, *own.shape[1:]))
    padded[: len(own)] = own
    gathered = accelerator.gather(padded).view(world, longest, *own.shape[1:])
    return gathered.transpose(0, 1).flatten(0, 1)[:samples].cpu()


def run_on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """The result of `action`, run by rank 0 alone, on every rank."""
    shared = [action() if accelerator.is_main_process else None]
    return broadcast_object_list(shared)[0]


def any_rank(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """For each flag, whether it is true on at least one rank.

    All ranks must call this at the same point. The flags travel between CPUs (gloo), so that no
    rank waits for its GPU.
    """
    if accelerator.num_processes == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.uint8)
    torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MAX, group=_cpu_group())
    return [bool(vote) for vote in votes]


def stop_together(accelerator: Accelerator, asked_to_stop: Callable[[], bool]) -> None:
    """Raises Stopped on all ranks when at least one was asked to stop."""
    if any_rank(accelerator, asked_to_stop())[0]:
        raise Stopped


def _cpu_group() -> Any:
    if torch.distributed.get_backend() == "gloo":
        return None  # the default group is one
    return _gloo_beside(torch.distributed.group.WORLD)


@cache
def _gloo_beside(world: Any) -> Any:
    """A group of all ranks whose tensors lie on CPUs, made once for each default group."""
    return torch.distributed.new_group(backend="gloo")


def wait_long() -> None:
    """Wait for all processes, for as long as it takes; other waits end after some minutes."""
    group: Any = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=1))
    torch.distributed.barrier(group)
    torch.distributed.destroy_process_group(group)


def leave_together(accelerator: Accelerator) -> None:
    """End trackers and the process group, after all ranks have reached this point.

    When one process ends, launchers may kill the others while they still write.
    """
    try:
        for tracker in accelerator.trackers:
            tracker.finish()
    except OSError as error:  # a signal to all processes also ends the one of W&B
        log.warning("the tracker could not finish (%s): its last lines may be missing.", error)
    accelerator.trackers = []
    any_rank(accelerator, False)
    end_run(accelerator)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another rank cannot be reached, usually because it has ended."""
    return isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)
