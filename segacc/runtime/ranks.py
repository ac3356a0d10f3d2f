"""What ranks do together: votes, one action for all, values gathered, leaving."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

log = logging.getLogger(__name__)

T = TypeVar("T")


def gather_images(accelerator: Accelerator, samples: int, own: Tensor) -> Tensor:
    """Bring the per-image values of all ranks together, each image exactly once.

    Args:
        samples: number of images in the split, over all ranks.
        own: (n, ...) values of this rank's share, in its order.

    Returns:
        (samples, ...) on the CPU, in the order of the split, alike on every rank.
    """
    world = accelerator.num_processes
    longest = -(-samples // world)
    # A collective wants one shape from all ranks; what fills a shorter share is cut off again.
    padded = own.new_zeros((longest, *own.shape[1:]))
    padded[: len(own)] = own
    gathered = accelerator.gather(padded).view(world, longest, *own.shape[1:])
    return gathered.transpose(0, 1).flatten(0, 1)[:samples].cpu()


def on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
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


def has_lost_others(error: BaseException) -> bool:
    """Whether an error says that another process cannot be reached, mostly since it has ended."""
    return isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)
