"""The speed of decoding, preparing and loading images, without a model.

python -m benchmarks.data [--dataset demo] [--size 512] [--crop 256]
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.throughput import machine, spread
from segacc.data.loading.augment import stream_seed
from segacc.data.loading.loader import TrainSamples, train_loader
from segacc.data.loading.stream import StepSampler
from segacc.data.loading.workers import WorkerPlan
from segacc.data.prepare import prepare, resize_image, resize_label_map
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import read_row
from segacc.data.split import Split
from segacc.runtime.threads import cores, keep_memory

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

STEADY = 20
"""batches after which a loader has reached its speed; they are not counted"""


@dataclass(frozen=True)
class Args:
    dataset: str = "demo"
    """what train.py takes"""
    size: int = 512
    crop: int = 256
    flips: str = "hv"
    batch_size: int = 16
    batches: int = 120
    """of each repeat"""
    repeats: int = 7


def albumentations_batches(args: Args, split: Split) -> Callable[[], Iterator[object]]:
    """The same crops and flips by albumentations, stacked: the loader is compared with this."""
    import albumentations as A

    flips = {"none": [], "h": [A.HorizontalFlip(p=0.5)], "d4": [A.D4(p=1)]}
    flips["hv"] = [*flips["h"], A.VerticalFlip(p=0.5)]
    transform = A.Compose([A.RandomCrop(args.crop, args.crop), *flips[args.flips]])

    def run() -> Iterator[object]:
        for step in range(args.batches):
            images, masks = [], []
            for place in range(args.batch_size):
                index = (step * args.batch_size + place) % len(split)
                state = stream_seed(0, step, index)
                transform.set_random_state(np.random.default_rng(state), random.Random(state))
                out = transform(image=split[index][0], mask=split[index][1])
                images.append(out["image"])
                masks.append(out["mask"])
            yield np.stack(images), np.stack(masks)

    return run


def loader_batches(args: Args, split: Split, workers: int) -> Callable[[], Iterator[object]]:
    """Batches as training loads them."""

    def run() -> Iterator[object]:
        sampler = StepSampler(len(split), args.batch_size, seed=0, start=0, stop=args.batches)
        samples = TrainSamples(split, args.flips, args.crop, seed=0)
        return iter(train_loader(samples, sampler, WorkerPlan(workers), pin_memory=False))

    return run


def main(args: Args) -> None:
    measured_on = machine()
    keep_memory()  # as in training
    source = load_dataset(args.dataset)
    rows = list(source.rows["train"])[:64]
    decoding, resizing = [], []
    for row in rows:
        began = time.perf_counter()
        pair = read_row(row)
        decoded = time.perf_counter()
        resize_image(pair.values, args.size), resize_label_map(pair.label_map, args.size)
        decoding.append(1e3 * (decoded - began))
        resizing.append(1e3 * (time.perf_counter() - decoded))

    count = sum(len(split) for split in source.rows.values())
    with tempfile.TemporaryDirectory() as cache:
        before, os.environ["SEGACC_CACHE"] = os.environ.get("SEGACC_CACHE"), cache
        began = time.perf_counter()
        prepare(source, args.size)
        first = time.perf_counter() - began
        began = time.perf_counter()
        train = prepare(source, args.size).splits["train"]
        again = time.perf_counter() - began
        if before is None:
            del os.environ["SEGACC_CACHE"]
        else:
            os.environ["SEGACC_CACHE"] = before

        ways = {
            "albumentations, one core": albumentations_batches(args, train),
            "segacc, one core": loader_batches(args, train, 0),
            "segacc, 1 worker": loader_batches(args, train, 1),
            "segacc, 2 workers": loader_batches(args, train, 2),
        }
        images = (args.batches - STEADY) * args.batch_size
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.repeats + 1):
            for name, run in ways.items():
                batches = run()
                for _ in range(STEADY):  # workers start, and fill what they prefetch
                    next(batches)
                began = time.perf_counter()
                for _ in batches:
                    pass
                speeds[name].append(images / (time.perf_counter() - began))

    print(
        f"{Path(args.dataset).name}, {args.size} px -> crop {args.crop}, flips {args.flips}, batch "
        f"{args.batch_size}; {args.repeats} repeats of {args.batches - STEADY} batches in turn; "
        f"median (range)\n\n{measured_on}\n\n| | |\n|---|---|\n"
        f"| decode image and mask, one core | {spread(decoding, 2)} ms |\n"
        f"| resize both | {spread(resizing, 2)} ms |\n"
        f"| prepare {count} images on {cores()} cores | {1e3 * first / count:.2f} ms an image |\n"
        f"| find them prepared | {1e3 * again:.0f} ms in all |"
    )
    for name, found in speeds.items():
        print(f"| {name} | {spread(found[1:], 0)} img/s |")


if __name__ == "__main__":
    main(tyro.cli(Args))
