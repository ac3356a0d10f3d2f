"""How an image is scaled before a network sees it: in the same way as for its pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ChannelOrder = Literal["RGB", "BGR"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Encoders that SMP and timm name differently, and that are not normalised by ImageNet's values.
TIMM_NAMES = {
    "xception": "legacy_xception",
    "inceptionv4": "inception_v4",
    "inceptionresnetv2": "inception_resnet_v2",
}


@dataclass(frozen=True)
class Normalisation:
    """(image / 255 - mean) / std, and then the channels in the order that the network expects."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    """per channel of the image (RGB) in 0..1"""
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: ChannelOrder = "RGB"

    def __str__(self) -> str:
        if self == Normalisation():
            return "ImageNet's mean and std"
        mean, std = (" ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        order = "" if self.channel_order == "RGB" else f", channels as {self.channel_order}"
        return f"mean {mean} and std {std}{order}"


def per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    """One value for each channel of the image; more than there are begin again at the first.

    SMP does the same with pretrained first layers: channel i gets the weights of channel i % 3.
    """
    return [values[i % len(values)] for i in range(channels)]


def from_smp(encoder: str, weights: str) -> Normalisation:
    """The normalisation of SMP's pretrained weights, by their name; reads a small file of the Hub.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    from segmentation_models_pytorch.encoders import get_preprocessing_params

    if encoder.startswith("tu-"):
        return from_timm(encoder) or Normalisation()
    found = get_preprocessing_params(encoder, weights)
    order: ChannelOrder = "BGR" if found["input_space"] == "BGR" else "RGB"
    return _scaled(found["mean"], found["std"], 255 / found["input_range"][1], order)


def from_timm(encoder: str) -> Normalisation | None:
    """The normalisation of timm's weights for an encoder, with SMP's prefixes or without."""
    import timm

    name = TIMM_NAMES.get(encoder, encoder.removeprefix("tu-").removeprefix("timm-"))
    if not timm.is_model(name):
        return None
    found = timm.get_pretrained_cfg(name)
    return None if found is None else Normalisation(tuple(found.mean), tuple(found.std))


def from_config(config: dict[str, Any]) -> Normalisation | None:
    """The normalisation in the config.json beside weights of timm or of an encoder of SMP, if
    any."""
    found = config.get("pretrained_cfg", config)
    if not isinstance(found, dict) or not found.get("mean") or not found.get("std"):
        return None
    order: ChannelOrder = "BGR" if found.get("input_space") == "BGR" else "RGB"
    scale = 255 / (found.get("input_range") or (0, 1))[1]
    return _scaled(found["mean"], found["std"], scale, order)


def from_image_processor(source: str | Path) -> Normalisation | None:
    """The normalisation of a transformers model, from the preprocessor_config.json of its folder or
    Hub id."""
    from transformers import AutoImageProcessor

    try:
        found = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError):  # there is none
        return None
    scale = 1 / getattr(found, "rescale_factor", 1 / 255) if _on(found, "do_rescale") else 1.0
    mean, std = (found.image_mean, found.image_std) if _on(found, "do_normalize") else (None, None)
    order: ChannelOrder = "BGR" if _on(found, "do_flip_channel_order") else "RGB"
    return _scaled(mean, std, scale, order)


def _on(processor: Any, option: str) -> bool:
    return bool(getattr(processor, option, False))


def _scaled(
    mean: list[float] | float | None,
    std: list[float] | float | None,
    scale: float,
    order: ChannelOrder,
) -> Normalisation:
    """The normalisation that divides an image in 0..255 by `scale`, turns it to `order`, and
    normalises it by `mean` and `std`."""
    means, stds = (
        tuple(value) if isinstance(value, list | tuple) else (value,) * 3
        for value in (0.0 if mean is None else mean, 1.0 if std is None else std)
    )
    if order == "BGR":
        means, stds = means[::-1], stds[::-1]
    if scale == 255:  # so that the values stay as they are written
        return Normalisation(means, stds, order)
    return Normalisation(
        tuple(v * scale / 255 for v in means), tuple(v * scale / 255 for v in stds), order
    )
