"""What trackers show besides curves: pictures, a table of validation images, the best model."""

from __future__ import annotations

import csv
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from segacc.labels import BINARY
from segacc.report.pictures import LARGEST, Picture, picture_name, reduced, triptych
from segacc.runs.epochs import read_epochs
from segacc.tracking import wandb_run
from segacc.tracking.start import read_record
from segacc.tracking.trackers import Tracker, log_row

if TYPE_CHECKING:
    from accelerate import Accelerator

    from segacc.data.split import Split
    from segacc.models.segmenter import Segmenter

log = logging.getLogger(__name__)

PICTURES = "pictures/valid"
BEST_PICTURES = "pictures/best"
TABLE = "tables/valid_per_image"
SHOWN_IMAGES = 8
SHEET_WIDTH = 900  # px, at most, of image, truth and prediction side by side


def log_epoch_pictures(
    tracker: Tracker, epoch: int, step: int, model: Segmenter, split: Split
) -> None:
    """After the first and every nth epoch, log what the model finds in a few validation images.

    The images are always the same. Only rank 0 predicts them.

    Args:
        model: in evaluation mode, and not wrapped by DDP, whose forward waits for the other ranks.
        split: the validation split.
    """
    if tracker.pictures and (epoch == 1 or epoch % tracker.pictures == 0):
        _predict_and_log(tracker, PICTURES, step, model, split)


def log_results(tracker: Tracker, best_epoch: int, step: int, split: Split) -> None:
    """When a run is done, log the pictures and the scores per image of its best model.

    W&B also gets the model.

    Args:
        step: the last step of the run.
        split: the validation split.
    """
    if not tracker.active:
        return
    from segacc.models.load import load_segmenter

    run = tracker.run
    with _warnings_for_errors(tracker):
        if tracker.pictures:
            model = load_segmenter(run).to(tracker.accelerator.device)
            _predict_and_log(tracker, BEST_PICTURES, step, model, split)
        _log_table(tracker, run / "best" / "valid_per_image.csv", step)
        if tracker.name == "wandb":
            best = [line for line in read_epochs(run) if line["epoch"] == best_epoch]
            wandb_run.log_model(tracker.unwrapped, run, {"best": best[0], **read_record(run)})


def predict_pictures(
    model: Segmenter, split: Split, accelerator: Accelerator, threshold: float = 0.5
) -> list[Picture]:
    """Up to SHOWN_IMAGES images, spread evenly over a split, with what the model finds in them.

    The run stays as it is: no random number is drawn, and the model does not change.
    """
    import torch

    from segacc.data.loading.loader import full_images, to_device
    from segacc.metrics.counts import (
        class_probabilities,
        count_pixels,
        iou_of,
        mean_over_classes,
        predicted_labels,
    )

    assert not model.training
    labels = model.labels or BINARY
    places = np.linspace(0, len(split) - 1, min(len(split), SHOWN_IMAGES)).round().astype(int)
    pictures = []
    for index in places.tolist():
        images, label_maps = to_device(full_images(split, [index]), accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            probabilities = class_probabilities(model(images).float())
        predicted = predicted_labels(probabilities, threshold)
        counts = count_pixels(predicted, label_maps, labels.classes)
        iou = mean_over_classes(iou_of(counts), counts)[0].nan_to_num(0).item()
        found = predicted[0].cpu().numpy()
        pictures.append(Picture(split.names[index], *_reduced(*split[index], found), iou, labels))
    return pictures


def _reduced(
    image: np.ndarray, truth: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image and its label maps, small enough for a tracker."""
    nearest = Image.Resampling.NEAREST
    return (
        np.asarray(reduced(image, LARGEST, Image.Resampling.LANCZOS)),
        np.asarray(reduced(truth, LARGEST, nearest)),
        np.asarray(reduced(found, LARGEST, nearest)),
    )


def log_pictures(tracker: Tracker, key: str, step: int, pictures: list[Picture]) -> None:
    """Log images with their masks.

    W&B can switch the masks on and off. Other trackers get image, truth and prediction side by
    side.
    """
    if tracker.name == "wandb":
        log_row(tracker, {key: wandb_run.masked_images(pictures)}, step)
        return
    sheets = {}
    for picture in pictures:
        masks = picture.truth, picture.prediction
        sheet = triptych(picture.image, *masks, picture.caption, picture.labels)
        sheet.thumbnail((SHEET_WIDTH, SHEET_WIDTH))
        sheets[f"{key}/{picture_name(picture.name).removesuffix('.png')}"] = sheet
    if tracker.name == "trackio":
        import trackio

        log_row(tracker, {name: trackio.Image(sheet) for name, sheet in sheets.items()}, step)
    else:
        for name, sheet in sheets.items():
            tracker.unwrapped.add_image(name, np.asarray(sheet), step, dataformats="HWC")


def _predict_and_log(tracker: Tracker, key: str, step: int, model: Segmenter, split: Split) -> None:
    if tracker.active and step >= tracker.first:
        with _warnings_for_errors(tracker):
            log_pictures(tracker, key, step, predict_pictures(model, split, tracker.accelerator))


@contextmanager
def _warnings_for_errors(tracker: Tracker) -> Iterator[None]:
    """Warn when the tracker cannot take something, and let the run go on."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # a disk, a network, a server
        log.warning("--tracker %s lacks pictures or results (%s).", tracker.name, error)


def _log_table(tracker: Tracker, path: Path, step: int) -> None:
    """Log the scores of the validation images; TensorBoard has no tables."""
    if not path.exists() or tracker.name == "tensorboard":
        return
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    # `wandb` and `trackio` both have a class Table with these arguments.
    table = importlib.import_module(tracker.name).Table
    data = [[row[0], *(float(cell) if cell else None for cell in row[1:])] for row in rows]
    log_row(tracker, {TABLE: table(columns=columns, data=data)}, step)
