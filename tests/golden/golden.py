"""Golden runs: short trainings whose numbers a change of the code's structure must not move.

To write the file anew, where numbers are meant to change (the commit says which and why):

    python tests/golden/golden.py tests/golden/runs.json

Names of runs after the file make these alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]

# With the kernels that any x86 processor of the last ten years has, and with one thread, sums are
# rounded in the same way everywhere. Otherwise a pixel or two close to the threshold would change.
SAME_ROUNDING = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "ACCELERATE_USE_CPU": "true",
}

# The learning rate is low, so that differences of rounding stay small for these few steps.
BASE = (
    "--recipe study --dataset demo-pedestrian --size 64 --weights none --tracker none --epochs 1 "
    "--lr 1e-4"
)
RUNS = {
    "unet": "--model unet",
    "fpn": "--model fpn",
    "pspnet": "--model pspnet",
    "linknet": "--model linknet --flips d4 --epochs 2 --save-every 3 --keep 9",
    "deeplabv3plus": "--model deeplabv3plus",
    "segformer": "--model segformer",
    "crop": "--model linknet --size 96 --crop 64 --loss dice+bce",
    "accumulate": "--model linknet --accumulate 2 --loss tversky+focal",
    "two-processes": "--model linknet",
}
RESUMED_AT = 3  # the step from which the run "resumed" does the run "linknet" again
LOSSES = ("train_loss", "valid_loss")
SCORES = ("valid_iou", "valid_iou_image", "valid_dice", "valid_iou_best_threshold")


def run_in_process(main: Callable[[], object], arguments: str) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    with mock.patch.object(sys, "argv", ["program", *arguments.split()]):
        main()
    AcceleratorState._reset_state(reset_partial_state=True)


def numbers_of(run: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [{name: line[name] for name in (*LOSSES, *SCORES)} for line in lines]
    return {"epochs": epochs, "sha256": weights_digest(run)}


def weights_digest(run: Path) -> str:
    """The sha256 of the network's weights after the last step, sorted by name."""
    from safetensors.torch import load_file

    digest = hashlib.sha256()
    newest = max((run / "checkpoints").glob("*.safetensors"))
    for name, tensor in sorted(load_file(newest).items()):
        if name.startswith("model.net."):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def train_golden(name: str, run: Path) -> dict[str, Any]:
    from small import run_program

    import train

    arguments = f"{BASE} {RUNS[name]} --output-dir {run}"
    if name == "two-processes":
        done = run_program("train.py", *arguments.split(), processes=2)
        assert done.returncode == 0, done.stderr[-3000:]
    else:
        run_in_process(train.main, arguments)
    return numbers_of(run)


def resume_golden(run: Path) -> dict[str, Any]:
    """Delete the states after step RESUMED_AT, and resume the run from there."""
    import train

    for state in (run / "checkpoints").glob("*.safetensors"):
        if int(state.stem.split("-")[-1]) > RESUMED_AT:
            state.unlink()
    run_in_process(train.main, f"--resume {run}")
    return numbers_of(run)


def scores_of(run: Path) -> dict[str, float]:
    """The scores of evaluate.py on the test split."""
    import evaluate

    run_in_process(evaluate.main, f"{run} --threshold 0.5")
    scores = json.loads((run / "test-threshold-0.5" / "metrics.json").read_text())["scores"]
    # hd95_own is hd95 times the scale of the resize.
    names = [name for name in scores if name != "hd95_own"]
    return {f"{name}_{end}": scores[name][end] for name in names for end in scores[name]}


def this_machine() -> dict[str, str]:
    """What the exact bits of a run depend on, apart from the code."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    about = {line for line in cpuinfo.splitlines() if line.startswith(("model name", "flags"))}
    libraries = ("torch", "transformers", "segmentation-models-pytorch", "timm", "numpy")
    return {
        "processor": hashlib.sha256("".join(sorted(about)).encode()).hexdigest()[:12],
        "python": platform.python_version(),
        **{name: version(name) for name in (*libraries, "opencv-python-headless", "pillow")},
    }


def main(file: Path, names: Sequence[str]) -> None:
    os.environ |= SAME_ROUNDING  # before the import of torch, which reads them
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = {name: train_golden(name, folder / name) for name in names}
        if "crop" in runs:
            runs["crop"]["test"] = scores_of(folder / "crop")
        if "linknet" in runs:
            runs["resumed"] = resume_golden(folder / "linknet")
    file.write_text(json.dumps({"machine": this_machine(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(RUNS))
