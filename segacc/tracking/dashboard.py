"""`segacc dashboard`: save a workspace for segacc's runs in W&B, or write it into a file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from segacc.errors import InputError, write_text


def write_workspace(path: Path, entity: str, project: str) -> None:
    """Write what W&B would be sent into a JSON file; no key and no network are needed.

    Raises:
        InputError: wandb-workspaces is not installed, or the file cannot be written.
    """
    _check_package()
    from segacc.tracking.workspace import make_workspace

    view = make_workspace(entity, project)._to_model()  # no public function gives it
    try:
        write_text(path, view.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")
    except OSError as error:
        raise InputError(
            f"--out {path} cannot be written ({error.strerror}): give another file."
        ) from error


def save_workspace(entity: str | None, project: str) -> str:
    """Save the workspace in W&B as a new view of the project.

    Args:
        entity: a user or a team; None is the owner of the key.

    Returns:
        the address of the view.

    Raises:
        InputError: wandb-workspaces or a key is missing, W&B cannot be reached, or it refuses.
    """
    import requests
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise InputError(
            "segacc dashboard found no key of W&B, in which it saves the workspace: run `wandb "
            "login` or set WANDB_API_KEY, or look at what it would save with --out FILE."
        )
    _check_package()
    from segacc.tracking.workspace import make_workspace

    try:
        workspace = make_workspace(entity or wandb.Api().default_entity or "", project)
        return workspace.save().url
    except (wandb.errors.Error, requests.RequestException, ValueError) as error:
        raise InputError(
            f"segacc dashboard could not save the workspace of --project {project} ({error}): "
            "check the network and the key, and that the project exists (it does once a run was "
            "logged or synced)."
        ) from error


def _check_package() -> None:
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise InputError(
            "segacc dashboard needs the package wandb-workspaces, which is not installed: run "
            "`pip install wandb-workspaces`."
        )
