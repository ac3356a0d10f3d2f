"""A loop like transformers' examples/pytorch/semantic-segmentation/…_no_trainer.py: `datasets` with
images that are decoded and transformed when they are asked for, accelerate, float batches, a look
at the loss in each step, scores counted in numpy. The example gives its loaders no workers; here
they have them, and pinned memory."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset, Image
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import default_data_collator, get_scheduler

from benchmarks.contenders.peer import build, pairs
from benchmarks.contenders.turns import Task, Turns, task, use_cores

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def transformed(task: Task, split: str) -> Dataset:
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    steps = [A.Resize(task.size, task.size)]
    if split == "train":
        steps += [A.RandomCrop(task.crop, task.crop)] if task.crop else []
        steps += [A.HorizontalFlip(p=0.5)]
    transform = A.Compose(
        [*steps, A.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ToTensorV2()]
    )

    def apply(examples):
        pixel_values, labels = [], []
        for image, label in zip(examples["image"], examples["label"], strict=True):
            mask = (np.array(label) > 127).astype(np.uint8)
            out = transform(image=np.array(image.convert("RGB")), mask=mask)
            pixel_values.append(out["image"])
            labels.append(out["mask"].long())
        return {"pixel_values": torch.stack(pixel_values), "labels": torch.stack(labels)}

    files = pairs(task, split)
    columns = {
        "image": [str(image) for image, _ in files],
        "label": [str(label) for _, label in files],
    }
    rows = Dataset.from_dict(columns).cast_column("image", Image()).cast_column("label", Image())
    return rows.with_transform(apply)


def confusion(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.bincount(2 * labels.ravel() + predictions.ravel(), minlength=4).reshape(2, 2)


def main(task: Task) -> None:
    accelerator = Accelerator(mixed_precision="bf16" if task.precision == "bf16" else "no")
    if accelerator.device.type == "cpu":
        use_cores()
    turns, model = Turns(), build(task.model)
    options = {"num_workers": task.workers, "pin_memory": True, "batch_size": task.batch_size}
    train_dataloader = DataLoader(
        transformed(task, "train"), shuffle=True, collate_fn=default_data_collator, **options
    )
    eval_dataloader = DataLoader(
        transformed(task, "valid"), collate_fn=default_data_collator, **options
    )
    optimizer = torch.optim.AdamW(list(model.parameters()), lr=5e-5)
    model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader
    )
    lr_scheduler = get_scheduler("polynomial", optimizer, 0, task.epochs * len(train_dataloader))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(task.epochs):
            turns.wait()
            model.train()
            for batch in train_dataloader:
                logits = model(batch["pixel_values"])
                target = batch["labels"][:, None].float()
                loss = functional.binary_cross_entropy_with_logits(logits, target)
                accelerator.backward(loss)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
                loss.detach().item()
                turns.stepped()
            turns.trained()
            model.eval()
            counts = np.zeros((2, 2), np.int64)
            for batch in eval_dataloader:
                with torch.no_grad():
                    predictions = (model(batch["pixel_values"]) > 0)[:, 0].long()
                found, labels = accelerator.gather_for_metrics((predictions, batch["labels"]))
                counts += confusion(found.cpu().numpy(), labels.cpu().numpy())
            accelerator.save_model(model, folder)
            turns.done()


if __name__ == "__main__":
    main(task())
