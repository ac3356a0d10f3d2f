"""Losses and weights do not depend on the number of processes, but for rounding."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import ROOT, run_program, write_blobs

from segacc.config import STUDY_MODELS

pytestmark = pytest.mark.distributed
PATHS = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


def weights(path: Path) -> torch.Tensor:
    tensors = load_file(path)
    return torch.cat([v.double().flatten() for k, v in sorted(tensors.items()) if ".num_" not in k])


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("models", "worlds", "optimizer"),
    [
        (["linknet"], [1, 2], "sgd"),
        pytest.param(STUDY_MODELS, [1, 2, 4], "sgd", marks=pytest.mark.soak),
        pytest.param(STUDY_MODELS, [1, 2, 4], "adamw", marks=pytest.mark.soak),
    ],
    ids=["linknet", "all-sgd", "all-adamw"],
)
def test_a_step_is_the_same_on_any_number_of_processes(tmp_path, models, worlds, optimizer):
    data = write_blobs(tmp_path / "data", train=24)
    for world in worlds:
        out = tmp_path / str(world)
        out.mkdir()
        script = Path(__file__).parent / "invariance.py"
        done = run_program(
            script, data, out, optimizer, *models, processes=world, timeout=600, **PATHS
        )
        assert done.returncode == 0, done.stderr[-3000:]
    failed = []
    for model in models:
        one = json.loads((tmp_path / "1" / "losses.json").read_text())[model]
        ends = [weights(tmp_path / "1" / f"{model}{when}.safetensors") for when in ("", "-before")]
        moved = (ends[0] - ends[1]).norm()
        for world in worlds[1:]:
            many = json.loads((tmp_path / str(world) / "losses.json").read_text())[model]
            assert len(one) == len(many) == 20
            apart = max(abs(a - b) / a for a, b in zip(one, many, strict=True))
            difference = weights(tmp_path / str(world) / f"{model}.safetensors") - ends[0]
            found = {
                "losses, relative": apart,
                "weights, largest": difference.abs().max().item(),
                "weights, of their norm": (difference.norm() / ends[0].norm()).item(),
                "weights, of how far they moved": (difference.norm() / moved).item(),
            }
            print(
                f"{model} {optimizer} 1x8 and {world}x{8 // world}, loss {one[0]:.4f} to "
                f"{one[-1]:.4f}: " + ", ".join(f"{k} {v:.1e}" for k, v in found.items())
            )
            # Where gradients are near zero, AdamW makes steps of full size from rounding.
            bounds = [1e-5, 1e-5, 1e-5, 1e-2] if optimizer == "sgd" else [0.5, 0.1, 0.1, 1.0]
            failed += [
                (model, world, name, value)
                for (name, value), bound in zip(found.items(), bounds, strict=True)
                if not value <= bound
            ]
            assert one[0] == pytest.approx(many[0], rel=1e-6)
    assert failed == []
