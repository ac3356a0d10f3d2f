"""What only W&B can do: resuming, masks that are switched on and off, models as artifacts."""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segacc.errors import InputError
from segacc.report.pictures import Picture

if TYPE_CHECKING:
    from accelerate import Accelerator

CLASSES = {0: "background", 1: "foreground"}
BLOCK = 32768
WHOLE, LAST = 1, 4  # kinds of pieces of a record


def start(
    accelerator: Accelerator, project: str, run: Path, run_id: str, config: dict[str, Any]
) -> tuple[str, int]:
    """Open or resume the run, on rank 0.

    Returns:
        What W&B does, for the banner; the first step that it lacks.

    Raises:
        InputError: W&B refuses the key, or is out of reach.
    """
    import wandb

    options = {"name": run.name, "dir": str(run), "resume": "allow", "config": config}
    if "WANDB_SWEEP_ID" in os.environ:
        chosen: Any = None  # by the agent, as is the id; W&B warns of others
    else:
        chosen = os.environ.get("WANDB_PROJECT", project)
        options["id"] = run_id
    mode = os.environ.get("WANDB_MODE")
    says = f"wandb ({mode or 'online'})"
    try:
        if mode is None and not wandb.login(prompt=False, verify=False):
            options["mode"] = "offline"
            upload = f"wandb sync {run}/wandb/offline-run-*"
            says = f"wandb, offline for want of a key; upload with `{upload}`"
        accelerator.init_trackers(chosen, init_kwargs={"wandb": options})
    except wandb.errors.Error as error:
        raise InputError(
            f"--tracker wandb could not start ({error}): check the key and the network, set "
            "WANDB_MODE=offline, or give another --tracker."
        ) from error
    wandb_run: Any = accelerator.get_tracker("wandb", unwrap=True)
    # Not of the last epoch but of the best one: `log_epoch` sets it.
    wandb_run.define_metric("valid/*", summary="none")
    first = 1 + last_step(run / "wandb", run_id) if wandb_run.offline else wandb_run.starting_step
    return says, first


def last_step(folder: Path, run_id: str) -> int:
    """The last step in the files that earlier lives of a run have written; -1 when there is none.

    Offline W&B knows nothing of them, and `wandb sync` sends all that they hold. What a kill has
    left in memory (up to 32 KiB) or half written does not count, so it is logged again.
    """
    from wandb.proto import wandb_internal_pb2

    protocol: Any = wandb_internal_pb2
    for path in sorted(folder.glob(f"*run-*-{run_id}/run-{run_id}.wandb"), reverse=True):
        for encoded in reversed(list(_records(path))):
            try:
                items = protocol.Record.FromString(encoded).history.item
            except Exception:  # protobuf's own, of a record that is damaged
                continue
            for item in items:
                if "_step" in (item.key, *item.nested_key):
                    return int(json.loads(item.value_json))
    return -1


def _records(path: Path) -> Iterator[bytes]:
    """The complete records of a .wandb file, which has the log format of LevelDB.

    Blocks of 32 KiB hold pieces of records, each behind a checksum, a length and its kind.
    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        position, record = 7, b""  # after W&B's own header
        while position + 7 <= len(data):
            left = BLOCK - position % BLOCK
            if left < 7:  # too little for another piece
                position += left
                continue
            _, length, kind = struct.unpack_from("<IHB", data, position)
            piece = data[position + 7 : position + 7 + length]
            if len(piece) < length:
                return
            position += 7 + length
            record += piece
            if kind in (WHOLE, LAST):
                yield record
                record = b""


def masked_images(pictures: list[Picture]) -> list[Any]:
    """wandb.Image of each, with truth and prediction as masks of both classes."""
    import wandb

    return [
        wandb.Image(
            picture.image,
            masks={
                "truth": {"mask_data": picture.truth, "class_labels": CLASSES},
                "prediction": {"mask_data": picture.prediction, "class_labels": CLASSES},
            },
            caption=picture.caption,
            file_type="jpg",
        )
        for picture in pictures
    ]


def log_model(wandb_run: Any, run: Path, metadata: dict[str, Any]) -> None:
    """The best model as an artifact of its own. Its files stay where they are, in `run/best`."""
    import wandb

    name = re.sub(r"[^\w.-]", "-", f"{run.name}-{metadata['run_id']}", flags=re.ASCII)[-128:]
    artifact = wandb.Artifact(name, type="model", metadata=metadata)
    artifact.add_dir(str(run / "best"), policy="immutable", skip_cache=True)
    wandb_run.log_artifact(artifact, aliases=["best"])
