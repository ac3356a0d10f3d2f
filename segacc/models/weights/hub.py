"""Models of segacc in repositories of the Hub: two files of each are downloaded, once."""

from __future__ import annotations

import json
import re
from pathlib import Path

from segacc.config.names import is_path
from segacc.errors import InputError, first_line, hub_errors
from segacc.runtime.network import hub_or_its_cache

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def is_repository(name: str) -> bool:
    """Whether a text may be a repository, owner/name, and is no file or folder here."""
    if is_path(name) or Path(name).exists():
        return False
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def download(repository: str, name: str) -> Path:
    """A file of a repository, in the cache of the Hub.

    Raises:
        InputError: it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    with hub_or_its_cache() as unreachable:
        try:
            return Path(hf_hub_download(repository, name))
        except hub_errors() as error:
            reason = unreachable or first_line(error)
            raise InputError(
                f"{repository} is no folder here, and its {name} could not be had from the Hub "
                f"({reason}): give a model's folder, or the id of a segacc model; without a "
                "network point HF_HOME at a cache that holds it."
            ) from error


def folder_of_model(name: str, may_be_other: bool) -> Path | None:
    """The folder in the cache with the model of segacc that a repository holds.

    Args:
        may_be_other: whether it is likely to be of another library, which then says itself why it
            cannot be loaded.

    Returns:
        None where the name is no repository, or its config.json is not that of a segacc model.

    Raises:
        InputError: config.json (unless `may_be_other`) or the weights cannot be downloaded.
    """
    if not is_repository(name):
        return None
    try:
        config = download(name, CONFIG)
    except InputError:
        if may_be_other:
            return None
        raise
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(found, dict) or "architecture" not in found or "model_type" in found:
        return None
    return download(name, WEIGHTS).parent
