"""Trackers, read back from the files that they really write."""

import json
import sqlite3
import struct
from pathlib import Path

import pytest
from small import TINY, train, write_blobs
from wandb.proto.wandb_internal_pb2 import Record

from segacc.program import InputError
from segacc.tracking import append_line, check_tracker, keep_epochs, read_lines


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


def output_of(dataset, run, tracker, **environment):
    done = train(dataset, run, "--epochs", 2, *TINY, "--tracker", tracker, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def wandb_records(path: Path) -> list[Record]:
    """The records in a .wandb file: LevelDB's log format, in blocks of 32 KiB."""
    data, records, part = path.read_bytes(), [], b""
    position = 7  # W&B's own header
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if position + 7 + length > len(data):
            break  # cut off by a kill
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(Record.FromString(part))
            part = b""
    return records


def test_wandb_without_a_key_runs_offline_says_so_and_holds_the_curves(blobs, tmp_path):
    home = str(tmp_path)  # no key in a netrc there
    run = tmp_path / "run"
    said = output_of(blobs, run, "wandb", WANDB_MODE=None, HOME=home, NETRC=str(tmp_path / "none"))
    assert "wandb, offline for want of a key" in said
    files = list(run.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 1
    records = wandb_records(files[0])
    run_id = json.loads((run / "config.json").read_text())["run_id"]
    assert {r.run.run_id for r in records if r.HasField("run")} == {run_id}
    config = {
        item.key: json.loads(item.value_json)
        for r in records
        for update in ([r.config] if r.HasField("config") else [r.run.config])
        for item in update.update
    }
    assert (config["model"], config["batch_size"], config["size"]) == ("linknet", 4, 64)
    history = [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in records
        if r.HasField("history")
    ]
    written = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["_step"] for row in history] == [line["step"] for line in written] == [3, 6]
    for row, line in zip(history, written, strict=True):
        assert row["valid_iou"] == line["valid_iou"] and row["train_loss"] == line["train_loss"]


def test_wandb_that_cannot_start_is_a_sentence(blobs, tmp_path):
    flags = [*TINY, "--tracker", "wandb"]
    done = train(blobs, tmp_path / "run", *flags, WANDB_MODE=None, WANDB_API_KEY="short")
    assert done.returncode == 2, done.stderr[-3000:]
    assert "error: --tracker wandb could not start" in done.stderr
    assert "Traceback" not in done.stderr


def test_wandb_mode_is_obeyed(blobs, tmp_path):
    said = output_of(blobs, tmp_path / "run", "wandb", WANDB_MODE="disabled")
    assert "wandb (disabled)" in said
    assert not list((tmp_path / "run").glob("wandb/*run-*"))


def test_tensorboard_holds_the_curves(blobs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = output_of(blobs, tmp_path / "run", "tensorboard")
    assert f"tensorboard --logdir {tmp_path / 'run'}" in said
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*.0")
    curves = EventAccumulator(str(events.parent)).Reload()
    written = read_lines(tmp_path / "run")
    points = [(p.step, p.value) for p in curves.Scalars("valid_iou")]
    assert points == [(line["step"], pytest.approx(line["valid_iou"])) for line in written]


def test_trackio_holds_the_curves(blobs, tmp_path):
    output_of(blobs, tmp_path / "run", "trackio", TRACKIO_DIR=str(tmp_path / "trackio"))
    (database,) = (tmp_path / "trackio").glob("segacc*.db")
    rows = sqlite3.connect(database).execute("select step, metrics from metrics").fetchall()
    found = {step: json.loads(values).get("valid_iou") for step, values in rows}
    written = read_lines(tmp_path / "run")
    assert found == {line["step"]: pytest.approx(line["valid_iou"]) for line in written}


def test_a_tracker_that_is_not_installed_is_named():
    with pytest.raises(InputError, match=r"--tracker nosuch needs the package nosuch.*pip install"):
        check_tracker("nosuch")
    check_tracker("none")


def test_epochs_after_the_resumed_state_are_dropped(tmp_path):
    for epoch in (1, 2, 3):
        append_line(tmp_path, {"epoch": epoch})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tra')  # cut off by a kill
    assert [line["epoch"] for line in read_lines(tmp_path)] == [1, 2, 3]
    keep_epochs(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
