"""Faults of the machine: the run ends soon, says what happened, and can be resumed."""

import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from attempts import outcome, run_attempt, start, wait_for
from safetensors.torch import load_file
from small import ROOT, TINY, lines, run_program

from segacc.data.loading.stream import step_keys
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.errors import EXIT_INPUT
from segacc.training.saving.checkpoint import states

ATTEMPTS = Path(__file__).parent / "attempts.py"
PATHS = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
FLAGS = ["--size", "64", "--weights", "none", "--batch-size", "4", "--tracker", "none", *TINY]
FLAGS += ["--epochs", "6", "--patience", "6", "--lr", "5e-3", "--save-every", "3"]


@pytest.mark.distributed
@pytest.mark.parametrize("fault", ["raises", pytest.param("is killed", marks=pytest.mark.soak)])
def test_a_rank_that_fails_ends_all_soon_with_its_own_error_first(blobs, tmp_path, fault):
    run = tmp_path / "run"
    action = "raise" if fault == "raises" else "SIGKILL"
    flags = ["--dataset", blobs, *FLAGS, "--output-dir", run]
    began = time.monotonic()
    done = run_program(ATTEMPTS, 1, "step", 5, action, *flags, processes=2, **PATHS)
    took = time.monotonic() - began
    others = "error: this process cannot talk to the others, one of which has probably ended"
    assert done.returncode != 0 and took < 60 and others in done.stderr, done.stderr
    before, _, after = done.stderr.partition(others)
    if fault == "raises":
        assert "ArithmeticError: a bug that only rank 1 meets" in before
    else:
        root_cause = after.partition("Root Cause")[2]
        assert "rank      : 1" in root_cause and "(SIGKILL)" in root_cause
    assert f"segacc train --resume {run}" in after
    assert len(lines(run)) == 1 and states(run)  # the epoch that was done


@pytest.mark.distributed
def test_an_error_of_one_rank_is_said_once_by_that_rank(blobs, tmp_path):
    flags = ["--dataset", blobs, *FLAGS, "--output-dir", tmp_path / "run"]
    done = run_program(ATTEMPTS, 1, "step", 2, "refuse", *flags, processes=2, **PATHS)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == done.stderr.count("error: only rank 1 knows why") == 1


def test_a_run_whose_disk_is_full_ends_with_a_sentence_and_keeps_its_last_state(
    blobs, tmp_path, uninterrupted
):
    """A limit on the size of files, set from outside while the run goes on."""
    run = tmp_path / "run"
    process = start("train.py", *FLAGS, "--dataset", blobs, "--output-dir", run)
    wait_for(lambda: states(run), process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    _, printed = process.communicate(timeout=60)
    assert process.returncode == EXIT_INPUT, printed
    assert f"error: {run} could not be written" in printed and f"--resume {run}" in printed
    assert "its states are intact" in printed and "Traceback" not in printed
    assert run_attempt(run, []) == 0
    assert outcome(run) == uninterrupted


@pytest.mark.soak
def test_the_sentence_says_that_the_disk_is_full(blobs, tmp_path, uninterrupted):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", str(disk)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("this user may not mount a small tmpfs")
    try:
        run = disk / "run"  # a state takes 5 MB, the best model 1.7
        process = start("train.py", *FLAGS, "--dataset", blobs, "--output-dir", run, "--keep", "9")
        _, printed = process.communicate(timeout=120)
        assert process.returncode == EXIT_INPUT, printed
        assert f"error: {run} could not be written (the disk is full)" in printed
        assert states(run)
        subprocess.run(["mount", "-o", "remount,size=500m", str(disk)], check=True)
        assert run_attempt(run, []) == 0
        assert outcome(run) == uninterrupted
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_truncated_state_is_replaced_by_the_state_before_it(blobs, tmp_path, uninterrupted):
    run = tmp_path / "run"
    flags = ["--dataset", str(blobs), *FLAGS, "--save-every", "2", "--keep", "3"]
    assert run_attempt(run, flags) == 0
    newest, before = states(run)[-1], states(run)[-2]
    os.truncate(newest, newest.stat().st_size - 1)
    assert run_attempt(run, []) == 0
    printed = run.with_suffix(".log").read_text()
    assert f"{newest} is damaged" in printed and f"of {before}" in printed
    assert len(states(run)) == len(list((run / "checkpoints").iterdir())) == 3
    assert outcome(run) == uninterrupted


@pytest.mark.distributed
def test_a_loss_that_is_not_finite_on_a_rank_names_step_and_images(blobs, tmp_path):
    run = tmp_path / "run"
    flags = ["--dataset", blobs, *FLAGS, "--loss", "bce", "--save-every", "1"]
    moment = [1, "step", 5, "poison"]
    done = run_program(ATTEMPTS, *moment, *flags, "--output-dir", run, processes=2, **PATHS)
    assert re.search(r"error: the loss is (nan|inf) at step 5 on the images", done.stderr)
    assert done.stderr.count("error: ") == 1
    split = prepare(load_dataset(str(blobs)), 64).splits["train"]
    names = [split.names[index] for _, index in step_keys(0, 4, 4, 12)]
    assert (
        f"on the images {', '.join(names)}: look at them with `segacc check {blobs}`" in done.stderr
    )
    assert states(run)[-1].stem == "epoch-0001-step-00000004"  # not one that is poisoned
    assert all(value.isfinite().all() for value in load_file(states(run)[-1]).values())


def test_a_killed_data_worker_is_named(blobs, tmp_path):
    run = tmp_path / "run"
    long = ["--epochs", "500", "--patience", "500", "--workers", "2"]
    process = start("train.py", *FLAGS, "--dataset", blobs, "--output-dir", run, *long)
    wait_for((run / "metrics.jsonl").exists, process)
    worker = min(children(process.pid))
    os.kill(worker, signal.SIGKILL)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == EXIT_INPUT, printed
    named = rf"loads data for rank 0 has ended \(DataLoader worker \(pid(\(s\))? {worker}\)"
    assert re.search(named, printed)
    assert "fewer --workers" in printed and f"train.py --resume {run}" in printed
    assert "Traceback" not in printed
    assert states(run)


def children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [
        int(pid)
        for pid in listed.split()
        if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
