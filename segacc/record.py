"""What a run says of itself: its folder with config.json, the banner, the model card."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import secrets
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

import segacc
from segacc.config import TrainConfig, to_json
from segacc.data.prepare import Prepared
from segacc.losses import is_of_batch
from segacc.metrics import dice_of, iou_of, precision_of, recall_of
from segacc.models import Segmenter
from segacc.program import InputError, disk_errors, write_text

LIBRARIES = (
    "torch",
    "accelerate",
    "transformers",
    "segmentation-models-pytorch",
    "pillow",
    "datasets",
)


def check_output_dir(folder: Path | None) -> None:
    """Raises InputError when `--output-dir` is taken."""
    if folder is None or not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        kind = "is not empty" if folder.is_dir() else "is a file"
        raise InputError(
            f"--output-dir {folder} {kind}: give a new folder, or continue the run in it with "
            f"--resume {folder}."
        )


def open_run(
    config: TrainConfig, data: Prepared, model: Segmenter, accelerator: Accelerator
) -> tuple[Path, str]:
    """Make the run's folder with its config.json, or find the one to resume.

    Returns:
        The folder, and the id under which trackers know the run.
    """
    if config.resume:
        path = config.resume / "config.json"
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["data"]["fingerprint"] != data.fingerprint:
            raise InputError(
                f"--resume {config.resume}: the data set {config.dataset} has changed since the "
                "run began (its fingerprint differs): restore it or start a new run."
            )
        # Epochs, patience and the like may have changed.
        saved["config"] = {**to_json(config), "resume": None}
        with disk_errors(config.resume):
            write_text(path, json.dumps(saved, indent=2) + "\n")
        return config.resume, saved["run_id"]
    place = Path(config.dataset).expanduser()
    name = place.resolve().stem if place.exists() else config.dataset.replace("/", "-")
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    run = config.output_dir or Path("runs") / f"{name}-{config.model.replace('/', '-')}-{time}"
    check_output_dir(run)
    run_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)  # an agent of a sweep sets it
    try:
        run.mkdir(parents=True, exist_ok=True)
        record = {
            "config": {**to_json(config), "output_dir": str(run), "precision": dtype(accelerator)},
            "run_id": run_id,
            "data": {
                "fingerprint": data.fingerprint,
                "images": {name: len(split) for name, split in data.splits.items()},
            },
            "parameters": {"whole": model.parameters_whole, "trained": model.parameters_trained},
            "processes": accelerator.num_processes,
            "device": device_name(accelerator.device),
            "versions": {
                "segacc": segacc.__version__,
                "python": platform.python_version(),
                **{library: version(library) for library in LIBRARIES},
            },
            "git_commit": git_commit(),
        }
        write_text(run / "config.json", json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise InputError(
            f"--output-dir {run} cannot be written ({error.strerror}): give another folder."
        ) from error
    return run, run_id


def git_commit() -> str | None:
    """The commit of this code, with a + when files differ from it; None outside git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def banner(
    config: TrainConfig,
    accelerator: Accelerator,
    data: Prepared,
    model: Segmenter,
    weights: str,
    threads: int,
    loading: str,
) -> str:
    """What is really in effect, for a person to read before the first epoch."""
    steps = math.ceil(len(data.splits["train"]) / config.batch_size)
    world = accelerator.num_processes
    share = config.batch_size // (world * config.accumulate)
    counts = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    batch = f"{config.batch_size} global = {world} process{'es' * (world > 1)} x {share}"
    if config.accumulate > 1:
        batch += f" x {config.accumulate} parts"
        if is_of_batch(config.loss):
            batch += f" (--loss {config.loss} is then of each part, not of the whole batch)"
    if config.freeze_bn:
        norm = "frozen"
    else:
        norm = "over the global batch" if config.accumulate == 1 else "over each part of the batch"
    backbone = "" if model.architecture == "transformers" else f" ({config.encoder})"
    rows = {
        "device": f"{device_name(accelerator.device)}, {dtype(accelerator)}, {threads} threads and "
        f"{loading} per process",
        "batch": batch,
        "data": f"{counts}; {config.size} px"
        + (f", crops of {config.crop} px in training only" if config.crop else "")
        + f", flips {config.flips}",
        "parameters": f"{model.parameters_whole / 1e6:.1f} M, "
        f"{model.parameters_trained / 1e6:.1f} M of them trained",
        "weights": weights,
        "batchnorm": norm,
        "schedule": f"at most {config.epochs} epochs of about {steps} steps, patience "
        f"{config.patience}, lr {config.lr:g}, loss {config.loss}, seed {config.seed}",
    }
    lines = [f"segacc {segacc.__version__}: {config.model}{backbone} on {config.dataset}"]
    return "\n".join(lines + [f"  {name:<11} {text}" for name, text in rows.items()])


def epoch_line(
    line: dict[str, float], epochs: int, best_epoch: int, best_iou: float, constant: float
) -> str:
    """One epoch, as in metrics.jsonl, as a line for the terminal; the best so far may be it.

    While that is no better than `constant`, the IoU of calling every pixel foreground, it says so.
    """
    best = "best" if line["epoch"] == best_epoch else f"best {best_iou:.4f}"
    if best_iou < constant + 1e-3:
        best += f" (no better than all foreground: {constant:.4f})"
    return (
        f"epoch {line['epoch']:>3}/{epochs}  loss {line['train_loss']:.4f} train "
        f"{line['valid_loss']:.4f} valid  iou {line['valid_iou']:.4f}  "
        f"iou_image {line['valid_iou_image']:.4f}  lr {line['lr']:.2e}  "
        f"{line['img_per_s']:.1f} img/s  wait {line['data_wait']:.1%}  "
        f"{line['seconds']:.1f} s  {best}"
    )


def dtype(accelerator: Accelerator) -> str:
    """fp32, bf16 or fp16: what `--precision` has come to."""
    return {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def per_image_csv(names: list[str], sizes: np.ndarray, counts: Tensor, **more: Tensor) -> str:
    """A table with a line per image: its name, its own size, its scores and pixel counts.

    Args:
        sizes: (N, 2) height and width of the images before they were resized.
        counts: (N, 4) of one class.
        more: other scores, (N,) each.
    """
    columns = {
        "iou": iou_of(counts),
        "dice": dice_of(counts),
        "precision": precision_of(counts),
        "recall": recall_of(counts),
        **more,
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "height", "width", *columns, "tp", "fp", "fn", "tn"])
    for i, name in enumerate(names):
        values = [f"{column[i].item():.6f}" for column in columns.values()]
        writer.writerow([name, *sizes[i].tolist(), *values, *counts[i].long().tolist()])
    return text.getvalue()


def model_card(config: TrainConfig, line: dict[str, float]) -> str:
    """The README.md of the best model: what it is, how good, how to use it.

    Args:
        line: the epoch that it comes from, as in metrics.jsonl.
    """
    dataset = Path(config.dataset.rstrip("/")).name
    crop = f", trained on random crops of {config.crop} px" if config.crop else ""
    return f"""---
library_name: segacc
pipeline_tag: image-segmentation
tags: [semantic-segmentation, pytorch_model_hub_mixin]
---

# {config.model} on {dataset}

Binary segmentation of {dataset} at {config.size} px{crop}. Started from the weights
`{config.weights}`, loss `{config.loss}`, seed {config.seed}.

Validation split, full images, threshold 0.5, epoch {line["epoch"]}:

| score | | value |
|---|---|---|
| iou | over all pixels | {line["valid_iou"]:.4f} |
| iou_image | mean over images | {line["valid_iou_image"]:.4f} |
| dice | over all pixels | {line["valid_dice"]:.4f} |
| iou | over all pixels, threshold {line["valid_threshold"]:g} | \
{line["valid_iou_best_threshold"]:.4f} |

The threshold {line["valid_threshold"]:g} has the largest `iou` on this split; it is stored with the
model, and is what evaluate.py and `segacc predict` use.

```python
from segacc.models import Segmenter

model = Segmenter.from_pretrained("PATH")  # this folder
logits = model(images)  # RGB in 0..255, (B, 3, H, W) of any size -> (B, 1, H, W)
mask = logits.sigmoid() > model.threshold
```
"""
