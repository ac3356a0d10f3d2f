"""What trackers have written, read from their files."""

import csv
import hashlib
import json
import os
import shutil
import sqlite3
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from small import TINY, lines, run_program, train, write_blobs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_side import Attempt, read_attempts, wandb_server

from segacc.config.flags import parse_train
from segacc.errors import InputError
from segacc.runs.epochs import append_epoch, drop_epochs_after, read_epochs
from segacc.tracking import wandb_run
from segacc.tracking.start import check_tracker
from segacc.tracking.trackers import STEP_NAMES, Naming
from segacc.tracking.wandb_run import last_step
from segacc.training.fit import fit
from segacc.training.optim import make_schedule
from segacc.training.saving.checkpoint import states

EPOCHS, STEPS = 5, 15
FLAGS = [*TINY, "--epochs", EPOCHS, "--pictures", 2, "--lr", "5e-3"]
TOKEN = "hf_thisIsASecretThatNobodyMayRead"
SCORES = {"loss", "iou", "iou_image", "dice", "dice_image", "precision", "recall"}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs", valid=11)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def fit_here(*flags):
    """In this process, which has imported everything already."""
    AcceleratorState._reset_state(reset_partial_state=True)
    run = fit(parse_train([*map(str, flags)]))
    wandb.teardown()  # as at the end of a process, when all is on the disk
    return run


def new_run(blobs, run, tracker, *flags):
    base = ["--dataset", blobs, "--output-dir", run, "--size", 64, "--weights", "none"]
    return fit_here(*base, "--batch-size", 4, "--tracker", tracker, *FLAGS, *flags)


def forget_after(run: Path, step: int) -> None:
    """As if the run had been killed: its newest state is of this step."""
    for path in states(run):
        if int(path.stem.split("-")[-1]) > step:
            path.unlink()


@pytest.fixture(scope="module")
def offline(blobs, tmp_path_factory):
    """A run without a key, and what it printed."""
    home = tmp_path_factory.mktemp("home")  # no key in a netrc there
    run = tmp_path_factory.mktemp("offline") / "run"
    nothing = {"HOME": str(home), "NETRC": str(home / "none"), "HF_TOKEN": TOKEN}
    flags = [*FLAGS, "--tracker", "wandb", "--save-every", 2, "--keep", 9]
    flags += ["--name", "called", "--tags", "one", "two", "--project", "mine"]
    done = train(blobs, run, *flags, WANDB_MODE=None, **nothing)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wandb: " not in done.stderr + done.stdout  # the banner has its one line
    assert done.stdout.splitlines()[-1].startswith("next: ")
    return run, done.stdout


@pytest.fixture(scope="module")
def attempt(offline):
    (only,) = read_attempts(offline[0])
    return only


def best_line(run: Path) -> dict[str, float]:
    return max(lines(run), key=lambda line: line["valid_iou"])


def test_without_a_key_wandb_is_offline_and_the_banner_says_how_to_upload(offline, attempt):
    run, printed = offline
    assert (
        f"wandb, offline, since it has no key; upload with `wandb sync {run}/wandb/off" in printed
    )
    assert attempt.ids == {json.loads((run / "config.json").read_text())["run_id"]}


def test_wandb_shows_the_run_under_its_name_with_its_tags_in_its_project(offline, attempt):
    shown = attempt.runs[0]
    assert (shown["display_name"], shown["project"]) == ("called", "mine")
    assert shown["tags"] == ["one", "two"]
    config = json.loads((offline[0] / "config.json").read_text())["config"]
    assert (config["name"], config["tags"], config["project"]) == ("called", ["one", "two"], "mine")


def test_every_step_has_a_row_of_its_own(offline, attempt):
    assert attempt.steps == list(range(STEPS + 1))
    for name in STEP_NAMES:
        assert list(attempt.column(name)) == list(range(STEPS)), name
    losses = list(attempt.column("train/loss").values())
    for epoch, line in enumerate(lines(offline[0])):
        mean = np.mean(losses[epoch * 3 : epoch * 3 + 3])
        assert line["train_loss"] == pytest.approx(mean, abs=1e-12)
    schedule = make_schedule(torch.optim.SGD([torch.zeros(1)], lr=5e-3), 0.05, STEPS)
    for rate in attempt.column("train/lr").values():
        assert rate == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        schedule.optimizer.step()
        schedule.step()
    assert all(norm > 0 for norm in attempt.column("train/grad_norm").values())
    assert all(speed > 0 for speed in attempt.column("throughput/img_per_s").values())
    assert all(0 <= wait <= 1 for wait in attempt.column("throughput/data_wait").values())


def test_every_epoch_has_all_its_scores(offline, attempt):
    run, _ = offline
    written = lines(run)
    assert [line["step"] for line in written] == [3, 6, 9, 12, 15]
    assert {name.removeprefix("valid_") for name in written[0]} >= SCORES
    for name in written[0]:
        if name.startswith("valid_"):
            found = attempt.column(f"valid/{name.removeprefix('valid_')}")
            assert found == {line["step"]: line[name] for line in written}
    assert attempt.column("epoch") == {line["step"]: line["epoch"] for line in written}
    assert attempt.column("train/loss_epoch") == {
        line["step"]: line["train_loss"] for line in written
    }
    for name in ("img_per_s_epoch", "data_wait_epoch", "seconds_epoch", "memory_gib"):
        assert len(attempt.column(f"throughput/{name}")) == EPOCHS


def test_the_summary_is_the_best_epochs(offline, attempt):
    best = best_line(offline[0])
    assert attempt.summary["best_epoch"] == best["epoch"]
    for name in SCORES:
        assert attempt.summary[f"valid/{name}"] == best[f"valid_{name}"]


def test_the_config_holds_what_the_run_depends_on_and_no_secret(offline, attempt):
    run, _ = offline
    record = json.loads((run / "config.json").read_text())
    assert {name: attempt.config[name] for name in record["config"]} == record["config"]
    for name in ("data", "parameters", "processes", "device", "versions", "git_commit"):
        assert attempt.config[name] == record[name]
    for path in run.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path


def test_every_nth_epoch_the_same_images_are_logged_with_both_masks(offline, attempt, blobs):
    shown = attempt.column("pictures/valid.captions")
    assert list(shown) == [3, 6, 12]  # of epochs 1, 2 and 4
    names = [[caption.split()[0] for caption in captions] for captions in shown.values()]
    assert names[0] == names[1] == names[2] and len(set(names[0])) == 8
    assert {"valid0", "valid9"} <= set(names[0])  # in order of names, from first to last
    assert list(attempt.column("pictures/best.captions")) == [STEPS]
    both = 0
    for key in ("valid", "best"):
        for step, masks in attempt.column(f"pictures/{key}.all_masks").items():
            captions = attempt.column(f"pictures/{key}.captions")[step]
            files = attempt.column(f"pictures/{key}.filenames")[step]
            for caption, file, mask in zip(captions, files, masks, strict=True):
                assert Image.open(attempt.files / file).size == (64, 64)
                truth = np.asarray(Image.open(attempt.files / mask["truth"]["path"]))
                found = np.asarray(Image.open(attempt.files / mask["prediction"]["path"]))
                whole = np.asarray(Image.open(blobs / "valid" / f"{caption.split()[0]}.png"))
                assert (truth == whole // 255).all()  # 0 and 1, not 0 and 255
                assert set(np.unique(found)) <= {0, 1}
                both += len(np.unique(found)) == 2
                iou = (found & truth).sum() / (found | truth).sum()
                assert caption.endswith(f"IoU {iou:.3f}")
    assert both
    labels = attempt.config["_wandb"]["mask/class_labels"]
    assert len(labels) == 4  # truth and prediction of both keys
    for label in labels.values():
        assert label["value"] == {"0": "background", "1": "foreground"}


def test_the_pictures_are_of_the_best_model_at_the_end(offline, attempt):
    best = best_line(offline[0])
    captions = attempt.column("pictures/best.captions")[STEPS]
    ious = [float(caption.split()[-1]) for caption in captions]
    assert np.mean(ious) == pytest.approx(best["valid_iou_image"], abs=0.15)


def test_the_best_model_is_an_artifact_and_nothing_is_copied(offline, attempt):
    run, _ = offline
    (model,) = [artifact for artifact in attempt.artifacts if artifact["type"] == "model"]
    assert model["name"] == f"run-{next(iter(attempt.ids))}" and "best" in model["aliases"]
    files = {entry["path"]: entry for entry in model["manifest"]["contents"]}
    assert {"model.safetensors", "config.json", "README.md"} <= set(files)
    for name, entry in files.items():
        path = run / "best" / name
        assert entry["local_path"] == str(path)
        assert entry["digest"] == b64encode(hashlib.md5(path.read_bytes()).digest()).decode()
    metadata = json.loads(model["metadata"])
    assert metadata["best"] == best_line(run)
    assert metadata["config"]["model"] == "linknet" and metadata["data"]["fingerprint"]
    size = (run / "best" / "model.safetensors").stat().st_size
    for folder in (run / "wandb", Path(os.environ["WANDB_DATA_DIR"])):
        assert all(path.stat().st_size < size for path in folder.rglob("*") if path.is_file())


def test_the_last_step_is_that_of_the_newest_file_and_its_complete_rows(offline, attempt, tmp_path):
    (file,) = offline[0].glob("wandb/offline-run-*/run-*.wandb")
    run_id, whole = next(iter(attempt.ids)), file.read_bytes()
    assert last_step(offline[0] / "wandb", run_id) == STEPS
    assert last_step(offline[0] / "wandb", "another") == -1

    def write(folder: str, size: int) -> Path:
        copy = tmp_path / f"{folder}-{run_id}" / f"run-{run_id}.wandb"
        copy.parent.mkdir()
        copy.write_bytes(whole[:size])
        return copy

    first = write("run-20260101_000000", len(whole) // 2)  # ends within a row
    expected = Attempt(first).steps[-1]
    assert 0 < expected < STEPS and last_step(tmp_path, run_id) == expected
    write("offline-run-20260102_000000", len(whole))
    assert last_step(tmp_path, run_id) == STEPS
    write("offline-run-20260103_000000", 0)  # killed before its first row
    write("offline-run-20260104_000000", 20)
    assert last_step(tmp_path, run_id) == STEPS


def test_a_file_that_wandb_cannot_read_is_named(tmp_path):
    (tmp_path / "offline-run-20260101_000000-a" / "run-a.wandb").mkdir(parents=True)
    with pytest.raises(InputError, match=r"W&B cannot read .*run-a.wandb"):
        last_step(tmp_path, "a")


def cut_after(attempt_file: Path, step: int) -> None:
    """As if W&B had been killed with the rows after `step` in memory."""
    whole, low, high = attempt_file.read_bytes(), 0, attempt_file.stat().st_size
    while high - low > 1:  # the longest beginning that has no later row
        middle = (low + high) // 2
        attempt_file.write_bytes(whole[:middle])
        low, high = (
            (middle, high) if max([-1, *Attempt(attempt_file).steps]) <= step else (low, middle)
        )
    attempt_file.write_bytes(whole[:low])


@pytest.fixture
def again(offline, tmp_path):
    """A copy of the offline run, to go on with."""
    return shutil.copytree(offline[0], tmp_path / "run", symlinks=True)


def test_a_killed_run_that_is_resumed_has_every_row_once(again, blobs):
    """W&B has rows 0 to 8 of 0 to 15, the newest state is of step 4: rows 4 to 8 come again."""
    (file,) = again.glob("wandb/offline-run-*/run-*.wandb")
    cut_after(file, 8)
    forget_after(again, 4)
    first = Attempt(file)
    fit_here("--resume", again)
    before, after = read_attempts(again)
    assert before.ids == after.ids
    assert before.steps == list(range(9)) and after.steps == list(range(9, STEPS + 1))
    written = lines(again)
    for name in SCORES:
        found = first.column(f"valid/{name}") | after.column(f"valid/{name}")
        assert found == {line["step"]: line[f"valid_{name}"] for line in written}
    assert after.summary["valid/iou"] == best_line(again)["valid_iou"]
    assert after.summary["best_epoch"] == best_line(again)["epoch"]


def test_a_resumed_run_with_a_pipeline_loads_its_images_beside_wandb(blobs, tmp_path):
    """In a process in which albumentations is not imported yet; wandb then watches its import."""
    run = new_run(blobs, tmp_path / "run", "wandb", "--epochs", 1, "--augment", "light")
    anew = {"LIBRARIES": "anew"}  # with another environment it is no fork of tests/warm.py
    done = run_program("train.py", "--resume", run, "--epochs", 2, **anew)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 data worker" in done.stdout and [line["epoch"] for line in lines(run)] == [1, 2]


def test_epochs_that_wandb_has_lost_are_logged_when_the_run_is_resumed(again):
    """W&B has rows 0 to 4, the newest state is of step 14: scores of epochs 2 to 4 come again."""
    (file,) = again.glob("wandb/offline-run-*/run-*.wandb")
    cut_after(file, 4)
    forget_after(again, 14)
    fit_here("--resume", again)
    _, after = read_attempts(again)
    assert after.steps == [6, 9, 12, 14, 15]
    written = lines(again)
    assert after.column("valid/iou") == {line["step"]: line["valid_iou"] for line in written[1:]}
    assert list(after.column("train/loss")) == [14]
    assert after.summary["best_epoch"] == best_line(again)["epoch"]


def test_a_finished_run_that_is_resumed_logs_a_table_of_all_images_again(again):
    fit_here("--resume", again, "--epochs", EPOCHS + 1, "--patience", 50, "--pictures", 0)
    _, after = read_attempts(again)
    assert after.steps == [16, 17, 18]
    assert "pictures/valid.captions" not in after.history[-1]
    (path,) = after.column("tables/valid_per_image.path").values()
    table = json.loads((after.files / path).read_text())
    header, *rows = csv.reader((again / "best" / "valid_per_image.csv").open(encoding="utf-8"))
    assert sorted(row[0] for row in rows) == sorted(f"valid{i}" for i in range(11))
    assert table["columns"] == header
    assert table["data"] == [[row[0], *map(float, row[1:])] for row in rows]
    assert after.summary["best_epoch"] == best_line(again)["epoch"]
    assert after.config["epochs"] == EPOCHS + 1


def test_tracking_and_pictures_change_nothing_in_the_run(offline, blobs, tmp_path):
    run = new_run(blobs, tmp_path / "run", "none", "--pictures", "0")
    one, other = (load_file(states(folder)[-1]) for folder in (run, offline[0]))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    for mine, theirs in zip(lines(run), lines(offline[0]), strict=True):
        assert {k: mine[k] for k in mine if k.startswith(("valid_", "train_"))} == {
            k: theirs[k] for k in theirs if k.startswith(("valid_", "train_"))
        }


@pytest.mark.slow
def test_a_resumed_run_is_one_run_of_wandb_online_and_gives_no_warning(blobs, tmp_path):
    """W&B's server says which steps it has; they are not sent again."""
    run = tmp_path / "run"
    flags = ["--tracker", "wandb", "--pictures", 0, *TINY, "--save-every", 2, "--keep", 9]
    with wandb_server() as server:
        done = train(blobs, run, *flags, "--epochs", 3, **server.environment)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "wandb (online)" in done.stdout
        (run_id,) = server.runs
        assert [row["_step"] for row in server.history(run_id)] == list(range(10))
        forget_after(run, 4)
        done = run_program("train.py", "--resume", run, "--epochs", 5, **server.environment)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Tried to log to step" not in done.stderr
        assert set(server.runs) == {run_id}
        history = server.history(run_id)
        assert [row["_step"] for row in history] == list(range(16))
        scored = {row["_step"]: row["epoch"] for row in history if "valid/iou" in row}
        assert scored == {3: 1, 6: 2, 9: 3, 12: 4, 15: 5}
        # Row 9 was complete with the end of the first attempt.
        assert [row["_step"] for row in history if "train/loss" not in row] == [9, 15]
        summary = json.loads(server.runs[run_id]["summary"])
        assert summary["best_epoch"] == best_line(run)["epoch"]
        assert summary["valid/iou"] == best_line(run)["valid_iou"]
        assert json.loads(server.runs[run_id]["config"])["epochs"]["value"] == 5
        assert not any("pictures" in name for row in history for name in row)
        models = [a for a in server.artifacts if a["artifactTypeName"] == "model"]
        assert {a["artifactCollectionName"] for a in models} == {f"run-{run_id}"}


@pytest.mark.distributed
def test_two_processes_are_one_run_with_one_set_of_pictures(blobs, tmp_path):
    run = tmp_path / "run"
    flags = [*TINY, "--epochs", 2, "--pictures", 1, "--tracker", "wandb", "--freeze-bn"]
    done = train(blobs, run, *flags, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    (only,) = read_attempts(run)
    assert only.steps == list(range(7))
    assert len(only.column("pictures/valid.captions")) == 2
    assert only.config["processes"] == 2
    assert [artifact["type"] for artifact in only.artifacts].count("model") == 1


def test_an_error_of_wandb_at_the_start_is_one_sentence(blobs, tmp_path):
    flags = [*TINY, "--tracker", "wandb"]
    done = train(blobs, tmp_path / "run", *flags, WANDB_MODE=None, WANDB_API_KEY="short")
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stderr.splitlines()[-1].startswith("error: --tracker wandb could not start")
    assert "Traceback" not in done.stderr


def test_wandb_mode_is_obeyed(blobs, tmp_path):
    flags = [*TINY, "--epochs", 1, "--tracker", "wandb"]
    done = train(blobs, tmp_path / "run", *flags, WANDB_MODE="disabled")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wandb (disabled)" in done.stdout
    assert not list((tmp_path / "run").glob("wandb/*run-*"))


def curves(run: Path) -> EventAccumulator:
    """Of all attempts of a run."""
    keep = {"images": 0, "scalars": 0, "tensors": 0}  # all
    return EventAccumulator(str(run), size_guidance=keep).Reload()


def test_tensorboard_has_what_was_logged_before_and_after_a_resume(blobs, tmp_path, capsys):
    run = new_run(blobs, tmp_path / "run", "tensorboard", "--save-every", 2, "--keep", 9)
    assert f"tensorboard --logdir {run.parent}`" in capsys.readouterr().out
    forget_after(run, 10)
    fit_here("--resume", run, "--tracker", "tensorboard")
    found, written = curves(run), lines(run)
    for name in STEP_NAMES:
        assert [point.step for point in found.Scalars(name)] == list(range(STEPS)), name
    points = [(point.step, point.value) for point in found.Scalars("valid/iou")]
    assert points == [(line["step"], pytest.approx(line["valid_iou"])) for line in written]
    shown = {tag: [i.step for i in found.Images(tag)] for tag in found.Tags()["images"]}
    assert len(shown) == 16
    assert shown["pictures/valid/valid0"] == [3, 6, 12] and shown["pictures/best/valid0"] == [15]
    first = found.Images("pictures/valid/valid0")[0]
    assert first.width == 3 * 256 + 14 and first.encoded_image_string.startswith(b"\x89PNG")
    start = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"data/fingerprint" in start and b"versions/torch" in start
    folders = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    assert folders == {run}  # of which TensorBoard makes the names that it lists


def test_a_run_that_an_older_version_logged_to_tensorboard_goes_on_in_its_folder(blobs, tmp_path):
    run = new_run(blobs, tmp_path / "run", "tensorboard", "--epochs", 1)
    (run / "segacc").mkdir()
    for file in run.glob("events.out.tfevents.*"):
        file.rename(run / "segacc" / file.name)
    fit_here("--resume", run, "--epochs", 2)
    assert not list(run.glob("events.out.tfevents.*"))
    assert [point.step for point in curves(run / "segacc").Scalars("valid/iou")] == [3, 6]


def test_trackio_has_what_was_logged_before_and_after_a_resume(blobs, tmp_path, monkeypatch):
    home = Path(os.environ["TRACKIO_DIR"])
    run = new_run(blobs, tmp_path / "run", "trackio", "--save-every", 2, "--keep", 9)
    forget_after(run, 10)
    fit_here("--resume", run, "--tracker", "trackio", "--epochs", EPOCHS + 1)
    (database,) = home.glob("segacc*.db")
    asked = "select step, run_name, metrics from metrics order by id"
    found = [(s, n, json.loads(m)) for s, n, m in sqlite3.connect(database).execute(asked)]
    assert {name for _, name, _ in found} == {
        f"run-{json.loads((run / 'config.json').read_text())['run_id']}"
    }

    def column(name):
        return [(step, values[name]) for step, _, values in found if name in values]

    ious = [(line["step"], pytest.approx(line["valid_iou"])) for line in lines(run)]
    # With another number of epochs, 4 and 5 come out otherwise when they are computed again.
    assert [step for step, _ in column("valid/iou")] == [step for step, _ in ious]
    assert column("valid/iou")[:3] == ious[:3] and column("valid/iou")[5:] == ious[5:]
    steps = [step for step, _ in column("train/loss")]
    assert steps == [*range(STEPS), *range(STEPS + 1, STEPS + 3)]  # 15 was there without one
    pictures = column("pictures/valid/valid0")
    assert [step for step, _ in pictures] == [3, 6, 12, 18]
    assert (home / "media" / pictures[0][1]["file_path"]).is_file()
    tables = [value for _, value in column("tables/valid_per_image")]
    assert len(tables) == 2  # an attempt that comes to the end has one
    names = [row["name"] for row in tables[-1]["_value"]]
    assert sorted(names) == sorted(f"valid{i}" for i in range(11))


def test_a_tracker_that_is_not_installed_is_named():
    with pytest.raises(InputError, match=r"--tracker nosuch needs the package nosuch.*pip install"):
        check_tracker("nosuch")
    check_tracker("none")


def test_a_mode_that_wandb_does_not_know_is_named_before_the_run_has_a_folder(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(InputError, match="WANDB_MODE=offlin is not known to W&B: expected online"):
        check_tracker("wandb")


def test_wandb_is_waited_for_no_longer_than_it_helps_and_wrong_settings_are_a_sentence(
    monkeypatch, tmp_path
):
    given = {}

    def refuse(project, init_kwargs):
        given.update(init_kwargs["wandb"])
        raise ValueError("1 validation error for Settings\ninit_timeout")

    accelerator = SimpleNamespace(init_trackers=refuse)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(InputError, match="could not start .1 validation error for Settings init"):
        wandb_run.start(accelerator, Naming("n", "p"), tmp_path, "id", {})
    assert given["settings"].init_timeout <= 20
    monkeypatch.setenv("WANDB_MODE", "")  # which W&B refuses
    with pytest.raises(InputError, match="could not start"):
        wandb_run.start(accelerator, Naming("n", "p"), tmp_path, "id", {})
    assert "WANDB_MODE" not in os.environ
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "60")
    given.clear()
    with pytest.raises(InputError):
        wandb_run.start(accelerator, Naming("n", "p"), tmp_path, "id", {})
    assert "init_timeout" not in given["settings"].model_fields_set


def test_epochs_after_the_resumed_state_are_dropped(tmp_path):
    for epoch in (1, 2, 3):
        append_epoch(tmp_path, {"epoch": epoch})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tra')  # cut off by a kill
    assert [line["epoch"] for line in read_epochs(tmp_path)] == [1, 2, 3]
    drop_epochs_after(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
