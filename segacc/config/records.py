"""A config as JSON, and read from the folder of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from segacc.config.sizes import size_of_json
from segacc.config.train import TrainConfig
from segacc.errors import InputError

ENSEMBLE = "ensemble.json"
"""what the folder of several runs that were scored together has in place of config.json"""


def to_json(config: TrainConfig) -> dict[str, object]:
    """The config as plain JSON values."""
    values = dataclasses.asdict(config)
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def read_run_record(run: Path) -> dict[str, Any]:
    """The config.json of the run in `run`; raises InputError where the folder is not a run's."""
    path = run / "config.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**record, "config": dict(record["config"])}
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{run} is not a run's folder (it has no config.json): give one that training made."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is not a run's config or is damaged: give the folder that training made, not "
            "one inside it."
        ) from None


def read_scored_record(folder: Path) -> dict[str, Any]:
    """The config.json of a run, or the ensemble.json of several; raises as `read_run_record`."""
    path = folder / ENSEMBLE
    if not path.is_file():
        return read_run_record(folder)
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**record, "config": dict(record["config"])}
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is damaged: score the runs together again, which writes it."
        ) from None


def read_run_config(run: Path) -> TrainConfig:
    """The config of a run, as it was resolved when it started; raises as `read_run_record`."""
    values = read_run_record(run)["config"]
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    values = {k: v for k, v in values.items() if k in known}
    for name in ("output_dir", "resume"):
        values[name] = Path(values[name]) if values.get(name) else None
    # Older versions had no others.
    values = {"augment": "flips", "recipe": "study"} | values
    values["pairs"] = tuple(values.get("pairs", ()))  # runs of 0.1.0 have none
    if isinstance(values.get("freeze_encoder"), bool):  # as older versions wrote it
        values["freeze_encoder"] = "all" if values["freeze_encoder"] else 0
    if values.get("size"):
        values["size"] = size_of_json(values["size"])
    return TrainConfig(**values)
