"""`segacc runs`: what it says of runs in every state, and what --clean removes."""

import json
import os
import shutil
from dataclasses import asdict

import pytest
from small import TINY, run_program, write_blobs

from segacc import cli
from segacc.config.flags import parse_evaluate, parse_train
from segacc.errors import InputError
from segacc.evaluation.compare import compare
from segacc.evaluation.evaluate import evaluate
from segacc.runs.epochs import read_epochs
from segacc.runs.listing import clean, list_runs, runs_in
from segacc.runs.status import STATUS, Status, marked_as_training
from segacc.runs.table import overview
from segacc.training.fit import fit
from segacc.training.saving.checkpoint import newest_state


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    flags = ["--dataset", write_blobs(folder / "blobs"), "--output-dir", folder / "run", *TINY]
    flags += ["--size", 64, "--weights", "none", "--batch-size", 4, "--tracker", "none"]
    return fit(parse_train([*map(str, flags), "--epochs", "2"]))


@pytest.fixture
def world(trained, tmp_path, monkeypatch):
    """Runs in all states in ./runs, and a folder that is none."""
    monkeypatch.chdir(tmp_path)
    names = ("done", "scored", "stopped", "failed", "killed", "begun", "old", "study/cell")
    for name in names:
        shutil.copytree(trained, tmp_path / "runs" / name)
    for name in ("stopped", "killed"):
        edit(tmp_path / "runs" / name, epochs=9)
    edit(tmp_path / "runs" / "begun", epochs=9)
    (tmp_path / "runs" / "begun" / "metrics.jsonl").unlink()
    shutil.rmtree(tmp_path / "runs" / "begun" / "best")
    set_status("stopped", Status("stopped", "stopped by SIGTERM after step 6"))
    set_status("failed", Status("failed", "the disk is full."))
    set_status("killed", Status("training", host=os.uname().nodename, pid=1))
    (tmp_path / "runs" / "begun" / STATUS).unlink()
    (tmp_path / "runs" / "old" / STATUS).unlink()  # an older version wrote none
    (tmp_path / "runs" / "scored" / "test").mkdir()
    (tmp_path / "runs" / "scored" / "test" / "report.html").touch()
    shutil.copytree(trained / "best", tmp_path / "runs" / "a-model")
    return tmp_path / "runs"


def edit(run, **config):
    record = json.loads((run / "config.json").read_text())
    record["config"] |= config
    (run / "config.json").write_text(json.dumps(record))


def set_status(name, status):
    with open(f"runs/{name}/{STATUS}", "w") as file:
        json.dump(asdict(status), file)


def listed(*folders):
    return {run.path.name: run for run in list_runs(folders)}


def test_each_run_has_its_state_its_score_and_what_to_do_next(world, trained):
    found = listed(world)
    states = {name: run.state for name, run in found.items()}
    assert states == {
        "done": "finished",
        "scored": "finished",
        "old": "finished",
        "cell": "finished",
        "stopped": "stopped",
        "killed": "stopped",
        "begun": "stopped",
        "failed": "failed",
    }
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["valid_iou"])
    done = found["done"]
    assert (done.best, done.best_epoch, done.epochs) == (best["valid_iou"], best["epoch"], 2)
    assert found["stopped"].most_epochs == 9 and found["begun"].best is None
    assert done.next.endswith(f"segacc evaluate {done.path}")
    assert found["scored"].next == str(found["scored"].path / "test" / "report.html")
    assert found["stopped"].next.endswith(f"--resume {found['stopped'].path}")
    files = [path for path in done.path.rglob("*") if path.is_file()]
    assert done.size == sum(path.stat().st_size for path in files)
    assert 0 < done.size_of_states < done.size


def test_a_run_that_is_trained_says_so_and_is_not_cleaned(world):
    with marked_as_training(world / "done"):
        run = listed(world / "done")["done"]
        assert (run.state, run.next, run.may_be_cleaned) == ("training", "", False)
        with pytest.raises(InputError, match="trains"):
            clean(world / "done")
    assert newest_state(world / "done")


def test_a_finished_run_that_was_asked_for_more_epochs_is_not_finished(world):
    edit(world / "done", epochs=20)  # as a resume does, a moment before it is killed
    assert listed(world)["done"].state == "stopped" and clean(world / "done") == 0
    assert newest_state(world / "done")


def test_runs_in_training_cannot_be_finished_by_their_patience_too(world):
    edit(world / "old", epochs=20, patience=1)
    best = listed(world)["old"].best_epoch
    assert listed(world)["old"].state == ("finished" if best == 1 else "stopped")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(world, monkeypatch, width, capsys):
    long = world / ("a-data-set-with-a-long-name-linknet-resnet34-seed0-20261129-120000")
    (world / "done").rename(long)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    text = overview(list_runs([world]), [world])
    table = text.split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= width
    assert "finished" in text and f"segacc evaluate {long}" in text  # whole, to be copied
    assert "runs/failed: the disk is full." in text


def test_clean_frees_the_states_of_finished_runs_and_of_no_others(world, capsys):
    before = listed(world)
    cli.run_command(["runs", "--clean"])
    said = capsys.readouterr().out
    after = listed(world)
    for name, run in before.items():
        gone = run.size - after[name].size
        if run.state == "finished":
            assert not (run.path / "checkpoints").exists()
            assert gone == pytest.approx(run.size_of_states, abs=500)  # of status.json
            assert f"{run.path.relative_to(world.parent)}" in said
        else:
            assert gone == 0 and newest_state(run.path)
    assert "the saved states of 4 finished runs" in said and "4 runs that can still go on" in said
    cli.run_command(["runs", "--clean"])
    assert "nothing to free" in capsys.readouterr().out


def test_a_cleaned_run_is_scored_compared_and_predicted_with_but_does_not_go_on(world, capsys):
    clean(world / "done")
    evaluate(parse_evaluate([str(world / "done")]))
    compare([world / "done"], "test", world / "comparison")
    cli.run_command(["predict", "runs/done", f"{world}/done/test/overlays", "--out", "masks"])
    assert list((world.parent / "masks").glob("*.png"))
    with pytest.raises(InputError, match=r"the run is finished, and .segacc runs --clean. has"):
        fit(parse_train(["--resume", str(world / "done"), "--epochs", "3"]))
    capsys.readouterr()
    fit(parse_train(["--resume", str(world / "done")]))  # as a study does with what it has trained
    printed = capsys.readouterr().out
    best = max(read_epochs(world / "done"), key=lambda line: line["valid_iou"])
    assert f"best epoch {best['epoch']} of 2, validation iou {best['valid_iou']:.4f}" in printed
    assert f"for more: start a new run from its best model with --weights {world}/done" in printed


def test_a_run_without_its_best_model_keeps_its_states(world):
    shutil.rmtree(world / "done" / "best")
    assert not listed(world)["done"].may_be_cleaned and clean(world / "done") == 0


def test_folders_that_are_not_there_and_folders_without_runs_are_a_sentence(world, capsys):
    with pytest.raises(InputError, match="nothing-here does not exist: expected a folder"):
        list_runs([world / "nothing-here"])
    cli.run_command(["runs", str(world / "a-model")])
    assert "no runs in" in capsys.readouterr().out


def test_a_table_takes_folders_with_runs_in_them(world):
    (world / "study" / "logs").mkdir()
    together = world / "study" / "mean-of-2"
    together.mkdir()
    (together / "ensemble.json").write_text('{"config": {}}')
    assert runs_in(world / "study") == [world / "study" / "cell", together]
    assert runs_in(world / "done") == [world / "done"] and len(runs_in(world)) == 9
    for other in (world / "a-model", world / "study" / "logs", world / "nothing-here"):
        assert runs_in(other) == [other]  # whose error names it


def test_the_list_is_there_at_once(world):
    """It reads files of a few lines, and needs neither torch nor pandas."""
    program = "import sys; from segacc.cli import run_command; run_command(['runs', sys.argv[1]]);"
    program += "print({'torch', 'accelerate', 'wandb', 'transformers'} & {*sys.modules})"
    done = run_program("-c", program, world)
    assert done.returncode == 0 and done.stdout.endswith("set()\n"), done.stderr


def test_a_damaged_run_is_left_out_with_a_word(world, caplog):
    shutil.copytree(world / "done", world / "damaged")
    (world / "damaged" / "metrics.jsonl").write_bytes(bytes(20) + b"\n")
    assert "done" in listed(world) and "damaged" not in listed(world)
    assert "damaged is left out: its metrics.jsonl is damaged" in caplog.text
