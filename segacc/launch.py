"""What a run stands on: accelerator, threads, its folder, and the banner that says so."""

from __future__ import annotations

import copy
import json
import os
import platform
import resource
import secrets
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list

import segacc
from segacc.config import InputError, TrainConfig, to_json
from segacc.losses import is_of_batch
from segacc.models import Built, Segmenter

if TYPE_CHECKING:
    from segacc.data.prepare import Prepared

LIBRARIES = (
    "torch",
    "accelerate",
    "transformers",
    "segmentation-models-pytorch",
    "albumentations",
    "datasets",
)
Result = TypeVar("Result")


def make_accelerator(precision: str) -> Accelerator:
    """The accelerator of this process, with `--precision` resolved.

    Raises:
        InputError: the precision does not exist on this device.
    """
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    cuda = torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "no").lower() not in (
        "1",
        "true",
        "yes",
    )
    if precision == "auto" and asked == "no":
        asked = "bf16" if cuda and torch.cuda.is_bf16_supported() else "no"
    elif precision != "auto":
        asked = {"fp32": "no"}.get(precision, precision)
    if asked == "fp16" and not cuda:
        raise InputError(
            "--precision fp16 needs a GPU and this run is on the CPU: give fp32 or bf16."
        )
    return Accelerator(
        mixed_precision=asked,
        cpu=not cuda,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )


def cores_of_process() -> int:
    """Cores for each training process of this machine."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads(accelerator: Accelerator) -> int:
    """Use this process's share of the cores; `accelerate launch` would leave it one thread."""
    if accelerator.device.type == "cpu":
        torch.set_num_threads(cores_of_process())
    return torch.get_num_threads()


def on_main(accelerator: Accelerator, action: Callable[[], Result]) -> Result:
    """The result of `action`, run by rank 0 alone, on every rank."""
    box = [action() if accelerator.is_main_process else None]
    return broadcast_object_list(box)[0]


def check_output_dir(config: TrainConfig) -> None:
    """Raises InputError when `--output-dir` is taken."""
    folder = config.output_dir
    if config.resume or folder is None or not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        kind = "is not empty" if folder.is_dir() else "is a file"
        raise InputError(
            f"--output-dir {folder} {kind}: give a new folder, or continue the run in it with "
            f"--resume {folder}."
        )


def check_data(config: TrainConfig, data: Prepared) -> None:
    """Raises InputError when the batch or the crop does not fit the data."""
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


def check_batchnorm(config: TrainConfig, model: Segmenter, world_size: int, cuda: bool) -> None:
    """Raises InputError when a process would get one image, and BatchNorm one value of it.

    DeepLabV3 pools an image to one value per channel, of which BatchNorm can take no variance.
    """
    share = config.batch_size // (world_size * config.accumulate)
    if share > 1 or config.freeze_bn or (cuda and world_size > 1):
        return
    probe = copy.deepcopy(model).train()  # the probe would move BatchNorm's statistics
    try:
        with torch.no_grad():
            probe(torch.zeros(1, 3, model.stride, model.stride))
    except ValueError as error:
        raise InputError(
            f"--batch-size {config.batch_size} leaves one image for each step of a process, and "
            f"BatchNorm in {config.model} needs two: give a --batch-size of at least "
            f"{2 * world_size * config.accumulate}, or --freeze-bn."
        ) from error


def open_run(config: TrainConfig, data: Prepared, accelerator: Accelerator) -> tuple[Path, str]:
    """Make the run's folder with its config.json, or find the one to resume.

    Returns:
        The folder, and the id under which trackers know the run.
    """
    if config.resume:
        saved = json.loads((config.resume / "config.json").read_text(encoding="utf-8"))
        if saved["data"]["fingerprint"] != data.fingerprint:
            raise InputError(
                f"--resume {config.resume}: the data set {config.dataset} has changed since the "
                "run began (its fingerprint differs): restore it or start a new run."
            )
        return config.resume, saved["run_id"]
    name = Path(config.dataset.rstrip("/")).stem if "/" in config.dataset else config.dataset
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    model = config.model.replace("/", "-")
    run = config.output_dir or Path("runs") / f"{name}-{model}-{time}"
    run_id = secrets.token_hex(4)
    try:
        run.mkdir(parents=True, exist_ok=True)
        record = {
            "config": {**to_json(config), "output_dir": str(run)},
            "run_id": run_id,
            "data": {
                "fingerprint": data.fingerprint,
                "images": {name: len(split) for name, split in data.splits.items()},
            },
            "precision": accelerator.mixed_precision,
            "processes": accelerator.num_processes,
            "device": device_name(accelerator.device),
            "versions": {
                "segacc": segacc.__version__,
                "python": platform.python_version(),
                **{library: version(library) for library in LIBRARIES},
            },
            "git_commit": git_commit(),
        }
        (run / "config.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"--output-dir {run} cannot be written ({error.strerror}): give another folder."
        ) from error
    return run, run_id


def git_commit() -> str | None:
    """The commit of this code, with a + when files differ from it; None outside git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def memory_gib(device: torch.device) -> float:
    """Peak memory so far: of the GPU's tensors, or of this process (resident set)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def banner(
    config: TrainConfig,
    accelerator: Accelerator,
    data: Prepared,
    built: Built,
    threads: int,
    workers: int,
    steps: int,
) -> str:
    """What is really in effect, for a person to read before the first epoch."""
    world, model = accelerator.num_processes, built.model
    share = config.batch_size // (world * config.accumulate)
    dtype = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    counts = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    batch = f"{config.batch_size} global = {world} process{'es' * (world > 1)} x {share}"
    if config.accumulate > 1:
        batch += f" x {config.accumulate} parts"
        if is_of_batch(config.loss):
            batch += f" (--loss {config.loss} is then of each part, not of the whole batch)"
    if config.freeze_bn:
        norm = "frozen"
    elif world == 1:
        norm = "over the batch"
    elif accelerator.device.type == "cuda":
        norm = "synchronised over processes"
    else:
        norm = (
            "of each process alone (only GPUs synchronise it), so the curve depends on the number "
            "of processes; --freeze-bn makes it independent"
        )
    backbone = "" if built.model.architecture == "transformers" else f" ({config.encoder})"
    rows = {
        "device": f"{device_name(accelerator.device)}, {dtype}, {threads} threads and {workers} "
        "data workers per process",
        "batch": batch,
        "data": f"{counts}; {config.size} px"
        + (f", crops of {config.crop} px in training only" if config.crop else "")
        + f", flips {config.flips}",
        "parameters": f"{model.parameters_whole / 1e6:.1f} M, "
        f"{model.parameters_trained / 1e6:.1f} M of them trained",
        "weights": built.weights,
        "batchnorm": norm,
        "schedule": f"at most {config.epochs} epochs of about {steps} steps, patience "
        f"{config.patience}, lr {config.lr:g}, loss {config.loss}, seed {config.seed}",
    }
    lines = [f"segacc {segacc.__version__}: {config.model}{backbone} on {config.dataset}"]
    return "\n".join(lines + [f"  {name:<11} {text}" for name, text in rows.items()])
