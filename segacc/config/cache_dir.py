"""Where segacc keeps what it downloads and prepares."""

from __future__ import annotations

import os
from pathlib import Path

from segacc.errors import InputError


def cache_dir() -> Path:
    """Folder of downloads, demo images and prepared data: `SEGACC_CACHE`, or `~/.cache/segacc`."""
    named = os.environ.get("SEGACC_CACHE")
    if named:
        return Path(named).expanduser()
    try:
        return Path.home() / ".cache" / "segacc"
    except RuntimeError:  # HOME is not set, and this user is not in /etc/passwd
        raise InputError(
            "the cache has no place, since HOME is not set: set SEGACC_CACHE (or HOME) to a folder "
            "that can be written."
        ) from None
