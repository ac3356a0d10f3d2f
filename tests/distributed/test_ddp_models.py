"""Each of the six models on two real processes (gloo on the CPU)."""

import json

import pytest
from small import lines, train, write_blobs

from segacc.config.train import STUDY_MODELS

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs", train=4, valid=3)


@pytest.mark.parametrize(
    "model",
    [
        *("pspnet", "segformer"),  # stages without gradient; a transformer
        *(pytest.param(m, marks=pytest.mark.soak) for m in STUDY_MODELS[:2] + STUDY_MODELS[3:5]),
    ],
)
def test_each_model_trains_with_two_processes(blobs, tmp_path, model):
    done = train(blobs, tmp_path / "run", "--model", model, "--epochs", 1, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["processes"] == 2
    assert len(lines(tmp_path / "run")) == 1
    # Only rank 0 prints.
    assert done.stdout.count("  device ") == done.stdout.count("\n  1/1 ") == 1
    assert "4 global = 2 processes x 2" in done.stdout
    assert "over the global batch" in done.stdout
