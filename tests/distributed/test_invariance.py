"""Losses and weights do not depend on the number of processes, except for rounding."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import ROOT, run_program, write_blobs

from segacc.config.train import STUDY_MODELS

pytestmark = pytest.mark.distributed
PATHS = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


def weights(path: Path) -> torch.Tensor:
    tensors = load_file(path)
    return torch.cat([v.double().flatten() for k, v in sorted(tensors.items()) if ".num_" not in k])


# The largest allowed differences: of the losses (relative), of a weight (absolute), of all weights
# relative to their norm, and relative to how far training has moved them. AdamW divides by the size
# of the gradient. Where that is nearly zero, AdamW makes full steps of differences of rounding, so
# these bounds only show that something is learnt. BatchNorm of few values amplifies rounding, too.
# In double precision the differences are tiny, also with BatchNorm and dropout.
BOUNDS = {
    "sgd-fp32": (1e-5, 1e-5, 1e-5, 1e-2),
    "sgd-fp32-full": (1e-2, 1e-2, 1e-2, 0.5),
    "adamw-fp32": (0.5, 0.1, 0.1, 1.0),
    "sgd-fp64-full": (1e-9, 1e-9, 1e-9, 1e-7),
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("models", "worlds", "modes"),
    [
        pytest.param(["linknet"], [1, 2], ["sgd-fp32"], marks=pytest.mark.slow),
        pytest.param(STUDY_MODELS, [1, 2, 4], ["sgd-fp32", "adamw-fp32"], marks=pytest.mark.soak),
        pytest.param(
            STUDY_MODELS, [1, 2, 4], ["sgd-fp32-full", "sgd-fp64-full"], marks=pytest.mark.soak
        ),
    ],
    ids=["linknet", "all", "full"],
)
def test_a_step_is_the_same_on_any_number_of_processes(tmp_path, models, worlds, modes):
    data = write_blobs(tmp_path / "data", train=24)
    script = Path(__file__).parent / "invariance.py"
    for world in worlds:
        given = (data, tmp_path / str(world), ",".join(modes), *models)
        done = run_program(script, *given, processes=world, timeout=900, **PATHS)
        assert done.returncode == 0, done.stderr[-3000:]
    failed = []
    for mode, model, world in itertools.product(modes, models, worlds[1:]):
        first, other = (tmp_path / str(w) / mode for w in (1, world))
        one, many = (json.loads((f / "losses.json").read_text())[model] for f in (first, other))
        assert len(one) == len(many) == 20 and one[0] == pytest.approx(many[0], rel=1e-6)
        after = weights(first / f"{model}-after.safetensors")
        moved = after - weights(first / f"{model}-before.safetensors")
        apart = after - weights(other / f"{model}-after.safetensors")
        found = (
            max(abs(a - b) / a for a, b in zip(one, many, strict=True)),
            apart.abs().max().item(),
            (apart.norm() / after.norm()).item(),
            (apart.norm() / moved.norm()).item(),
        )
        columns = f"{model} | {mode} | {world} x {8 // world} | {one[0]:.4f} to {one[-1]:.4f}"
        print("|", columns, "|", " | ".join(f"{value:.1e}" for value in found), "|")
        if not all(value <= bound for value, bound in zip(found, BOUNDS[mode], strict=True)):
            failed.append((model, mode, world, found))
    assert failed == []
