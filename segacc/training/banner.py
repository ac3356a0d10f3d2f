"""What a run prints in the terminal: the banner, a row per epoch, and the last lines."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from segacc.config.sizes import size_in_words
from segacc.config.train import TrainConfig, is_own
from segacc.data.reading.depth import about_range
from segacc.data.split import Prepared
from segacc.errors import how_to_score, plural, some_names
from segacc.labels import Labels
from segacc.models.segmenter import Segmenter
from segacc.runs.epochs import read_epochs
from segacc.runtime.accelerator import device_name, resolved_precision
from segacc.training.checks import warnings_of
from segacc.training.losses.terms import PixelOptions, has_region_loss
from segacc.training.saving.checkpoint import Progress

HEAD_EVERY = 25
"""rows from one head of the table of epochs to the next: as many as a small terminal shows"""


def banner(
    config: TrainConfig,
    accelerator: Accelerator,
    data: Prepared,
    model: Segmenter,
    weights: str,
    loading: str,
    more: dict[str, str],
) -> str:
    """The settings that are in effect, as lines of text to print before the first epoch, below the
    title (`segacc.config.train.print_title`)."""
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
    classes = ""
    if data.labels.logits > 1:
        classes = f"; {data.labels.classes} classes: {some_names(data.labels.names, 12)}"
    rows = {
        "device": f"{device_name(accelerator.device)}, {resolved_precision(accelerator)}, "
        f"per process {plural(torch.get_num_threads(), 'thread')} and {loading}",
        "batch": batch,
        "data": counts
        + (f", fold {config.fold}" if config.fold else "")
        + f"; {size_in_words(data.size)}"
        + (f", crops of {config.crop} px in training only" if config.crop else "")
        + f", flips {config.flips}"
        + about_range(data.value_range)
        + classes,
        "parameters": about_parameters(config, model),
        "weights": weights,
        "batchnorm": norm,
        "schedule": f"at most {plural(config.epochs, 'epoch')} of about {plural(steps, 'step')}, "
        f"patience {config.patience}, lr {config.lr:g}, loss {config.loss}, seed {config.seed}"
        + ("" if config.recipe == "default" else f", recipe {config.recipe}"),
    }
    shown = [*(rows | more).items(), *(("warning", text) for text in warnings_of(data))]
    return "\n".join(f"  {name:<11} {text}" for name, text in shown)


def about_parameters(config: TrainConfig, model: Segmenter) -> str:
    """Say how many parameters there are, and why some are not trained though no flag asks for
    it."""
    counts = model.parameters_whole, model.parameters_trained
    whole, trained = (f"{count / 1e6:.1f} M" for count in counts)
    unused = whole != trained and config.freeze_encoder != "all"
    why = " (masks do not depend on the others)" if unused else ""
    return f"{whole}, {trained} of them trained{why}"


def about_fine_tuning(config: TrainConfig) -> dict[str, str]:
    """The line of the banner on what differs from a plain training of all layers alike."""
    said = []
    if config.freeze_encoder == "all" or config.freeze_encoder >= config.epochs:
        said.append("encoder held for all epochs")
    else:
        if config.encoder_lr != 1:
            said.append(f"lr of the encoder times {config.encoder_lr:g}")
        if config.layer_decay != 1:
            said.append(f"lr times {config.layer_decay:g} from block to block")
        if config.freeze_encoder:
            said.append(f"encoder held for the first {plural(config.freeze_encoder, 'epoch')}")
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


def epoch_rows(
    line: dict[str, float],
    epochs: int,
    first: int,
    best: tuple[int, float],
    constant: float,
    left: float | None,
    labels: Labels,
) -> str:
    """An epoch as a row of a table of 80 columns, with the head of the table where that is due.

    A note beside the head says if the best epoch is no better than a mask in which every pixel is
    of one class.

    Args:
        line: the epoch's line of metrics.jsonl.
        epochs: the largest number of epochs.
        first: the first one that this process does, counted from 1.
        best: the best one so far, counted from 1, and its IoU.
        constant: the IoU of such a mask.
        left: seconds that the other epochs take if there are as many; None if that is not known.
    """
    row = _in_columns(
        epochs,
        [
            f"{line['epoch']}/{epochs}",
            _in_six(line["train_loss"]),
            _in_six(line["valid_loss"]),
            f"{line['valid_iou']:.4f}",
            f"{line['valid_iou_image']:.4f}",
            f"{line['lr']:.1e}",
            f"{line['img_per_s']:.1f}"
            if line["img_per_s"] < 999.95
            else f"{line['img_per_s']:.0f}",
            share_text(line["data_wait"]),
            duration(line["seconds"]),
            duration(left) if left else "-",
            "best" if line["epoch"] == best[0] else "",
        ],
    )
    if (line["epoch"] - first) % HEAD_EVERY:
        return row
    score = "IoU" if labels.logits == 1 else "mIoU"
    upper = ["", "train", "valid", "", "per", "", "", "", "", "at most", ""]
    lower = ["epoch", "loss", "loss", score, "image", "lr", "img/s", "wait", "time", "left", ""]
    note = no_better_than_constant(best[1], constant, labels)
    return "\n".join(
        [
            _in_columns(epochs, upper),
            _in_columns(epochs, lower),
            row,
            *([f"  {note}"] if note else []),
        ]
    )


def _in_columns(epochs: int, cells: list[str]) -> str:
    """The cells of a row at the right of their columns: 80 characters, up to 9,999 epochs."""
    numbers = 2 * len(str(epochs)) + 1
    score = 7 if numbers <= 7 else 6
    widths = [max(5, numbers), *([score] * 4), 7, 6, 4, 7, 7]
    *cells, mark = cells
    row = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{row} {mark}".rstrip()


def _in_six(value: float, *forms: str) -> str:
    """Format a number in the first of these forms that takes at most six characters."""
    texts = [f"{value:{form}}" for form in forms or (".4f", ".3f", ".1f", ".0e")]
    return next((text for text in texts if len(text) <= 6), texts[-1])


def share_text(share: float) -> str:
    """A share in at most four characters: `0.1%`, `12%`."""
    return f"{share:.1%}" if share < 0.0995 else f"{share:.0%}"


def duration(seconds: float) -> str:
    """A time in at most seven characters: `1.2 s`, `12 s`, `1.7 min`, `20 min`, `3.5 h`, `12 d`."""
    value, unit = seconds, "s"
    for size, larger in ((60, "min"), (60, "h"), (24, "d")):
        if value < 99.5:
            break
        value, unit = value / size, larger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{min(value, 99999):.0f} {unit}"


def no_better_than_constant(best_iou: float, constant: float, labels: Labels) -> str:
    """Return a sentence if the best epoch is no better than a mask in which all is one class, else
    an empty text."""
    if best_iou >= constant + 1e-3:
        return ""
    binary = labels.logits == 1
    where, score = ("all foreground", "IoU") if binary else ("one class everywhere", "mIoU")
    return f"so far no better than {where} ({score} {constant:.4f})"


MORE_STEPS = "a small set may need a smaller --batch-size, a higher --lr or more --epochs"


def _at_best_threshold(run: Path, epoch: int) -> str:
    """Say the IoU of an epoch's model for two classes at the threshold that `evaluate` takes."""
    line = next((line for line in read_epochs(run) if line["epoch"] == epoch), {})
    if "valid_iou_best_threshold" not in line:
        return ""
    iou, threshold = line["valid_iou_best_threshold"], line["valid_threshold"]
    return f" at threshold 0.5 ({iou:.4f} at {threshold:.3g})"


def final_lines(
    config: TrainConfig, run: Path, progress: Progress, data: Prepared, constant: float
) -> str:
    """Say how a run ended, and which command scores it; `constant` as in `epoch_rows`."""
    has_test, iou = "test" in data.splits, "iou" if data.labels.logits == 1 else "miou"
    score = how_to_score(run, "test" if has_test else "valid", is_own(config.model))
    why = "patience ran out" if progress.epoch < config.epochs else "all epochs are done"
    note = no_better_than_constant(progress.best_iou, constant, data.labels)
    best = f"{progress.best_iou:.4f}{_at_best_threshold(run, progress.best_epoch)}"
    return (
        f"\n{why}: best epoch {progress.best_epoch} of {progress.epoch}, validation {iou} "
        f"{best}, its model in {run / 'best'}\n"
        + (f"warning: {note.removeprefix('so far ')}; {MORE_STEPS}\n" if note else "")
        + f"next: {score}"
    )
