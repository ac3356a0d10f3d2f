"""The benchmarks: what they compute from measured times, and that all of them run."""

import importlib
import re
import signal
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small import ROOT, run_program, write_blobs

from benchmarks.links import bytes_sent, speed_up
from benchmarks.throughput import Contender, rows, spread, write_files


def contender(train, epoch, **more):
    epochs = [{"train": 99, "epoch": 99, "first_step": 2.0, "memory_gib": 9.0}]
    times = zip(train, epoch, strict=True)
    epochs += [{"train": t, "epoch": e, "memory_gib": 1.5, **more} for t, e in times]
    return SimpleNamespace(epochs=epochs, launch=3.0)


def test_ratios_are_of_epochs_that_were_measured_beside_each_other():
    running = {
        "segacc": contender([2, 4, 2], [3, 6, 3], images=32, data_wait=0.02, in_model=2.7),
        "bare": contender([4, 4, 2], [6, 6, 6]),
    }
    ours, bare = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows(running, 32))
    assert ours == [
        "segacc",
        "16.0 (8.0 to 16.0)",
        "",
        "3.00 (3.00 to 6.00)",
        "",
        "5.0",
        "1.00%",
        "0.900 (0.450 to 0.900)",
        "1.50",
    ]
    assert bare[2] == "1.00 (1.00 to 2.00)"  # 2, 1 and 1
    assert bare[4] == "2.00 (1.00 to 2.00)"  # 2, 1 and 2


def test_a_spread_is_the_median_and_the_range():
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"


def test_bytes_that_processes_send_and_how_much_faster_they_are():
    assert bytes_sent(parameters=1_000_000, processes=1) == 0
    assert bytes_sent(parameters=1_000_000, processes=8) == 7_000_000  # 4 bytes, 2 times 7 eighths
    assert speed_up(whole=8.0, share=1.0, link=0.5) == 8.0  # hidden behind the backward pass
    assert speed_up(whole=8.0, share=0.75, link=0.75) == 8.0  # a third of it is not: 0.75 + 0.25
    assert speed_up(whole=8.0, share=2.0, link=0.0) == 4.0  # the share is not an eighth of the work


def test_label_maps_in_five_codings_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for i in range(2):
            mask = rng.integers(0, 12, (6, 8), dtype=np.uint8).repeat(60, 0).repeat(60, 1)
            for folder, values in (
                (split, rng.integers(0, 255, (360, 480, 3))),
                (f"{split}annot", mask),
            ):
                (tmp_path / folder).mkdir(exist_ok=True)
                Image.fromarray(values.astype(np.uint8)).save(tmp_path / folder / f"{split}{i}.png")
    run = run_program("-m", "benchmarks.codings", "--camvid", tmp_path)
    assert run.returncode == 0, run.stderr
    shares = [line.split("|")[3].strip() for line in run.stdout.splitlines()[2:]]
    assert shares[:4] == ["0.000%"] * 4 and 0 < float(shares[4].rstrip("%")) < 5


def test_contenders_get_the_data_set_as_files(tmp_path):
    blobs = write_blobs(tmp_path / "blobs", train=3, valid=2)
    assert write_files(str(blobs), tmp_path / "files") == {"train": 3, "valid": 2}
    for split, count in (("train", 3), ("valid", 2)):
        for suffix in ("jpg", "png"):
            assert len(list((tmp_path / "files" / split).glob(f"*.{suffix}"))) == count
    first = (blobs / "train" / "train0.jpg").read_bytes()
    assert first in [path.read_bytes() for path in (tmp_path / "files" / "train").glob("*.jpg")]


def test_all_that_they_import_of_segacc_is_there():
    """Also in the programs that they hold as text, which only `make soak` runs."""
    found = [
        (path.name, module, name)
        for path in (ROOT / "benchmarks").rglob("*.py")
        for module, names in re.findall(
            r"^ *from (segacc[\w.]*) import ([\w, ]+)$", path.read_text(), re.MULTILINE
        )
        for name in names.split(", ")
    ]
    assert ("classes.py", "segacc.config.flags", "parse_train") in found
    missing = [one for one in found if not hasattr(importlib.import_module(one[1]), one[2])]
    assert not missing


@pytest.mark.soak
@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("defaults", ["--models", "segformer", "--without", "memory", "format", "fused"]),
        ("launch", ["--models", "segformer"]),
        ("step_profile", ["--model", "segformer", "--size", 64, "--steps", 2]),
        ("links", ["--models", "segformer", "--batches", 8, "--size", 64]),
        ("shared_cores", ["--seconds", 1]),
        ("exports", ["--models", "segformer", "--size", 64, "--images", 1]),
        ("data", ["--size", 128, "--crop", 64, "--batches", 40]),
    ],
)
def test_every_benchmark_ends_with_its_table(program, flags):
    repeats = [] if program == "step_profile" else ["--repeats", 1]
    done = run_program("-m", f"benchmarks.{program}", *flags, *repeats, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum(line.startswith("| ") for line in done.stdout.splitlines()) >= 3, done.stdout


@pytest.mark.soak
def test_a_contender_stands_still_until_it_has_its_turn(tmp_path):
    blobs = write_blobs(tmp_path / "blobs")
    write_files(str(blobs), tmp_path / "files")
    flags = ["--model", "segformer", "--data", str(tmp_path / "files"), "--size", "64"]
    flags += ["--batch-size", "4", "--epochs", "3", "--workers", "0", "--precision", "fp32"]
    waiting = Contender("synthetic", flags, tmp_path / "log")
    try:
        for _ in range(2):
            assert stopped(waiting.process.pid)
            waiting.turn()
        assert stopped(waiting.process.pid)
        assert waiting.epochs and waiting.epochs[0]["train"] > 0
    finally:
        waiting.end()
    assert waiting.process.returncode == -signal.SIGKILL


def stopped(pid):
    asked = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return asked.stdout.startswith("T")


@pytest.mark.soak
def test_all_contenders_take_turns(tmp_path):
    pytest.importorskip("lightning")
    blobs = write_blobs(tmp_path / "blobs")
    flags = ["--dataset", blobs, "--models", "segformer", "--size", 64, "--batch-size", 4]
    done = run_program("-m", "benchmarks.throughput", *flags, "--repeats", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(table) == 7 and all("(" in line for line in table[1:])
