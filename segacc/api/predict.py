"""segacc.predict() and segacc.load(): predictions of a trained model for images or files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from segacc.api.flags import checked
from segacc.api.images import image_values
from segacc.config.checks import check_device_name
from segacc.config.sizes import AnySize
from segacc.data.reading.decode import Encoded, read_pixels
from segacc.errors import InputError
from segacc.models.load import Predictor, load_predictor
from segacc.prediction.ensemble import together
from segacc.prediction.files import predict_masks
from segacc.runtime.accelerator import settings_put_back, uses_gpu
from segacc.runtime.device import check_device
from segacc.runtime.threads import cores_of_process

OneImage = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""A file, a PIL image, or (H, W, 3) or (H, W) uint8, RGB or grey; a tensor may be (3, H, W)."""


@dataclass(frozen=True)
class _Options:
    """The options of `predict`."""

    threshold: float | None = None
    tta: Literal["none", "h", "hv"] = "none"
    tile: int | None = None
    size: AnySize | None = None
    batch_size: int = 8


def load(
    source: str | os.PathLike[str], net: nn.Module | None = None, device: str | None = None
) -> Predictor:
    """Load a trained model, in evaluation mode, onto the GPU if there is one.

    It is called with images (B, 3, H, W) in 0..255, RGB, of any size, and returns logits
    (B, K, H, W) of the same size: K is 1 for two classes. `labels` has the classes' names and
    colours, `threshold` the probability above which a pixel is foreground.

    Args:
        source: a run or its folder, the Hub id of a segacc model, or an ONNX file of segacc.
        net: the network of the run, where it was given as an object.
        device: another device: `cpu`, or one of several GPUs, such as `cuda:1`.

    Raises:
        InputError: there is no such model, or no such device. It is a ValueError.

    >>> import segacc, torch
    >>> model = segacc.load("runs/first")
    >>> model(torch.zeros(1, 3, 50, 70)).shape
    torch.Size([1, 1, 50, 70])
    """
    check_device_name(device)
    if device is not None:
        check_device(device)
    device = device or ("cuda" if uses_gpu() else "cpu")
    return load_predictor(source, net).to(torch.device(device))


def predict(
    model: Predictor | str | os.PathLike[str] | Sequence[Predictor | str | os.PathLike[str]],
    images: OneImage | Iterable[OneImage],
    *,
    threshold: float | None = None,
    tta: Literal["none", "h", "hv"] = "none",
    tile: int | None = None,
    size: AnySize | str | None = None,
    batch_size: int = 8,
    device: str | None = None,
) -> list[np.ndarray]:
    """Predict the masks of images; they equal the files that `segacc predict` writes.

    Args:
        model: what `segacc.load` returns or takes; or a list of these, which predict together: the
            mean of their probabilities, at the mean of their thresholds.
        images: one or many: files, PIL images, or arrays (H, W, 3) or (H, W) uint8 in 0..255, of
            any sizes.
        threshold: foreground is where the probability is above this; None is the model's.
        tta: `h` or `hv` for the mean over flips.
        tile: side in px of windows that overlap by half, for images that are too large at once.
        size: px that images are resized to first; None is as in training.
        batch_size: images per step, where neighbours have one size.
        device: what `segacc.load` takes; a model that is loaded stays where it is.

    Returns:
        for each image, at its own size, (H, W) bool, where True is foreground; with more than two
        classes (H, W) uint8, the number of the class.

    Raises:
        InputError: an image cannot be used, or an argument is out of range. It is a ValueError.

    >>> import numpy as np, segacc
    >>> masks = segacc.predict("runs/first", [np.zeros((50, 70, 3), np.uint8)])
    >>> masks[0].shape, masks[0].dtype
    ((50, 70), dtype('bool'))
    """
    given = {"threshold": threshold, "tta": tta, "tile": tile, "size": size}
    options = _Options(**checked(_Options, given | {"batch_size": batch_size}, "predict"))
    kinds = (str, os.PathLike, Image.Image, np.ndarray, Tensor)
    single = isinstance(images, kinds) and getattr(images, "ndim", 3) < 4
    many: Any = [images] if single else images
    if device is not None and not isinstance(model, str | os.PathLike):
        raise InputError(
            f"device={device!r} has no effect on a model that is loaded: give it to segacc.load."
        )
    with settings_put_back():
        if not uses_gpu() or device == "cpu":
            torch.set_num_threads(cores_of_process())
        several = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
        members = [
            load(one, device=device) if isinstance(one, str | os.PathLike) else one
            for one in several
        ]
        return list(predict_masks(together(members), _values(many), **vars(options)))


def _values(images: Iterable[Any]) -> Iterator[np.ndarray]:
    """Yield the images as `segacc.data.reading.depth.to_8_bits` takes them."""
    for number, image in enumerate(images):
        if isinstance(image, str | os.PathLike):
            path = os.path.expanduser(os.fspath(image))
            yield read_pixels(Encoded(path=path, bytes=None))
        else:
            yield image_values(image, f"image {number}")
