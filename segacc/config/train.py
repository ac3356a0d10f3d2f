"""The config of a training: a frozen dataclass, from whose fields the command line is made.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import segacc
from segacc.command_line import Groups
from segacc.config.options import (
    SIZE_SPEC,
    Binarise,
    Classes,
    Column,
    Fold,
    GroupBy,
    Ignore,
    PairFlags,
    shown_as,
)
from segacc.config.sizes import AnySize
from segacc.errors import LAUNCH_FOLDER, is_main

ENCODER = "resnet34"
"""the default of --encoder for models of segmentation_models_pytorch"""
STUDY_MODELS = ("unet", "fpn", "pspnet", "linknet", "deeplabv3plus", "segformer")
SEGFORMER_B0 = "nvidia/segformer-b0-finetuned-ade-512-512"

OWN = "own:"
"""begins the name of anything that a program gives as an object: a network, a loss
(`segacc.train`)"""


def is_own(name: str) -> bool:
    """Whether a value of a config stands for an object that a program gives."""
    return name.startswith(OWN)


def has_own_encoder(model: str) -> bool:
    """Whether --encoder has no effect on the model: it is of transformers, or of a program."""
    return model == "segformer" or "/" in model or is_own(model)


def default_weights(model: str) -> str:
    """The weights that a model starts from if --weights is not given."""
    if is_own(model):
        return "own"
    if "/" in model:
        return model
    return SEGFORMER_B0 if model == "segformer" else "imagenet"


Flips = Literal["none", "h", "hv", "d4"]
RecipeName = Literal["default", "study", "strong"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
TrackerName = Literal["wandb", "trackio", "tensorboard", "none"]


@dataclass(frozen=True)
class TrainConfig:
    """Fine-tune a segmentation model."""

    dataset: str = "gland"
    """pedestrian, gland, gland-128, demo, demo-pedestrian, demo-street, a folder, an archive, or a
    Hub id"""
    pairs: PairFlags = ()
    """which file is whose mask, such as 'images/{}.jpg=masks/{}_x.png': {} is the same text on both
    sides, * any text; several patterns may be given"""
    binarise: Binarise = None
    """read masks that lossy compression has smeared: a pixel is foreground from this value (such as
    128) on; masks that are binary stay as they are, others are still refused"""
    classes: Classes = None
    """what the values or colours of the masks mean: a file (docs/classes.md), or names with commas
    between them for the values 0, 1, 2, ... or for the categories of polygons"""
    ignore: Ignore = None
    """classes, values or colours whose pixels do not count, with commas between them"""
    group_by: GroupBy = None
    """in a data set without splits, or with --fold, keep images together if this regular expression
    finds the same text in their names, such as '^(patient\\d+)'"""
    fold: Fold = None
    """cross-validation, such as 1/5: the images of train and valid together are divided into N
    parts: the Kth is for validation and the others for training; the test split stays
    (docs/cross-validation.md)"""
    image_column: Column = None
    """for a Hub id, a saved set or parquet: the column with the images"""
    mask_column: Column = None
    """the column with the masks: images, or arrays of whole numbers"""
    size: Annotated[
        AnySize | None,
        shown_as("PX|WxH|native", "128 pedestrian, else 256, or 512 with --crop"),
        SIZE_SPEC,
    ] = None
    """images are resized to this width and height once, before training: 256, or 480x360; with
    native they keep their sizes, which may differ if there is a --crop"""
    crop: Annotated[int | None, shown_as("PX", "none")] = None
    """train on random crops of this width and height; evaluation always sees the full image. Images
    of native size that are smaller are padded, and the padding does not count"""
    flips: Annotated[Flips | None, shown_as("none|h|hv|d4", "h pedestrian or --crop, else hv")] = (
        None
    )
    """random flips in training; d4 adds quarter turns"""
    augment: Annotated[str | None, shown_as("none|flips|light|strong|FILE", "flips")] = None
    """what training changes in its images at random: nothing, flips alone, or more besides: scale,
    rotation, colour and others, or a pipeline that albumentations has saved (docs/augmentation.md)
    """

    model: str = "linknet"
    """unet, fpn, pspnet, linknet, deeplabv3plus, segformer, any other architecture of
    segmentation_models_pytorch, or the Hub id of a transformers segmentation model"""
    encoder: Annotated[str | None, shown_as("NAME", ENCODER)] = None
    """an encoder of segmentation_models_pytorch (transformers models have their own)"""
    weights: Annotated[str | None, shown_as("STR", f"imagenet; segformer {SEGFORMER_B0}")] = None
    """what to start from: a pretrained name, a local file or folder (a run's too), the Hub id of a
    segacc model, or `none` for random weights"""
    keep_head: bool = False
    """keep what pretrained weights of transformers have learnt about classes of the same names; the
    head is new without this"""
    freeze_encoder: Annotated[int | Literal["all"], shown_as("[EPOCHS]", "never")] = 0
    """keep the encoder's weights as they are for so many epochs, or always where no number is
    given"""
    freeze_bn: bool = False
    """keep BatchNorm's statistics and scales as they are"""

    recipe: RecipeName = "default"
    """which defaults the other flags have: `study` is the protocol of the study, `strong` trains
    longer, with more augmentation and a moving average (docs/fine-tuning.md#recipes)"""
    loss: str = "dice+ce"
    """dice, ce (bce is the same), focal, lovasz, tversky, jaccard, or a sum such as dice+ce"""
    class_weights: Annotated[str | None, shown_as("balanced|FILE", "none: 1 for each")] = None
    """weigh the pixels of each class in ce and focal: `balanced` by how rare it is in train, or a
    file with lines such as `pole: 2.5`"""
    ohem: Annotated[float | None, shown_as("SHARE", "none: all pixels")] = None
    """in ce and focal, count only this share of a batch's pixels, those with the largest loss"""
    label_smoothing: float = 0.0
    """in ce, the probability that is spread evenly over all classes"""
    batch_size: int = 16
    """the GLOBAL batch of one optimizer step: it is split over processes, so that more GPUs do not
    change the maths"""
    accumulate: int = 1
    """compute each batch in this many parts to fit memory; the batch size stays what it is"""
    epochs: int = 100
    """stop after this many epochs at the latest"""
    patience: Annotated[int | None, shown_as("INT", "10, from random weights 20")] = None
    """stop after this many epochs without a better validation IoU"""
    lr: float = 1e-3
    """peak learning rate (AdamW, linear warmup, cosine decay over --epochs)"""
    encoder_lr: float = 1.0
    """factor on the learning rate of the encoder"""
    layer_decay: float = 1.0
    """factor on the learning rate from each block of the encoder to the one before it"""
    weight_decay: float = 0.01
    """decoupled weight decay; none on biases and normalisation layers"""
    warmup: float = 0.05
    """share of all steps in which the learning rate rises"""
    ema: Annotated[float | None, shown_as("DECAY", "none")] = None
    """keep an exponential moving average of the weights, such as 0.999 per step, which is what is
    scored, saved and predicted with"""
    clip: float = 1.0
    """largest gradient norm; 0 does not clip"""
    precision: Precision = "auto"
    """auto: as given to `accelerate launch`, else bf16 on a GPU that supports it, else fp32"""

    seed: int = 0
    """the order of samples, crops, flips and random weights depend on this number"""
    deterministic: bool = False
    """use only GPU operations that give the same bits in every run; slower"""
    workers: Annotated[
        int | None,
        shown_as(
            "INT",
            "on a CPU 0, or 1 with a pipeline; up to 4 for a GPU that cannot hold all images",
        ),
    ] = None
    """processes that load data for each training process; the results do not depend on it"""
    compile: bool = False
    """compile the training steps, which takes about a minute; for long runs on a GPU"""
    name: Annotated[str | None, shown_as("NAME", "DATASET-MODEL-ENCODER-seedN-TIME")] = None
    """the run's name: its folder is runs/NAME, and trackers show it under this name"""
    output_dir: Annotated[Path | None, shown_as("DIR", "runs/NAME")] = None
    """a new folder for the run; --name is then only what W&B and trackio show"""
    save_every: Annotated[
        int | None, shown_as("STEPS", "an epoch's end, at most every 2 minutes")
    ] = None
    """save the best model and a state to resume from after every so many steps; a run always saves
    them when it is stopped or ends"""
    keep: int = 2
    """number of newest states that are kept on the disk"""
    resume: Annotated[Path | None, shown_as("DIR", "none")] = None
    """continue the run in this folder; its config is taken from there"""
    config: Annotated[Path | None, shown_as("FILE", "none")] = None
    """take flags from this file, YAML or JSON, or from the config.json of a run; flags of the
    command line win"""
    tracker: TrackerName = "wandb"
    """where curves are logged, besides metrics.jsonl; without a key W&B works offline"""
    project: Annotated[str | None, shown_as("NAME", "WANDB_PROJECT, else segacc")] = None
    """the project of W&B or trackio that the run is logged to"""
    tags: Annotated[tuple[str, ...], shown_as("TAG", "none")] = ()
    """words by which the run is found in its tracker, with blanks between them"""
    pictures: int = 5
    """log some validation images to the tracker after every so many epochs; 0 for never"""
    push_to_hub: Annotated[str | None, shown_as("OWNER/NAME", "none")] = None
    """push the best model to this repository of the Hugging Face Hub when training ends, with a
    card (docs/hub.md)"""
    public: bool = False
    """with --push-to-hub: all may see the repository; it is private without this"""
    debug: bool = False
    """show the traceback of an error"""


TRAIN_GROUPS: Groups = {
    "data": (
        *("dataset", "pairs", "binarise", "classes", "ignore", "group_by", "fold", "image_column"),
        *("mask_column", "size", "crop", "flips", "augment"),
    ),
    "model": ("model", "encoder", "weights", "keep_head", "freeze_encoder", "freeze_bn"),
    "training": (
        *("recipe", "epochs", "patience", "batch_size", "accumulate", "loss", "class_weights"),
        *("ohem", "label_smoothing", "lr", "encoder_lr", "layer_decay", "weight_decay", "warmup"),
        *("clip", "ema", "seed"),
    ),
    "machine": ("precision", "compile", "workers", "deterministic"),
    "output": (
        *("name", "output_dir", "save_every", "keep", "tracker", "project", "tags", "pictures"),
        *("push_to_hub", "public"),
    ),
}
"""The groups in which --help shows the flags. Flags without a group concern the whole run."""


def print_title(config: TrainConfig) -> None:
    """Print the first line of a training, at once: the next imports take seconds. If there are
    several processes, the one that starts them prints it."""
    backbone = f" ({config.encoder})" if config.encoder else ""
    if is_main() and LAUNCH_FOLDER not in os.environ:
        print(
            f"segacc {segacc.__version__}: {config.model}{backbone} on {config.dataset}", flush=True
        )


# The defaults of a recipe, where they differ from those of TrainConfig. What was tried is in
# benchmarks/results/2026-11-29-transfer.md.
RECIPES: dict[RecipeName, dict[str, Any]] = {
    "default": {},
    "study": {"loss": "dice", "patience": 10},
    "strong": {
        "augment": "strong",
        "ema": 0.99,
        "batch_size": 8,
        "lr": 3e-3,
        "epochs": 150,
        "patience": 150,
    },
}
FROM_RANDOM: dict[RecipeName, dict[str, Any]] = {"strong": {"augment": "light", "lr": 1e-3}}
"""What a recipe has in place of these values from random weights."""
