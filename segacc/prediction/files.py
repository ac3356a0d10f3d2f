"""Predict any images: `predict_images` writes files, `predict_masks` and `predict_image` return
arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from segacc.config.sizes import AnySize, width_height
from segacc.data.reading.decode import DecodeError, Encoded, read_pixels
from segacc.errors import InputError
from segacc.models.load import Predictor
from segacc.prediction.ensemble import Ensemble, inputs_of, mean_maps, members_of, seen_by
from segacc.prediction.find import Target
from segacc.prediction.logits import TTA_FLIPS, predict_logits
from segacc.prediction.reading import Notes, Read, readable
from segacc.prediction.writing import label_map_of, probability_maps, write_files
from segacc.runtime.accelerator import is_out_of_memory
from segacc.runtime.bars import make_bar

STEP_PIXELS = 2**22  # in one step at most, but for a single image that has more


@dataclass(frozen=True, eq=False)
class Resized:
    """An image in memory, as the models get it."""

    pixels: tuple[np.ndarray, ...]
    """(H, W, 3) uint8, for each model"""
    shape: tuple[int, int]
    """its own height and width"""


Image = TypeVar("Image", Resized, Read)


@dataclass(frozen=True)
class Done:
    """What `predict_images` did."""

    masks: int
    """masks written"""
    failed: list[str]
    """a sentence for each image that has none"""
    notes: list[str]
    """sentences on images whose values are unlike those that the model was trained on"""
    seconds: float

    @property
    def speed(self) -> str:
        """Images per second."""
        rate = (self.masks + len(self.failed)) / self.seconds
        return f"{rate:.0f} img/s" if rate >= 10 else f"{rate:.2g} img/s"


def predict_image(
    model: Predictor | Ensemble,
    image: str | Path | np.ndarray,
    tta: str = "none",
    tile: int | None = None,
    size: AnySize | None = None,
) -> np.ndarray:
    """Predict one image.

    Args:
        model: from `segacc.models.load.load_predictor`, on the device that computes; or several
            (`segacc.prediction.ensemble.load_models`), whose mean is taken.
        image: a file, or (H, W, 3) uint8 RGB.
        tta: `none`, or the mean over flips: `h` the horizontal one, `hv` both and their product.
        tile: side in px of windows that overlap by half, for images that are too large to be
            predicted at once, or for models trained on crops.
        size: px that the image is resized to first; `native` is its own size. None is
            `model.size`; with `tile`, or where the model has none, the image's own size.

    Returns:
        (H, W) float32 in 0..1: the probability of foreground, at the image's own size; with more
        than two classes (K, H, W), of each class.

    Raises:
        InputError: the image cannot be used, or an argument is out of range.
    """
    _check_options(tta, tile, size)
    if not isinstance(image, np.ndarray):
        image = read_pixels(Encoded(path=os.path.expanduser(image), bytes=None))
    elif image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"the image is an array of shape {image.shape} and type {image.dtype}: expected RGB, "
            "(H, W, 3) uint8 in 0..255."
        )
    inputs = inputs_of(model, tile, size)
    one = Resized(seen_by(inputs, image), (image.shape[0], image.shape[1]))
    (maps,) = _maps(_logits(model, [one], tta, tile), [one])
    found = np.stack([of_class.numpy() for of_class in maps])
    return found[0] if len(found) == 1 else found


def predict_images(
    model: Predictor | Ensemble,
    targets: Sequence[Target],
    threshold: float | None = None,
    tta: str = "none",
    tile: int | None = None,
    size: AnySize | None = None,
    batch_size: int = 8,
    colours: bool = False,
) -> Done:
    """Predict images and write the files that the targets name (`segacc.prediction.find.plan`).

    Masks hold 0 and 255; with more than two classes the number of the class, with a palette.
    Probabilities are levels (`segacc.metrics.thresholds.levels_of`): a pixel of value v has a
    probability above v / 256 and of (v + 1) / 256 at most, so the mask at the threshold k / 256 is
    where v >= k. An image that cannot be read, or that needs too much memory, stops no others.

    Args:
        threshold: foreground is where the probability is above this; None is `model.threshold`.
        tta: as in `predict_image`.
        tile: the same.
        size: the same.
        batch_size: images per step, if neighbours have one size and are not large; 1 with `tile`.
        colours: masks of more than two classes are RGB images in the classes' colours instead.

    Raises:
        InputError: an argument is out of range, or a file cannot be written.
    """
    _check_options(tta, tile, size, threshold, batch_size)
    threshold = _threshold(model, threshold)
    if tile:
        batch_size = 1
    started = time.perf_counter()
    failed: list[str] = []
    notes = Notes(model.value_range)
    ahead = 0 if tile else batch_size
    images = readable(targets, inputs_of(model, tile, size), ahead)
    with make_bar(total=len(targets), desc="predicting", unit="img") as bar:
        for batch in _batches(_read_ones(images, failed, notes, bar), batch_size):
            logits = _try_logits(model, batch, tta, tile, bar)
            if logits is None:
                failed += [_too_large(one, tile) for one in batch]
            else:
                for one, maps in zip(batch, _maps(logits, batch), strict=True):
                    write_files(one, maps, threshold, model.labels, colours)
            bar.update(len(batch))
    seconds = time.perf_counter() - started
    return Done(len(targets) - len(failed), failed, notes.sentences(), seconds)


def predict_masks(
    model: Predictor | Ensemble,
    images: Iterable[np.ndarray],
    threshold: float | None = None,
    tta: str = "none",
    tile: int | None = None,
    size: AnySize | None = None,
    batch_size: int = 8,
) -> Iterator[np.ndarray]:
    """Predict images that are in memory; the masks are those that `predict_images` writes.

    Args:
        images: (H, W, 3) uint8 RGB, of any sizes; or of 16 bits, as `to_8_bits` takes them.
        threshold, tta, tile, size, batch_size: as in `predict_images`.

    Yields:
        for each image, at its own size, (H, W) bool, where True is foreground; with more than two
        classes (H, W) uint8, the number of the class.

    Raises:
        InputError: an argument is out of range.
    """
    _check_options(tta, tile, size, threshold, batch_size)
    threshold = _threshold(model, threshold)
    inputs = inputs_of(model, tile, size)
    resized = (Resized(seen_by(inputs, one), (one.shape[0], one.shape[1])) for one in images)
    for batch in _batches(resized, 1 if tile else batch_size):
        logits = _logits(model, batch, tta, tile)
        for maps in _maps(logits, batch):
            if logits[0].shape[1] == 1:
                yield (next(maps) > threshold).numpy()
            else:
                yield label_map_of(maps)


def _threshold(model: Predictor | Ensemble, given: float | None) -> float:
    """Return the given threshold, or the model's; raises InputError if it would have no effect."""
    if given is not None and model.labels and model.labels.logits > 1:
        raise InputError(
            f"--threshold {given} decides between two classes, and the model has "
            f"{model.labels.classes}, of which the most probable one is predicted: leave it out."
        )
    return model.threshold if given is None else given


def _read_ones(
    images: Iterable[Read | DecodeError], failed: list[str], notes: Notes, bar: tqdm
) -> Iterator[Read]:
    """The images that could be read; the errors of the others are added to `failed`."""
    for one in images:
        if isinstance(one, Read):
            notes.add(one)
            yield one
        else:
            failed.append(str(one))
            bar.update()


def _try_logits(
    model: Predictor | Ensemble, batch: list[Read], tta: str, tile: int | None, bar: tqdm
) -> list[Tensor] | None:
    """`_logits` of a batch; None where the memory is too small for it."""

    def show(share: float) -> None:
        bar.set_postfix_str(f"{batch[0].target.image.name} {share:.0%}")

    try:
        return _logits(model, batch, tta, tile, show)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _check_options(
    tta: str,
    tile: int | None,
    size: AnySize | None,
    threshold: float | None = None,
    batch_size: int | None = None,
) -> None:
    side = None if size is None or isinstance(size, str) else min(width_height(size))
    for flag, value, least in (
        ("--tile", tile, 32),
        ("--size", side, 8),
        ("--batch-size", batch_size, 1),
    ):
        if value is not None and value < least:
            raise InputError(f"{flag} {value}: expected {least} or more.")
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(f"--threshold {threshold}: expected a number between 0 and 1.")
    if tta not in TTA_FLIPS:
        raise InputError(f"--tta {tta}: expected {', '.join(TTA_FLIPS)}.")


def _batches(images: Iterable[Image], batch_size: int) -> Iterator[list[Image]]:
    """Neighbours that have the same shape, as many as fit into a step."""
    batch: list[Image] = []
    for one in images:
        shapes = [pixels.shape for pixels in one.pixels]
        if batch and shapes != [pixels.shape for pixels in batch[0].pixels]:
            yield batch
            batch = []
        batch.append(one)
        largest = max(height * width for height, width, _ in shapes)
        if len(batch) == batch_size or (len(batch) + 1) * largest > STEP_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def _logits(
    model: Predictor | Ensemble,
    batch: Sequence[Resized | Read],
    tta: str,
    tile: int | None,
    progress: Callable[[float], object] | None = None,
) -> list[Tensor]:
    """Each model's logits (B, K, H, W) float32 of images of one shape; with `tile` on the CPU."""
    found = []
    for number, one in enumerate(members_of(model)):
        pixels = np.stack([image.pixels[number] for image in batch])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        if not tile:
            images = images.to(one.device)
        found.append(predict_logits(one, images, tta, tile, progress))
    return found


def _maps(logits: list[Tensor], batch: Sequence[Resized | Read]) -> Iterator[Iterator[Tensor]]:
    """Yield the `probability_maps` of each image; for several models, their mean."""
    of_images = zip(*(of_model.split(1) for of_model in logits), strict=True)
    for one, of_models in zip(batch, of_images, strict=True):
        yield mean_maps([probability_maps(own, one.shape) for own in of_models])


def _too_large(one: Read, tile: int | None) -> str:
    height, width = one.pixels[0].shape[:2]
    remedy = f"a --tile below {tile}" if tile else "--tile 256, a smaller --size or --batch-size"
    return (
        f"image {one.target.image} needs more memory than there is (predicted at {width} x "
        f"{height} px); give {remedy}"
    )
