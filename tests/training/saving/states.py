"""A tiny model in training, and its states."""

import torch

from segacc.models.segmenter import Segmenter
from segacc.training.optim import make_optimizer
from segacc.training.saving.checkpoint import Trained, take_state, write_state


def trained(steps=2, seed=0):
    torch.manual_seed(seed)
    model = Segmenter("linknet", "tu-test_resnet")
    optimizer = make_optimizer(model, 0.01, 0.01)
    for _ in range(steps):
        model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** (steps + 1))
    return Trained(model, optimizer, scaler)


def write(run, progress, of=None, keep=2):
    return write_state(run, take_state(progress, of or trained()), keep)
