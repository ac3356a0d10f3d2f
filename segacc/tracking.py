"""Where curves go: W&B, trackio or TensorBoard through accelerate's trackers, JSONL always."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segacc.program import InputError, disk_errors, write_text

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "segacc"


def check_tracker(tracker: str) -> None:
    """Raises InputError when the package of `--tracker` is not installed."""
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise InputError(
            f"--tracker {tracker} needs the package {tracker}, which is not installed: run "
            f"`pip install {tracker}` or give --tracker none."
        )


def start_tracker(
    accelerator: Accelerator, tracker: str, run: Path, run_id: str, config: dict[str, Any]
) -> str:
    """Open the tracker on rank 0 and give it the config.

    Returns:
        What the tracker does, for the banner.
    """
    if tracker == "none":
        return "metrics.jsonl only"
    from accelerate.tracking import filter_trackers

    # Only now is the run's folder known; the Accelerator had to be there before.
    accelerator.project_configuration.set_directories(str(run))
    accelerator.log_with = filter_trackers(tracker, accelerator.logging_dir)
    # hparams of TensorBoard take scalars and text only.
    flat = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.items()}

    def start(options: dict[str, Any]) -> None:
        accelerator.init_trackers(PROJECT, config=flat, init_kwargs={tracker: options})

    if tracker == "wandb" and accelerator.is_main_process:
        return _start_wandb(start, run, run_id)
    if tracker == "trackio":
        start({"name": f"{run.name}-{run_id}", "resume": "allow", "embed": False})
        return f"trackio (`trackio show --project {PROJECT}`)"
    start({})
    return f"tensorboard (`tensorboard --logdir {run}`)"


def _start_wandb(start: Callable[[dict[str, Any]], None], run: Path, run_id: str) -> str:
    import wandb

    options = {"id": run_id, "name": run.name, "dir": str(run), "resume": "allow"}
    mode = os.environ.get("WANDB_MODE")
    said = f"wandb ({mode or 'online'})"
    try:
        if mode is None and not wandb.login(prompt=False, verify=False):
            options["mode"] = "offline"
            said = f"wandb, offline for want of a key; upload with `wandb sync {run}/wandb/*`"
        start(options)
    except wandb.errors.Error as error:
        raise InputError(
            f"--tracker wandb could not start ({error}): check the key and the network, set "
            "WANDB_MODE=offline, or give another --tracker."
        ) from error
    return said


def append_line(run: Path, values: dict[str, Any]) -> None:
    """Add an epoch to metrics.jsonl."""
    with disk_errors(run), (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(run: Path) -> list[dict[str, Any]]:
    """The epochs in metrics.jsonl; a last line that was cut off by a kill does not count."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def keep_epochs(run: Path, epochs: int) -> None:
    """Drop from metrics.jsonl the epochs after the state that a run is resumed from."""
    kept = [line for line in read_lines(run) if line["epoch"] <= epochs]
    with disk_errors(run):
        write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
