"""A run that is killed at any moment and resumed ends like a run that was never killed."""

import json
import os
import random
from collections import Counter

import pytest
import wandb
from attempts import Moment, draw_moment, outcome, run_attempt
from small import TINY, lines, write_blobs
from wandb_side import read_attempts

FLAGS = ["--size", "64", "--crop", "48", "--weights", "none", "--batch-size", "4", *TINY]
FLAGS += ["--save-every", "2", "--lr", "5e-3"]
FLAGS += ["--ema", "0.9", "--encoder-lr", "0.5", "--layer-decay", "0.9", "--freeze-encoder", "1"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kills", "epochs", "workers", "augment"),
    [
        (4, 5, 0, "strong"),
        pytest.param(20, 16, 0, "flips", marks=pytest.mark.soak),
        pytest.param(20, 16, 2, "strong", marks=pytest.mark.soak),
    ],
)
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(
    tmp_path, kills, epochs, workers, augment
):
    seed = int(os.environ.get("KILLS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nthe moments are drawn from KILLS_SEED={seed}")
    rng = random.Random(seed)
    data = write_blobs(tmp_path / "data")
    flags = ["--dataset", str(data), *FLAGS, "--epochs", str(epochs), "--patience", str(epochs)]
    flags += ["--augment", augment]
    uninterrupted, runs = tmp_path / "uninterrupted", [tmp_path / "killed-1"]
    assert run_attempt(uninterrupted, [*flags, "--tracker", "none"]) == 0

    hits = Counter()
    while sum(hits.values()) < kills:
        code = run_attempt(
            runs[-1], [*flags, "--workers", str(workers)], moment := draw_moment(rng)
        )
        print(f"{runs[-1].name}: {moment} -> {code}")
        assert code in (-9, 0), runs[-1].with_suffix(".log").read_text()[-3000:]
        if code == 0:  # the run ended before the moment came
            runs.append(tmp_path / f"killed-{len(runs) + 1}")
        else:
            hits[moment.place] += 1
    assert run_attempt(runs[-1], flags) == 0
    print(f"killed {kills} times in {len(runs)} runs: {dict(hits)}")
    for run in runs:
        assert outcome(run) == outcome(uninterrupted)
        assert [line["epoch"] for line in outcome(run)["epochs"]] == list(range(1, epochs + 1))

        # W&B was offline: it has a folder for each attempt, all with the id of one run. No step is
        # in two of them, and the scores of every epoch are in one.
        known = read_attempts(run)
        run_id = json.loads((run / "config.json").read_text())["run_id"]
        assert {name for attempt in known for name in attempt.ids} == {run_id}
        steps = [step for attempt in known for step in attempt.steps]
        assert steps == sorted(set(steps))
        scored = {
            step: iou for attempt in known for step, iou in attempt.column("valid/iou").items()
        }
        assert scored == {line["step"]: line["valid_iou"] for line in lines(run)}
        assert (
            known[-1].summary["best_epoch"]
            == max(lines(run), key=lambda x: x["valid_iou"])["epoch"]
        )


def test_a_killed_run_is_resumed_beside_a_service_of_wandb_that_goes_on(tmp_path, blobs):
    """As in a notebook that uses W&B itself: its service would keep the run of the killed one."""
    flags = ["--dataset", str(blobs), *FLAGS, "--epochs", "2"]
    # The first run of a process starts the service and names it to others. An earlier test may have
    # had the first run of this process.
    wandb.teardown()
    with wandb.init(mode="offline", dir=tmp_path):
        assert "WANDB_SERVICE" in os.environ
        killed = run_attempt(tmp_path / "run", flags, Moment("step", call=3, part=0))
        assert killed == -9
        assert run_attempt(tmp_path / "run", flags) == 0
    wandb.teardown()
    assert len(read_attempts(tmp_path / "run")) == 2
