"""fit() on tiny models and images: learning, stopping, resuming, accumulating, reporting."""

import fcntl
import json
import math
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import small
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from small import ROOT, TINY, lines, write_blobs

from segacc.config.flags import parse_train
from segacc.config.records import read_run_config
from segacc.config.train import STUDY_MODELS, TrainConfig
from segacc.data.known import TRAINED_ON
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError
from segacc.labels import BINARY, Labels
from segacc.runs.folder import make_run_folder
from segacc.training.banner import MORE_STEPS
from segacc.training.checks import explain_errors
from segacc.training.fit import fit
from segacc.training.saving.checkpoint import states
from segacc.training.setup import NO_HOOKS, Hooks
from segacc.training.steps import reduce_losses


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


def train(dataset, run, *flags, hooks=NO_HOOKS):
    base = ["--dataset", dataset, "--output-dir", run, "--size", "64", "--weights", "none"]
    base += ["--batch-size", "4", "--tracker", "none"]
    base += [] if "segformer" in flags else TINY
    AcceleratorState._reset_state(reset_partial_state=True)
    return fit(parse_train([*map(str, base), *map(str, flags)]), hooks)


def weights(run):
    return load_file(states(run)[-1])


def test_a_model_learns_and_the_run_folder_holds_all_its_files(blobs, tmp_path, capsys):
    run = train(blobs, tmp_path / "run", "--epochs", "12", "--lr", "5e-3", "--crop", "32")
    history = lines(run)
    assert [line["epoch"] for line in history] == list(range(1, 13))
    assert min(line["train_loss"] for line in history) < 0.5 * history[0]["train_loss"]
    assert max(line["valid_iou"] for line in history) > 0.6
    wanted = {"train_loss", "valid_loss", "valid_iou", "valid_iou_image", "lr", "img_per_s"}
    assert wanted | {"data_wait", "memory_gib", "seconds"} <= set(history[0])
    assert (run / "best" / "model.safetensors").is_file() and (run / "best/config.json").is_file()
    record = json.loads((run / "config.json").read_text())
    assert record["config"]["size"] == 64 and torch.__version__.startswith(
        record["versions"]["torch"]
    )
    assert record["data"]["images"] == {"train": 12, "valid": 5, "test": 3}
    seen = [line.split(",")[:2] for line in (run / TRAINED_ON).read_text().splitlines()]
    assert seen[1] == ["train", "train0"] and seen[17] == ["valid", "valid4"] and len(seen) == 18
    assert Labels.from_config(record["data"]["labels"]) == BINARY
    best_config = json.loads((run / "best" / "config.json").read_text())
    assert Labels.from_config(best_config["labels"]) == BINARY
    printed = capsys.readouterr().out
    for word in ("cpu, fp32", "4 global = 1 process x 4", "0.4 M", "none (random)", "dice"):
        assert word in printed
    assert f"next: segacc evaluate {run}" in printed
    best = max(history, key=lambda line: line["valid_iou"])
    tuned = f"({best['valid_iou_best_threshold']:.4f} at {best['valid_threshold']:.3g})"
    score = f"validation iou {best['valid_iou']:.4f} at threshold 0.5 {tuned}, its model in"
    assert f"best epoch {best['epoch']} of 12, {score}" in printed
    assert re.search(r"^ *12/12 +0\.\d{4} ", printed, re.MULTILINE)
    assert "all foreground" not in printed[printed.index("12/12 ") :]
    assert f"| {best['valid_iou']:.4f} |" in (run / "best" / "README.md").read_text()


def test_a_log_gets_lines_within_an_epoch(blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("segacc.runtime.bars.LOG_SECONDS", 0)
    monkeypatch.setattr("segacc.training.steps.READ_SECONDS", 0)
    train(blobs, tmp_path / "run", "--epochs", "2")
    printed = capsys.readouterr().out
    steps = re.findall(
        r"^epoch (\d)/2, step (\d) of (\d), loss \d\.\d{4}, at most .+ left$", printed, re.M
    )
    assert steps == [(epoch, step, "3") for epoch in "12" for step in "12"]
    scored = re.findall(r"^epoch (\d)/2, validation: (\d) of (\d) images$", printed, re.M)
    assert scored[:2] == [("1", "0", "5"), ("1", "4", "5")] and scored[2:][0][0] == "2"


def test_a_terminal_of_80_columns_shows_a_bar_with_loss_speed_and_the_time_left(blobs, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "train.py", "--dataset", blobs, "--output-dir", tmp_path / "run"]
    command += ["--size", "64", "--weights", "none", "--batch-size", "4", "--tracker", "none"]
    command += ["--epochs", "2", *TINY]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=env, stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # on Linux this means that the other side has closed
        pass
    assert process.wait() == 0
    for epoch in ("epoch 1/2", "epoch 2/2"):
        bars = [line for line in shown.decode().split("\r") if line.startswith(epoch)]
        last = next(bar for bar in reversed(bars) if "loss" in bar)
        assert re.search(r"\| 3/3, loss \d\.\d{4}, at most \S+ \S+ left, \d+ img/s", last), shown
        assert max(map(len, bars)) <= 80


def test_the_same_flags_give_the_same_weights(blobs, tmp_path):
    first = train(blobs, tmp_path / "a", "--epochs", "2")
    second = train(blobs, tmp_path / "b", "--epochs", "2", "--workers", "2")
    assert all(torch.equal(v, weights(second)[k]) for k, v in weights(first).items())
    other = train(blobs, tmp_path / "c", "--epochs", "2", "--seed", "1")
    assert not all(torch.equal(v, weights(other)[k]) for k, v in weights(first).items())


def test_a_state_is_saved_every_so_many_steps_and_at_the_end(blobs, tmp_path):
    flags = ["--epochs", "3", "--save-every", "4", "--keep", "9"]  # they end after 3, 6 and 9
    run = train(blobs, tmp_path / "run", *flags)
    wanted = [(1, 4), (2, 8), (3, 9)]
    assert [p.stem for p in states(run)] == [f"epoch-{e:04d}-step-{s:08d}" for e, s in wanted]


def test_a_state_is_saved_at_the_end_of_an_epoch_when_it_is_time(blobs, tmp_path, monkeypatch):
    monkeypatch.setattr("segacc.training.saving.writer.SAVE_SECONDS", 0.0)
    run = train(blobs, tmp_path / "run", "--epochs", "3", "--keep", "9")
    wanted = [(1, 3), (2, 6), (3, 9)]
    assert [p.stem for p in states(run)] == [f"epoch-{e:04d}-step-{s:08d}" for e, s in wanted]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.soak)])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.soak)])
def test_a_compiled_run_has_the_same_curve_and_can_be_resumed_as_any(
    blobs, tmp_path, monkeypatch, caplog, backend, precision
):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    flags = ["--epochs", "2", "--precision", precision]
    plain = lines(train(blobs, tmp_path / "plain", *flags))
    run = train(blobs, tmp_path / "run", *flags, "--compile")
    assert "--compile made no model faster" in caplog.text
    assert [line["train_loss"] for line in lines(run)] == pytest.approx(
        [line["train_loss"] for line in plain], rel=1e-3 if precision == "fp32" else 2e-2
    )
    fit(parse_train(["--resume", str(run), "--epochs", "3", "--no-compile"]))
    assert len(lines(run)) == 3
    assert weights(run).keys() == weights(tmp_path / "plain").keys()
    kept = load_file(run / "best" / "model.safetensors")
    assert kept.keys() == load_file(tmp_path / "plain" / "best" / "model.safetensors").keys()


@pytest.mark.parametrize(
    ("model", "limit"),
    [("deeplabv3plus", 2), pytest.param("segformer", 8, marks=pytest.mark.soak)],
)
def test_a_compiled_model_with_dropout_is_not_compiled_again_at_each_step(
    blobs, tmp_path, monkeypatch, model, limit
):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    flags = ["--epochs", "2", "--compile", "--model", model]
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=limit):
        run = train(blobs, tmp_path / "run", *flags)
    assert len(lines(run)) == 2


def test_an_error_of_the_compiler_is_a_sentence(blobs, tmp_path, monkeypatch):
    def cannot(*_):
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=cannot))
    torch.compiler.reset()
    with pytest.raises(InputError, match=r"--compile: .*no compiler found.*give --no-compile"):
        train(blobs, tmp_path / "run", "--epochs", "1", "--compile")


def test_deterministic_runs_set_pytorch_and_cublas(blobs, tmp_path):
    found = []
    hooks = Hooks(
        step_begins=lambda step: found.append(torch.are_deterministic_algorithms_enabled())
    )
    run = train(blobs, tmp_path / "run", "--epochs", "1", "--deterministic", hooks=hooks)
    assert all(found) and found and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()  # as it was before
    assert json.loads((run / "config.json").read_text())["config"]["deterministic"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("model", STUDY_MODELS)
def test_two_deterministic_runs_on_a_gpu_are_bit_identical(blobs, tmp_path, model):
    flags = ["--model", model, "--epochs", "2", "--deterministic"]
    for run in (first := tmp_path / "first", second := tmp_path / "second"):
        done = small.train(blobs, run, *flags, ACCELERATE_USE_CPU=None)
        assert done.returncode == 0, done.stderr[-3000:]
    assert all(torch.equal(v, weights(second)[k]) for k, v in weights(first).items())


def test_an_operation_that_is_not_deterministic_is_named(blobs, tmp_path):
    config = parse_train(["--dataset", "demo", "--model", "unet"])
    torch.use_deterministic_algorithms(True)
    try:
        with (
            pytest.raises(InputError, match=r"--deterministic: unet with --loss dice.* \(put_\)"),
            explain_errors(config, tmp_path),
        ):
            torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))
    finally:
        torch.use_deterministic_algorithms(False)


def test_patience_stops_the_run(blobs, tmp_path, capsys):
    # At this rate nothing is learnt, so no epoch beats the first.
    flags = ["--epochs", "9", "--patience", "2", "--lr", "1e-12", "--freeze-bn"]
    run = train(blobs, tmp_path / "run", *flags)
    assert len(lines(run)) == 3
    printed = capsys.readouterr().out
    assert "patience ran out: best epoch 1 of 3" in printed
    masks = [cv2.imread(str(path), 0) > 0 for path in (blobs / "valid").glob("*.png")]
    assert len(masks) == 5  # all of one size
    said = f"no better than all foreground (IoU {np.mean(masks):.4f})"
    assert printed.count(f"  so far {said}\n") == 1
    assert printed.count(f"warning: {said}; {MORE_STEPS}\n") == 1


def test_a_run_that_stopped_before_its_first_state_begins_again(blobs, tmp_path):
    run = train(blobs, tmp_path / "run", "--epochs", "1")
    first = weights(run)
    for state in (run / "checkpoints").iterdir():
        state.rename(state.with_suffix(".partial"))
    again = fit(parse_train(["--resume", str(run)]))
    assert [line["epoch"] for line in lines(run)] == [1]
    assert all(torch.equal(v, weights(again)[k]) for k, v in first.items())


def test_the_flags_that_a_resumed_run_changes_are_stored(blobs, tmp_path):
    run = train(blobs, tmp_path / "run", "--epochs", "1")
    AcceleratorState._reset_state(reset_partial_state=True)
    fit(parse_train(["--resume", str(run), "--epochs", "2"]))
    assert parse_train(["--resume", str(run)]).epochs == 2
    assert len(lines(run)) == 2


def test_parts_of_a_batch_give_the_gradient_of_the_batch(blobs, tmp_path):
    flags = ["--epochs", "1", "--loss", "bce", "--freeze-bn"]
    whole = lines(train(blobs, tmp_path / "whole", *flags))
    parts = lines(train(blobs, tmp_path / "parts", *flags, "--accumulate", "2"))
    assert parts[0]["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=1e-4)
    assert parts[0]["valid_loss"] == pytest.approx(whole[0]["valid_loss"], rel=1e-4)


def test_parts_of_a_batch_with_ignored_pixels_give_the_gradient_of_the_batch(tmp_path):
    """Images smaller than the crop are padded, and the padding does not count."""
    data = small.write_shapes(tmp_path / "data", [(64, 64), (24, 40), (56, 32)])
    flags = ["--size", "native", "--crop", "64", "--epochs", "1", "--loss", "ce", "--freeze-bn"]
    flags += ["--class-weights", "balanced"]
    whole = lines(train(data, tmp_path / "whole", *flags))
    parts = lines(train(data, tmp_path / "parts", *flags, "--accumulate", "4"))
    assert parts[0]["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=1e-4)
    assert parts[0]["valid_loss"] == pytest.approx(whole[0]["valid_loss"], rel=1e-4)


def test_the_banner_says_that_dice_is_of_parts_of_the_batch(blobs, tmp_path, capsys):
    train(blobs, tmp_path / "run", "--epochs", "1", "--accumulate", "2")
    assert "--loss dice+ce is then of each part, not of the whole batch" in capsys.readouterr().out


def test_bf16_is_used_and_the_banner_says_so(blobs, tmp_path, capsys):
    dtypes = set()

    def watch(job):
        modules = job.model.trained.model.modules()
        conv = next(m for m in modules if isinstance(m, torch.nn.Conv2d))
        conv.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))

    flags = ["--epochs", "1", "--precision", "bf16"]
    run = train(blobs, tmp_path / "run", *flags, hooks=Hooks(ready=watch))
    assert dtypes == {torch.bfloat16}  # in training and in validation
    assert "cpu, bf16" in capsys.readouterr().out
    assert json.loads((run / "config.json").read_text())["config"]["precision"] == "bf16"
    assert all(v.dtype != torch.bfloat16 for v in weights(run).values())


def test_a_batch_of_one_image_trains(blobs, tmp_path):
    run = train(blobs, tmp_path / "run", "--epochs", "1", "--batch-size", "1")
    assert lines(run)[0]["step"] == 12


def test_a_step_that_the_scaler_of_fp16_skips_is_no_failure(blobs):
    config = parse_train(["--dataset", str(blobs), "--batch-size", "2"])
    split = prepare(load_dataset(str(blobs)), 64).splits["train"]
    accelerator = Accelerator(cpu=True)

    def job(scaler):
        model = SimpleNamespace(trained=SimpleNamespace(scaler=scaler))
        data = SimpleNamespace(splits={"train": split})
        return SimpleNamespace(
            config=config, accelerator=accelerator, model=model, data=data, run=blobs
        )

    steps = [torch.tensor([0.5, 1.0]), torch.tensor([0.25, torch.inf])]
    scaler = torch.amp.GradScaler("cpu")
    assert reduce_losses(job(scaler), steps, 0) == [(0.5, 1.0), (0.25, math.inf)]
    with pytest.raises(InputError, match="the gradient is inf at step 2 on the images"):
        reduce_losses(job(None), steps, 0)
    steps.append(torch.tensor([torch.nan, 1.0]))
    with pytest.raises(InputError, match="the loss is nan at step 3 on the images"):
        reduce_losses(job(scaler), steps, 0)


def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence(blobs, tmp_path):
    message = r"the .* is (nan|inf) at step \d on the images .*\d.*lower --lr.*no state yet"
    flags = ["--epochs", "3", "--weight-decay", "1e30", "--loss", "bce"]  # weights grow by that
    with pytest.raises(InputError, match=message):
        train(blobs, tmp_path / "run", *flags)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "13"], "--batch-size 13 is larger than the training set"),
        (["--precision", "fp16"], "--precision fp16 needs a GPU"),
        (["--model", "lnknet"], "--model lnknet is not known; did you mean linknet"),
        (["--loss", "dise"], "--loss dise"),
        (["--model", "deeplabv3plus", "--batch-size", "1"], "at least 2, or --freeze-bn"),
    ],
)
def test_wrong_flags_are_refused_before_a_folder_is_made(blobs, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        train(blobs, tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--model", "lnknet"), ("--encoder", "resnet43"), ("--weights", "./none.pth")],
)
def test_a_wrong_name_is_refused_before_data_are_read(tmp_path, flag, name):
    with pytest.raises(InputError, match=rf"{flag} {name} (is not known|was not found)"):
        train("owner/data-that-nobody-has", tmp_path / "run", flag, name)


def test_an_output_folder_that_is_taken_is_refused(blobs, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note").write_text("mine")
    with pytest.raises(InputError, match=r"--output-dir .*run is not empty.*--resume"):
        train(blobs, tmp_path / "run")


def test_resuming_with_other_data_is_refused(tmp_path):
    data = write_blobs(tmp_path / "data")
    run = train(data, tmp_path / "run", "--epochs", "1")
    (data / "train" / "train0.jpg").write_bytes((data / "train" / "train1.jpg").read_bytes())
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match="are not those that the run began with"):
        fit(parse_train(["--resume", str(run), "--epochs", "2"]))


def test_a_run_and_its_data_can_be_moved_and_resumed(tmp_path, monkeypatch, caplog):
    """From any folder: the fingerprint says that the data are the same."""
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "data")
    train("data", "run", "--epochs", "1")
    record = json.loads(Path("run/config.json").read_text())
    before = record["config"]
    assert before["dataset"] == record["data"]["source"] == str(tmp_path / "data")
    assert before["output_dir"] == str(tmp_path / "run")

    (tmp_path / "new").mkdir()
    for name in ("data", "run"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    monkeypatch.chdir(tmp_path / "new")
    (Path("run") / TRAINED_ON).unlink()  # as of a run that an older version began
    AcceleratorState._reset_state(reset_partial_state=True)
    assert fit(parse_train(["--resume", "run", "--dataset", "data", "--epochs", "2"])) == Path(
        "run"
    )
    record = json.loads(Path("run/config.json").read_text())
    after = record["config"]
    assert after["dataset"] == record["data"]["source"] == str(tmp_path / "new" / "data")
    assert after["epochs"] == len(lines(Path("run"))) == 2
    assert len((Path("run") / TRAINED_ON).read_text().splitlines()) == 1 + 12 + 5

    shutil.rmtree("data")
    AcceleratorState._reset_state(reset_partial_state=True)
    fit(parse_train(["--resume", "run", "--epochs", "3"]))  # with the prepared images in the cache
    assert f"{tmp_path / 'new' / 'data'} is not here: its prepared images" in caplog.text


def test_a_program_may_train_in_a_thread_with_fields_left_open(blobs, tmp_path):
    """Hooks are called in order, too."""
    called = []
    hooks = Hooks(
        ready=lambda job: called.append(("ready", job.run)),
        step_begins=lambda step: called.append(("begins", step)),
        step_done=lambda step, waited: called.append(("done", step, waited >= 0)),
        steps_done=lambda job: called.append("steps"),
        epoch_done=lambda job: called.append(len(lines(job.run))),
    )
    run = tmp_path / "run"
    config = TrainConfig(
        dataset=str(blobs),
        output_dir=run,
        size=64,
        weights="none",
        batch_size=6,
        tracker="none",
        encoder="tu-test_resnet",
        epochs=2,
    )
    with ThreadPoolExecutor() as pool:
        assert pool.submit(fit, config, hooks).result() == run
    assert read_run_config(run).flips == "hv"
    wanted = [("ready", run)]
    for epoch in (1, 2):
        for step in (2 * epoch - 2, 2 * epoch - 1):
            wanted += [("begins", step), ("done", step, True)]
        wanted += ["steps", epoch]
    assert called == wanted


def test_too_little_memory_before_the_first_step_is_a_sentence(blobs, tmp_path):
    """A limit on the address space stands for a full machine: the system refuses the memory."""
    program = """
import resource, sys
from segacc.config.flags import parse_train
from segacc.errors import run_program
import segacc.training.fit, segmentation_models_pytorch
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20), resource.RLIM_INFINITY))
sys.exit(run_program(lambda: segacc.training.fit.fit(parse_train(sys.argv[1:])), debug=False))
"""
    flags = ["--dataset", blobs, "--output-dir", tmp_path / "run", "--size", 64]
    flags += ["--tracker", "none", "--weights", "none", "--batch-size", 4]
    flags += ["--model", "unet", "--encoder", "vgg19"]
    done = small.run_program("-c", program, *flags)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "error: this machine has too little memory for --batch-size 4" in done.stderr


def test_runs_that_start_at_the_same_time_get_folders_of_their_own(blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--dataset", blobs, "--size", 64, "--weights", "none", "--batch-size", 4]
    flags += ["--tracker", "none", *TINY, "--epochs", 1]
    config = parse_train([*map(str, flags)])
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: make_run_folder(config), range(8)))
    assert len(set(found)) == 8 and all(folder.is_dir() for folder in found)
    assert {folder.name.rpartition("-")[0].count("blobs-linknet-") for folder in found} == {1}
