"""Where curves go: W&B, trackio or TensorBoard through accelerate's trackers, JSONL always.

Rank 0 alone writes: there is one run per job. A row of step k is of the model after k steps of the
optimizer: the scores that it has, and the batch that it meets next. So a resumed run that has to
leave out the steps which were logged before never leaves out scores.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segacc.errors import InputError
from segacc.report.pictures import Picture, triptych
from segacc.runs import read_lines
from segacc.tracking import wandb_run

if TYPE_CHECKING:
    from accelerate import Accelerator

    from segacc.config import TrainConfig
    from segacc.data.split import Split
    from segacc.models.segmenter import Segmenter

log = logging.getLogger(__name__)

PROJECT = "segacc"

# The names that trackers know. W&B makes a section of what stands before the slash.
STEP_NAMES = (
    "train/loss",
    "train/grad_norm",
    "train/lr",
    "throughput/img_per_s",
    "throughput/data_wait",
)
# Of metrics.jsonl. valid_NAME is valid/NAME; step is the axis, lr is in the rows of the steps.
EPOCH_NAMES = {
    "epoch": "epoch",
    "train_loss": "train/loss_epoch",
    "img_per_s": "throughput/img_per_s_epoch",
    "data_wait": "throughput/data_wait_epoch",
    "seconds": "throughput/seconds_epoch",
    "memory_gib": "throughput/memory_gib",
}
PICTURES = "pictures/valid"
BEST_PICTURES = "pictures/best"
TABLE = "tables/valid_per_image"
SHOWN_IMAGES = 8
SHEET_WIDTH = 900  # of the largest sheet; W&B gets the images as they are


@dataclass(frozen=True)
class Tracker:
    """A tracker that was started. On ranks but the first, and with `--tracker none`, silent."""

    accelerator: Accelerator
    name: str
    active: bool
    run: Path
    batch_size: int
    pictures: int
    """epochs between pictures, 0 for none"""
    first: int = 0
    """the first step that it lacks: rows before it were logged in an earlier life of the run"""
    says: str = "metrics.jsonl only"
    """what it does, for the banner"""


def check_tracker(tracker: str) -> None:
    """Raises InputError when the package of `--tracker` is not installed."""
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise InputError(
            f"--tracker {tracker} needs the package {tracker}, which is not installed: run "
            f"`pip install {tracker}` or give --tracker none."
        )


def start_tracker(
    accelerator: Accelerator,
    config: TrainConfig,
    run: Path,
    run_id: str,
    step: int = 0,
    epoch: int = 0,
    best_epoch: int = 0,
) -> Tracker:
    """Open the tracker on rank 0. It gets all that config.json says, and the epochs that it lacks
    of a resumed run.

    Args:
        step, epoch: steps and epochs done before this life of the run.
        best_epoch: of these.
    """
    name = config.tracker
    active = name != "none" and accelerator.is_main_process
    tracker = Tracker(accelerator, name, active, run, config.batch_size, config.pictures)
    if not tracker.active:
        return tracker
    from accelerate.tracking import filter_trackers

    # Only now is the run's folder known; the Accelerator had to be there before.
    accelerator.project_configuration.set_directories(str(run))
    accelerator.log_with = filter_trackers(name, accelerator.logging_dir)
    record = _read_record(run)
    known = {**record.pop("config"), **record}
    if name == "wandb":
        says, first = wandb_run.start(accelerator, PROJECT, run, run_id, known)
    elif name == "trackio":
        options = {"name": f"{run.name}-{run_id}", "resume": "allow", "embed": False}
        accelerator.init_trackers(PROJECT, init_kwargs={name: {**options, "config": known}})
        says = f"trackio (`trackio show --project {PROJECT}`)"
        first = getattr(accelerator.get_tracker(name, unwrap=True), "_next_step", 0)
    else:
        # From this step on TensorBoard hides what an earlier life of the run has written.
        first = step
        purge = {"purge_step": first} if first else {}
        accelerator.init_trackers(PROJECT, config=_flat(known), init_kwargs={name: purge})
        says = f"tensorboard (`tensorboard --logdir {run}`)"
    tracker = dataclasses.replace(tracker, first=first, says=says)
    for line in read_lines(run):
        if line["epoch"] <= epoch:
            log_epoch(tracker, line, best=line["epoch"] == best_epoch)
    return tracker


def _read_record(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """Without dictionaries inside: hparams of TensorBoard take scalars and text only."""
    flat: dict[str, int | float | str | bool] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value if isinstance(value, int | float | bool) else str(value)
    return flat


def log_steps(
    tracker: Tracker,
    first: int,
    results: list[tuple[float, float]],
    rates: list[float],
    took: float,
    waited: float,
) -> None:
    """A row for each of the steps since the last look at the losses.

    Only a look waits for the GPU, so img/s and data_wait are means over these steps.

    Args:
        first: steps of the optimizer before the first of them.
        results: loss of the whole batch, and gradient norm before clipping.
        took, waited: seconds since the last look, and of these for data.
    """
    if not tracker.active:
        return

    speed = (len(results) * tracker.batch_size / took, waited / took)
    for step, result in enumerate(results, start=first):
        values = (*result, rates[step - first], *speed)
        _log(tracker, dict(zip(STEP_NAMES, values, strict=True)), step)


def log_epoch(tracker: Tracker, line: dict[str, Any], best: bool) -> None:
    """All of a line of metrics.jsonl; the best epoch's scores are the summary in W&B."""
    if not tracker.active:
        return
    scores = {
        f"valid/{k.removeprefix('valid_')}": v for k, v in line.items() if k.startswith("valid_")
    }
    others = {name: line[key] for key, name in EPOCH_NAMES.items() if key in line}
    _log(tracker, {**others, **scores}, line["step"])
    if best and tracker.name == "wandb":
        _unwrapped(tracker).summary.update({**scores, "best_epoch": line["epoch"]})


def log_epoch_pictures(
    tracker: Tracker, epoch: int, step: int, model: Segmenter, split: Split
) -> None:
    """After the first and every nth epoch, show what the model finds in a few validation images,
    always the same. Rank 0 does it alone.

    Args:
        model: in evaluation mode, and not wrapped by DDP, whose forward waits for the other ranks.
        split: the validation split.
    """
    if tracker.pictures and (epoch == 1 or epoch % tracker.pictures == 0):
        _show(tracker, PICTURES, step, model, split)


def _show(tracker: Tracker, key: str, step: int, model: Segmenter, split: Split) -> None:
    if tracker.active and step >= tracker.first:
        with _spared(tracker):
            log_pictures(tracker, key, step, predict_pictures(model, split, tracker.accelerator))


def predict_pictures(
    model: Segmenter, split: Split, accelerator: Accelerator, threshold: float = 0.5
) -> list[Picture]:
    """Up to SHOWN_IMAGES, spread evenly over a split, with what the model finds in them.

    It leaves no trace in the run: no random number is drawn, and the model stays as it is.
    """
    import torch

    from segacc.data.loading.loader import full_images, to_device
    from segacc.metrics.counts import count_pixels, iou_of

    assert not model.training
    places = np.linspace(0, len(split) - 1, min(len(split), SHOWN_IMAGES)).round().astype(int)
    pictures = []
    for index in places.tolist():
        images, masks = to_device(full_images(split, [index]), accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            probabilities = model(images).float().sigmoid()
        iou = iou_of(count_pixels(probabilities, masks, threshold))[0, 0].item()
        found = (probabilities[0, 0] > threshold).byte().cpu().numpy()
        pictures.append(Picture(split.names[index], *split[index], found, iou))
    return pictures


def log_pictures(tracker: Tracker, key: str, step: int, pictures: list[Picture]) -> None:
    """Images with their masks: W&B switches these on and off, others get them side by side."""
    if not tracker.active or step < tracker.first:
        return
    if tracker.name == "wandb":
        _log(tracker, {key: wandb_run.masked_images(pictures)}, step)
        return
    sheets = {}
    for picture in pictures:
        sheet = triptych(picture.image, picture.truth, picture.prediction, picture.caption)
        sheet.thumbnail((SHEET_WIDTH, SHEET_WIDTH))
        sheets[f"{key}/{picture.name.replace('/', '__')}"] = sheet
    if tracker.name == "trackio":
        import trackio

        _log(tracker, {name: trackio.Image(sheet) for name, sheet in sheets.items()}, step)
    else:
        for name, sheet in sheets.items():
            _unwrapped(tracker).add_image(name, np.asarray(sheet), step, dataformats="HWC")


def log_results(tracker: Tracker, best_epoch: int, step: int, split: Split) -> None:
    """What the best model of a finished run does: pictures and scores of each image, and in W&B the
    model itself.

    Args:
        split: the validation split.
    """
    if not tracker.active:
        return
    from segacc.models.weights import load_segmenter

    run = tracker.run
    with _spared(tracker):
        if tracker.pictures:
            model = load_segmenter(run).to(tracker.accelerator.device)
            _show(tracker, BEST_PICTURES, step, model, split)
        _log_table(tracker, run / "best" / "valid_per_image.csv", step)
        if tracker.name == "wandb":
            best = [line for line in read_lines(run) if line["epoch"] == best_epoch]
            wandb_run.log_model(_unwrapped(tracker), run, {"best": best[0], **_read_record(run)})


@contextmanager
def _spared(tracker: Tracker) -> Iterator[None]:
    """The run goes on without what its tracker cannot take."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # a disk, a network, a server
        log.warning("--tracker %s lacks pictures or results (%s).", tracker.name, error)


def _log_table(tracker: Tracker, path: Path, step: int) -> None:
    if not path.exists() or tracker.name == "tensorboard":
        return
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    # `wandb` and `trackio` both have a class of this name that takes this.
    table = importlib.import_module(tracker.name).Table
    data = [[row[0], *map(float, row[1:])] for row in rows]
    _log(tracker, {TABLE: table(columns=columns, data=data)}, step)


def _log(tracker: Tracker, values: dict[str, Any], step: int) -> None:
    """A row, unless it is there: W&B would warn of each, and trackio would have it twice."""
    if step >= tracker.first:
        tracker.accelerator.log(values, step=step)


def _unwrapped(tracker: Tracker) -> Any:
    return tracker.accelerator.get_tracker(tracker.name, unwrap=True)
