"""Exports: file size, largest difference and speed of each format, beside PyTorch on the same CPU.

    python -m benchmarks.exports [--models unet,linknet] [--encoder resnet34] [--size 256]

The weights are random: differences and speeds do not depend on what a model has learnt. Formats of
a model are timed in turns, one image at a time; the table has medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
import tyro

from segacc.config.train import STUDY_MODELS
from segacc.errors import InputError
from segacc.export.check import Predict, check_sizes, sizes_to_check
from segacc.export.export import Format, example_image, metadata_of, size_in_mb, write
from segacc.export.files import quiet
from segacc.export.opening import reference_of
from segacc.models.segmenter import Segmenter


@dataclass(frozen=True)
class Args:
    models: str = ",".join(STUDY_MODELS)
    """names with commas between them"""
    encoder: str = "resnet34"
    """of those that take one"""
    formats: str = ",".join(get_args(Format))
    size: int = 256
    """px, height and width of the images that are timed"""
    repeats: int = 5
    """rounds, in which each format predicts a few images"""
    images: int = 4
    """that each format predicts in a round"""


def make(name: str, encoder: str) -> Segmenter:
    """A model of the study with random weights."""
    torch.manual_seed(0)
    if name != "segformer":
        return Segmenter(name, encoder).eval()
    from transformers import SegformerConfig

    config: dict[str, Any] = SegformerConfig().to_dict()
    return Segmenter("transformers", backbone_config=config).eval()


def speeds(predictors: dict[str, Predict], args: Args) -> dict[str, list[float]]:
    """Images per second of each, round by round."""
    images = torch.randint(0, 256, (1, 3, args.size, args.size), dtype=torch.uint8)
    found: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(args.repeats + 1):
        for name, predict in predictors.items():
            began = time.perf_counter()
            for _ in range(args.images):
                predict(images)
            if turn:  # the first round is a warm-up
                found[name].append(args.images / (time.perf_counter() - began))
    return found


@torch.no_grad()
def measure(name: str, args: Args, show: Callable[[str], object]) -> None:
    """Export a model in every format, and show a row for each."""
    model = make(name, args.encoder)
    reference = reference_of(model, None)
    predictors, sizes, differences = {"PyTorch": reference}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for to in args.formats.split(","):
            path = Path(folder) / f"model.{to}"
            try:
                with quiet():
                    metadata = metadata_of(Path(folder), model, None)
                    predictors[to] = write(model, to, path, None, "uint8", metadata)  # type: ignore[arg-type]
            except InputError:  # the network is of the other library
                continue
            found = check_sizes(
                reference, predictors[to], sizes_to_check(model), example_image(None)
            )
            sizes[to] = size_in_mb(path)
            differences[to] = max(one.difference for one in found)
        rounds = speeds(predictors, args)
    own = statistics.median(rounds["PyTorch"])
    for to in sizes:
        ratios = [a / b for a, b in zip(rounds[to], rounds["PyTorch"], strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        show(
            f"| {name} | {to} | {sizes[to]:.1f} | {differences[to]:.0e} | {own:.1f} | "
            f"{statistics.median(ratios):.2f} ({spread}) |"
        )


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    print("| model | format | MB | largest difference | img/s of PyTorch | speed against it |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in args.models.split(","):
        measure(name, args, lambda row: print(row, flush=True))


if __name__ == "__main__":
    main()
