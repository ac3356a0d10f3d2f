"""The workspace of `segacc dashboard`, against what a real run logs and what W&B is sent."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from small import ROOT, TINY, run_program, train, write_blobs
from wandb_side import Attempt, read_attempts, wandb_server

SEGACC = ["-c", "from segacc.cli import main; main()", "dashboard"]
SECTIONS = ["training", "validation", "throughput", "pictures", "comparison"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> dict[str, Any]:
    """What `--out` writes, without a key or a network."""
    out = tmp_path_factory.mktemp("out") / "view.json"
    done = run_program(*SEGACC, "--project", "study", "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"written: {out}\n"
    view = json.loads(out.read_text())
    assert view["project"] == "study"
    return view["spec"]["section"]


@pytest.fixture(scope="module")
def attempt(tmp_path_factory) -> Attempt:
    """What a run logs that was resumed for its last epoch."""
    folder = tmp_path_factory.mktemp("runs")
    data, run = write_blobs(folder / "blobs"), folder / "run"
    done = train(data, run, *TINY, "--epochs", 1, "--tracker", "wandb")
    assert done.returncode == 0, done.stderr[-3000:]
    done = run_program("train.py", "--resume", run, "--epochs", 2, "--pictures", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    return read_attempts(run)[-1]


def sections(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found = spec["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in found}


def names(spec: dict[str, Any]) -> Iterator[str]:
    """Every metric and config key that a panel or the table of runs shows, as W&B writes them."""
    for panels in sections(spec).values():
        for panel in panels:
            config, kind = panel["config"], panel["viewType"]
            if kind == "Run History Line Plot":
                assert config["xAxis"] == "_step"
                yield from (f"history:{name}" for name in config["metrics"])
            elif kind == "Media Browser":
                yield from (f"history:{name}.count" for name in config["mediaKeys"])
            elif kind == "Bar Chart":
                yield from (f"summary:{name}" for name in config["metrics"])
                yield f"config:{config['groupBy']}"
            elif kind == "Scatter Plot":
                yield from (config["xAxis"], config["yAxis"])
            elif kind == "Parallel Coordinates Plot":
                yield from (column["accessor"] for column in config["columns"])
            elif kind == "Parameter Importance":
                yield f"summary:{config['targetKey']}"
            elif kind == "Weave":
                assert '"tables/valid_per_image"' in json.dumps(config)
                yield "summary:tables/valid_per_image._type"
            else:
                assert kind == "Run Comparer"
    (runs,) = spec["runSets"]
    yield from (name for name in runs["runFeed"]["columnOrder"] if not name.startswith("run:"))
    yield from (f"{key['key']['section']}:{key['key']['name']}" for key in runs["sort"]["keys"])


def test_every_name_is_among_those_that_a_run_logs(spec, attempt):
    logged = {f"history:{name}" for row in attempt.history for name in row}
    logged |= {f"summary:{name}" for name in attempt.summary}
    for key, value in attempt.config.items():
        logged |= {f"config:{key}.value"}
        if isinstance(value, dict):
            logged |= {f"config:{key}.value.{inner}" for inner in value}
    wanted = set(names(spec))
    assert len(wanted) > 25
    assert wanted <= logged


def test_what_a_run_logs_has_a_panel(spec, attempt):
    shown = {name.partition(":")[2] for name in names(spec)}
    logged = {name for name in attempt.column("valid/iou") and attempt.history[-1] if "/" in name}
    logged |= {name for row in attempt.history for name in row if name.startswith("train/")}
    without = {name for name in logged - shown if "." not in name}
    assert without == {"throughput/data_wait_epoch"}


def test_sections_are_those_that_were_asked_for(spec):
    assert list(sections(spec)) == SECTIONS
    assert all(section["isOpen"] for section in spec["panelBankConfig"]["sections"])


def test_it_is_saved_in_wandb():
    with wandb_server() as server:
        done = run_program(*SEGACC, "--project", "study", **server.environment)
        assert done.returncode == 0, done.stderr[-3000:]
        (view,) = server.views
        assert (view["entityName"], view["projectName"]) == ("me", "study")
        assert view["type"] == "project-view" and view["displayName"] == "segacc"
        assert list(sections(json.loads(view["spec"])["section"])) == SECTIONS
        assert "saved: http://127.0.0.1" in done.stdout and "/me/study" in done.stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "found no key of W&B.* `wandb login` or set WANDB_API_KEY.*--out FILE"),
        pytest.param(
            {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"},
            "could not save the workspace of --project segacc .*check the network and the key",
            marks=pytest.mark.soak,  # W&B tries again for half a minute
        ),
    ],
)
def test_without_a_key_or_a_network_a_sentence_says_what_to_do(tmp_path, environment, message):
    nothing = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_MODE": None}
    done = run_program(*SEGACC, **nothing, **environment)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: segacc dashboard ")
    assert re.search(message, last), last


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    done = run_program(*SEGACC, "--out", tmp_path / "no" / "view.json")
    assert done.returncode == 2
    assert f"error: --out {tmp_path / 'no' / 'view.json'} cannot be written" in done.stderr


def test_the_commands_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", *SEGACC, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--entity" in done.stdout
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert loaded & {"torch", "wandb", "wandb_workspaces", "requests", "numpy"} == set()
