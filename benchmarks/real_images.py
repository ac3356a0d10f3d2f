"""The six models on real images, from random weights, and one of them on two processes.

    python -m benchmarks.real_images --pedestrian DIR --gland DIR --out DIR [--epochs 20]

Trains and scores the runs that are not in --out yet, resumes stopped ones, and prints Markdown
tables.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from segacc.config.train import STUDY_MODELS
from segacc.runtime.threads import cores

PYTHON = (sys.executable,)
LAUNCH = (*PYTHON, "-m", "accelerate.commands.launch")
ONE = (*LAUNCH, "--config_file", "accelerate_configs/cpu.yaml", "train.py")
TWO = (*PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2", "train.py")


@dataclass(frozen=True)
class Args:
    pedestrian: Path
    """folder with train, valid and test"""
    gland: Path
    """folder of the same kind, with images of at least 512 px"""
    out: Path
    """runs go here"""
    epochs: int = 20
    """of each run on pedestrian"""
    gland_epochs: int = 16


def plans(args: Args) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Name of each run -> launcher, flags."""
    street = ("--dataset", f"{args.pedestrian}", "--size", "128", "--flips", "h")
    tissue = ("--dataset", f"{args.gland}", "--crop", "256")
    epochs = ("--epochs", f"{args.epochs}", "--weights", "none")
    runs = {f"ped-{m}": (ONE, (*street, *epochs, "--model", m)) for m in STUDY_MODELS}
    runs["gland-linknet"] = (ONE, (*tissue, "--epochs", f"{args.gland_epochs}", *epochs[2:]))
    runs["ped-linknet-2p"] = (TWO, (*street, *epochs))
    # From a trained model, whose BatchNorm has statistics that can be kept.
    frozen = (*street, "--epochs", "5", "--weights", f"{args.out / 'ped-linknet'}", "--freeze-bn")
    frozen = (*frozen, "--lr", "1e-4")
    runs["ped-linknet-bn"] = (ONE, frozen)
    runs["ped-linknet-2p-bn"] = (TWO, frozen)
    return runs


def train_and_score(run: Path, launcher: tuple[str, ...], flags: tuple[str, ...]) -> None:
    """Train and score one run, or what of it is not done yet."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    if (run / "test" / "metrics.json").exists():
        return
    start = (*flags, "--tracker", "none", "--output-dir", str(run))
    again = ("--resume", str(run))
    subprocess.run(
        [*launcher, *(again if (run / "checkpoints").exists() else start)],
        check=True,
        env=environment,
    )
    subprocess.run([*PYTHON, "evaluate.py", str(run)], check=True, env=environment)


def lines_of(run: Path) -> list[dict[str, float]]:
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def row(run: Path) -> str:
    """The run as a line of the table."""
    lines = lines_of(run)
    best = max(lines, key=lambda line: line["valid_iou"])
    test = json.loads((run / "test" / "metrics.json").read_text())
    seconds = sorted(line["seconds"] for line in lines)
    speed = statistics.median(line["img_per_s"] for line in lines)
    waiting = statistics.median(line["data_wait"] for line in lines)
    scores = {name: score["value"] for name, score in test["scores"].items()}
    cells = [
        run.name,
        f"{len(lines)}",
        f"{best['epoch']}",
        f"{best['valid_iou']:.3f} / {best['valid_iou_image']:.3f}",
        f"{scores['iou']:.3f} / {scores['iou_image']:.3f}",
        f"{scores['dice']:.3f}",
        f"{test['constant_mask_iou']:.3f}",
        f"{statistics.median(seconds):.1f} ({seconds[0]:.1f} to {seconds[-1]:.1f})",
        f"{speed:.1f}",
        f"{waiting:.1%}",
    ]
    return f"| {' | '.join(cells)} |"


def distance(one: Path, two: Path) -> str:
    """The differences between two curves, as a line of the second table."""
    pairs = list(zip(lines_of(one), lines_of(two), strict=True))
    loss = [abs(b["train_loss"] / a["train_loss"] - 1) for a, b in pairs]
    iou = [abs(b["valid_iou"] - a["valid_iou"]) for a, b in pairs]
    cells = [one.name, two.name, f"{loss[0]:.1e}", f"{max(loss):.1e}", f"{iou[0]:.1e}"]
    return f"| {' | '.join([*cells, f'{max(iou):.1e}'])} |"


def main(args: Args) -> None:
    for name, (launcher, flags) in plans(args).items():
        train_and_score(args.out / name, launcher, flags)
    record = json.loads((args.out / "ped-linknet" / "config.json").read_text())
    print(f"\n{cores()} cores ({platform.machine()}), {record['versions']}\n")
    print(
        "| run | epochs | best epoch | valid iou / iou_image | test iou / iou_image | test dice "
        "| constant mask iou | seconds an epoch, median (range) | train img/s | data_wait |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in plans(args):
        print(row(args.out / name))
    print(
        "\n| one process | two processes | train loss, epoch 1 (relative) | largest of all epochs "
        "| valid iou, epoch 1 (absolute) | largest of all epochs |\n|---|---|---|---|---|---|"
    )
    print(distance(args.out / "ped-linknet", args.out / "ped-linknet-2p"))
    print(distance(args.out / "ped-linknet-bn", args.out / "ped-linknet-2p-bn"))


if __name__ == "__main__":
    main(tyro.cli(Args))
