"""Open the tracker that `--tracker` names, for a run that is new or resumed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segacc.errors import InputError, quoted
from segacc.runs.folder import RunFolder
from segacc.tracking import wandb_run
from segacc.tracking.trackers import PROJECT, Naming, Tracker, log_epoch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from segacc.config.train import TrainConfig


def check_tracker(name: str) -> None:
    """Raises InputError when the package of `--tracker` is missing, or WANDB_MODE is wrong."""
    if name == "wandb":
        wandb_run.check_mode()
    if name != "none" and importlib.util.find_spec(name) is None:
        raise InputError(
            f"--tracker {name} needs the package {name}, which is not installed: run "
            f"`pip install {name}` or give --tracker none."
        )


def start_tracker(
    accelerator: Accelerator,
    config: TrainConfig,
    folder: RunFolder,
    step: int = 0,
    best_epoch: int = 0,
) -> Tracker:
    """Open the tracker on rank 0.

    It gets all that config.json holds. If the run is resumed, it also gets the epochs that were
    done before and that the tracker lacks.

    Args:
        step: how many steps the run has done, 0 for a new run.
        best_epoch: the best one of the epochs that it has done.

    Raises:
        InputError: W&B refuses the key, or cannot be reached.
    """
    name, run, run_id = config.tracker, folder.path, folder.run_id
    active = name != "none" and accelerator.is_main_process
    tracker = Tracker(accelerator, name, active, run, config.batch_size, config.pictures)
    if not active:
        return tracker
    from accelerate.tracking import filter_trackers

    # The Accelerator was made before the run's folder was known, so it gets both only now.
    accelerator.project_configuration.set_directories(str(run))
    accelerator.log_with = filter_trackers(name, accelerator.logging_dir)
    record = read_record(run)
    known = {**record.pop("config"), **record}
    naming = naming_of(config, run)
    if name == "wandb":
        description, first = wandb_run.start(accelerator, naming, run, run_id, known)
    elif name == "trackio":
        description, first = _start_trackio(accelerator, naming, run_id, known)
    else:
        description, first = _start_tensorboard(accelerator, run, step, known)
    tracker = dataclasses.replace(tracker, first=first, description=description)
    for line in folder.epochs:
        log_epoch(tracker, line, best=line["epoch"] == best_epoch)
    return tracker


def read_record(run: Path) -> dict[str, Any]:
    """Read all of the run's config.json."""
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def naming_of(config: TrainConfig, run: Path) -> Naming:
    """Decide how the run is shown: a flag wins over W&B's variable, and the variable over our own
    name."""
    project = config.project
    if project is None and config.tracker == "wandb":
        project = os.environ.get("WANDB_PROJECT")
    return Naming(config.name or run.name, project or PROJECT, config.tags)


def _start_trackio(
    accelerator: Accelerator, naming: Naming, run_id: str, config: dict[str, Any]
) -> tuple[str, int]:
    """Returns where the curves go, for the banner, and the first step that trackio lacks."""
    options = {"name": f"{naming.name}-{run_id}", "resume": "allow", "embed": False}
    accelerator.init_trackers(
        naming.project, init_kwargs={"trackio": {**options, "config": config}}
    )
    first = getattr(accelerator.get_tracker("trackio", unwrap=True), "_next_step", 0)
    return f"trackio (`trackio show --project {quoted(naming.project)}`)", first


def _start_tensorboard(
    accelerator: Accelerator, run: Path, step: int, config: dict[str, Any]
) -> tuple[str, int]:
    """Returns where the curves go, for the banner, and the first step that is to be logged.

    TensorBoard lists a run under the name of the folder of its files, below that of --logdir. It
    hides what was written before the resume from `purge_step` on, so these steps are logged again.
    """
    folder = run / PROJECT if (run / PROJECT).is_dir() else run  # where earlier versions wrote
    accelerator.project_configuration.logging_dir = str(folder.parent)
    purge = {"purge_step": step} if step else {}
    accelerator.init_trackers(folder.name, init_kwargs={"tensorboard": purge})
    _log_config(accelerator.get_tracker("tensorboard", unwrap=True), _flat(config))
    return f"tensorboard (`tensorboard --logdir {quoted(run.parent)}`)", step


def _log_config(writer: Any, values: dict[str, Any]) -> None:
    """Log a config as the writer's `add_hparams` does, but into the file that it has open.

    It would open another one in a folder below, which TensorBoard lists as a run.
    """
    from torch.utils.tensorboard.summary import hparams

    for summary in hparams(values, {}):
        writer.file_writer.add_summary(summary)


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """The config without nested dictionaries: TensorBoard's hparams are numbers and text only."""
    flat: dict[str, int | float | str | bool] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value if isinstance(value, int | float | bool) else str(value)
    return flat
