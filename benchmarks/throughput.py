"""The speed of segacc beside that of other training programs, and beside its own upper limit.

    python -m benchmarks.throughput [--dataset DIR] [--models unet linknet] [--crop 256 --size 512]

The programs to compare, the contenders (benchmarks/contenders/), train the same model on the same
images with the same batch size. They take turns, a second of steps each, so that other load on the
machine affects all of them alike. Between its turns, a contender and its workers are stopped. The
first epoch is not counted. Prints a Markdown table, and writes it into benchmarks/results/ with
--write.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tyro

from benchmarks.contenders.turns import MARK
from segacc.config.train import STUDY_MODELS
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import read_row
from segacc.runtime.threads import cores

ROOT = Path(__file__).parent.parent
CONTENDERS = {
    "segacc": "segacc_run",
    "synthetic": "synthetic",
    "bare": "bare",
    "lightning": "lightning_smp",
    "lightning-persistent": "lightning_smp --persistent-workers",
    "example": "example_loop",
}
SHOWN = {
    "segacc": "segacc",
    "before": "segacc of --before",
    "synthetic": "ceiling (synthetic)",
    "bare": "bare PyTorch loop",
    "lightning": "Lightning + SMP",
    "lightning-persistent": "Lightning + SMP, workers kept",
    "example": "loop of transformers' example",
}


@dataclass(frozen=True)
class Args:
    dataset: str = "demo-pedestrian"
    """what train.py takes"""
    models: tuple[str, ...] = STUDY_MODELS
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    size: int = 128
    crop: int | None = None
    batch_size: int = 16
    repeats: int = 5
    """epochs that are counted, of each contender and model"""
    workers: int | None = None
    """workers of the other programs' loaders, by default one per core; segacc chooses its own"""
    precision: str | None = None
    """bf16 where there is a GPU, else fp32"""
    before: Path | None = None
    """another checkout, whose segacc takes turns with this one"""
    write: bool = False


class Contender:
    """A contender's process. It and the processes that it starts are stopped between its turns."""

    def __init__(self, name: str, flags: Sequence[str], log: Path, root: Path = ROOT) -> None:
        self.name, self.log = name, log
        self.epochs: list[dict[str, Any]] = []
        began = time.perf_counter()
        program = CONTENDERS["segacc" if name == "before" else name]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *f"benchmarks.contenders.{program}".split(), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            cwd=root,
            process_group=0,  # the system ends this group when the benchmark has ended
        )
        self._read()
        self.launch = time.perf_counter() - began

    def turn(self) -> bool:
        """Let it train for a turn. Returns whether its epoch is over after that."""
        assert self.process.stdin is not None
        os.killpg(self.process.pid, signal.SIGCONT)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        report = self._read()
        if report:
            self.epochs.append(report)
        return bool(report)

    def _read(self) -> dict[str, Any]:
        """Wait until it is ready for its next turn, stop it, and return what it has measured."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                os.killpg(self.process.pid, signal.SIGSTOP)
                return json.loads(line.removeprefix(MARK))
        raise SystemExit(f"{self.name} has ended: {self.log.read_text()[-3000:]}")

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def write_files(dataset: str, folder: Path) -> dict[str, int]:
    """The data set as files, train/NAME.jpg and NAME.png, which every contender reads."""
    counts = {}
    for split in ("train", "valid"):
        rows = load_dataset(dataset).rows[split]
        (folder / split).mkdir(parents=True)
        for number, row in enumerate(rows):
            path = folder / split / f"{number:05d}"
            image = row["image"]
            if str(image["path"] or row["name"]).lower().endswith((".jpg", ".jpeg")):
                data = image["bytes"] or Path(image["path"]).read_bytes()
                path.with_suffix(".jpg").write_bytes(data)
            else:
                _save(read_row(row).values, path.with_suffix(".jpg"))
            _save(255 * read_row(row).label_map, path.with_suffix(".png"))
        counts[split] = len(rows)
    return counts


def _save(pixels: Any, path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, quality=90)


def measure(args: Args, model: str, data: Path, scratch: Path) -> dict[str, Contender]:
    """Let all contenders train one model, in turns."""
    workers = args.workers if args.workers is not None else cores()
    flags = ["--model", model, "--data", str(data), "--size", str(args.size)]
    flags += ["--crop", str(args.crop)] if args.crop else []
    flags += ["--batch-size", str(args.batch_size), "--epochs", str(args.repeats + 2)]
    # The last epoch is never trained: the end of a contender would take time in another one's turn.
    flags += ["--workers", str(workers), "--precision", str(args.precision)]
    running: dict[str, Contender] = {}
    try:
        for name in args.contenders:
            running[name] = Contender(name, flags, scratch / f"{model}-{name}.log")
        if args.before:
            log = scratch / f"{model}-before.log"
            running["before"] = Contender("before", flags, log, args.before)
        for _ in range(args.repeats + 1):
            train_epoch(running.values())
    finally:
        for contender in running.values():
            contender.end()
    return running


def train_epoch(contenders: Iterable[Contender]) -> None:
    """Let each contender train an epoch, in turns; the order is reversed after each round."""
    going = list(contenders)
    while going:
        going = [contender for contender in going if not contender.turn()][::-1]


def spread(values: Sequence[float], digits: int) -> str:
    """The median, with the range in brackets."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def rows(running: dict[str, Contender], images: int) -> list[str]:
    """A line of the table for each contender; a ratio compares epochs of the same round."""
    ours = running["segacc"].epochs[1:]
    lines = []
    for name, contender in running.items():
        counted = contender.epochs[1:]
        speeds = [e.get("images", images) / e["train"] for e in counted]
        own = [e.get("images", images) / e["train"] for e in ours]
        ratio = [a / b for a, b in zip(own, speeds, strict=True)]
        whole = [
            (b["epoch"] / b.get("images", images)) / (a["epoch"] / a.get("images", images))
            for a, b in zip(ours, counted, strict=True)
        ]
        inside = [e["in_model"] / e["epoch"] for e in counted if "in_model" in e]
        waited = [e["data_wait"] / e["train"] for e in counted if "data_wait" in e]
        cells = [
            SHOWN[name],
            spread(speeds, 1),
            "" if name == "segacc" else spread(ratio, 2),
            spread([e["epoch"] for e in counted], 2),
            "" if name == "segacc" else spread(whole, 2),
            f"{contender.launch + contender.epochs[0]['first_step']:.1f}",
            f"{statistics.median(waited):.2%}" if waited else "",
            spread(inside, 3) if inside else "",
            f"{counted[-1]['memory_gib']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def machine() -> str:
    """The machine and the library versions that the figures were measured with."""
    import torch

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    device = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    libraries = ("torch", "accelerate", "transformers", "lightning")
    installed = [name for name in libraries if find_spec(name)]
    versions = ", ".join(f"{name} {version(name)}" for name in installed)
    return f"{device}{cores()} cores ({model}); {versions}"


def main(args: Args) -> None:
    import torch

    if "segacc" not in args.contenders or set(args.contenders) - set(CONTENDERS):
        raise SystemExit(f"--contenders: segacc and others of {', '.join(CONTENDERS)}.")
    if args.precision is None:
        precision = "bf16" if torch.cuda.is_available() else "fp32"
        args = dataclasses.replace(args, precision=precision)
    scratch = Path(tempfile.mkdtemp(prefix="segacc-throughput-"))
    try:
        counts = write_files(args.dataset, scratch / "data")
        os.environ |= {"SEGACC_CACHE": str(scratch), "TMPDIR": str(scratch)}  # of the contenders
        prepare(load_dataset(str(scratch / "data")), args.size)
        crop = f", crop {args.crop}" if args.crop else ""
        page = [
            f"{Path(args.dataset).name}: {counts['train']} and {counts['valid']} images at "
            f"{args.size} px{crop}, batch {args.batch_size}, {args.precision}, "
            f"{args.repeats} epochs of each in "
            f"turn after one that does not count; median (range).\n\n{machine()}.\n"
        ]
        for model in args.models:
            running = measure(args, model, scratch / "data", scratch)
            lines = [
                f"### {model}\n",
                "| | train img/s | segacc is faster by | seconds an epoch, validation too "
                "| segacc's epoch is faster by | launch to first step, s | data_wait "
                "| of the epoch inside of steps and predictions "
                "| peak memory of the main process, GiB |",
                "|---|---|---|---|---|---|---|---|---|",
                *rows(running, counts["train"]),
                "",
            ]
            print("\n".join(lines if len(page) > 1 else [*page, *lines]), flush=True)
            page += lines
        if args.write:
            name = f"{date.today()}-throughput-{args.size}{f'-{args.crop}' if args.crop else ''}"
            path = ROOT / "benchmarks" / "results" / f"{name}.md"
            path.write_text("\n".join(page), encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main(tyro.cli(Args))
