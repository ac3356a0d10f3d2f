"""How a run is doing, as other processes see it."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from segacc.errors import InputError, Stopped
from segacc.runs import status
from segacc.runs.status import (
    STATUS,
    Status,
    held_by_nobody_else,
    mark_as_cleaned,
    marked_as_training,
    marked_if_it_fails,
    read_status,
)

TRAINS = """
import sys, time
from pathlib import Path
from segacc.runs.status import marked_as_training
with marked_as_training(Path(sys.argv[1])):
    print("trains", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A process that trains the run in `tmp_path`."""
    command = [sys.executable, "-c", TRAINS, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "trains\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_is_in_training_until_its_process_ends_also_where_it_is_killed(tmp_path, other):
    found = read_status(tmp_path)
    assert (found.state, found.pid, found.host) == ("training", other.pid, socket.gethostname())
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert read_status(tmp_path).state == "stopped"
    assert "killed" in read_status(tmp_path).why


def test_a_second_process_that_would_train_the_run_is_refused(tmp_path, other, monkeypatch):
    monkeypatch.setattr(status, "WAIT_SECONDS", 0.3)
    with (
        pytest.raises(InputError, match=rf"process {other.pid} on .* trains .*: wait until it"),
        marked_as_training(tmp_path),
    ):
        raise AssertionError
    with pytest.raises(InputError, match="trains"), held_by_nobody_else(tmp_path, wait=0):
        raise AssertionError
    assert read_status(tmp_path).pid == other.pid  # nothing was written


def test_a_run_that_is_about_to_end_is_waited_for(tmp_path, other):
    threading.Timer(0.5, other.kill).start()
    with held_by_nobody_else(tmp_path):
        assert other.wait(timeout=1) == -signal.SIGKILL  # so the lock did not come before


def test_how_a_run_ended_is_kept(tmp_path):
    with marked_as_training(tmp_path):
        assert read_status(tmp_path).state == "training"
    assert read_status(tmp_path).state == "finished"
    with pytest.raises(Stopped), marked_as_training(tmp_path):
        raise Stopped("stopped by SIGTERM after step 7; continue with: this")
    assert read_status(tmp_path).state == "stopped"
    assert read_status(tmp_path).why == "stopped by SIGTERM after step 7"
    with pytest.raises(InputError), marked_as_training(tmp_path):
        raise InputError("the disk is full.")
    assert (read_status(tmp_path).state, read_status(tmp_path).why) == (
        "failed",
        "the disk is full.",
    )
    with pytest.raises(KeyError), marked_as_training(tmp_path):
        raise KeyError("x")
    assert read_status(tmp_path).why == "KeyError: 'x'"
    with marked_as_training(None):  # of another rank
        pass


def test_a_process_that_was_forked_does_not_hold_the_run(tmp_path):
    """A data worker lives on for some seconds when the training is killed."""
    with marked_as_training(tmp_path):
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=time.sleep, args=(30,))
        worker.start()
    try:
        with held_by_nobody_else(tmp_path, wait=15):  # until the worker runs at all
            pass
    finally:
        worker.kill()
        worker.join()


def test_where_locks_of_other_machines_are_not_seen_the_age_of_the_file_decides(tmp_path):
    path = tmp_path / STATUS
    path.write_text(json.dumps(asdict(Status("training", host="another-machine", pid=1))))
    assert read_status(tmp_path).state == "training"
    old = time.time() - status.STALE_SECONDS - 1
    os.utime(path, (old, old))
    assert read_status(tmp_path).state == "stopped"


def test_the_file_is_touched_while_the_run_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "BEAT_SECONDS", 0.05)
    with marked_as_training(tmp_path):
        os.utime(tmp_path / STATUS, (1, 1))
        ends = time.monotonic() + 10
        while (tmp_path / STATUS).stat().st_mtime == 1 and time.monotonic() < ends:
            time.sleep(0.05)
        assert (tmp_path / STATUS).stat().st_mtime > 1


def test_runs_without_a_status_and_damaged_ones_have_none(tmp_path):
    assert read_status(tmp_path) is None
    for text in ("", "{", '{"state": "finished", "of_a_newer_version": 1}', "[]"):
        (tmp_path / STATUS).write_text(text)
        assert read_status(tmp_path) is None
    mark_as_cleaned(tmp_path)
    assert read_status(tmp_path) == Status("finished", cleaned=True)


def test_a_run_that_could_not_start_has_failed_with_the_reason(tmp_path):
    with pytest.raises(InputError), marked_if_it_fails(tmp_path):
        raise InputError("--tracker wandb could not start: check the key.")
    found = read_status(tmp_path)
    assert (found.state, found.why) == ("failed", "--tracker wandb could not start: check the key.")
