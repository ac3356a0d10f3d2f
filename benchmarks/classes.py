"""What more classes cost, and that the number of processes changes no loss of them.

    python -m benchmarks.classes [--dataset CAMVID --classes FILE --ignore Unlabelled] [--parts ...]

- `processes`: the losses of 20 steps on one and on two processes. Beside them, those of one process
  in which one weight of all is moved to the next number: how exact losses are at all.
- `training`: epochs with one logit and with one for each class, in turns: time and memory.
- `validation`: of 1000 images with 20 classes, and the forward passes alone, in turns.

Without --dataset, `demo-street` is trained on. One logit tells the first class from all others.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image

from benchmarks.throughput import ROOT, machine, spread
from segacc.config.options import Reading
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset

STEPS = 20
TRAIN = ["--tracker", "none", "--loss", "dice+ce"]
PROGRAM = """
import json, sys, torch
from contextlib import ExitStack
from segacc.config.flags import parse_train
from segacc.training.setup import NO_HOOKS, set_up
from segacc.training.steps import reduce_losses, train_step
out, dtype, steps, processes, moved, *flags = sys.argv[1:]
torch.set_default_dtype(getattr(torch, dtype))
job = set_up(parse_train(flags), NO_HOOKS, ExitStack())
assert job.accelerator.num_processes == int(processes)
if moved == "moved":
    first = next(job.model.wrapped.parameters()).data[0, 0, 0]
    first[0] = first[0].nextafter(2 * first[0])
job.model.wrapped.train()
results = [train_step(job, step)[0] for step in range(int(steps))]
losses = [loss for loss, _ in reduce_losses(job, results, first_step=0)]
if job.is_main:
    open(out, "w").write(json.dumps(losses))
job.accelerator.end_training()
"""

Part = Literal["processes", "training", "validation"]


@dataclass(frozen=True)
class Args:
    dataset: str = "demo-street"
    classes: str | None = None
    ignore: str | None = None
    size: str = "256"
    crop: int | None = None
    model: str = "linknet"
    encoder: str = "resnet34"
    weights: str = "none"
    """what the runs start from"""
    batch_size: int = 4
    repeats: int = 5
    images: int = 1000
    """images of the validation"""
    parts: tuple[Part, ...] = ("processes", "training", "validation")


def flags_of(args: Args) -> list[str]:
    """The flags of train.py that all parts share."""
    flags = ["--model", args.model, "--encoder", args.encoder, "--weights", args.weights, *TRAIN]
    flags += ["--size", args.size, "--batch-size", str(args.batch_size)]
    return flags if args.crop is None else [*flags, "--crop", str(args.crop)]


def reading_flags(args: Args) -> list[str]:
    flags = ["--dataset", args.dataset]
    flags += ["--classes", args.classes] if args.classes else []
    return flags + (["--ignore", args.ignore] if args.ignore else [])


def run(command: list[str]) -> None:
    """Run a program from the checkout; its output is shown if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])


def measure_processes(args: Args, folder: Path) -> None:
    """Print how far the losses of one and of two processes are from each other."""
    program = folder / "steps.py"
    program.write_text(PROGRAM)
    for dtype in ("float32", "float64"):
        losses = []
        for processes, moved in ((1, "-"), (2, "-"), (1, "moved")):
            place = folder / f"{dtype}-{processes}-{moved}"
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            launch += ["--nproc-per-node", str(processes), str(program), f"{place}.json", dtype]
            flags = [*reading_flags(args), *flags_of(args), "--output-dir", str(place)]
            run([*launch, str(STEPS), str(processes), moved, *flags])
            losses.append(np.array(json.loads(Path(f"{place}.json").read_text())))
        one, two, moved_by_a_bit = losses
        print(
            f"{dtype}, {STEPS} steps: losses from {one[0]:.4f} to {one[-1]:.4f}; of 1 process and"
        )
        for what, other in (("2 processes", two), ("1, one weight moved", moved_by_a_bit)):
            apart = np.abs(one - other) / one
            shown = (f"{apart[:step].max():.0e} to step {step}" for step in (1, 5, 10, 20))
            print(f"  {what}: at most {', '.join(shown)} apart (relative)", flush=True)


def as_binary(args: Args, folder: Path) -> Path:
    """The same images with masks of the first class and all others."""
    reading = Reading(classes=args.classes, ignore=args.ignore)
    size = tuple(map(int, args.size.split("x"))) if "x" in args.size else int(args.size)
    data = prepare(load_dataset(args.dataset, reading), size)
    for name, split in data.splits.items():
        for kind in ("images", "masks"):
            (folder / name / kind).mkdir(parents=True)
        for i in range(len(split)):
            image, label_map = split[i]
            Image.fromarray(image).save(folder / name / "images" / f"{i:04d}.png")
            mask = ((label_map == 0) * 255).astype(np.uint8)
            Image.fromarray(mask).save(folder / name / "masks" / f"{i:04d}.png")
    return folder


def measure_training(args: Args, folder: Path) -> None:
    """Print the time and the memory of epochs with K classes, against one logit."""
    kinds = {
        "one logit": ["--dataset", str(as_binary(args, folder / "binary"))],
        "classes": reading_flags(args),
    }
    lines: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for repeat in range(args.repeats):
        for kind, flags in kinds.items():
            out = folder / f"{kind.replace(' ', '-')}-{repeat}"
            train = [sys.executable, "train.py", *flags, *flags_of(args), "--epochs", "2"]
            run([*train, "--output-dir", str(out)])
            # The first epoch warms up.
            lines[kind].append(json.loads((out / "metrics.jsonl").read_text().splitlines()[1]))
    for key, unit in (("img_per_s", "img/s"), ("seconds", "s an epoch"), ("memory_gib", "GiB")):
        one, many = ([line[key] for line in lines[kind]] for kind in kinds)
        ratios = [b / a for a, b in zip(one, many, strict=True)]
        print(
            f"{unit}: one logit {spread(one, 2)}, classes {spread(many, 2)}, "
            f"ratio {spread(ratios, 3)}"
        )


def measure_validation(args: Args, folder: Path) -> None:
    """Print how much longer a validation takes than its forward passes."""
    import torch

    from segacc.config.flags import parse_train
    from segacc.prediction.logits import predict_split
    from segacc.training.setup import NO_HOOKS, set_up
    from segacc.training.validate import validate

    made = write_set(folder / "many", args.images, classes=20)
    flags = ["--dataset", str(made), *flags_of(args), "--output-dir", str(folder / "validation")]
    job = set_up(parse_train(flags), NO_HOOKS, ExitStack())
    segmenter = job.model.trained.model
    ratios, seconds = [], []
    for _ in range(args.repeats):
        began = time.perf_counter()
        segmenter.eval()
        with torch.no_grad():
            for _ in predict_split(segmenter, job.valid, job.accelerator, 4):
                pass
        forward = time.perf_counter() - began
        began = time.perf_counter()
        validate(segmenter, job.valid, job.accelerator, job.image_loss_fn, job.data.labels)
        seconds.append(time.perf_counter() - began)
        ratios.append(seconds[-1] / forward)
    print(
        f"validation of {args.images} images with 20 classes: {statistics.median(seconds):.1f} s, "
        f"{spread(ratios, 3)} of its forward passes"
    )


def write_set(folder: Path, images: int, classes: int) -> Path:
    """A folder of made-up images with masks of so many classes; `images` of them for validation."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("valid", images), ("test", 1)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for i in range(count):
            coarse = rng.integers(0, classes, (16, 16), dtype=np.uint8)
            mask = np.kron(coarse, np.ones((16, 16), dtype=np.uint8))
            image = np.stack([mask * 12, 255 - mask * 10, mask * 5 + 60], axis=-1)
            noise = rng.integers(0, 20, image.shape, dtype=np.uint8)
            Image.fromarray(image + noise // 4).save(folder / split / "images" / f"{i:04d}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{i:04d}.png")
    (folder / "classes.txt").write_text("".join(f"class {i}\n" for i in range(classes)))
    return folder


def main(args: Args) -> None:
    print(
        f"{machine()}; {args.model}, {args.encoder}, {args.size} px, batch {args.batch_size}",
        flush=True,
    )
    measures = {
        "processes": measure_processes,
        "training": measure_training,
        "validation": measure_validation,
    }
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            place = Path(folder, part)
            place.mkdir()
            measures[part](args, place)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
