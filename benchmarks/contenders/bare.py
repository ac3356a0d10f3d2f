"""A plain training loop as many write it: PyTorch, SMP and albumentations, without a framework."""

from __future__ import annotations

import os

import segmentation_models_pytorch as smp
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.contenders.peer import build, decode, pairs
from benchmarks.contenders.turns import Task, Turns, task

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


class Files(Dataset):
    def __init__(self, task: Task, split: str) -> None:
        import albumentations as A
        from albumentations.pytorch import ToTensorV2

        self.files = pairs(task, split)
        steps = [A.Resize(task.size, task.size)]
        if split == "train":
            steps += [A.RandomCrop(task.crop, task.crop)] if task.crop else []
            steps += [A.HorizontalFlip(p=0.5)]
        self.transform = A.Compose([*steps, A.Normalize(), ToTensorV2()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        image, mask = decode(self.files[index])
        out = self.transform(image=image, mask=mask)
        return out["image"], out["mask"][None].float()


def main(task: Task) -> None:
    turns = Turns()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = {"num_workers": task.workers, "pin_memory": True, "batch_size": task.batch_size}
    train = DataLoader(Files(task, "train"), shuffle=True, **options)
    valid = DataLoader(Files(task, "valid"), **options)
    model = build(task.model).to(device)
    loss_fn = smp.losses.DiceLoss("binary")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def autocast():
        return torch.autocast(device.type, torch.bfloat16, enabled=task.precision == "bf16")

    best = -1.0
    for _ in range(task.epochs):
        turns.wait()
        model.train()
        total = 0.0
        for images, masks in train:
            images, masks = images.to(device), masks.to(device)
            with autocast():
                loss = loss_fn(model(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            turns.stepped()
        turns.trained()
        model.eval()
        hit, union = 0, 0
        with torch.no_grad():
            for images, masks in valid:
                images, truth = images.to(device), masks.to(device) > 0.5
                with autocast():
                    found = model(images) > 0
                hit += (found & truth).sum().item()
                union += (found | truth).sum().item()
        if hit / union > best:
            best = hit / union
            torch.save(model.state_dict(), os.devnull)
        turns.done()


if __name__ == "__main__":
    main(task())
