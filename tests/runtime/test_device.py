"""--device: where evaluation and prediction compute."""

import os

import pytest
import torch

from segacc.config.flags import parse_evaluate
from segacc.errors import InputError
from segacc.runtime.accelerator import make_accelerator, uses_gpu
from segacc.runtime.device import check_device, on_device

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0


def test_the_cpu_is_taken_where_there_is_a_gpu_and_the_environment_stays(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert uses_gpu()
    with on_device("cpu"):
        assert not uses_gpu() and make_accelerator("fp32").device.type == "cpu"
    assert uses_gpu() and os.environ["ACCELERATE_USE_CPU"] == "false"
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    with on_device("cpu"):
        pass
    assert "ACCELERATE_USE_CPU" not in os.environ
    with on_device(None):
        assert uses_gpu()


def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch):
    with pytest.raises(InputError, match="--device gpu: expected cpu, cuda, or one of several"):
        parse_evaluate(["runs/NAME", "--device", "gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cuda: PyTorch finds no GPU here"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda:1")
    with pytest.raises(InputError, match=r"--device cuda:2: found 2 GPUs, so .* to cuda:1"):
        check_device("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_device("cpu")
    with pytest.raises(InputError, match="--device cuda:1 is for one process"):
        check_device("cuda:1")


@pytest.mark.skipif(not GPUS, reason="needs a GPU")
def test_the_gpu_that_is_named_is_taken_also_under_a_launcher_that_says_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with on_device(f"cuda:{GPUS - 1}"):
        accelerator = make_accelerator("fp32")
        made = torch.zeros(1, device=accelerator.device)
    assert made.device == torch.device("cuda", GPUS - 1)
