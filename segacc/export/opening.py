"""Predict with exports, opened as their users open them; and with segacc itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segacc.config.sizes import Size
from segacc.export.check import Predict
from segacc.export.network import PIXEL_TYPES
from segacc.metrics.counts import class_probabilities, predicted_labels
from segacc.models.onnx_model import OnnxSegmenter
from segacc.models.segmenter import Segmenter, enlarged
from segacc.prediction.files import predict_image


def predict_onnx(path: Path) -> Predict:
    """Return a function that predicts with onnxruntime."""
    session = OnnxSegmenter(path)

    def predict(images: Tensor) -> tuple[Tensor, Tensor]:
        found = session.run(images)
        return found["probabilities"], found["mask"]

    return predict


def predict_pt2(path: Path, pixels: str) -> Predict:
    """Return a function that predicts with what `torch.export.load` reads."""
    module = torch.export.load(path).module()

    def predict(images: Tensor) -> tuple[Tensor, Tensor]:
        found = module(images.to(PIXEL_TYPES[pixels]))
        return found[0], found[1]

    return predict


def predict_smp(model: Segmenter, folder: Path) -> Predict:
    """Return a function that predicts with SMP; images are padded for it."""
    import albumentations
    import segmentation_models_pytorch as smp

    net = smp.from_pretrained(folder).eval()
    normalise = albumentations.Compose.from_pretrained(folder)

    def predict(images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        arrays = [image.permute(1, 2, 0).numpy() for image in padded(model, images)]
        x = torch.from_numpy(np.stack([normalise(image=array)["image"] for array in arrays]))
        if model.normalisation.channel_order == "BGR":
            x = x.flip(-1)
        logits = net(x.permute(0, 3, 1, 2).float().contiguous())
        return masked(model, logits[..., :height, :width])

    return predict


def predict_transformers(model: Segmenter, folder: Path) -> Predict:
    """Return a function that predicts with transformers; images are padded for it."""
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    net = AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)

    def predict(images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        x = padded(model, images)
        inputs = processor(list(x), do_resize=False, return_tensors="pt")
        logits = enlarged(net(**inputs).logits, (x.shape[-2], x.shape[-1]))
        if model.config()["classes"] == 1:
            logits = logits[:, 1:] - logits[:, :1]
        return masked(model, logits[..., :height, :width])

    return predict


def padded(model: Segmenter, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) uint8 with their border repeated, of a size that the network takes."""
    height, width = model.padded_size(*images.shape[-2:])
    rows = torch.arange(height).clamp(max=images.shape[-2] - 1)
    columns = torch.arange(width).clamp(max=images.shape[-1] - 1)
    return images[:, :, rows][:, :, :, columns]


def masked(model: Segmenter, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Convert logits to probabilities and masks."""
    probabilities = class_probabilities(logits.float())
    return probabilities, predicted_labels(probabilities, model.threshold)


def reference_of(model: Segmenter, at: Size | None) -> Predict:
    """Return a function that predicts with segacc itself."""

    def predict(images: Tensor) -> tuple[Tensor, Tensor]:
        if at is None:
            return masked(model, model(images))
        arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
        maps = [torch.from_numpy(predict_image(model, image, size=at)) for image in arrays]
        probabilities = torch.stack([m[None] if m.ndim == 2 else m for m in maps])
        return probabilities, predicted_labels(probabilities, model.threshold)

    return predict
