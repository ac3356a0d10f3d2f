"""The command that writes masks for images.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from segacc.config.options import SIZE_SPEC, Model, shown_as
from segacc.config.sizes import AnySize
from segacc.errors import plural

Images = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="IMAGES...", help_behavior_hint="(required)"),
]

SizeToPredict = Annotated[
    AnySize | None, shown_as("PX|WxH|native", "the model's, but with --tile native"), SIZE_SPEC
]


def predict(
    model: Model,
    images: Images,
    out: Path,
    probabilities: bool = False,
    overlays: bool = False,
    threshold: Annotated[float | None, shown_as("P", "the model's")] = None,
    tta: Literal["none", "h", "hv"] = "none",
    tile: Annotated[int | None, shown_as("PX", "none")] = None,
    size: SizeToPredict = None,
    batch_size: int = 8,
) -> int:
    """Write a mask for each image: a PNG at the image's own size, foreground 255, the rest 0.

    With more than two classes a mask holds the number of the class, and a palette of their colours;
    DIR/classes.txt lists both. Images that cannot be read are listed at the end; the others go on.

    Args:
        model: a run's folder, a from_pretrained folder, the Hub id of a segacc model, or an ONNX
            file of `segacc export`; several in a row predict by their mean probabilities.
        images: files, folders (with the folders in them), or globs in quotes, with ** too.
        out: a new folder. A mask is named after its image; folders below a given one are kept.
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

    Returns:
        1 when an image could not be read, else 0.
    """
    from segacc.prediction.find import models_and_images, plan

    models, paths = models_and_images(model, images)
    jobs = plan(paths, out, probabilities, overlays)  # before the slow import of torch
    from segacc.prediction.ensemble import load_models
    from segacc.prediction.files import predict_images
    from segacc.prediction.writing import write_legend
    from segacc.runtime.accelerator import make_accelerator
    from segacc.runtime.threads import set_threads

    accelerator = make_accelerator("fp32")
    set_threads(accelerator)
    predictor = load_models(models, accelerator.device)
    write_legend(out, predictor.labels)
    done = predict_images(predictor, jobs, threshold, tta, tile, size, batch_size)
    if done.failed:
        print(f"without a mask, {len(done.failed)} of {len(jobs)} images:", file=sys.stderr)
        print("\n".join(f"  {sentence}" for sentence in done.failed), file=sys.stderr)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{plural(done.masks, 'mask')} in {out}, {done.speed} on {accelerator.device.type}")
    return int(bool(done.failed))
