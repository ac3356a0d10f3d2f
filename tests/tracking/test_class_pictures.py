"""What trackers hold of a run with several classes: pictures in their colours, their names."""

import csv
import io
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import wandb
from accelerate.state import AcceleratorState
from PIL import Image
from small import CLASSES, TINY, write_classes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_side import read_attempts

from segacc.config.flags import parse_train
from segacc.labels import IGNORE, colours_for
from segacc.training.fit import fit

EPOCHS, STEPS = 2, 6
COLOURS = np.array(colours_for(CLASSES))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture
def run_with(data, tmp_path):
    """Trains with a tracker, and gives the run's folder."""

    def train(tracker: str) -> Path:
        AcceleratorState._reset_state(reset_partial_state=True)
        flags = ["--dataset", data, "--output-dir", tmp_path / "run", "--size", 64, *TINY]
        flags += ["--weights", "none", "--batch-size", 4, "--epochs", EPOCHS, "--lr", "5e-3"]
        flags += ["--loss", "dice+ce", "--pictures", 1, "--tracker", tracker]
        run = fit(parse_train([*map(str, flags)]))
        wandb.teardown()
        return run

    yield train
    AcceleratorState._reset_state(reset_partial_state=True)


def label_map(data: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(data / "valid" / f"{name}.png"))


def check_sheet(sheet: Image.Image, truth: np.ndarray) -> None:
    """Image, truth and prediction side by side, enlarged four times, in the colours of classes."""
    panels = np.asarray(sheet.convert("RGB"))[20:276:4]
    shown, found = panels[:, 263:519:4], panels[:, 525:781:4]
    assert (shown[truth != IGNORE] == COLOURS[truth[truth != IGNORE]]).all()
    assert (shown[truth == IGNORE] == 255).all()
    assert {tuple(colour) for colour in found.reshape(-1, 3)} <= {*map(tuple, COLOURS)}


def test_wandb_has_masks_with_the_names_of_the_classes_and_their_columns(data, run_with):
    run = run_with("wandb")
    (attempt,) = read_attempts(run)
    seen = 0
    for key, steps in (("valid", [3, 6]), ("best", [STEPS])):
        masks = attempt.column(f"pictures/{key}.all_masks")
        assert list(masks) == steps
        for step, of_step in masks.items():
            captions = attempt.column(f"pictures/{key}.captions")[step]
            for caption, mask in zip(captions, of_step, strict=True):
                truth = np.asarray(Image.open(attempt.files / mask["truth"]["path"]))
                assert (truth == label_map(data, caption.split()[0])).all()
                found = np.asarray(Image.open(attempt.files / mask["prediction"]["path"]))
                assert set(np.unique(found)) <= {0, 1, 2}
                assert " mIoU 0." in caption
                seen += 1
    assert seen == 15
    names = {str(number): name for number, name in enumerate(CLASSES)}
    for label in attempt.config["_wandb"]["mask/class_labels"].values():
        assert label["value"] == names | {str(IGNORE): "ignored"}
    assert attempt.config["data"]["labels"]["names"] == list(CLASSES)

    (path,) = attempt.column("tables/valid_per_image.path").values()
    table = json.loads((attempt.files / path).read_text())
    header, *rows = csv.reader((run / "best" / "valid_per_image.csv").open(encoding="utf-8"))
    assert table["columns"] == header
    assert {f"{score}/{name}" for score in ("iou", "tp", "fn") for name in CLASSES} <= {*header}
    assert table["data"] == [
        [row[0], *(float(cell) if cell else None for cell in row[1:])] for row in rows
    ]


def test_tensorboard_has_pictures_in_the_colours_of_the_classes(data, run_with):
    run = run_with("tensorboard")
    curves = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert len(curves.Tags()["images"]) == 10
    for key, steps in (("valid", [3, 6]), ("best", [STEPS])):
        pictures = curves.Images(f"pictures/{key}/valid1")
        assert [picture.step for picture in pictures] == steps
        sheet = Image.open(io.BytesIO(pictures[-1].encoded_image_string))
        check_sheet(sheet, label_map(data, "valid1"))


def test_trackio_has_pictures_in_the_colours_of_the_classes_and_their_columns(data, run_with):
    run_with("trackio")
    home = Path(os.environ["TRACKIO_DIR"])
    rows = []
    for database in home.glob("segacc*.db"):
        rows += sqlite3.connect(database).execute("select metrics from metrics order by id")
    logged = [json.loads(text) for (text,) in rows]
    pictures = [
        values["pictures/best/valid1"] for values in logged if "pictures/best/valid1" in values
    ]
    sheet = Image.open(home / "media" / pictures[-1]["file_path"])
    check_sheet(sheet, label_map(data, "valid1"))
    tables = [row[name] for row in logged for name in row if name == "tables/valid_per_image"]
    assert {f"iou/{name}" for name in CLASSES} <= tables[-1]["_value"][0].keys()
