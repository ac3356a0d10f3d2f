"""Twenty steps of some models: `invariance.py DATA OUT OPTIMIZER MODEL...` on any number of ranks.

Rank 0 writes OUT/MODEL.safetensors (weights after the steps), OUT/MODEL-before.safetensors and
OUT/losses.json. Dropout is off and BatchNorm frozen, since on a CPU neither is of the global batch.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import segacc.setup
from segacc.config import parse_train
from segacc.loop import seen, train_step
from segacc.setup import set_up
from segacc.weights import build_model

STEPS = 20


def build_without_dropout(*args, **kwargs):
    built = build_model(*args, **kwargs)
    for module in built.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if hasattr(module, "drop_prob"):  # stochastic depth
            module.drop_prob = 0.0
    return built


def sgd(model, lr, weight_decay):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)


data, out, optimizer, *models = sys.argv[1:]
segacc.setup.build_model = build_without_dropout
if optimizer == "sgd":
    segacc.setup.make_optimizer = sgd
losses = {}
for model in models:
    flags = ["--dataset", data, "--model", model, "--size", "64", "--weights", "none"]
    flags += ["--batch-size", "8", "--tracker", "none", "--freeze-bn", "--precision", "fp32"]
    flags += ["--lr", "5e-4" if optimizer == "sgd" else "1e-4", "--warmup", "0"]
    config = parse_train([*flags, "--output-dir", f"{out}/{model}"])
    job = set_up(config)
    before = job.trained.model.tensors()
    before = {name: tensor.clone() for name, tensor in before.items()}
    job.model.train()
    results = [train_step(job, config, step)[0] for step in range(STEPS)]
    losses[model] = seen(results, job, config, job.progress)
    if job.accelerator.is_main_process:
        save_file(before, f"{out}/{model}-before.safetensors")
        save_file(job.trained.model.tensors(), f"{out}/{model}.safetensors")
if job.accelerator.is_main_process:
    Path(out, "losses.json").write_text(json.dumps(losses))
job.accelerator.end_training()
