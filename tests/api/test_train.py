"""segacc.train(): flags as arguments, runs one after the other, errors, and what is left behind."""

import inspect
import json
import signal
import threading

import pytest
import torch
from small import TINY, write_blobs

import segacc
from segacc.config.flags import parse_train
from segacc.config.train import TrainConfig

BASE = {"model": TINY[1], "encoder": TINY[3], "size": 64, "weights": "none", "batch_size": 4}
BASE |= {"tracker": "none", "epochs": 2}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


def losses(run):
    epochs = run.epochs
    return [(line["train_loss"], line["valid_loss"], line["valid_iou"]) for line in epochs]


def test_every_flag_of_the_command_line_is_an_argument():
    shown = inspect.signature(segacc.train).parameters
    flags = set(TrainConfig.__dataclass_fields__)
    assert flags <= shown.keys() and all(p.kind is p.KEYWORD_ONLY for p in shown.values())
    assert shown["epochs"].default == 100 and shown["epochs"].annotation is int


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ({}, ""),
        ({"recipe": "strong"}, "--recipe strong"),
        # What is given wins over the recipe, also where it is the usual default.
        (
            {"recipe": "strong", "lr": 1e-3, "size": "96x64"},
            "--recipe strong --lr 1e-3 --size 96x64",
        ),
        ({"recipe": "strong", "ema": None}, "--recipe strong --ema None"),
        ({"size": (96, 64), "freeze_encoder": "all"}, "--size 96x64 --freeze-encoder"),
        ({"size": "native", "crop": 32, "pairs": ["a=b"]}, "--size native --crop 32 --pairs a=b"),
    ],
)
def test_arguments_mean_what_the_flags_mean(blobs, arguments, flags):
    from segacc.api.flags import checked
    from segacc.api.train import config_of

    given = {"dataset": str(blobs), "model": "unet", **arguments}
    config = config_of(checked(TrainConfig, given, "train"))
    assert config == parse_train(["--dataset", str(blobs), "--model", "unet", *flags.split()])


def test_runs_of_one_process_are_each_as_the_first_one_would_be(blobs, tmp_path):
    threads = torch.get_num_threads()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    running = threading.active_count()
    drawn = torch.rand(3, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    first = segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / "1")
    segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / "2", precision="bf16")
    other = {"deterministic": True, "seed": 1}
    other = segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / "3", **other)
    last = segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / "4")
    assert losses(last) == losses(first) != losses(other)
    assert json.loads((tmp_path / "2" / "config.json").read_text())["config"]["precision"] == "bf16"
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), drawn)  # those that the program would have drawn without it
    assert not torch.are_deterministic_algorithms_enabled()
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert threading.active_count() <= running + 1  # tqdm keeps one
    assert first.best["valid_iou"] == max(line["valid_iou"] for line in first.epochs)
    assert first.config.epochs == 2


def test_workers_and_pictures_of_earlier_runs_do_not_stay(blobs, tmp_path):
    import multiprocessing

    earlier = {*multiprocessing.active_children()}  # of other tests
    for number in range(2):
        segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / str(number), workers=1)
    assert {*multiprocessing.active_children()} <= earlier


def test_a_run_is_continued_and_stays_the_same_run(blobs, tmp_path):
    whole = segacc.train(dataset=blobs, **BASE | {"epochs": 3}, output_dir=tmp_path / "whole")
    with pytest.raises(segacc.Stopped) as stopped:
        segacc.train(
            dataset=blobs,
            **BASE | {"epochs": 3},
            output_dir=tmp_path / "part",
            on_epoch=lambda line: signal.raise_signal(signal.SIGINT),
        )
    assert isinstance(stopped.value, KeyboardInterrupt) and "--resume" in str(stopped.value)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(segacc.InputError, match="--lr"):
        segacc.train(resume=tmp_path / "part", lr=0.5)
    part = segacc.train(resume=tmp_path / "part")
    assert losses(part) == losses(whole) and len(losses(whole)) == 3


def test_an_exception_of_a_callback_ends_the_run_and_the_next_one_is_as_ever(blobs, tmp_path):
    class EnoughError(Exception):
        pass

    def stop(line):
        raise EnoughError

    with pytest.raises(EnoughError):
        segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / "1", on_epoch=stop)
    # It is saved: its best model can be scored, and it goes on from there.
    assert segacc.evaluate(tmp_path / "1", split="valid").iou >= 0
    assert len(segacc.train(resume=tmp_path / "1").epochs) == 2
    with pytest.raises(segacc.InputError, match="in this process"):
        segacc.train(
            dataset=blobs,
            **BASE,
            output_dir=tmp_path / "3",
            on_epoch=lambda line: segacc.evaluate(tmp_path / "1"),
        )
    steps = []
    run = segacc.train(
        dataset=blobs, **BASE, output_dir=tmp_path / "2", on_step=steps.append, precision="bf16"
    )
    assert [(step.step, step.epoch) for step in steps] == [(n, 1 + (n > 3)) for n in range(1, 7)]
    assert steps[0].rates["lr"] >= 0 and steps[0].grad_norm > 0
    mean = sum(step.loss for step in steps[:3]) / 3
    assert mean == pytest.approx(run.epochs[0]["train_loss"])


@pytest.mark.parametrize(
    ("flags", "error", "sentence"),
    [
        ({"epoch": 3}, TypeError, "train() has no flag epoch; did you mean epochs?"),
        ({"epochs": "many"}, segacc.InputError, "epochs='many'"),
        ({"flips": "x"}, segacc.InputError, "flips='x'"),
        ({"size": "abc"}, segacc.InputError, "size='abc'"),
        ({"freeze_encoder": True}, segacc.InputError, "freeze_encoder=True"),
        ({"lr": 20.0}, segacc.InputError, "--lr 20.0"),
        ({"model": "linkne"}, segacc.InputError, "linkne"),
        ({"loss": "dicce"}, segacc.InputError, "did you mean dice?"),
        ({"dataset": "nowhere"}, segacc.InputError, "nowhere"),
    ],
)
def test_errors_are_sentences(blobs, tmp_path, flags, error, sentence):
    with pytest.raises(error) as raised:
        segacc.train(**{"dataset": blobs, **BASE, "output_dir": tmp_path / "run"} | flags)
    assert sentence in str(raised.value) and not (tmp_path / "run").exists()


def test_a_run_that_fails_in_the_middle_does_not_disturb_the_next_one(blobs, tmp_path, caplog):
    with pytest.raises(segacc.InputError, match="loss is nan"):
        segacc.train(
            dataset=blobs,
            **BASE,
            output_dir=tmp_path / "1",
            loss=lambda logits, labels: logits.mean() * float("nan"),
        )
    caplog.clear()
    run = segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / "2")
    assert len(run.epochs) == 2
    assert [record.message for record in caplog.records if "paired" not in record.message] == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_twenty_trainings_take_no_more_memory_than_two(blobs, tmp_path):
    import psutil

    taken = []
    for number in range(20):
        run = segacc.train(dataset=blobs, **BASE, output_dir=tmp_path / str(number), workers=1)
        segacc.evaluate(run)
        segacc.predict(run, [blobs / "test" / "test0.jpg"])
        taken.append(psutil.Process().memory_info().rss / 2**20)
    print(f"MiB after each training: {[round(mib) for mib in taken]}")
    assert max(taken[10:]) < 1.05 * max(taken[1:3])
