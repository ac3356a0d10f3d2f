"""The commands around training: segacc prepare, segacc check, segacc dashboard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from segacc.program import InputError, run_program

Dataset = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]


def prepare(dataset: Dataset, size: int = 256, save: Path | None = None) -> None:
    """Fetch, convert and resize a data set ahead of training.

    Args:
        dataset: what train.py takes as --dataset.
        size: what train.py takes as --size.
        save: also write the images and masks, as they are, as a datasets.DatasetDict (for
            `load_from_disk` and `push_to_hub`) into this new folder.
    """
    from segacc.data import prepare as room
    from segacc.data.sources import load_dataset

    source = load_dataset(dataset)
    prepared = room.prepare(source, size)
    for name, split in prepared.splits.items():
        print(f"{name:<6} {len(split):>6} images of {size} x {size} px in {split.path}")
    print(f"fingerprint {prepared.fingerprint}")
    if save is not None:
        if save.exists() and (save.is_file() or any(save.iterdir())):
            raise InputError(f"--save {save} is not empty: give a new folder.")
        from datasets import Image

        # For whoever loads it, pictures; we read the encoded bytes ourselves.
        shown = source.cast_column("image", Image()).cast_column("mask", Image())
        shown.save_to_disk(str(save))
        print(f"written: {save} (--dataset {save}, or load_from_disk and push_to_hub)")


def check(dataset: Dataset) -> int:
    """Look for all that can be wrong with a data set, and name the files.

    Args:
        dataset: what train.py takes as --dataset.

    Returns:
        1 when there is an error that stops training, else 0.
    """
    from segacc.data.audit import audit, format_findings

    findings = audit(dataset)
    print(format_findings(findings))
    return int(any(f.severity == "error" for f in findings))


def dashboard(project: str = "segacc", entity: str | None = None, out: Path | None = None) -> None:
    """Build the project's workspace in W&B: training, validation, throughput, pictures, models.

    Args:
        project: the project that runs are logged to.
        entity: a user or a team of W&B; by default who the key belongs to.
        out: write what would be sent into this file instead, as JSON; needs no key and no network.
    """
    from segacc import dashboard as room

    if out is not None:
        room.write_workspace(out, entity or "", project)
        print(f"written: {out}")
    else:
        print(f"saved: {room.save_workspace(entity, project)}")


def main() -> None:
    """Entry point of the command `segacc`."""
    codes: list[int | None] = []

    def program() -> None:
        codes.append(
            tyro.extras.subcommand_cli_from_dict(
                {"prepare": prepare, "check": check, "dashboard": dashboard}, prog="segacc"
            )
        )

    failed = run_program(program, debug=False)
    sys.exit(failed or codes[0] or 0)
