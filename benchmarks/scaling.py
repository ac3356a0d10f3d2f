"""The speed of several processes, and the time and memory that many images take.

    python -m benchmarks.scaling [--images 1000 10000 50000] [--processes 1 2 4]

The images are synthetic and small, and so is the model: what is measured is the work around it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from benchmarks.throughput import ROOT, machine, spread

TRAIN = ["--size", "64", "--crop", "32", "--encoder", "resnet18", "--batch-size", "64"]
TRAIN += ["--weights", "none", "--tracker", "none", "--patience", "100"]
# Memory grows for some hundred steps, and also when a state is saved. So states are saved, and
# memory is read, after the same steps in all runs, which then differ in their images only.
TRAIN += ["--save-every", "40"]
STEPS = 160

# These programs run in processes of their own, so that only their own memory is measured.
PREPARE = """
import json, os, sys, time
import segacc.data.loading.loader  # a training has it imported
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
def cpu():
    return sum(os.times()[:4])
began = time.perf_counter()
source = load_dataset(sys.argv[1])
found, used = time.perf_counter(), cpu()
prepare(source, 64)
prepared, used = time.perf_counter(), cpu() - used
prepare(source, 64)
print(json.dumps([found - began, prepared - found, time.perf_counter() - prepared, used]))
"""
MEMORY = """
import re, sys
from segacc.config.flags import parse_train
from segacc.training.fit import fit
from segacc.training.setup import Hooks
def now():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
resident, steps = [], int(sys.argv[1])
def measure(step, waited):
    resident.append(now())
    if len(resident) == steps:
        print("MEMORY", resident[14], resident[-1], max(resident), flush=True)
        raise SystemExit
fit(parse_train(sys.argv[2:]), Hooks(step_done=measure))
"""


@dataclass(frozen=True)
class Args:
    images: tuple[int, ...] = (1000, 10000, 50000)
    processes: tuple[int, ...] = (1, 2, 4)
    dataset: str = "demo-pedestrian"
    """data set of the runs on several processes"""
    model: str = "linknet"
    epochs: int = 6
    """of each run on several processes; the first one is not counted"""
    repeats: int = 5
    """how often the images are prepared"""


def write_images(folder: Path, count: int) -> None:
    """`count` images of 160 x 120 px to train on and 64 to validate."""
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("valid", 64)):
        (folder / split).mkdir(parents=True)
        for index in range(number):
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)
            path = str(folder / split / f"{index:06d}")
            cv2.imwrite(f"{path}.jpg", image)
            cv2.imwrite(f"{path}.png", 255 * (image[..., 0] > 127).astype(np.uint8))


def python(*given: str, cache: Path) -> str:
    """Run a program, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *given],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env={**os.environ, "SEGACC_CACHE": str(cache), "ACCELERATE_USE_CPU": "true"},
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout


def over_images(args: Args, scratch: Path) -> None:
    """Measure preparing and memory for several numbers of images."""
    print(
        "| images | list the files, ms an image | prepare, ms an image | of it CPU | found "
        f"prepared, ms an image | RSS after 15 steps, MiB | after {STEPS} | largest |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    times: dict[int, list[list[float]]] = {count: [] for count in args.images}
    for count in args.images:
        write_images(scratch / f"images-{count}", count)
    for repeat in range(args.repeats):
        for count in args.images:  # in turn, since the machine's speed may change
            cache = scratch / f"cache-{count}-{repeat}"
            printed = python("-c", PREPARE, f"{scratch}/images-{count}", cache=cache)
            times[count].append(json.loads(printed))
    for count in args.images:
        shown = [
            spread([1e3 * seconds / (count + 64) for seconds in column], 3)
            for column in zip(*times[count], strict=True)
        ]
        flags = ["--dataset", f"{scratch}/images-{count}", *TRAIN]
        flags += ["--output-dir", f"{scratch}/run-{count}"]
        cache = scratch / f"cache-{count}-{args.repeats - 1}"
        printed = python("-c", MEMORY, str(STEPS), *flags, cache=cache)
        memory = re.search(r"MEMORY (\S+) (\S+) (\S+)", printed)
        assert memory
        cells = [str(count), shown[0], shown[1], shown[3], shown[2]]
        cells += [f"{float(value):.0f}" for value in memory.groups()]
        print(f"| {' | '.join(cells)} |", flush=True)


def over_processes(args: Args, scratch: Path) -> None:
    """Measure the same run on several numbers of processes."""
    print("\n| processes | train img/s | data_wait | seconds an epoch, validation too |")
    print("|---|---|---|---|")
    for processes in args.processes:
        run = scratch / f"processes-{processes}"
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        flags = ["--dataset", args.dataset, "--model", args.model, "--weights", "none"]
        flags += ["--epochs", str(args.epochs), "--tracker", "none", "--output-dir", str(run)]
        python(*launcher, "train.py", *flags, cache=scratch / "cache")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][1:]
        cells = [str(processes), spread([line["img_per_s"] for line in lines], 1)]
        cells.append(spread([100 * line["data_wait"] for line in lines], 2) + " %")
        cells.append(spread([line["seconds"] for line in lines], 2))
        print(f"| {' | '.join(cells)} |", flush=True)


def main(args: Args) -> None:
    began = time.perf_counter()
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory(prefix="segacc-scaling-") as folder:
        if args.images:
            over_images(args, Path(folder))
        if args.processes:
            over_processes(args, Path(folder))
    print(f"\n{(time.perf_counter() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main(tyro.cli(Args))
