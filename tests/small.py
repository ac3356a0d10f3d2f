"""Small data and small models for tests of logic."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import warm

from segacc.config.evaluate import EvaluateConfig

ROOT = Path(__file__).parent.parent
TINY = ("--model", "linknet", "--encoder", "tu-test_resnet")  # 0.4 M parameters


def write_blobs(
    folder: Path, train: int = 12, valid: int = 5, test: int = 3, size: int = 64
) -> Path:
    """Bright discs on noise, with the masks beside the images."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            mask = np.zeros((size, size), np.uint8)
            centre = tuple(rng.integers(size // 4, 3 * size // 4, 2).tolist())
            cv2.circle(mask, centre, int(rng.integers(size // 8, size // 4)), 255, -1)
            image = rng.integers(0, 120, (size, size, 3), dtype=np.uint8) + (mask // 2)[..., None]
            cv2.imwrite(str(folder / split / f"{split}{i}.jpg"), image)
            cv2.imwrite(str(folder / split / f"{split}{i}.png"), mask)
    return folder


CLASSES = ("ground", "disc", "box")


def write_classes(folder: Path, train: int = 12, valid: int = 5, test: int = 3) -> Path:
    """Discs and boxes of two grey levels on noise, 64 px, with label maps and classes.txt. The
    first rows are ignored."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            label_map = np.zeros((64, 64), np.uint8)
            x, y = rng.integers(14, 50, 2).tolist()
            cv2.circle(label_map, (x, y), int(rng.integers(8, 14)), 1, -1)
            x, y = rng.integers(4, 40, 2).tolist()
            cv2.rectangle(label_map, (x, y), (x + 16, y + 12), 2, -1)
            image = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)
            image += (80 * label_map)[..., None]
            label_map[:3] = 255
            cv2.imwrite(str(folder / split / f"{split}{i}.bmp"), image)
            cv2.imwrite(str(folder / split / f"{split}{i}.png"), label_map)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder


def write_shapes(
    folder: Path, shapes: Sequence[tuple[int, int]], train: int = 8, valid: int = 4, test: int = 3
) -> Path:
    """Like `write_blobs`, without loss, and with these heights and widths in turns."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            height, width = shapes[i % len(shapes)]
            mask = np.zeros((height, width), np.uint8)
            centre = int(rng.integers(width // 4, 3 * width // 4)), height // 2
            cv2.circle(mask, centre, min(height, width) // 4, 255, -1)
            image = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
            image += (mask // 2)[..., None]
            cv2.imwrite(str(folder / split / f"{split}{i}.bmp"), image)
            cv2.imwrite(str(folder / split / f"{split}{i}.png"), mask)
    return folder


def run_program(*args: object, processes: int = 1, timeout: int = 240, **changed: str | None):
    """Run a program of segacc as a user would; several processes under torchrun (gloo), or where
    tests/warm.py can start them, as segacc's own launcher does.

    `changed` are environment variables to set; None removes one.
    """
    changed = {"ACCELERATE_USE_CPU": "true", **os.environ, **changed}
    environment = {name: value for name, value in changed.items() if value is not None}
    words = list(map(str, args))
    if warm.takes(words, environment):
        return warm.run(words, ROOT, environment, processes, timeout)
    python = [sys.executable]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        python += [*torchrun, "--master-port", "0", "--rdzv-backend", "c10d"]
        python += ["--rdzv-endpoint", "127.0.0.1:0"]
    return subprocess.run(
        [*python, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )


def run_here(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command `segacc` in this process, for what does not depend on the start of one."""
    from segacc.cli import run_command
    from segacc.errors import run_program

    words, out, err = list(map(str, args)), StringIO(), StringIO()
    with (
        patch.dict(os.environ, {"ACCELERATE_USE_CPU": "true"}),
        patch.object(sys, "argv", ["segacc", *words]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = run_program(lambda: run_command(words), debug=False)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def train(dataset: Path, run: Path, *flags: object, processes: int = 1, **changed: str | None):
    """Run train.py on small images from random weights, without a tracker; `flags` may differ."""
    base = ["--dataset", dataset, "--output-dir", run, "--size", 64, "--weights", "none"]
    base += ["--batch-size", 4, "--tracker", "none"]
    return run_program("train.py", *base, *flags, processes=processes, **changed)


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """The scores of a run, by name."""
    from segacc.evaluation.evaluate import evaluate

    record = json.loads((evaluate(config) / "metrics.json").read_text(encoding="utf-8"))
    return {name: score["value"] for name, score in record["scores"].items()}


def lines(run: Path) -> list[dict[str, float]]:
    """The epochs of a run: the lines of its metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
