"""Lightning and SMP, as SMP's own tutorial puts them together (examples/binary_segmentation_intro):
PIL resizes in the Dataset, uint8 batches, statistics of every step kept and summed at the epoch's
end, Adam and a cosine, and a Trainer with the log, the bar and the checkpoints that it comes with,
but no validation before the first step. Pinned memory is ours; crops and flips are as Lightning
users add them, with albumentations. The tutorial's workers start anew in each epoch;
--persistent-workers keeps them, as Lightning advises."""

from __future__ import annotations

import os
import tempfile

import lightning.pytorch as pl
import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.contenders.peer import build, decode, pairs
from benchmarks.contenders.turns import Task, Turns, task

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


class SegmentationDataset(Dataset):
    def __init__(self, task: Task, split: str) -> None:
        import albumentations as A

        self.files, self.size = pairs(task, split), task.size
        steps = [A.HorizontalFlip(p=0.5)] if split == "train" else []
        if split == "train" and task.crop:
            steps.insert(0, A.RandomCrop(task.crop, task.crop))
        self.transform = A.Compose(steps)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image, mask = decode(self.files[index])
        image = np.array(Image.fromarray(image).resize((self.size, self.size), Image.BILINEAR))
        mask = np.array(Image.fromarray(mask).resize((self.size, self.size), Image.NEAREST))
        out = self.transform(image=image, mask=mask.astype(np.float32))
        return {
            "image": np.ascontiguousarray(np.moveaxis(out["image"], -1, 0)),
            "mask": np.expand_dims(out["mask"], 0),
        }


class SegmentationModel(pl.LightningModule):
    def __init__(self, name: str, t_max: int) -> None:
        super().__init__()
        self.model, self.t_max = build(name), t_max
        # The tutorial asks the Hub for these (`get_preprocessing_params`).
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.loss_fn = smp.losses.DiceLoss(smp.losses.BINARY_MODE, from_logits=True)
        self.outputs: dict[str, list] = {"train": [], "valid": []}

    def forward(self, image):
        return self.model((image / 255 - self.mean) / self.std)

    def shared_step(self, batch, stage: str):
        image, mask = batch["image"], batch["mask"].float()
        logits_mask = self.forward(image)
        loss = self.loss_fn(logits_mask, mask)
        pred_mask = (logits_mask.sigmoid() > 0.5).float()
        stats = smp.metrics.get_stats(pred_mask.long(), mask.long(), mode="binary")
        self.outputs[stage].append((loss.detach(), *stats))
        return loss

    def shared_epoch_end(self, stage: str) -> None:
        stats = [torch.cat([out[i] for out in self.outputs[stage]]) for i in range(1, 5)]
        per_image = smp.metrics.iou_score(*stats, reduction="micro-imagewise")
        dataset = smp.metrics.iou_score(*stats, reduction="micro")
        names = {f"{stage}_per_image_iou": per_image, f"{stage}_dataset_iou": dataset}
        self.log_dict(names, prog_bar=True)
        self.outputs[stage].clear()

    def training_step(self, batch, batch_index):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_index):
        return self.shared_step(batch, "valid")

    def on_train_epoch_end(self) -> None:
        self.shared_epoch_end("train")

    def on_validation_epoch_end(self) -> None:
        self.shared_epoch_end("valid")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.t_max, eta_min=1e-5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cosine, "interval": "step", "frequency": 1},
        }


class Clock(pl.Callback):
    def __init__(self) -> None:
        self.turns = Turns()

    def on_train_epoch_start(self, trainer, module) -> None:
        self.turns.wait()

    def on_train_batch_end(self, *args) -> None:
        self.turns.stepped()

    def on_validation_start(self, trainer, module) -> None:
        self.turns.trained()

    def on_train_epoch_end(self, trainer, module) -> None:
        self.turns.done()


def main(task: Task) -> None:
    train, valid = (SegmentationDataset(task, split) for split in ("train", "valid"))
    options = {"batch_size": task.batch_size, "num_workers": task.workers, "pin_memory": True}
    if task.workers and task.persistent_workers:
        options["persistent_workers"] = True
    train_loader = DataLoader(train, shuffle=True, drop_last=False, **options)
    valid_loader = DataLoader(valid, shuffle=False, **options)
    model = SegmentationModel(task.model, task.epochs * len(train_loader))
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=task.epochs,
            log_every_n_steps=1,
            precision="bf16-mixed" if task.precision == "bf16" else "32-true",
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=[
                Clock(),
                pl.callbacks.ModelCheckpoint(folder, monitor="valid_dataset_iou", mode="max"),
            ],
        )
        trainer.fit(model, train_dataloaders=train_loader, val_dataloaders=valid_loader)


if __name__ == "__main__":
    main(task())
