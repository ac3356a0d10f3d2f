"""How much each of segacc's defaults gives: a run as it is, and runs with one default changed.

    python -m benchmarks.defaults [--models linknet segformer]

The runs take turns, as in benchmarks.throughput. Prints a Markdown table.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.throughput import Contender, machine, spread, train_epoch, write_files
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset

WITHOUT = {
    "memory": "glibc takes and gives back large blocks",
    "format": "the other memory format",
    "fused": "AdamW not fused",
    "threads": "one thread, as `accelerate launch` leaves it",
    "1 worker": "`--workers 1`",
    "2 workers": "`--workers 2`",
    "compile": "`--compile`",
}


@dataclass(frozen=True)
class Args:
    dataset: str = "demo-pedestrian"
    """what train.py takes"""
    models: tuple[str, ...] = ("linknet", "segformer")
    without: tuple[str, ...] = tuple(WITHOUT)
    size: int = 128
    batch_size: int = 16
    repeats: int = 5
    precision: str = "fp32"


def main(args: Args) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="segacc-defaults-"))
    try:
        counts = write_files(args.dataset, scratch / "data")
        os.environ |= {"SEGACC_CACHE": str(scratch), "TMPDIR": str(scratch)}
        prepare(load_dataset(str(scratch / "data")), args.size)
        print(
            f"{Path(args.dataset).name}: {counts['train']} and {counts['valid']} images at "
            f"{args.size} px, batch {args.batch_size}, {args.precision}, "
            f"{args.repeats} epochs of each in turn "
            f"after one that does not count; median (range).\n\n{machine()}.\n\n"
            "| model | changed | train img/s | as it is, training is faster by "
            "| its whole epoch by | launch and first step, s |\n|---|---|---|---|---|---|"
        )
        for model in args.models:
            measure(args, model, scratch)
    finally:
        shutil.rmtree(scratch)


def measure(args: Args, model: str, scratch: Path) -> None:
    """Print the lines of one model."""
    flags = ["--model", model, "--data", str(scratch / "data"), "--size", str(args.size)]
    flags += ["--batch-size", str(args.batch_size), "--epochs", str(args.repeats + 2)]
    flags += ["--workers", "0", "--precision", args.precision]
    running: dict[str, Contender] = {}
    try:
        for name in ("", *args.without):
            undone = ["--without", name] if name else []
            log = scratch / f"{model}-{name}.log"
            running[name] = Contender("segacc", [*flags, *undone], log)
        for _ in range(args.repeats + 1):
            train_epoch(running.values())
    finally:
        for contender in running.values():
            contender.end()
    ours = running[""].epochs[1:]
    for name, contender in running.items():
        counted = contender.epochs[1:]
        pairs = list(zip(ours, counted, strict=True))
        # Epochs differ by a step, so all is compared by the image.
        train = [b["train"] / b["images"] / (a["train"] / a["images"]) for a, b in pairs]
        whole = [b["epoch"] / b["images"] / (a["epoch"] / a["images"]) for a, b in pairs]
        cells = [
            model,
            WITHOUT[name] if name else "nothing",
            spread([epoch["images"] / epoch["train"] for epoch in counted], 1),
            spread(train, 2) if name else "",
            spread(whole, 2) if name else "",
            f"{contender.launch + contender.epochs[0]['first_step']:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
