"""Twenty steps of some models, on any number of ranks: `invariance.py DATA OUT MODES MODEL...`.

A mode is an optimizer and a precision, such as sgd-fp32 or adamw-fp32, with dropout off and
BatchNorm frozen, or with both as they are: sgd-fp64-full. Rank 0 writes into OUT/MODE:
MODEL-before.safetensors, MODEL-after.safetensors and losses.json.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import segacc.training.optim
import segacc.training.trainable
from segacc.config.flags import parse_train
from segacc.models.weights.build import build_model
from segacc.training.setup import NO_HOOKS, set_up
from segacc.training.steps import reduce_losses, train_step

STEPS = 20


def build(*args, **kwargs):
    built = build_model(*args, **kwargs)
    for module in [] if full else built.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if hasattr(module, "drop_prob"):  # stochastic depth
            module.drop_prob = 0.0
    if precision == "fp64":
        built.model.double()
    return built


def make_optimizer(model, lr, weight_decay, *factors):
    if name == "adamw":
        return segacc.training.optim.make_optimizer(model, lr, weight_decay, *factors)
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)


data, out, modes, *models = sys.argv[1:]
segacc.training.trainable.build_model = build
segacc.training.trainable.make_optimizer = make_optimizer
for mode in modes.split(","):
    name, precision, *full = mode.split("-")
    folder, losses = Path(out, mode), {}
    for model in models:
        flags = ["--dataset", data, "--model", model, "--size", "64", "--weights", "none"]
        flags += ["--batch-size", "8", "--tracker", "none", "--precision", "fp32"]
        flags += ["--ema", "0.9", "--augment", "strong"] if full else ["--freeze-bn"]
        flags += ["--lr", "5e-4" if name == "sgd" else "1e-4", "--warmup", "0"]
        config = parse_train([*flags, "--output-dir", str(folder / model)])
        job = set_up(config, NO_HOOKS, ExitStack())
        segmenter = job.model.trained.model
        before = {k: v.clone() for k, v in segmenter.tensors().items()}
        job.model.wrapped.train()
        results = [train_step(job, step)[0] for step in range(STEPS)]
        losses[model] = [loss for loss, _ in reduce_losses(job, results, first_step=0)]
        if job.accelerator.is_main_process:
            save_file(before, folder / f"{model}-before.safetensors")
            after = job.model.trained.scored.tensors()  # with --ema, the average
            save_file(after, folder / f"{model}-after.safetensors")
            (folder / "losses.json").write_text(json.dumps(losses))
job.accelerator.end_training()
