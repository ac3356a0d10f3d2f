"""metrics.jsonl: a line for each epoch of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from segacc.errors import disk_errors, write_text


def append_epoch(run: Path, values: dict[str, Any]) -> None:
    """Add an epoch to metrics.jsonl."""
    with disk_errors(run), (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_epochs(run: Path) -> list[dict[str, Any]]:
    """The epochs in metrics.jsonl, without a last line that a killed run did not finish."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def drop_epochs_after(run: Path, epochs: int) -> list[dict[str, Any]]:
    """Drop from metrics.jsonl the epochs after `epochs`, which a resumed run does again.

    Returns:
        the lines that stay.
    """
    kept = [line for line in read_epochs(run) if line["epoch"] <= epochs]
    with disk_errors(run):
        write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
    return kept
