"""How long it takes on a CPU to the first step, and to the help; the data are prepared before.

    python -m benchmarks.launch [--models linknet segformer] [--repeats 5]

Every program is a process of its own; they take turns. Prints a Markdown table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.throughput import ROOT, machine, spread

IMPORTS = "import torch"
SMP = (
    "import torch, segmentation_models_pytorch as smp; smp.create_model('{model}', "
    "encoder_name='resnet34', encoder_weights=None, classes=1)"
)
SEGFORMER = (
    "import torch; from transformers import SegformerConfig, SegformerForSemanticSegmentation "
    "as SegFormer; SegFormer(SegformerConfig(num_labels=1))"
)
# train.py, up to the moment when the first step begins.
BEGINS = """
import os, sys
sys.path.insert(0, {root!r})
from segacc.config.flags import parse_train
from segacc.training.fit import fit
from segacc.training.setup import Hooks
fit(parse_train(sys.argv[1:]), Hooks(ready=lambda job: os._exit(0)))
"""


@dataclass(frozen=True)
class Args:
    dataset: str = "demo-pedestrian"
    """what train.py takes"""
    models: tuple[str, ...] = ("linknet", "segformer")
    repeats: int = 5


def time_program(*command: str) -> float:
    """Run a program, and return how long it took."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return time.perf_counter() - began


def main(args: Args) -> None:
    print(
        f"{args.repeats} times each in turn after one that does not count; median (range).\n\n"
        f"{machine()}.\n\n| | seconds | of torch and the model, started alike |\n|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="segacc-launch-") as scratch:
        os.environ |= {"SEGACC_CACHE": scratch, "ACCELERATE_USE_CPU": "true"}
        begins = Path(scratch) / "begins.py"
        begins.write_text(BEGINS.format(root=str(ROOT)), encoding="utf-8")
        launcher = ["-m", "accelerate.commands.launch", "--config_file"]
        launcher.append(str(ROOT / "accelerate_configs" / "cpu.yaml"))
        programs = {
            "`train.py --help`": ["train.py", "--help"],
            "import torch": ["-c", IMPORTS],
        }
        bases = {}
        for model in args.models:
            flags = ["--dataset", args.dataset, "--model", model, "--weights", "none"]
            flags += ["--tracker", "none"]
            build = Path(scratch) / f"build_{model}.py"
            build.write_text(SEGFORMER if model == "segformer" else SMP.format(model=model))
            for by, start in (("", []), ("`accelerate launch`, ", launcher)):
                base = f"{model}: {by}import torch and build the model"
                ours = f"{model}: {by}`train.py` to its first step"
                programs[base] = [*start, str(build)]
                programs[ours], bases[ours] = [*start, str(begins), *flags], base
        times: dict[str, list[float]] = {name: [] for name in programs}
        for turn in range(args.repeats + 1):
            for number, (name, command) in enumerate(programs.items()):
                run = ["--output-dir", f"{scratch}/run-{turn}-{number}"] if name in bases else []
                times[name].append(time_program(sys.executable, *command, *run))
    counted = {name: found[1:] for name, found in times.items()}
    for name, found in counted.items():
        ratio = ""
        if name in bases:
            ratio = spread([a / b for a, b in zip(found, counted[bases[name]], strict=True)], 2)
        print(f"| {name} | {spread(found, 2)} | {ratio} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
