"""Ctrl-C in a terminal, and errors, where several processes train or a launcher is around one."""

import re
import signal
import sys
from pathlib import Path

import pytest
from attempts import start, wait_for
from small import ROOT, TINY, lines, run_program
from terminal import CTRL_C, CTRL_Z, on_terminal

from segacc.errors import EXIT_INPUT, EXIT_STOPPED
from segacc.training.saving.checkpoint import states

FLAGS = ["--size", "64", "--weights", "none", "--batch-size", "4", *TINY, "--tracker", "none"]
ATTEMPTS = Path(__file__).parent / "attempts.py"
LAUNCH = """
import sys
from dataclasses import replace
from segacc.errors import LAUNCH_FOLDER
from segacc.runtime.launching.plan import ALONE
from segacc.runtime.launching.launcher import run_all
folder, *words = sys.argv[1:]
sys.exit(run_all(replace(ALONE, processes=2), [sys.executable, *words], {LAUNCH_FOLDER: folder}))
"""
SECOND_EPOCH = r"\s2/500 "
STOPPED = r"stopped by SIGINT after step \d+; continue with: "


def flags(blobs, run, epochs=500):
    given = ["--dataset", str(blobs), "--output-dir", str(run), *FLAGS]
    return [*given, "--epochs", str(epochs), "--patience", str(epochs)]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_train_and_score_as_one_does(blobs, tmp_path):
    of_one = run_program("-m", "segacc", "train", *flags(blobs, tmp_path / "one", 2))
    assert of_one.returncode == 0, of_one.stderr
    run, both = tmp_path / "two", ["--processes", "2"]
    of_two = run_program("-m", "segacc", "train", *both, *flags(blobs, run, 2))
    assert (of_two.returncode, of_two.stderr) == (0, of_one.stderr)  # not a word of a launcher
    assert "2 processes x 2" in of_two.stdout and of_two.stdout.count("segacc 0") == 1
    assert of_two.stdout.startswith("segacc 0")
    for one, two in zip(lines(tmp_path / "one"), lines(run), strict=True):
        for name in ("train_loss", "valid_loss"):
            assert two[name] == pytest.approx(one[name], rel=2e-3), name
    words = [sys.executable, "-m", "segacc", "evaluate", str(run), *both]
    code, printed = on_terminal(words)
    assert code == 0 and printed.count("3 full images") == 1, printed
    assert "scoring:" in printed  # the bar
    assert printed.startswith("\r\x1b[K  loading PyTorch ...")


@pytest.mark.distributed
def test_ctrl_c_in_a_terminal_saves_and_the_prompt_comes_when_all_have_ended(blobs, tmp_path):
    words = [sys.executable, "-m", "segacc", "train", "--processes", "2"]
    code, printed = on_terminal(
        [*words, *flags(blobs, run := tmp_path / "run")], (SECOND_EPOCH, CTRL_C)
    )
    assert code == EXIT_STOPPED and states(run)
    assert printed.count("SIGINT: saving") == printed.count("stopped by SIGINT") == 1
    assert re.search(rf"{STOPPED}segacc train --resume {run} --processes 2\s*$", printed)
    assert "Traceback" not in printed and "Error" not in printed


def test_ctrl_c_before_the_first_step_leaves_the_prompt_a_line_of_its_own(blobs, tmp_path):
    words = [sys.executable, "-m", "segacc", "train", *flags(blobs, tmp_path / "run")]
    code, printed = on_terminal(words, ("loading PyTorch", CTRL_C))
    assert code == 130 and printed.endswith("\n") and "Traceback" not in printed


@pytest.mark.distributed
def test_sigterm_to_the_launcher_saves(blobs, tmp_path):
    words = ["-m", "segacc", "train", "--processes", "2"]
    process = start(*words, *flags(blobs, run := tmp_path / "run"))
    wait_for((run / "metrics.jsonl").exists, process)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == EXIT_STOPPED and states(run)
    assert printed.count("stopped by SIGTERM after step") == 1 and "Traceback" not in printed


@pytest.mark.distributed
def test_an_error_of_all_ranks_or_of_one_is_one_sentence_and_code_2(blobs, tmp_path):
    words = ["-m", "segacc", "train", "--processes", "2"]
    wrong = run_program(*words, *flags(blobs, tmp_path / "run"), "--crop", "600")
    assert wrong.returncode == EXIT_INPUT and wrong.stderr.startswith("error: --crop 600 is larger")
    assert len(wrong.stderr.splitlines()) == 1
    of_one = [ATTEMPTS, "1", "step", "2", "refuse", *flags(blobs, tmp_path / "run")]
    done = run_program("-c", LAUNCH, tmp_path, *of_one, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    assert done.returncode == EXIT_INPUT
    *_, said = done.stderr.splitlines()
    assert said == "error: only rank 1 knows why" and done.stderr.count("error") == 1


@pytest.mark.slow
def test_under_accelerate_ctrl_c_saves_before_the_launcher_ends(blobs, tmp_path):
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "train.py"]
    words = [*accelerate, *flags(blobs, run := tmp_path / "run")]
    code, printed = on_terminal(words, (SECOND_EPOCH, CTRL_C))
    assert code == -signal.SIGTERM and states(run)  # the training has ended the launcher
    assert re.search(rf"{STOPPED}accelerate launch train.py --resume {run}\s*$", printed)
    assert "Traceback" not in printed and "Error" not in printed


@pytest.mark.slow
def test_under_accelerate_ctrl_z_holds_launcher_and_training_and_fg_continues_both(blobs, tmp_path):
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "train.py"]
    job = " ".join([*accelerate, *flags(blobs, run := tmp_path / "run")])
    shell = ["bash", "--norc", "--noprofile", "-i"]
    keys = [(r"\$", f"{job}\n"), (SECOND_EPOCH, CTRL_Z), ("Stopped", "ps -o stat=,args=\n")]
    keys += [
        (r"T.*\n[^$]*ps -o", "fg\n"),
        (r"\s\d+/500 ", CTRL_C),
        (STOPPED, ""),
        (r"\$ $", "exit\n"),
    ]
    _, printed = on_terminal(shell, *keys, PS1="$ ")
    assert states(run)
    held = re.findall(r"^T\S*\s+.*train\.py", printed, re.MULTILINE)
    assert len(held) == 2
