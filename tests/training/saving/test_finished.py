"""--resume of a finished run says what would make it go on, and touches nothing."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from socket import gethostname

import pytest
from small import ROOT, TINY, run_program, write_blobs

import segacc
from segacc.config.flags import parse_train
from segacc.config.records import read_run_config, read_run_record
from segacc.errors import InputError
from segacc.runs.epochs import read_epochs
from segacc.runs.status import STATUS, Status, read_status
from segacc.training.fit import fit
from segacc.training.saving.checkpoint import Progress
from segacc.training.saving.finished import about_finished


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    flags = ["--dataset", write_blobs(folder / "blobs"), "--output-dir", folder / "run", *TINY]
    flags += ["--size", 64, "--weights", "none", "--batch-size", 4, "--tracker", "none"]
    return fit(parse_train([*map(str, flags), "--epochs", "2"]))


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def content(run: Path) -> dict[str, tuple[str, int]]:
    """The digest of each file of a folder, and when it and the folders were last changed."""
    return {
        str(path.relative_to(run)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in [run, *run.rglob("*")]
    }


def test_a_finished_run_is_not_touched_and_says_what_would_make_it_go_on(run):
    before = content(run)
    done = run_program("train.py", "--resume", run, "--tracker", "tensorboard")
    assert done.returncode == 0, done.stderr[-3000:]
    title, first, more, after = done.stdout.splitlines()
    assert title.startswith("segacc ")
    assert first.startswith(f"{run} is finished, all epochs are done: best epoch ")
    assert more.startswith("for more: ") and more.endswith(f"--resume {run} --epochs N (N above 2)")
    assert after.startswith("next: ") and after.endswith(f" {run}")
    assert content(run) == before


def test_several_processes_leave_a_finished_run_alone_and_say_it_once(run):
    before = content(run)
    done = run_program("train.py", "--resume", run, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is finished") == 1 and content(run) == before


def test_a_program_gets_the_finished_run_back(run, capsys):
    before = content(run)
    again = segacc.train(resume=run)
    assert again.path == run and len(again.epochs) == 2 and content(run) == before
    assert f"{run} is finished" in capsys.readouterr().out
    assert len(segacc.train(resume=run, epochs=3).epochs) == 3  # and can train on


def test_fewer_epochs_than_are_done_are_refused(run):
    before = content(run)
    sentence = rf"--epochs 1: {run} has done 2 epochs already: .*more than 2"
    with pytest.raises(InputError, match=sentence):
        segacc.train(resume=run, epochs=1)
    with pytest.raises(InputError, match=sentence):
        fit(parse_train(["--resume", str(run), "--epochs", "1"]))
    assert content(run) == before


@pytest.mark.parametrize(
    ("epoch", "without_gain", "said"),
    [
        (2, 0, ("all epochs are done", "--epochs N (N above 2)")),
        (1, 20, ("patience ran out", "--patience P (P above 20)")),
        (2, 21, ("all epochs", "--epochs N --patience P (N above 2, P above 21)")),
    ],
)
def test_what_makes_a_run_go_on_depends_on_why_it_ended(finished, epoch, without_gain, said):
    progress = Progress(epoch=epoch, epochs_without_gain=without_gain, best_iou=0.5, best_epoch=1)
    record = read_run_record(finished)
    text = about_finished(read_run_config(finished), finished, record, progress)
    assert all(part in text for part in said), text


def test_a_run_goes_on_without_the_weights_that_it_started_from(run, tmp_path):
    config = read_run_record(run)
    config["config"]["weights"] = str(tmp_path / "removed.pt")
    (run / "config.json").write_text(json.dumps(config))
    done = run_program("train.py", "--resume", run, "--epochs", 3)
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_epochs(run)[-1]["epoch"] == 3


def test_a_run_that_was_killed_after_its_last_state_is_resumed_and_then_finished(run, capsys):
    """Its tracker may lack the end."""
    (run / STATUS).write_text(json.dumps(asdict(Status("training", host=gethostname(), pid=1))))
    segacc.train(resume=run)
    assert "all epochs are done: best epoch" in capsys.readouterr().out
    assert read_status(run).state == "finished"


@pytest.mark.slow
def test_of_two_processes_that_resume_a_run_one_trains_it(run):
    """The other waits until it has ended, and then has nothing to do."""
    command = [sys.executable, "train.py", "--resume", run, "--epochs", "4", "--patience", "9"]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    codes = sorted(process.wait(timeout=200) for process in both)
    assert codes in ([0, 0], [0, 2])  # where the machine is slow, the second one gives up
    assert [line["epoch"] for line in read_epochs(run)] == [1, 2, 3, 4]
