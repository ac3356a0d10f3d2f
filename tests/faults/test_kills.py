"""A run that is killed at any moment, and resumed, ends as if nothing had happened."""

import json
import random
from collections import Counter

import pytest
from lives import draw, live, outcome
from small import TINY, write_blobs
from test_tracking import wandb_records

FLAGS = ["--size", "64", "--crop", "48", "--weights", "none", "--batch-size", "4", *TINY]
FLAGS += ["--save-every", "2", "--lr", "5e-3"]


@pytest.mark.parametrize(
    ("kills", "epochs", "workers"),
    [
        (4, 4, 0),
        pytest.param(20, 16, 0, marks=pytest.mark.soak),
        pytest.param(20, 16, 2, marks=pytest.mark.soak),
    ],
)
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(tmp_path, kills, epochs, workers):
    seed = random.SystemRandom().randrange(2**32)
    print(f"the moments are drawn from the seed {seed}")
    rng = random.Random(seed)
    data = write_blobs(tmp_path / "data")
    flags = ["--dataset", str(data), *FLAGS, "--epochs", str(epochs), "--patience", str(epochs)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert live(whole, [*flags, "--tracker", "none"]) == 0

    lives, hits = 0, Counter()
    while sum(hits.values()) < kills:
        moment, lives = draw(rng), lives + 1
        code = live(killed, [*flags, "--workers", str(workers)], moment)
        print(f"life {lives}: {moment} -> {code}")
        assert code in (-9, 0), (tmp_path / "killed.log").read_text()[-3000:]
        if code == 0:
            break  # at its end before the moment came
        hits[moment.place] += 1
    assert live(killed, flags) == 0
    print(f"killed {sum(hits.values())} times: {dict(hits)}")
    assert sum(hits.values()) >= kills // 2
    assert outcome(killed) == outcome(whole)
    assert [line["epoch"] for line in outcome(killed)["epochs"]] == list(range(1, epochs + 1))

    # W&B knows one run, which was offline here: a folder for each life, all of the same id.
    run_id = json.loads((killed / "config.json").read_text())["run_id"]
    files = list(killed.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) > 1
    records = [record for file in files for record in wandb_records(file)]
    assert {record.run.run_id for record in records if record.HasField("run")} == {run_id}
