"""`segacc predict --skip-existing`: an interrupted call goes on, and every file is whole."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from small import ROOT

from segacc import cli
from segacc.errors import EXIT_STOPPED, InputError
from segacc.labels import Labels, colours_for
from segacc.models.segmenter import Segmenter
from segacc.prediction import writing
from segacc.prediction.find import plan, without_existing

IMAGES = 40
NAMES = ("red", "green", "blue")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A model and images in the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    Segmenter("linknet", "tu-test_resnet").save_pretrained("model")
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(IMAGES):
        image = Image.fromarray(rng.integers(0, 255, (200, 220, 3), dtype=np.uint8))
        image.save(f"photos/{i:02}.png")
    return tmp_path


def predict(*flags):
    return cli.run_command(["predict", "model", "photos", "--batch-size", "1", *map(str, flags)])


def stop_after_three(world, number):
    """A program that predicts and gets a signal when it has written three masks; what it says."""
    command = [sys.executable, "-m", "segacc", "predict", "model", "photos", "--out", "masks"]
    process = subprocess.Popen(
        [*command, "--batch-size", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    ends = time.monotonic() + 100
    while len(list(world.glob("masks/*.png"))) < 3 and time.monotonic() < ends:
        time.sleep(0.005)
    process.send_signal(number)
    said = process.communicate()[1]
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_says_how_to_go_on(world, number):
    code, said = stop_after_three(world, number)
    there = len(list(world.glob("masks/*.png")))
    assert code == EXIT_STOPPED and 3 <= there < IMAGES
    assert f"interrupted; {there} of {IMAGES} masks are written: the same command with" in said
    assert "--skip-existing goes on" in said and "Traceback" not in said


def test_a_killed_call_goes_on_and_ends_with_the_masks_of_one_that_was_not(world, capsys):
    predict("--out", "whole")
    stop_after_three(world, signal.SIGKILL)
    there = {path: path.stat().st_mtime_ns for path in world.glob("masks/*.png")}
    assert 3 <= len(there) < IMAGES, "killed too late"
    for path in there:
        Image.open(path).load()  # raises where the file was cut off
    with pytest.raises(InputError, match=r"--out masks is not empty: .* with --skip-existing"):
        predict("--out", "masks")
    capsys.readouterr()
    assert predict("--out", "masks", "--skip-existing") == 0
    said = capsys.readouterr().out
    assert f"{IMAGES - len(there)} masks in masks" in said
    assert f"; {len(there)} were there before" in said
    assert {path: path.stat().st_mtime_ns for path in there} == there
    for path in world.glob("whole/*.png"):
        assert path.read_bytes() == (world / "masks" / path.name).read_bytes()
    predict("--out", "masks", "--skip-existing")
    assert f"nothing to do: all {IMAGES} masks are in masks" in capsys.readouterr().out


def test_an_image_of_which_a_file_is_missing_is_predicted_again(world):
    photos = [f"photos/0{i}.png" for i in range(3)]

    def missing(*more):
        return [
            one.image.name for one in without_existing(plan(photos, "out", *more, goes_on=True))
        ]

    (world / "out").mkdir()
    shutil.copy("photos/00.png", "out/00.png")
    shutil.copy("photos/01.png", "out/01.png")
    assert missing() == ["02.png"]
    assert missing(True) == ["00.png", "01.png", "02.png"]
    (world / "out" / "probabilities").mkdir()
    shutil.copy("photos/00.png", "out/probabilities/00.png")
    (world / "out" / "probabilities" / "01").mkdir()  # of several classes
    assert missing(True) == ["02.png"]
    assert missing(True, True) == ["00.png", "01.png", "02.png"]


@pytest.mark.parametrize("classes", [1, 3])
def test_the_mask_is_the_last_file_of_an_image(world, monkeypatch, classes):
    """So an image that has its mask has all its files."""
    labels = Labels(NAMES, colours_for(NAMES)).to_config() if classes > 1 else None
    torch.manual_seed(0)
    Segmenter("linknet", "tu-test_resnet", classes=classes, labels=labels).save_pretrained("model")
    order = []
    save = writing._save
    monkeypatch.setattr(writing, "_save", lambda *a: (order.append(a[1].as_posix()), save(*a)))
    flags = ["photos/00.png", "--out", "out", "--overlays"]
    cli.run_command(["predict", "model", *flags])
    cli.run_command(["predict", "model", *flags, "--probabilities", "--skip-existing"])
    assert order.count("out/00.png") == 2 and order[-1] == "out/00.png"
    assert order.index("out/00.png") == 1  # the overlay came before
    assert len(order) == 4 + classes


def test_all_that_is_missing_is_said_in_one_sentence(world):
    for given, said in (
        (["model"], "segacc predict lacks images, --out: expected such as `segacc predict model"),
        (["model", "photos"], "segacc predict lacks --out:"),
        (["model", "--out", "x"], "segacc predict lacks images:"),
        ([], "segacc predict lacks a model, images, --out: .*`segacc predict runs/NAME photos"),
        (
            ["photos"],
            "segacc predict lacks a model, --out: .*`segacc predict runs/NAME photos --out",
        ),
        (["photos", "--out", "x"], "segacc predict lacks a model: .* runs/NAME photos --out x`"),
    ):
        with pytest.raises(InputError, match=said):
            cli.run_command(["predict", *given])


def test_a_model_that_is_not_there_is_said_before_anything_is_loaded(world):
    (world / "runs" / "first").mkdir(parents=True)
    program = "import sys; from segacc.cli import main; sys.argv[1:] = sys.argv[2:];\n"
    program += "try: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, "x", "predict", "runs/frst", "photos", "--out", "masks"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2 and done.stdout == "False\n"
    assert "error: the model runs/frst was not found (runs/first is there)" in done.stderr
