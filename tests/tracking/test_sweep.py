"""sweep.yaml, as `wandb sweep` and `wandb agent` use it."""

import itertools
import json
import os
import sys
from pathlib import Path

import pytest
from small import ROOT, TINY, run_program, write_blobs
from wandb.sdk.launch.sweeps import utils
from wandb.sdk.lib import config_util
from wandb_side import read_attempts

from segacc.config.flags import parse_train
from segacc.config.train import STUDY_MODELS
from segacc.training.losses.terms import make_loss

SWEEP = utils.load_sweep_config(str(ROOT / "sweep.yaml"))
assert SWEEP is not None


def points() -> list[dict[str, dict[str, object]]]:
    """All points of the grid, as the agent is sent them."""
    choices = {k: v.get("values", [v.get("value")]) for k, v in SWEEP["parameters"].items()}
    return [
        {name: {"value": value} for name, value in zip(choices, values, strict=True)}
        for values in itertools.product(*choices.values())
    ]


def command_of(point: dict[str, dict[str, object]]) -> list[str]:
    """As wandb.wandb_agent.Agent._command_run makes it."""
    parts = utils.create_sweep_command_args({"args": point})
    parts |= {"program": [SWEEP["program"]], "interpreter": ["python"], "env": ["/usr/bin/env"]}
    command: list[str] = []
    for part in map(str, utils.create_sweep_command(SWEEP["command"])):
        command += parts[part[2:-1]] if part.startswith("${") else [part]
    return command


def test_train_accepts_the_command_of_each_point():
    configs = []
    for point in points():
        launcher, flags = command_of(point)[:3], command_of(point)[3:]
        assert launcher == ["accelerate", "launch", "train.py"]
        config = parse_train(flags)
        make_loss(config.loss)
        assert {name: getattr(config, name) for name in point} == {
            name: given["value"] for name, given in point.items()
        }
        configs.append(config)
    assert len(set(configs)) == len(configs)
    assert {config.model for config in configs} == set(STUDY_MODELS)
    assert len({config.lr for config in configs}) > 1 < len({config.loss for config in configs})


def test_the_file_follows_the_schema_of_wandb():
    schema = pytest.importorskip("sweeps.config", reason="the package sweeps is not installed")
    assert schema.schema_violations_from_proposed_config(SWEEP) == []
    wrong = {**SWEEP, "early_terminate": {"type": "hyperbnd"}}
    assert schema.schema_violations_from_proposed_config(wrong)


@pytest.mark.slow
def test_a_run_has_the_id_that_the_agent_chose_and_logs_the_metric(tmp_path):
    run_id, point = "agents1d", {"model": {"value": "linknet"}, "lr": {"value": 0.0003}}
    parameters = tmp_path / "config.yaml"
    config_util.save_config_file_from_dict(str(parameters), point)
    agent = {
        "WANDB_SWEEP_ID": "sweep123",
        "WANDB_RUN_ID": run_id,
        "WANDB_SWEEP_PARAM_PATH": str(parameters),
        "WANDB_PROJECT": "study",
    }
    data, run = write_blobs(tmp_path / "blobs"), tmp_path / "run"
    flags = ["--dataset", data, "--output-dir", run, "--size", 64, "--batch-size", 4]
    flags += ["--weights", "none", "--epochs", 1, *TINY[2:]]
    launch = ["-m", "accelerate.commands.launch", *command_of(point)[2:]]
    done = run_program(*launch, *flags, **agent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Ignoring" not in done.stderr and "WARNING" not in done.stderr
    (attempt,) = read_attempts(run)
    (record,) = attempt.runs
    assert (record["run_id"], record["sweep_id"], record["project"]) == (
        run_id,
        "sweep123",
        "study",
    )
    assert record["display_name"] == "run"
    assert json.loads((run / "config.json").read_text())["run_id"] == run_id
    assert (attempt.config["model"], attempt.config["lr"]) == ("linknet", 0.0003)
    assert (
        SWEEP["metric"]["name"] in attempt.history[-1]
        and SWEEP["metric"]["name"] in attempt.summary
    )
    assert Path(sys.executable).exists() and os.environ.get("WANDB_RUN_ID") is None
