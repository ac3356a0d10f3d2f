"""Real processes (gloo on the CPU): several of them compute the same as one."""

import csv
import json
import os
from pathlib import Path

import pytest
from small import TINY, lines, run_program, train, write_blobs

pytestmark = pytest.mark.distributed
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs", valid=5, test=7)


@pytest.fixture(scope="module")
def one_process(blobs, tmp_path_factory):
    """A run on one process from pretrained weights, with all that fine-tuning can do, and with
    BatchNorm frozen, so that rounding stays small."""
    run = tmp_path_factory.mktemp("one") / "run"
    flags = ["--model", "linknet", "--encoder", "timm-tf_efficientnet_lite0"]
    flags += ["--weights", "imagenet", "--epochs", 3, "--freeze-bn", "--lr", "1e-3"]
    flags += ["--ema", 0.9, "--freeze-encoder", 1, "--encoder-lr", 0.5, "--layer-decay", 0.9]
    flags += ["--augment", "strong"]
    done = train(blobs, run, *flags, processes=1)
    assert done.returncode == 0, done.stderr[-3000:]
    return run, flags


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_the_curve_does_not_depend_on_the_number_of_processes(
    blobs, tmp_path, one_process, processes
):
    run, flags = one_process
    done = train(blobs, tmp_path / "run", *flags, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "FutureWarning" not in done.stderr
    for one, many in zip(lines(run), lines(tmp_path / "run"), strict=True):
        for name in ("train_loss", "valid_loss", "valid_iou", "valid_iou_image"):
            assert many[name] == pytest.approx(one[name], rel=1e-3), name
        assert (many["epoch"], many["step"]) == (one["epoch"], one["step"])


@pytest.fixture
def one_core():
    """Give every process one thread: with another number, sums are rounded in another way."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


def test_scores_are_exactly_those_of_one_process_on_any_number(blobs, one_process, one_core):
    """Seven images cannot be divided evenly. Each has one line, one picture, and equal counts."""
    run, _ = one_process
    found = []
    for count in (1, 3):
        done = run_program("evaluate.py", run, "--batch-size", 4, processes=count)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("iou_image") == 1
        table = (run / "test" / "per_image.csv").read_text()
        names = [row["name"] for row in csv.DictReader(table.splitlines())]
        assert len(set(names)) == 7
        assert {p.name for p in (run / "test" / "overlays").iterdir()} == {
            f"{name}.png" for name in names
        }
        found.append((table, json.loads((run / "test" / "metrics.json").read_text())["scores"]))
    # On some processors probabilities differ in the last bit with the number of images in a batch.
    (_, alone), (_, together) = found
    assert alone.pop("ece") == pytest.approx(together.pop("ece"), rel=1e-6)
    assert found[0] == found[1]


def test_more_processes_than_images(one_process, tmp_path):
    data = write_blobs(tmp_path / "two", test=2)
    done = run_program("evaluate.py", one_process[0], "--dataset", data, processes=3)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len((one_process[0] / "test-two" / "per_image.csv").read_text().splitlines()) == 3


def test_a_batch_that_does_not_divide_is_one_sentence_from_one_process(blobs, tmp_path):
    done = train(blobs, tmp_path / "run", *TINY, "--batch-size", 5, processes=2)
    assert done.returncode != 0
    sentence = "error: --batch-size 5 cannot be split over 2 processes: give a multiple of 2"
    assert done.stderr.count(sentence) == 1
    assert 'File "' not in done.stderr.split(sentence)[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("world", [2, 4])
def test_losses_are_of_the_global_batch_and_images_gathered_in_order(world):
    done = run_program(HERE / "collectives.py", processes=world, PYTHONPATH=str(HERE.parents[1]))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"equal on {world}" in done.stdout


def test_batchnorm_and_dropout_are_of_the_global_batch():
    done = run_program(HERE / "layers.py", processes=2, PYTHONPATH=str(HERE.parents[1]))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "equal on 2" in done.stdout
