"""The upper limit: segacc's model, loss and optimizer on one batch that stays on the device. No
data, no scores, no saved states, no tracker."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from benchmarks.contenders.peer import pairs
from benchmarks.contenders.turns import Task, Turns, task, use_cores
from segacc.models.global_batch.dropout import place_dropout
from segacc.models.weights.build import build_model
from segacc.runtime.threads import keep_memory
from segacc.training.losses.terms import make_loss
from segacc.training.optim import make_optimizer


def main(task: Task) -> None:
    accelerator = Accelerator(mixed_precision="bf16" if task.precision == "bf16" else "no")
    device = accelerator.device
    if device.type == "cpu":
        use_cores()
        keep_memory()
    torch.backends.cudnn.benchmark = True  # as in training
    turns = Turns()
    model = build_model(task.model, "resnet34", "none").model
    place_dropout(model).total = task.batch_size
    optimizer = make_optimizer(model, 1e-3, 0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    loss_fn = make_loss("dice")
    side, samples, images = task.crop or task.size, len(pairs(task, "train")), None

    def resident(count: int, side: int):
        pixels = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, device=device)
        label_maps = (pixels[..., 0] > 127).to(torch.uint8)
        return pixels.permute(0, 3, 1, 2), label_maps

    images, label_maps = resident(task.batch_size, side)
    at_once = validation_batch(device, task.size)
    valid = len(pairs(task, "valid"))
    whole, _ = resident(at_once, task.size)
    done = 0
    for epoch in range(task.epochs):
        turns.wait()
        model.train()
        steps = -(-(epoch + 1) * samples // task.batch_size) - done  # as segacc's stream
        done += steps
        for _ in range(steps):
            loss = loss_fn(model(images), label_maps)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            turns.stepped()
        turns.trained()
        model.eval()
        with torch.no_grad():
            for _ in range(0, valid, at_once):
                model(whole)
        turns.done(images=steps * task.batch_size)


def validation_batch(device: torch.device, size: int) -> int:
    return min(4 if device.type == "cpu" else 16, max(1, 2**22 // size**2))


if __name__ == "__main__":
    main(task())
