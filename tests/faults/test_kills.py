"""A run that is killed at any moment, and resumed, ends as if nothing had happened."""

import json
import os
import random
from collections import Counter

import pytest
from lives import draw, live, outcome
from small import TINY, lines, write_blobs
from wandb_side import lives

FLAGS = ["--size", "64", "--crop", "48", "--weights", "none", "--batch-size", "4", *TINY]
FLAGS += ["--save-every", "2", "--lr", "5e-3"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kills", "epochs", "workers"),
    [
        (4, 5, 0),
        pytest.param(20, 16, 0, marks=pytest.mark.soak),
        pytest.param(20, 16, 2, marks=pytest.mark.soak),
    ],
)
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(tmp_path, kills, epochs, workers):
    seed = int(os.environ.get("KILLS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nthe moments are drawn from KILLS_SEED={seed}")
    rng = random.Random(seed)
    data = write_blobs(tmp_path / "data")
    flags = ["--dataset", str(data), *FLAGS, "--epochs", str(epochs), "--patience", str(epochs)]
    whole, runs = tmp_path / "whole", [tmp_path / "killed-1"]
    assert live(whole, [*flags, "--tracker", "none"]) == 0

    hits = Counter()
    while sum(hits.values()) < kills:
        code = live(runs[-1], [*flags, "--workers", str(workers)], moment := draw(rng))
        print(f"{runs[-1].name}: {moment} -> {code}")
        assert code in (-9, 0), runs[-1].with_suffix(".log").read_text()[-3000:]
        if code == 0:  # at its end before the moment came
            runs.append(tmp_path / f"killed-{len(runs) + 1}")
        else:
            hits[moment.place] += 1
    assert live(runs[-1], flags) == 0
    print(f"killed {kills} times in {len(runs)} runs: {dict(hits)}")
    for run in runs:
        assert outcome(run) == outcome(whole)
        assert [line["epoch"] for line in outcome(run)["epochs"]] == list(range(1, epochs + 1))

        # W&B knows one run, which was offline here: a folder for each life, all of the same id. No
        # step is in two of them, and the scores of every epoch are in one.
        known = lives(run)
        run_id = json.loads((run / "config.json").read_text())["run_id"]
        assert {found for life in known for found in life.ids} == {run_id}
        steps = [step for life in known for step in life.steps]
        assert steps == sorted(set(steps))
        scored = {step: iou for life in known for step, iou in life.column("valid/iou").items()}
        assert scored == {line["step"]: line["valid_iou"] for line in lines(run)}
        assert (
            known[-1].summary["best_epoch"]
            == max(lines(run), key=lambda x: x["valid_iou"])["epoch"]
        )
