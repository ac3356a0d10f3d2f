"""The config of an evaluation: a frozen dataclass, from whose fields the command line is made.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from segacc.command_line import Groups
from segacc.config.options import Device, shown_as
from segacc.config.sizes import spacing_of_text


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a trained model on full images, and draw its predictions."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """the run's folder, such as runs/gland-linknet-resnet34-seed0-20260101-120000"""
    others: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[RUN ...]", help_behavior_hint="(default: none)"),
    ] = ()
    """more runs: the mean of all probabilities is scored, and each run beside it
    (docs/cross-validation.md)"""
    split: str = "test"
    """train, valid or test. `valid` of several folds is out of fold: each image is predicted by the
    runs that had it for validation"""
    dataset: Annotated[str | None, shown_as("STR", "the run's")] = None
    """another data set than the one the model was trained on"""
    pairs: Annotated[tuple[str, ...], shown_as("IMAGES=MASKS", "the run's, without --dataset")] = ()
    """which file is whose mask, as for training"""
    binarise: Annotated[int | None, shown_as("VALUE", "the run's, without --dataset")] = None
    """read masks that lossy compression has smeared, as for training"""
    classes: Annotated[str | None, shown_as("FILE|NAMES", "the run's, without --dataset")] = None
    """what the values or colours of the masks mean, as for training"""
    ignore: Annotated[str | None, shown_as("CLASSES", "the run's, without --dataset")] = None
    """classes or values whose pixels do not count, as for training"""
    group_by: Annotated[str | None, shown_as("REGEX", "the run's, without --dataset")] = None
    """which images stay together, as for training"""
    fold: Annotated[str | None, shown_as("K/N", "the run's, without --dataset")] = None
    """which part of train and valid is for validation, as for training"""
    image_column: Annotated[str | None, shown_as("NAME", "the run's, without --dataset")] = None
    """the column with the images, as for training"""
    mask_column: Annotated[str | None, shown_as("NAME", "the run's, without --dataset")] = None
    """the column with the masks, as for training"""
    at: Literal["model", "own"] = "model"
    """the size of the images that are scored: `model`, as in training; `own`, as in their files, to
    which the model's logits are resized, while masks stay as they are"""
    threshold: Annotated[float | None, shown_as("P", "the model's, picked on validation")] = None
    """a pixel is foreground where the probability is above this"""
    tta: Literal["none", "h", "hv"] = "none"
    """average over flips of the image: `h` horizontal, `hv` also vertical and both"""
    tile: Annotated[int | None, shown_as("PX", "none")] = None
    """predict in overlapping windows of this width and height, blended"""
    spacing: Annotated[str | None, shown_as("MM|WxH", "none")] = None
    """mm per pixel of an image in its file, such as 0.5, or 0.5x0.4 (along width x height): `hd95`
    in mm as well"""
    batch_size: int = 8
    """images per step of each process; does not change the scores"""
    device: Device = None
    """where to compute: cpu, cuda, or one of several GPUs, such as cuda:1"""
    out: Annotated[Path | None, shown_as("DIR", "a folder beside the first run")] = None
    """for several runs: the folder for the results"""
    explain: bool = False
    """print the formula of each score"""
    debug: bool = False
    """show the traceback of an error"""

    @property
    def mm_per_px(self) -> tuple[float, float] | None:
        """The value of --spacing, along height and width; raises as `spacing_of_text`."""
        return None if self.spacing is None else spacing_of_text(self.spacing)


EVALUATE_GROUPS: Groups = {
    "data": (
        *("split", "dataset", "pairs", "binarise", "classes", "ignore", "group_by", "fold"),
        *("image_column", "mask_column"),
    ),
    "prediction": ("at", "threshold", "tta", "tile", "batch_size", "spacing", "device"),
    "output": ("out", "explain"),
}
"""The groups in which --help shows the flags."""
