"""A small folder in which the commands of the docs work: data sets, images and a finished run.

They have the names that the docs use, such as `data`, DIR, `photos` and runs/NAME.
"""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from small import CLASSES as CLASS_NAMES
from small import ROOT, TINY, write_blobs, write_classes

from segacc.config.flags import parse_evaluate, parse_train
from segacc.evaluation.evaluate import evaluate
from segacc.training.fit import fit

BINARY = ("data", "PATH", "demo", "gland", "pedestrian", "owner/name", "NEWPLACE", "PLACE")
CLASSES = ("DIR", "CamVid", "streets", "cells-set", "demo-street")
CLASSES += ("segments/sidewalk-semantic",)
WITH_NAMES = ("demo-street", "segments/sidewalk-semantic")  # that they bring themselves
SHORT = ("--epochs", "1", "--size", "64", "--batch-size", "4", "--weights", "none")
SHORT += ("--tracker", "none", *TINY)


def make_world(folder: Path) -> Path:
    for name in BINARY:
        write_blobs(folder / name)
    for name in CLASSES:
        write_classes(folder / name)
        if name not in WITH_NAMES:
            (folder / name / "classes.txt").unlink()
    (folder / "classes.txt").write_text("ground: 0\ndisc: 1\nbox: 2\nUnlabelled: 11\n")
    (folder / "cells-set" / "classes.txt").write_text("ground: 0\ndisc: 1\nbox: 2\nartefact: 3\n")
    (folder / "run.yaml").write_text("dataset: data\nbatch-size: 4\n")
    write_flat(folder / "slides-set", "patient{:02}_slide1")
    write_flat(folder / "drives", "drive{:02}/frame")
    write_nnunet(folder / "nnUNet_raw" / "Dataset001_Cells", "cell_{:03}")
    write_nnunet(folder / "nnUNet_raw" / "Dataset002_Slices", "patient{:02}_012")
    write_mmseg(folder / "my_dataset")
    write_paired(folder / "paired")
    write_checkpoint(folder / "last.ckpt")
    write_photos(folder)
    for name in ("train.py", "evaluate.py", "accelerate_configs", "sweep.yaml", "examples"):
        (folder / name).symlink_to(ROOT / name)
    run = str(folder / "runs" / "NAME")
    fit(parse_train(["--dataset", str(folder / "data"), "--output-dir", run, *SHORT]))
    evaluate(parse_evaluate([run]))
    shutil.copytree(run, folder / "runs" / "OTHER")
    (folder / "RUN").symlink_to(run)
    return folder


def _write_set(folder: Path, pairs: list[tuple[str, str]]) -> None:
    """Images and label maps under these names."""
    aside = write_classes(folder / "aside", len(pairs), 0, 0) / "train"
    for i, names in enumerate(pairs):
        for ending, name in zip(("bmp", "png"), names, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = cv2.imread(str(aside / f"train{i}.{ending}"), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(folder / name), pixels)
    shutil.rmtree(aside.parent)


def write_flat(folder: Path, name: str) -> None:
    """A set without splits, of two classes."""
    aside = write_blobs(folder / "aside", 12, 0, 0) / "train"
    for i in range(12):
        image = folder / (name.format(i) + ".jpg")
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(aside / f"train{i}.jpg", image)
        shutil.copy(aside / f"train{i}.png", image.with_suffix(".png"))
    shutil.rmtree(aside.parent)


def write_nnunet(folder: Path, case: str) -> None:
    names = [("Tr" if i < 12 else "Ts", case.format(i)) for i in range(16)]
    _write_set(folder, [(f"images{s}/{n}_0000.png", f"labels{s}/{n}.png") for s, n in names])
    labels = {"background": 0, "disc": 1, "box": 2}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))


def write_mmseg(folder: Path) -> None:
    splits = [("train", i) for i in range(12)] + [("val", i) for i in range(4)]
    names = [(f"{split}/{split}{i}") for split, i in splits]
    _write_set(folder, [(f"img_dir/{name}.jpg", f"ann_dir/{name}.png") for name in names])


def write_paired(folder: Path) -> None:
    """Images and masks of two layouts that only patterns pair."""
    names = [(f"images/{i}.jpg", f"masks/{i}_x.png") for i in range(12)]
    splits = ["train"] * 8 + ["val"] * 4
    names += [(f"{s}/rgb/{i}.tif", f"{s}/vessels/{i}.png") for i, s in enumerate(splits)]
    _write_set(folder, names)
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES))


def write_checkpoint(file: Path) -> None:
    """What Lightning saves of a module whose `model` is an FPN."""
    net = smp.FPN(TINY[3], encoder_weights=None)
    torch.save({"state_dict": {f"model.{name}": t for name, t in net.state_dict().items()}}, file)


def write_photos(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.png", "photos/deep/c.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (70, 90, 3), dtype=np.uint8))
    (folder / "slides").mkdir()
    cv2.imwrite(
        str(folder / "slides" / "d.tif"), rng.integers(0, 255, (700, 90, 3), dtype=np.uint8)
    )
