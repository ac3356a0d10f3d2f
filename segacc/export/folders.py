"""Folders that segmentation_models_pytorch and transformers open by their `from_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from segacc.config.sizes import width_height
from segacc.errors import InputError
from segacc.labels import FOREGROUND
from segacc.models.huggingface import head_tensors, make_transformers_net
from segacc.models.segmenter import Segmenter
from segacc.models.smp import make_smp_net


def write_smp(model: Segmenter, folder: Path) -> None:
    """Write a folder for `smp.from_pretrained`, with the normalisation as a pipeline of
    albumentations beside it, as the documentation of SMP has it.

    Raises:
        InputError: the network is of another library.
    """
    import albumentations

    if model.architecture == "transformers":
        raise InputError(
            "--to smp: the model is of the library transformers: give --to transformers."
        )
    config = model.config()
    net = make_smp_net(model.architecture, config["encoder"], config["classes"], config["channels"])
    load_weights(net, model.net.state_dict())
    net.eval().save_pretrained(folder)
    normalise = albumentations.Normalize(model.normalisation.mean, model.normalisation.std)
    albumentations.Compose([normalise]).save_pretrained(folder)
    (folder / "README.md").write_text(smp_card(model), encoding="utf-8")


def write_transformers(model: Segmenter, folder: Path) -> None:
    """Write a folder for AutoModelForSemanticSegmentation and AutoImageProcessor.

    Where there are two classes, the network gets a row of zeros for the background beside the
    row of the foreground, since everything in transformers takes the largest of the logits: the
    softmax over both is the sigmoid of the one.

    Raises:
        InputError: the network is of another library, or takes the channels as BGR.
    """
    from transformers import SegformerImageProcessor

    if model.architecture != "transformers":
        raise InputError(
            f"--to transformers: {model.architecture} is a network of "
            "segmentation_models_pytorch: give --to smp."
        )
    normalisation, config = model.normalisation, model.config()
    if normalisation.channel_order == "BGR":
        raise InputError(
            "--to transformers: the model takes BGR, which no image processor with a mean can say: "
            "give --to onnx, which has that inside."
        )
    classes = max(2, config["classes"])
    net = make_transformers_net(config["backbone_config"], classes, config["channels"])
    weights = dict(model.net.state_dict())
    if config["classes"] == 1:
        for name in head_tensors(net.config) & weights.keys():
            foreground = weights[name]
            weights[name] = torch.cat([torch.zeros_like(foreground), foreground])
            assert weights[name].shape[0] == 1 + FOREGROUND
    load_weights(net, weights)
    names = model.labels.names if model.labels else [f"class {i}" for i in range(classes)]
    net.config.id2label = dict(enumerate(names))
    net.config.label2id = {name: i for i, name in enumerate(names)}
    net.eval().save_pretrained(folder)
    width, height = width_height(model.size) if model.size else (0, 0)
    processor = SegformerImageProcessor(
        do_resize=model.size is not None,
        size={"height": height or 512, "width": width or 512},
        resample=3,  # bicubic, as in training
        image_mean=list(normalisation.mean),
        image_std=list(normalisation.std),
    )
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(transformers_card(model), encoding="utf-8")


def load_weights(net: Any, weights: dict[str, torch.Tensor]) -> None:
    """Load weights into a network. Parts that Segmenter removes, since they never run, stay as they
    are."""
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    stages = {name.rpartition(".")[0] for name in missing}
    kept = {name.rpartition(".")[0] for name in weights}
    assert not stages & kept, f"a layer without some of its weights: {missing[:3]}"


def decide(model: Segmenter, logits: str, two_rows: bool) -> str:
    """Return Python code that makes a mask of logits, for the README of a folder."""
    classes = model.labels.classes if model.labels else 0
    if classes != 2:
        return f"{logits}.argmax(1)  # (1, H, W), the number of the class"
    probability = f"{logits}.softmax(1)[:, 1]" if two_rows else f"{logits}.sigmoid()[:, 0]"
    return f"{probability} > {model.threshold:g}  # (1, H, W), True is foreground"


def resizing(model: Segmenter) -> str:
    """A line of Python that resizes an image as it was in training; empty where it was not."""
    if model.size is None:
        return ""
    width, height = width_height(model.size)
    return f"image = image.resize(({width}, {height}), Image.Resampling.BICUBIC)\n"


def smp_card(model: Segmenter) -> str:
    """README.md of a folder of `write_smp`: how to use it."""
    flip = "[..., ::-1]" if model.normalisation.channel_order == "BGR" else ""
    order = " This network takes BGR, hence the `[..., ::-1]` below." if flip else ""
    step, least = model.stride, model.least_side
    square = "height = width = max(height, width)\n" if model.is_square else ""
    return f"""# {model.architecture}, {model.encoder_name}

Trained by segacc, written by `segacc export --to smp`.{order}

```bash
pip install segmentation-models-pytorch albumentations
```

```python
import albumentations
import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image

model = smp.from_pretrained("PATH").eval()  # this folder
normalise = albumentations.Compose.from_pretrained("PATH")

image = Image.open("IMAGE").convert("RGB")
{resizing(model)}pixels = normalise(image=np.asarray(image))["image"]{flip}
# The network takes sides that are multiples of {step}.
height, width = (max({least}, -(-side // {step}) * {step}) for side in pixels.shape[:2])
{square}border = ((0, height - image.height), (0, width - image.width), (0, 0))
pixels = np.pad(pixels, border, mode="edge")
with torch.no_grad():
    logits = model(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float())
logits = logits[..., : image.height, : image.width]
mask = {decide(model, "logits", two_rows=False)}
```
"""


def transformers_card(model: Segmenter) -> str:
    """README.md of a folder of `write_transformers`: how to use it."""
    return f"""# {type(model.net).__name__}

Trained by segacc, written by `segacc export --to transformers`.

```bash
pip install transformers torch torchvision pillow
```

```python
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

model = AutoModelForSemanticSegmentation.from_pretrained("PATH").eval()  # this folder
processor = AutoImageProcessor.from_pretrained("PATH")

image = Image.open("IMAGE").convert("RGB")
with torch.no_grad():
    logits = model(**processor(image, return_tensors="pt")).logits
logits = torch.nn.functional.interpolate(
    logits, size=(image.height, image.width), mode="bilinear"
)
mask = {decide(model, "logits", two_rows=True)}
```
"""
