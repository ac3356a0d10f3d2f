"""The stream of steps: what it visits, and that nothing but (seed, step) decides it."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small import ROOT, write_blobs

from segacc.data.loading.loader import (
    TrainSamples,
    full_images,
    rank_share,
    to_device,
    train_loader,
)
from segacc.data.loading.stream import StepSampler, epoch_end, step_keys
from segacc.data.loading.workers import WorkerPlan, plan_workers
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source

SAMPLES, BATCH = 12, 8


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = write_blobs(tmp_path_factory.mktemp("data") / "blobs", train=SAMPLES)
    return prepare(Source(convert_folder(folder)), 64).splits["train"]


def stream(split, world_size=1, workers=0, start=0, stop=6, accumulate=1, seed=0, pipes=False):
    """The global batches of the steps, put together from all ranks' micro-batches."""
    samples = TrainSamples(split, "hv", 32, seed)
    per_rank = []
    for rank in range(world_size):
        sampler = StepSampler(len(split), BATCH, seed, start, stop, accumulate, rank, world_size)
        loader = train_loader(samples, sampler, WorkerPlan(workers, pipes), pin_memory=False)
        per_rank.append(list(loader))
        assert len(per_rank[-1]) == (stop - start) * accumulate
    micro = [
        {key: torch.cat([rank[i][key] for rank in per_rank]) for key in per_rank[0][i]}
        for i in range(len(per_rank[0]))
    ]
    return [
        {key: torch.cat([m[key] for m in micro[i : i + accumulate]]) for key in micro[0]}
        for i in range(0, len(micro), accumulate)
    ]


def same(these, those):
    return len(these) == len(those) and all(
        torch.equal(a[key], b[key]) for a, b in zip(these, those, strict=True) for key in a
    )


def test_each_epoch_visits_each_sample_once_in_its_own_order():
    keys = [key for step in range(30) for key in step_keys(0, step, BATCH, SAMPLES)]
    epochs = [[i for e, i in keys if e == epoch] for epoch in range(20)]
    assert all(Counter(order) == Counter(range(SAMPLES)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 20
    assert step_keys(1, 0, BATCH, SAMPLES) != step_keys(0, 0, BATCH, SAMPLES)


def test_an_epoch_ends_with_the_step_that_holds_its_last_sample():
    def visited(epoch, steps):
        keys = [key for step in range(steps) for key in step_keys(0, step, BATCH, SAMPLES)]
        return sum(e == epoch for e, _ in keys)

    for epoch in range(5):
        last = epoch_end(epoch, BATCH, SAMPLES)
        assert visited(epoch, last) == SAMPLES > visited(epoch, last - 1)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_batches_are_bit_identical_for_any_world_size_and_workers(split, world_size, workers):
    assert same(stream(split, world_size, workers, stop=4), stream(split, stop=4))


def test_batches_are_the_same_through_pipes(split):
    assert same(stream(split, workers=2, stop=4, pipes=True), stream(split, stop=4))


def test_workers_get_shared_memory_only_where_their_batches_fit(tmp_path, monkeypatch, caplog):
    assert plan_workers(2, 1000, shared=tmp_path / "no such folder") == WorkerPlan(2)  # not Linux
    disk = SimpleNamespace(f_bavail=18, f_frsize=1000)
    monkeypatch.setattr(os, "statvfs", lambda folder: disk)
    assert plan_workers(4, 1000, shared=tmp_path) == WorkerPlan(4) and not caplog.text
    assert plan_workers(4, 1001, shared=tmp_path) == WorkerPlan(4, pipes=True)
    assert plan_workers(4, 1000, held=2, shared=tmp_path).pipes
    assert "--workers 4 would need" in caplog.text and "--shm-size" in caplog.text
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # both processes take from the same memory
    assert plan_workers(4, 1000, shared=tmp_path).pipes


def test_without_semaphores_the_training_process_loads_the_images(tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    assert plan_workers(4, 1000, shared=tmp_path) == WorkerPlan(0)
    assert f"{tmp_path} cannot be used (Read-only file system)" in caplog.text


def test_shared_memory_that_fills_up_later_ends_the_wait_for_its_worker(split, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(RuntimeError, match="unable to allocate shared memory"):
        stream(split, workers=1)


def test_an_epoch_is_a_mark_on_the_stream_and_workers_live_on(split):
    sampler = StepSampler(len(split), BATCH, seed=0, start=0, stop=12)
    batches = iter(
        train_loader(WithPid(split, "hv", 32, 0), sampler, WorkerPlan(2), pin_memory=False)
    )
    assert epoch_end(0, BATCH, SAMPLES) == 2 and epoch_end(7, BATCH, SAMPLES) == 12
    pids = [batch["pid"].item() for batch in batches]
    assert pids == pids[:2] * 6 and len(set(pids)) == 2 and os.getpid() not in pids


class WithPid(TrainSamples):
    """Says which process has loaded a batch."""

    def __getitems__(self, keys):
        return {**super().__getitems__(keys), "pid": torch.tensor(os.getpid())}


def test_batches_are_bit_identical_when_computed_in_parts(split):
    assert same(stream(split, accumulate=2, world_size=2), stream(split))


def test_a_resumed_stream_goes_on_where_it_stopped(split):
    assert same(stream(split, start=3), stream(split)[3:])


def test_a_worker_is_not_stopped_by_the_signals_that_stop_a_run(split):
    sampler = StepSampler(len(split), BATCH, seed=0, start=0, stop=12)
    batches = iter(
        train_loader(WithPid(split, "hv", 32, 0), sampler, WorkerPlan(1), pin_memory=False)
    )
    worker = next(batches)["pid"].item()
    os.kill(worker, signal.SIGTERM)
    os.kill(worker, signal.SIGINT)
    assert {batch["pid"].item() for batch in batches} == {worker}


PROGRAM = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from torch.utils.data import DataLoader

def much(rows):  # more than a pipe holds
    return bytes(1 << 20)

def tidy(number, frame):
    time.sleep(0.5)
    Path("tidied").touch()
    raise SystemExit

def wait(ready):
    signal.signal(signal.SIGTERM, tidy)
    ready.set()
    time.sleep(60)

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGCHLD)
    from segacc.data.loading.workers import start_worker, worker_context
    assert signal.getsignal(signal.SIGCHLD) == before
    ready = multiprocessing.Event()
    own = multiprocessing.Process(target=wait, args=(ready,), daemon=True)
    own.start()
    ready.wait()
    loader = DataLoader(
        range(100),
        num_workers=2,
        collate_fn=much,
        worker_init_fn=start_worker,
        multiprocessing_context=worker_context(),
    )
    batches = iter(loader)
    next(batches)
    if sys.argv[1] == "kill":
        own.kill()  # it would outlive its parent
        os.kill(os.getpid(), signal.SIGKILL)
    raise KeyError(sys.argv[1])
"""


@pytest.mark.parametrize(("end", "code"), [("kill", -signal.SIGKILL), ("error", 1)])
def test_workers_end_with_their_program_and_its_own_child_may_tidy_up(tmp_path, end, code):
    (tmp_path / "program.py").write_text(PROGRAM)
    # Workers hold its pipes, too, so this waits for them.
    done = subprocess.run(
        [sys.executable, "program.py", end],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith("KeyError: 'error'\n") == (end == "error")
    assert (tmp_path / "tidied").exists() == (end == "error")


def test_augmentations_differ_between_epochs_and_samples(split):
    batches = stream(split, stop=6)  # four epochs of the twelve samples
    views = {}
    for batch in batches:
        for index, image in zip(batch["index"].tolist(), batch["images"], strict=True):
            views.setdefault(index, []).append(image.numpy().tobytes())
    assert all(len(seen) == 4 and len(set(seen)) > 1 for seen in views.values())


def test_batches_are_uint8_and_go_to_the_device_without_a_copy(split):
    batch = stream(split, stop=1)[0]
    assert batch["images"].dtype == batch["label_maps"].dtype == torch.uint8
    images, label_maps = to_device(batch, torch.device("cpu"))
    assert images.shape == (BATCH, 3, 32, 32) and label_maps.shape == (BATCH, 32, 32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert set(label_maps.unique().tolist()) == {0, 1}


def resident(path):
    """Bytes of a mapped file that count as this process's memory."""
    maps = Path("/proc/self/smaps").read_text().split(" /")
    return sum(int(re.search(r"Rss: +(\d+)", m)[1]) for m in maps if m.startswith(str(path)[1:]))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="Linux says what is mapped")
def test_pixels_that_were_read_do_not_stay_in_memory(split, monkeypatch):
    samples, keys = TrainSamples(split, "hv", 32, 0), [(0, i) for i in range(SAMPLES)]
    first = samples.__getitems__(keys)
    assert resident(split.path) > 0
    monkeypatch.setattr("segacc.data.loading.loader.LOOKED_BYTES", 64 * 64 * 4)
    again = samples.__getitems__(keys)
    assert resident(split.path) == 0
    assert torch.equal(first["images"], again["images"])
    full_images(split, [0, 1])
    assert resident(split.path) == 0


def test_the_memory_of_small_images_is_given_back_after_a_few(split, monkeypatch):
    """The system maps more than an image with each, whatever it takes itself."""
    forgotten = []
    monkeypatch.setattr(type(split), "forget", lambda split: forgotten.append(split))
    samples = TrainSamples(split, "hv", 32, 0)
    samples.__getitems__([(epoch, index) for epoch in range(5) for index in range(10)])
    assert len(forgotten) == 2  # of 50 images, at the 17th and the 34th


@pytest.mark.parametrize("world_size", [1, 2, 3, 16])
def test_each_full_image_is_in_one_share_unaltered(split, world_size):
    seen = []
    for rank in range(world_size):
        share = rank_share(len(split), rank, world_size)
        if share:
            for index, image in zip(share, full_images(split, list(share))["images"], strict=True):
                assert torch.equal(image, torch.from_numpy(split[index][0].copy()))
                seen.append(index)
    assert sorted(seen) == list(range(SAMPLES))
