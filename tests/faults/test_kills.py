"""A run that is killed at any moment, and resumed, ends as if nothing had happened."""

import json
import os
import random
from collections import Counter

import pytest
from lives import draw, live, outcome
from small import TINY, write_blobs
from test_tracking import wandb_records

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

        # W&B knows one run, which was offline here: a folder for each life, all of the same id.
        run_id = json.loads((run / "config.json").read_text())["run_id"]
        files = list(run.glob("wandb/offline-run-*/run-*.wandb"))
        records = [record for file in files for record in wandb_records(file)]
        assert {record.run.run_id for record in records if record.HasField("run")} == {run_id}
