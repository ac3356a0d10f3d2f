"""A run that is stopped by a signal saves a state, says how to continue, and exits with 75."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from attempts import Moment, outcome, run_attempt, start, wait_for
from small import ROOT, TINY, lines, run_program

from segacc.errors import ERROR_SAID, EXIT_INPUT, EXIT_PIPE, EXIT_STOPPED, LAUNCH_FOLDER
from segacc.runtime.signals import SIGNALS, StopRequest
from segacc.training.saving.checkpoint import states

ATTEMPTS = Path(__file__).parent / "attempts.py"
FLAGS = ["--size", "64", "--crop", "48", "--weights", "none", "--batch-size", "4", *TINY]
FLAGS += ["--tracker", "none", "--epochs", "6", "--patience", "6", "--lr", "5e-3"]


def long_run(blobs: Path, run: Path, *launcher: str, flags=()) -> subprocess.Popen[str]:
    """Start a long run, with or without a launcher, and wait for the end of its first epoch."""
    endless = [*FLAGS, "--epochs", "500", "--patience", "500", *flags]
    process = start(*launcher, "train.py", "--dataset", blobs, "--output-dir", run, *endless)
    wait_for((run / "metrics.jsonl").exists, process)
    return process


def read_to_end(process: subprocess.Popen[str], within: float) -> str:
    """What a process prints until it ends, which must be within so many seconds."""
    _, printed = process.communicate(timeout=within)
    return printed


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_the_message_says_how_to_continue(blobs, tmp_path, name):
    process = long_run(blobs, run := tmp_path / "run")
    number, printed = signal.Signals[name], ""
    process.send_signal(number)
    for line in iter(process.stderr.readline, ""):
        printed += line
        if "saving" in line:
            break
    until = time.monotonic() + 0.7  # a second one ends a run that still saves only after 1 s
    while time.monotonic() < until:  # while the run saves, and while Python ends
        process.send_signal(number)
        time.sleep(0.05)
    printed += read_to_end(process, within=30)
    assert process.returncode == EXIT_STOPPED == 75
    message = rf"stopped by {name} after step (\d+); continue with: python train.py "
    stop = re.search(rf"{message}--resume {run}\n", printed)
    assert stop and "Traceback" not in printed
    assert states(run)[-1].stem.endswith(f"step-{int(stop[1]):08d}")


@pytest.mark.parametrize(("place", "action"), [("validation", "SIGINT"), ("step", "SIGHUP")])
def test_a_run_that_is_stopped_in_a_step_or_in_validation_loses_nothing(
    blobs, tmp_path, uninterrupted, place, action
):
    flags = ["--dataset", str(blobs), *FLAGS]
    run = tmp_path / "run"
    assert run_attempt(run, flags, Moment(place, 2, part=0.0), action) == EXIT_STOPPED
    if place == "validation":  # of the second epoch, which is steps 4 to 6
        assert states(run)[-1].stem == "epoch-0001-step-00000006"
        assert [line["epoch"] for line in lines(run)] == [1]
    else:  # of the first epoch, before there is a best model
        assert states(run)[-1].stem == "epoch-0000-step-00000002"
        assert not (run / "metrics.jsonl").exists()
    assert run_attempt(run, flags) == 0
    assert outcome(run) == uninterrupted


ENDLESS = """
import ctypes, sys
import segacc.training.fit, segacc.training.steps
from segacc.config.flags import parse_train
from segacc.errors import run_program

def train_step(*args):
    print("in a step", flush=True)
    # This stands for a library that waits for a lost rank: no Python code runs, and unlike
    # sleep() a signal does not end the wait.
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    libc.pthread_mutex_init(mutex, None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)

segacc.training.steps.train_step = train_step
sys.exit(run_program(lambda: segacc.training.fit.fit(parse_train(sys.argv[1:])), debug=True))
"""


def test_a_second_signal_ends_the_run_at_once(blobs, tmp_path):
    command = [sys.executable, "-c", ENDLESS, "--dataset", blobs, *FLAGS]
    process = subprocess.Popen(
        [*map(str, command), "--output-dir", str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )
    assert process.stdout and any("in a step" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed = read_to_end(process, within=5)
    assert process.returncode == 130
    assert "SIGINT: saving; the same again ends it at once" in printed


@pytest.mark.parametrize("said", [False, True])
def test_a_rank_that_is_ended_after_the_error_of_another_says_nothing(said, tmp_path):
    program = "import os, signal, time; from segacc.runtime.signals import StopRequest\n"
    program += "with StopRequest(prints=True) as request:\n"
    program += "    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(0.5)\n"
    program += "    assert request.reason == 'SIGTERM'"
    if said:
        (tmp_path / ERROR_SAID).touch()
    environment = {**os.environ, LAUNCH_FOLDER: str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and ("saving" not in done.stderr) is said, done.stderr


@pytest.mark.parametrize("name", SIGNALS)
def test_a_second_signal_ends_a_stopped_program_that_hangs_at_its_end(name):
    program = """
import atexit, os, signal, sys, time
from segacc.errors import Stopped, run_program

def work():
    atexit.register(time.sleep, 60)
    try:
        raise Stopped("how to continue")
    finally:
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C while it ends

sys.exit(run_program(work, debug=False))"""
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "how to continue\n"
    time.sleep(0.2)
    process.send_signal(name)
    assert (process.wait(10), process.stderr.read()) == (EXIT_STOPPED, "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_before_the_first_step_has_a_sentence_and_the_same_code(name):
    program = "import os, signal, sys; from segacc.errors import run_program; "
    program += f"sys.exit(run_program(lambda: os.kill(os.getpid(), signal.{name}), debug=False))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == EXIT_STOPPED
    assert f"stopped by {name} with nothing to save: give the same command again" in done.stderr
    if name == "SIGHUP":
        ignored = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {program}"  # nohup
        assert subprocess.run([sys.executable, "-c", ignored], cwd=ROOT).returncode == 0


SAVES = """
import fcntl, os, sys, termios, time
import segacc.runtime.signals
from segacc.errors import Stopped, leave_closed_outputs, run_program
from segacc.runtime.signals import StopRequest

def slow():  # the main thread runs on meanwhile, and must not yet see the signal
    time.sleep(0.2)
    leave_closed_outputs()

segacc.runtime.signals.leave_closed_outputs = slow

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the closing of this terminal is told to this process
told = int(sys.argv[1])

def work():
    with StopRequest(prints=True) as request:
        os.write(told, b"ready ")
        while not request.is_made():
            time.sleep(0.01)
        print("epoch 3/9")
        print("a warning", file=sys.stderr)
        os.write(told, f"saved after {request.reason}".encode())
    raise Stopped("how to continue")

sys.exit(run_program(work, debug=False))
"""


def test_a_run_whose_terminal_is_closed_still_saves():
    """A lost ssh connection: SIGHUP, and from then on printing to the terminal is an error."""
    (outside, inside), (reads, told) = os.openpty(), os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SAVES, str(told)],
        cwd=ROOT,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        pass_fds=[told],
        start_new_session=True,
    )
    os.close(inside)
    os.close(told)
    assert os.read(reads, 100) == b"ready "
    os.close(outside)
    assert process.wait(timeout=30) == EXIT_STOPPED
    assert os.read(reads, 100) == b"saved after SIGHUP"
    os.close(reads)


def test_in_a_thread_a_stop_request_leaves_signals_to_the_program_around_it():
    before, seen = [signal.getsignal(number) for number in SIGNALS], []

    def wait() -> None:
        with StopRequest(prints=False) as request:
            seen.append(request.is_made())
            request.settle()

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert seen == [False] and [signal.getsignal(number) for number in SIGNALS] == before


def test_help_whose_reader_ends_prints_no_traceback():
    program = "from segacc.errors import run_program; import sys; "
    program += "sys.exit(run_program(lambda: print('x' * 99, flush=True), debug=False))"
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert (done.returncode, done.stderr) == (EXIT_PIPE, "")


def test_a_signal_while_the_program_ends_with_an_error_does_not_hide_the_error():
    """A launcher sends SIGTERM to the others when one process has failed."""
    program = """
import os, signal, sys
from segacc.errors import InputError, run_program
def fail():
    try:
        raise InputError("the cause")
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
sys.exit(run_program(fail, debug=False))"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (EXIT_INPUT, "error: the cause\n")


def test_a_run_whose_launcher_is_killed_saves_and_ends(blobs, tmp_path):
    """`accelerate launch` of one process passes no signal on."""
    process = long_run(blobs, run := tmp_path / "run", "-m", "accelerate.commands.launch", "--cpu")
    process.kill()
    printed = read_to_end(process, within=20)  # the pipe closes with the last process that holds it
    assert "stopped by the end of the launcher after step" in printed
    assert states(run)


@pytest.mark.slow
@pytest.mark.distributed
def test_all_ranks_stop_when_one_is_told_to_and_another_world_size_continues(blobs, tmp_path):
    flags = ["--dataset", str(blobs), *FLAGS, "--freeze-bn", "--lr", "1e-3"]
    run, alone = tmp_path / "run", tmp_path / "alone"
    moment = [1, "step", 5, "SIGTERM"]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = run_program(ATTEMPTS, *moment, *flags, "--output-dir", run, processes=2, **environment)
    assert "stopped by another process after step 5; continue with: segacc train" in done.stderr
    assert done.stderr.count("stopped by") == 1
    assert done.returncode == 75 or "exitcode  : 75" in done.stderr  # torchrun's own is 1
    assert [path.stem for path in states(run)][-1] == "epoch-0001-step-00000005"

    assert run_attempt(run, []) == 0  # one process from here, against one from the beginning
    assert run_attempt(alone, flags) == 0
    for one, two in zip(lines(alone), lines(run), strict=True):
        for name in ("train_loss", "valid_loss"):
            assert two[name] == pytest.approx(one[name], rel=1e-5), name


@pytest.mark.soak
@pytest.mark.distributed
@pytest.mark.parametrize("processes", [2, 3])
def test_several_ranks_resume_to_the_same_bits(blobs, tmp_path, processes):
    flags = ["--dataset", str(blobs), *FLAGS, "--batch-size", "6", "--augment", "strong"]
    flags += ["--ema", "0.9", "--encoder-lr", "0.5"]
    uninterrupted, run = tmp_path / "uninterrupted", tmp_path / "run"
    for folder, moment in ((uninterrupted, []), (run, [1, "validation", 2, "SIGTERM"])):
        program = [ATTEMPTS, *moment] if moment else ["train.py"]
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        given = [*program, *flags, "--output-dir", folder]
        done = run_program(*given, processes=processes, **environment)
        assert bool(moment) == bool(done.returncode), done.stderr[-3000:]
    assert 1 <= len(lines(run)) < len(lines(uninterrupted))
    done = run_program("train.py", "--resume", run, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert outcome(run) == outcome(uninterrupted)
