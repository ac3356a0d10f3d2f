"""With several classes, mIoU decides about the best epoch and about early stopping."""

import json

import cv2
import numpy as np
import pytest
import torch
from small import TINY, lines

from segacc.config.flags import parse_train
from segacc.training.fit import fit
from segacc.training.setup import Hooks


def write_set(folder):
    """Nine tenths of all pixels are of class 0, and the red of an image says its class."""
    for split, count in (("train", 4), ("valid", 2)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            label_map = np.zeros((40, 40), np.uint8)
            label_map[:2], label_map[2:4] = 1, 2
            image = np.full((40, 40, 3), 10 * i, np.uint8)
            image[..., 2] = 80 * label_map  # OpenCV writes BGR
            cv2.imwrite(str(folder / split / f"{i}.bmp"), image)
            cv2.imwrite(str(folder / split / f"{i}.png"), label_map)
    return folder


def classes_seen(images, best):
    """(B, H, W): all are class 0; at best, both others are found, and much of 0 is taken for 1."""
    if not best:
        return torch.zeros_like(images[:, 0], dtype=torch.long)
    classes = (images[:, 0] / 80).round().long()
    classes[:, 24:] = 1
    return classes


def test_an_epoch_of_higher_miou_and_lower_accuracy_is_the_best(tmp_path, capsys):
    epoch, hooks = [0], []

    def answer(model, inputs, logits):
        seen = classes_seen(inputs[0], best=epoch[0] == 2)
        return 9 * torch.nn.functional.one_hot(seen, 3).permute(0, 3, 1, 2).to(logits)

    def replace(job):  # what the model says in validation
        epoch[0] += 1
        hooks.append(job.model.trained.model.register_forward_hook(answer))

    watched = Hooks(steps_done=replace, epoch_done=lambda job: hooks.pop().remove())
    flags = ["--dataset", write_set(tmp_path / "set"), "--classes", "road,car,sky", *TINY]
    flags += ["--size", 40, "--weights", "none", "--batch-size", 4, "--tracker", "none"]
    flags += ["--epochs", 9, "--patience", 2, "--output-dir", tmp_path / "run"]
    run = fit(parse_train([*map(str, flags)]), watched)

    # Of 40 rows: 36 of road, of which 16 are taken for car at best; two each of car and of sky.
    common, best = (36 / 40 + 0 + 0) / 3, (20 / 36 + 2 / 18 + 1) / 3
    expected = [common, best, common, common]
    assert [line["valid_iou"] for line in lines(run)] == pytest.approx(expected)
    assert best > common and (20 + 2 + 2) / 40 < 36 / 40  # the accuracies
    printed = capsys.readouterr().out
    assert "patience ran out: best epoch 2 of 4" in printed
    assert f"miou {best:.4f}" in printed
    card = (run / "best" / "README.md").read_text()
    assert f"{best:.4f}" in card and "epoch 2" in card
    assert json.loads((run / "best" / "config.json").read_text())["labels"]["names"][0] == "road"
