"""The speed of a training alone on the cores, and beside a second one on the same cores.

    python -m benchmarks.shared_cores [--seconds 6] [--repeats 3]

The programs differ in how their threads wait for each other: they spin, or they sleep. All train
Linknet at 128 px in batches of 8, on random images. They are started first, and then take turns:
one alone, then two at once. Prints a Markdown table; takes some minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import tyro

from benchmarks.throughput import ROOT, machine, spread

SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's default": {},
    "`OMP_WAIT_POLICY=PASSIVE`": {"OMP_WAIT_POLICY": "PASSIVE"},
    "`GOMP_SPINCOUNT=1000`": {"GOMP_SPINCOUNT": "1000"},
    "`GOMP_SPINCOUNT=10000`": {"GOMP_SPINCOUNT": "10000"},
    "`GOMP_SPINCOUNT=100000`": {"GOMP_SPINCOUNT": "100000"},
    "segacc (sleep while others want the cores)": {"WATCH": "1"},
}
# A program that reads a number of seconds, trains for so long, and prints the images per second.
PROGRAM = """
import os, sys, time
import segmentation_models_pytorch as smp
import torch
from segacc.runtime.threads import cores, keep_memory, prepare_cpu

torch.set_num_threads(cores())
if "WATCH" in os.environ:
    prepare_cpu(torch.device("cpu"))
keep_memory()
torch.manual_seed(0)
model = smp.create_model("linknet", encoder_name="resnet34", encoder_weights=None, classes=1)
model = model.to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
images = torch.rand(8, 3, 128, 128).to(memory_format=torch.channels_last)
masks = (torch.rand(8, 1, 128, 128) > 0.5).float()
loss_fn = torch.nn.BCEWithLogitsLoss()

def train(seconds):
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        loss_fn(model(images), masks).backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    return steps * len(images) / (time.perf_counter() - began)

train(0)
print("ready", flush=True)
for line in sys.stdin:
    train(4)  # not counted: caches and the sharing of the cores settle
    print(train(float(line)), flush=True)
"""


@dataclass(frozen=True)
class Args:
    seconds: float = 6
    """of each turn, after 4 that do not count"""
    repeats: int = 3


def start(changed: dict[str, str]) -> subprocess.Popen[str]:
    """Start one of the programs, and wait until it is ready."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment | changed,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    if program.stdout.readline() != "ready\n":
        raise SystemExit("a program has ended before it was ready")
    return program


def speeds(programs: list[subprocess.Popen[str]], seconds: float) -> list[float]:
    """Images per second of each, while all of them train at once."""
    for program in programs:
        assert program.stdin is not None
        program.stdin.write(f"{seconds}\n")
        program.stdin.flush()
    return [float(program.stdout.readline()) for program in programs if program.stdout]


def main(args: Args) -> None:
    pairs: dict[str, list[subprocess.Popen[str]]] = {}
    alone: dict[str, list[float]] = {name: [] for name in SETTINGS}
    beside: dict[str, list[float]] = {name: [] for name in SETTINGS}
    try:
        for name, changed in SETTINGS.items():
            pairs[name] = [start(changed), start(changed)]
        for _ in range(args.repeats):
            for name, pair in pairs.items():
                alone[name] += speeds(pair[:1], args.seconds)
                beside[name] += speeds(pair, args.seconds)
    finally:
        for program in [program for pair in pairs.values() for program in pair]:
            program.kill()
    print(
        f"Linknet, 128 px, batch 8; {args.repeats} times {args.seconds:g} s of each in turn; "
        f"median (range).\n\n{machine()}.\n\n"
        "| how threads wait | img/s alone | img/s of each of two |\n|---|---|---|"
    )
    for name in SETTINGS:
        print(f"| {name} | {spread(alone[name], 1)} | {spread(beside[name], 1)} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
