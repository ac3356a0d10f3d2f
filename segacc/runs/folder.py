"""The folder of a run: make it, or open it to continue; its config.json and its table of images."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

import segacc
from segacc.config.records import to_json
from segacc.config.train import OWN, TrainConfig
from segacc.data.known import TRAINED_ON, absolute, data_record, trained_on_csv
from segacc.data.reading.sources import resolve
from segacc.data.split import Prepared
from segacc.errors import InputError, disk_errors, quoted, write_text
from segacc.models.segmenter import Segmenter
from segacc.runs.epochs import drop_epochs_after
from segacc.runtime.accelerator import device_name, resolved_precision

LIBRARIES = (
    "torch",
    "accelerate",
    "transformers",
    "segmentation-models-pytorch",
    "pillow",
    "datasets",
)


RUNS = Path("runs")
"""the folder of runs whose own folder the flags do not name"""


def check_output_dir(config: TrainConfig) -> None:
    """Raises InputError when the folder of a new run exists and is not an empty folder."""
    folder = _chosen_folder(config)
    if folder is None or not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        kind = "is not empty" if folder.is_dir() else "is a file"
        given = f"--output-dir {folder}" if config.output_dir else f"--name {config.name}: {folder}"
        other = "folder" if config.output_dir else "name"
        raise InputError(
            f"{given} {kind}: give a new {other}, or continue the run in it with "
            f"--resume {quoted(folder)}."
        )


def _chosen_folder(config: TrainConfig) -> Path | None:
    """The folder that the flags name for a new run, if they do."""
    if config.output_dir is None and config.name is not None:
        return RUNS / config.name
    return config.output_dir


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run that is open for writing."""

    path: Path
    run_id: str
    """the name of the run in its tracker"""
    changes: str = ""
    """for a resumed run: the flags that have changed, as text for the banner"""
    epochs: tuple[dict[str, Any], ...] = ()
    """for a resumed run: the lines of metrics.jsonl, one for each epoch that it has done"""


def open_run(
    config: TrainConfig,
    data: Prepared,
    model: Segmenter,
    accelerator: Accelerator,
    epochs_done: int,
    given: Mapping[str, Any],
) -> RunFolder:
    """Make the run's folder with its config.json, or open the one to resume.

    Rank 0 does it; the other ranks wait and get the same value.

    Args:
        epochs_done: of a resumed run; later epochs are dropped from metrics.jsonl.
        given: the content of files that flags name; a new run stores it, so that it is resumed with
            the same.

    Raises:
        InputError: the folder is taken or cannot be written, or the data set has changed.
    """
    shared: list[RunFolder | None] = [None]
    if accelerator.is_main_process and config.resume:
        shared = [_continue_run(config, config.resume, data, epochs_done)]
    elif accelerator.is_main_process:
        shared = [_start_run(config, data, model, accelerator, given)]
    folder = broadcast_object_list(shared)[0]
    assert folder is not None
    return folder


def _continue_run(config: TrainConfig, run: Path, data: Prepared, epochs_done: int) -> RunFolder:
    path = run / "config.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["data"]["fingerprint"] != data.fingerprint:
        raise InputError(
            f"--resume {run}: the images or masks of {config.dataset} are not those that the run "
            "began with (their fingerprint differs): give --dataset with the place of those, or "
            "start a new run."
        )
    before, now = record["config"], to_json(config) | {"resume": None}
    if now["dataset"] != before["dataset"]:
        now["dataset"] = absolute(config.dataset)
        record["data"] |= {"source": resolve(config.dataset)}
    changes = [
        f", {name} {before[name]} -> {now[name]}"
        for name in ("epochs", "patience")
        if before[name] != now[name]
    ]
    epochs = drop_epochs_after(run, epochs_done)
    with disk_errors(run):
        write_text(run / TRAINED_ON, trained_on_csv(data))  # which older versions did not write
        write_text(path, json.dumps(record | {"config": now}, indent=2) + "\n")
    return RunFolder(run, record["run_id"], "".join(changes), tuple(epochs))


def _start_run(
    config: TrainConfig,
    data: Prepared,
    model: Segmenter,
    accelerator: Accelerator,
    given: Mapping[str, Any],
) -> RunFolder:
    run_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)  # a sweep of W&B sets it
    try:
        run = make_run_folder(config)
        own = {
            "dataset": absolute(config.dataset),
            "output_dir": os.path.abspath(run),
            "precision": resolved_precision(accelerator),
        }
        record = {
            "config": to_json(config) | own,
            "run_id": run_id,
            "data": data_record(config.dataset, data),
            **given,
            "parameters": {"whole": model.parameters_whole, "trained": model.parameters_trained},
            "started": timestamp(),
            "processes": accelerator.num_processes,
            "device": device_name(accelerator.device),
            "versions": {
                "segacc": segacc.__version__,
                "python": platform.python_version(),
                **{library: version(library) for library in LIBRARIES},
            },
            "git_commit": git_commit(),
        }
        write_text(run / "config.json", json.dumps(record, indent=2) + "\n")  # then it is a run
        write_text(run / TRAINED_ON, trained_on_csv(data))
    except OSError as error:
        raise InputError(
            f"--output-dir {_chosen_folder(config) or RUNS} cannot be written ({error.strerror}): "
            "give another folder."
        ) from error
    return RunFolder(run, run_id)


def make_run_folder(config: TrainConfig) -> Path:
    """Make the folder of a new run: the one that the flags name, or one with a name that no other
    run has.

    Raises:
        InputError: the one that the flags name is taken.
        OSError: the folder cannot be made.
    """
    chosen = _chosen_folder(config)
    if chosen is not None:
        check_output_dir(config)
        chosen.mkdir(parents=True, exist_ok=True)
        return chosen
    name = generated_name(config, datetime.now())
    RUNS.mkdir(exist_ok=True)
    for number in itertools.count(1):
        run = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            run.mkdir()
        except FileExistsError:  # another run has made it in the same second
            continue
        return run
    raise AssertionError("there is always a next number")


def timestamp() -> str:
    """The local time, for a record: 2026-11-29T14:05:00+01:00."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def generated_name(config: TrainConfig, now: datetime) -> str:
    """Name a run that was given no name: by its data, model, encoder, seed, fold and time."""
    place = Path(config.dataset).expanduser()
    dataset = place.resolve().stem if place.exists() else config.dataset
    parts = [dataset, config.model.removeprefix(OWN), config.encoder or "", f"seed{config.seed}"]
    parts.append(f"fold{config.fold.replace('/', 'of')}" if config.fold else "")
    parts = [re.sub(r"[^\w.+]+", "-", part) for part in parts if part]
    return "-".join([*parts, now.strftime("%Y%m%d-%H%M%S")])


def git_commit() -> str | None:
    """The commit of segacc's own code, with a + when files differ from it; None outside of git.

    An installed copy may lie inside the repository of another project (a virtual environment in a
    checkout), whose commit says nothing about segacc. So the commit counts only if git tracks this
    file.
    """
    source = Path(__file__)
    git = ["git", "-C", str(source.parent)]
    try:
        _, commit, changed = (
            subprocess.run([*git, *arguments], capture_output=True, text=True, check=True).stdout
            for arguments in (
                ("ls-files", "--error-unmatch", source.name),
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+" if changed.strip() else "")
