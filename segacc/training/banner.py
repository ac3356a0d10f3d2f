"""What a run prints in the terminal: the banner, a line per epoch, and the last lines."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

import segacc
from segacc.config.sizes import size_in_words
from segacc.config.train import TrainConfig, is_own
from segacc.data.reading.depth import about_range
from segacc.data.split import Prepared
from segacc.errors import how_to_score, some_names
from segacc.labels import Labels
from segacc.models.segmenter import Segmenter
from segacc.runtime.accelerator import device_name, resolved_precision
from segacc.training.checks import warnings_of
from segacc.training.losses import PixelOptions, has_region_loss
from segacc.training.saving.checkpoint import Progress


def banner(
    config: TrainConfig,
    accelerator: Accelerator,
    data: Prepared,
    model: Segmenter,
    weights: str,
    loading: str,
    more: dict[str, str],
) -> str:
    """The settings that are in effect, as lines of text to print before the first epoch."""
    steps = math.ceil(len(data.splits["train"]) / config.batch_size)
    world = accelerator.num_processes
    share = config.batch_size // (world * config.accumulate)
    counts = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    processes = f"{world} processes" if world > 1 else "1 process"
    batch = f"{config.batch_size} global = {processes} x {share}"
    if config.accumulate > 1:
        batch += f" x {config.accumulate} parts"
        if has_region_loss(config.loss):
            batch += f" (--loss {config.loss} is then of each part, not of the whole batch)"
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        norm = "the model has none"
    elif config.freeze_bn:
        norm = "frozen"
    else:
        norm = "over the global batch" if config.accumulate == 1 else "over each part of the batch"
    backbone = f" ({config.encoder})" if config.encoder else ""
    classes = ""
    if data.labels.logits > 1:
        classes = f"; {data.labels.classes} classes: {some_names(data.labels.names, 12)}"
    rows = {
        "device": f"{device_name(accelerator.device)}, {resolved_precision(accelerator)}, "
        f"{torch.get_num_threads()} threads and {loading} per process",
        "batch": batch,
        "data": counts
        + (f", fold {config.fold}" if config.fold else "")
        + f"; {size_in_words(data.size)}"
        + (f", crops of {config.crop} px in training only" if config.crop else "")
        + f", flips {config.flips}"
        + about_range(data.value_range)
        + classes,
        "parameters": f"{model.parameters_whole / 1e6:.1f} M, "
        f"{model.parameters_trained / 1e6:.1f} M of them trained",
        "weights": weights,
        "batchnorm": norm,
        "schedule": f"at most {config.epochs} epochs of about {steps} steps, patience "
        f"{config.patience}, lr {config.lr:g}, loss {config.loss}, seed {config.seed}"
        + ("" if config.recipe == "default" else f", recipe {config.recipe}"),
    }
    lines = [f"segacc {segacc.__version__}: {config.model}{backbone} on {config.dataset}"]
    shown = [*(rows | more).items(), *(("warning", text) for text in warnings_of(data))]
    return "\n".join(lines + [f"  {name:<11} {text}" for name, text in shown])


def about_fine_tuning(config: TrainConfig) -> dict[str, str]:
    """The line of the banner on what differs from a plain training of all layers alike."""
    said = []
    if config.encoder_lr != 1:
        said.append(f"lr of the encoder times {config.encoder_lr:g}")
    if config.layer_decay != 1:
        said.append(f"lr times {config.layer_decay:g} from block to block")
    if config.freeze_encoder not in (0, "all"):
        said.append(f"encoder held for the first {config.freeze_encoder} epochs")
    if config.ema:
        said.append(f"scored is a moving average of the weights, decay {config.ema:g}")
    return {"fine-tuning": "; ".join(said)} if said else {}


def about_options(options: PixelOptions, labels: Labels) -> dict[str, str]:
    """The line of the banner on how pixels count in the loss; none where all count the same."""
    said = []
    if options.class_weights is not None:
        weights = zip(labels.names, options.class_weights, strict=True)
        shown = some_names([f"{name} {weight:.2g}" for name, weight in weights], 12)
        said.append(f"pixels weigh by class: {shown}")
    if options.ohem is not None:
        said.append(f"only the {options.ohem:.0%} of the pixels with the largest loss count")
    if options.label_smoothing:
        said.append(f"labels are smoothed by {options.label_smoothing:g}")
    return {"loss": "; ".join(said)} if said else {}


def epoch_line(
    line: dict[str, float],
    epochs: int,
    best_epoch: int,
    best_iou: float,
    constant: float,
    labels: Labels,
) -> str:
    """An epoch, given as its line of metrics.jsonl, as a line for the terminal.

    The line says so while the best epoch is no better than `constant`, the IoU of a mask in which
    every pixel is of one class (of two: foreground).
    """
    score = "iou" if labels.logits == 1 else "miou"
    best = "best" if line["epoch"] == best_epoch else f"best {best_iou:.4f}"
    if best_iou < constant + 1e-3:
        where = "all foreground" if labels.logits == 1 else "one class everywhere"
        best += f" (no better than {where}: {constant:.4f})"
    return (
        f"epoch {line['epoch']:>3}/{epochs}  loss {line['train_loss']:.4f} train "
        f"{line['valid_loss']:.4f} valid  {score} {line['valid_iou']:.4f}  "
        f"iou_image {line['valid_iou_image']:.4f}  lr {line['lr']:.2e}  "
        f"{line['img_per_s']:.1f} img/s  wait {line['data_wait']:.1%}  "
        f"{line['seconds']:.1f} s  {best}"
    )


def final_lines(config: TrainConfig, run: Path, progress: Progress, data: Prepared) -> str:
    """How a run ended, and the command that scores it."""
    has_test, iou = "test" in data.splits, "iou" if data.labels.logits == 1 else "miou"
    score = how_to_score(run, "test" if has_test else "valid", is_own(config.model))
    why = "patience ran out" if progress.epoch < config.epochs else "all epochs are done"
    return (
        f"\n{why}: best epoch {progress.best_epoch} of {progress.epoch}, validation {iou} "
        f"{progress.best_iou:.4f}, its model in {run / 'best'}\nnext: {score}"
    )
