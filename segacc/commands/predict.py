"""The command that writes masks for images.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from segacc.command_line import Groups
from segacc.config.checks import check_device_name
from segacc.config.names import A_TRAINED_MODEL, check_place
from segacc.config.options import SIZE_SPEC, Device, shown_as
from segacc.config.sizes import AnySize
from segacc.errors import InputError, Stopped, plural, quoted
from segacc.runtime.bars import show_doing

if TYPE_CHECKING:
    from segacc.prediction.find import Target

Given = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(required)")
]
Images = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="IMAGES...", help_behavior_hint="(required)"),
]
Out = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(required)")]

SizeToPredict = Annotated[
    AnySize | None, shown_as("PX|WxH|native", "the model's, but with --tile native"), SIZE_SPEC
]

PREDICT_GROUPS: Groups = {
    "output": ("out", "skip_existing", "colours", "probabilities", "overlays"),
    "prediction": ("threshold", "tta", "tile", "size", "batch_size", "device"),
}
"""The groups in which --help shows the flags."""


def predict(
    model: Given = "",
    images: Images = (),
    out: Out = None,
    colours: bool = False,
    probabilities: bool = False,
    overlays: bool = False,
    threshold: Annotated[float | None, shown_as("P", "the model's")] = None,
    tta: Literal["none", "h", "hv"] = "none",
    tile: Annotated[int | None, shown_as("PX", "none")] = None,
    size: SizeToPredict = None,
    batch_size: int = 8,
    skip_existing: bool = False,
    device: Device = None,
) -> int:
    """Write a mask for each image, at the image's own size.

    A mask is a PNG, foreground 255, the rest 0. With more than two classes it holds the number of
    the class, and a palette of their colours; DIR/classes.txt lists both. Images that cannot be
    read are listed at the end; the others go on.

    Args:
        model: a run's folder, a from_pretrained folder, the Hub id of a segacc model, or an ONNX
            file of `segacc export`; several in a row predict by their mean probabilities.
        images: files, folders (with the folders in them), or globs in quotes, with ** too.
        out: a new folder, unless --skip-existing is given. A mask is named after its image; folders
            below a given one are kept.
        colours: write masks of more than two classes as RGB images in the classes' colours.
        probabilities: write DIR/probabilities too: 8-bit gray, where a value v means a probability
            above v/256 and up to (v+1)/256; the mask at a threshold t is where v >= 256 t. With
            more than two classes a folder for each image, with a file for each class.
        overlays: write DIR/overlays too: the images with what was found tinted and outlined.
        threshold: a pixel is foreground where the probability is above this.
        tta: take the mean over flips: h horizontally, hv vertically and both ways as well.
        tile: predict windows of this width and height that overlap by half, at the image's own
            size: in bounded memory, however large the image is.
        size: resize images to this width and height first, or with native not at all; masks keep
            the images' own size.
        batch_size: images per step; fewer where they are large.
        skip_existing: go on where the same command was interrupted: images that have their mask in
            the folder are left out.
        device: where to compute: cpu, cuda, or one of several GPUs, such as cuda:1.

    Returns:
        1 when an image could not be read, else 0.
    """
    models, paths = _models_and_images(model, images)
    folder = _check_given(models, paths, out, device)
    jobs, before = _jobs(paths, folder, probabilities, overlays, skip_existing)
    if not jobs:
        print(f"nothing to do: all {plural(before, 'mask')} are in {folder}")
        return 0
    options = {"threshold": threshold, "tta": tta, "tile": tile, "size": size}
    options |= {"batch_size": batch_size, "colours": colours}
    said = f"; {before:,} were there before" if skip_existing else ""
    return _write_masks(models, jobs, folder, device, options, said)


def _models_and_images(model: str, images: tuple[str, ...]) -> tuple[Sequence[str], Sequence[str]]:
    """Separate the models from the images; there may be several models."""
    from segacc.prediction.find import models_and_images

    return models_and_images(model, images)


def _check_given(
    models: Sequence[str], images: Sequence[str], out: Path | None, device: str | None
) -> Path:
    """Return --out; raises InputError that names all missing arguments, or a missing model."""
    from segacc.prediction.find import is_model

    if len(models) == 1 and not images and _is_there(models[0]) and not is_model(models[0]):
        models, images = [], models  # the model was left out
    given = {"a model": any(models), "images": images, "--out": out}
    missing = [what for what, value in given.items() if not value]
    if out is None or missing:
        words = [*(filter(None, models) if any(models) else ["runs/NAME"]), *(images or ["photos"])]
        raise InputError(
            f"segacc predict lacks {', '.join(missing)}: expected such as `segacc predict "
            f"{shlex.join(words)} --out {quoted(out or 'masks')}`."
        )
    check_device_name(device)
    for model in models:
        check_place("the model", model, A_TRAINED_MODEL)
    return out


def _is_there(word: str) -> bool:
    return bool(word) and Path(word).expanduser().exists()


def _jobs(
    images: Sequence[str], out: Path, probabilities: bool, overlays: bool, skip_existing: bool
) -> tuple[list[Target], int]:
    """Return what is to be predicted, and the number of images that have their files already."""
    from segacc.prediction.find import plan, without_existing

    found = plan(images, out, probabilities, overlays, skip_existing)
    jobs = without_existing(found) if skip_existing else found
    return jobs, len(found) - len(jobs)


def _write_masks(
    models: Sequence[str],
    jobs: list[Target],
    out: Path,
    device: str | None,
    options: Mapping[str, Any],
    said: str,
) -> int:
    """Predict, and print how that went; returns the exit code.

    Args:
        options: those of `predict_images`, by their names.
        said: the end of the last line.
    """
    show_doing("loading PyTorch and the model")
    from segacc.prediction.ensemble import load_models
    from segacc.prediction.files import predict_images
    from segacc.prediction.writing import write_legend
    from segacc.runtime.accelerator import make_accelerator
    from segacc.runtime.device import on_device
    from segacc.runtime.threads import prepare_cpu

    with on_device(device):
        accelerator = make_accelerator("fp32")
        prepare_cpu(accelerator.device)
        predictor = load_models(models, accelerator.device)
        if options["colours"] and (predictor.labels is None or predictor.labels.logits == 1):
            raise InputError(
                "--colours is for more than two classes, and masks of this model are 0 and 255: "
                "leave it out, or give --overlays to see the masks on their images."
            )
        write_legend(out, predictor.labels)
        try:
            done = predict_images(predictor, jobs, **options)
        except KeyboardInterrupt:  # Stopped is one
            count = sum(job.mask.is_file() for job in jobs)
            raise Stopped(
                f"interrupted; {count:,} of {plural(len(jobs), 'mask')} are written: the same "
                "command with --skip-existing goes on."
            ) from None
    if done.failed:
        print(f"without a mask, {len(done.failed)} of {len(jobs)} images:", file=sys.stderr)
        print("\n".join(f"  {sentence}" for sentence in done.failed), file=sys.stderr)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    where = f"{plural(done.masks, 'mask')} in {out}"
    print(f"{where}, {done.speed} on {accelerator.device.type}{said}")
    return int(bool(done.failed))
