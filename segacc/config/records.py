"""A config as JSON, and read from the folder of a run or from a file of the user.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from segacc.config.launch import Launch
from segacc.config.names import nearest
from segacc.config.options import OR_NONE
from segacc.config.sizes import size_of_json
from segacc.config.train import TrainConfig, has_own_encoder
from segacc.errors import InputError

ENSEMBLE = "ensemble.json"
"""the file in the folder of several runs that were scored together, in place of config.json"""


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
        why = _what_is_there(run) if run.exists() else nearest(run)
        raise InputError(
            f"{run} is not a run's folder ({why}): give one that training made."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is not a run's config or is damaged: give the folder that training made, not "
            "one inside it."
        ) from None


def _what_is_there(folder: Path) -> str:
    runs = sorted(file.parent for file in folder.glob("*/config.json"))
    return f"it holds runs, such as {runs[0]}" if runs else "it has no config.json"


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
    return read_config(read_run_record(run)["config"])


def read_config(values: Mapping[str, Any]) -> TrainConfig:
    """The config of the values that config.json holds."""
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    values = {k: v for k, v in values.items() if k in known}
    for name in ("output_dir", "resume", "config"):
        values[name] = Path(values[name]) if values.get(name) else None
    values = _as_now(values)
    for name in ("pairs", "tags"):
        values[name] = tuple(values.get(name, ()))
    if values.get("size"):
        values["size"] = size_of_json(values["size"])
    return TrainConfig(**values)


def _as_now(values: dict[str, Any]) -> dict[str, Any]:
    """The flags in a config.json, as this version would have written them."""
    # Older versions had no others.
    values = {"augment": "flips", "recipe": "study"} | values
    if isinstance(values.get("freeze_encoder"), bool):
        values["freeze_encoder"] = "all" if values["freeze_encoder"] else 0
    if has_own_encoder(values.get("model", "")):  # 0.1.0 wrote the default, which had no effect
        values["encoder"] = None
    return values


NOT_IN_A_FILE = ("resume", "config", "debug")
OF_LAUNCH = tuple(field.name for field in dataclasses.fields(Launch))
OF_ONE_RUN = ("name", "output_dir")
"""flags in a run's config.json that a new run cannot take over, since they are the run's own"""


def read_config_file(path: Path) -> tuple[dict[str, Any], bool]:
    """The flags that the file of --config gives, with the types of the fields of TrainConfig; and
    whether they are all those of a run.

    Args:
        path: YAML or JSON, with a flag as each key; or the config.json of a run, whose name and
            folder are left out.

    Raises:
        InputError: the file cannot be read, a flag does not exist, or a value has another type.
    """
    what = f"--config {path}"
    found = _parsed(path)
    of_run = found.get("config")
    is_of_run = isinstance(of_run, dict)
    if isinstance(of_run, dict):
        dropped = (*NOT_IN_A_FILE, *OF_ONE_RUN)
        found = {k: v for k, v in _as_now(of_run).items() if k not in dropped}
    hints = get_type_hints(TrainConfig)
    fields = [field.name for field in dataclasses.fields(TrainConfig)]
    values = {}
    for key, value in found.items():
        name = str(key).removeprefix("--").replace("-", "_")
        if name in (*NOT_IN_A_FILE, *OF_LAUNCH):
            raise InputError(f"{what} holds {key}, which only the command line may: leave it out.")
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{what} holds {key}, which is no flag of training: {hint}`segacc train --help` "
                "lists all."
            )
        if value in ("none", "None") and f"--{name}" in OR_NONE:
            value = None
        elif isinstance(value, str) and hints[name] == tuple[str, ...]:
            value = [value]
        elif type(value) in (int, float) and hints[name] in (str, str | None):
            value = str(value)  # such as `ignore: 255`
        elif isinstance(value, bool) and name == "freeze_encoder":
            value = "all" if value else 0
        if is_given(name, value):
            values[name] = typed(TrainConfig, name, value, f"{what}: {key}: {value}")
    return values, is_of_run


def _parsed(path: Path) -> dict[str, Any]:
    import yaml

    expected = "a YAML or JSON file of flags, such as `model: unet` and `epochs: 20`"
    try:
        # JSON is YAML, too, but for tabs.
        text = path.expanduser().read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise InputError(
            f"--config {path} cannot be read ({error.strerror}): expected {expected}."
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"--config {path}: expected {expected} ({said}).") from error
    if not isinstance(found, dict):
        raise InputError(f"--config {path}: expected {expected}, found no names of flags.")
    return found


def is_given(name: str, value: Any) -> bool:
    """Whether the value of a flag was given. None stands for the default, but for the moving
    average, which it switches off against a recipe."""
    return value is not None or name == "ema"


def typed(config: type, name: str, value: Any, shown: str) -> Any:
    """A value with the type that a field of a config has.

    Args:
        config: a dataclass.
        shown: where the value was given, and the value, for errors.

    Raises:
        InputError: it has another type.
    """
    from pydantic import TypeAdapter, ValidationError

    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(plain, str):
        plain = os.path.expanduser(plain)
    try:
        if name == "size" and isinstance(plain, str | list):
            plain = size_of_json(plain)
        # True would be taken for 1 where a number is possible.
        adapter = TypeAdapter(get_type_hints(config)[name])
        return adapter.validate_python(plain, strict=isinstance(plain, bool))
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise InputError(f"{shown}: {said[0].lower()}{said[1:]}.") from None
    except (ValueError, TypeError) as error:  # of a size
        raise InputError(f"{shown}: {error}.") from None
