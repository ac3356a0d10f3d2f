"""How a model of the Hub is used, in each format that its repository holds."""

from __future__ import annotations

from segacc.config.sizes import NATIVE, AnySize, width_height
from segacc.labels import Labels

FILES = {"onnx": "model.onnx", "pt2": "model.pt2", "smp": "smp", "transformers": "transformers"}
"""the paths in a repository of what `segacc export` has written"""
INT8 = "model-int8.onnx"


def how_to_use(repository: str, files: set[str], size: AnySize | None, labels: Labels) -> str:
    """Return the part of a card that says how to use the model.

    Args:
        files: paths in the repository.
        size: the size of images in training.
    """
    channels = "(B, 1, H, W)" if labels.logits == 1 else f"(B, {labels.logits}, H, W)"
    parts = [
        f"""## Use

With segacc, which resizes images as in training and the masks back:

```
segacc predict {repository} photos --out masks
segacc train --dataset DATA --weights {repository}
```

```python
import segacc

masks = segacc.predict("{repository}", ["photo.jpg"])
model = segacc.load("{repository}")
logits = model(images)  # RGB in 0..255, (B, 3, H, W) of any size -> {channels}
```
"""
    ]
    parts += [about_onnx(repository, size)] if FILES["onnx"] in files else []
    parts += [about_pt2(repository)] if FILES["pt2"] in files else []
    folders = {path.split("/")[0] for path in files if "/" in path}
    if FILES["smp"] in folders:
        parts.append(about_folder(repository, "smp", "segmentation_models_pytorch"))
    if FILES["transformers"] in folders:
        parts.append(about_folder(repository, "transformers", "transformers"))
    if INT8 in files:
        parts.append(f"`{INT8}` is the same and computes in 8 bits.\n")
    return "\n".join(parts)


def about_onnx(repository: str, size: AnySize | None) -> str:
    """Return example code for onnxruntime."""
    resize = ""
    if size is not None and size != NATIVE and not isinstance(size, str):
        resize = ".resize(({}, {}))".format(*width_height(size))
    return f"""With onnxruntime; normalisation, padding and the threshold are inside:

```python
import numpy as np
import onnxruntime
from huggingface_hub import hf_hub_download
from PIL import Image

session = onnxruntime.InferenceSession(hf_hub_download("{repository}", "{FILES["onnx"]}"))
image = Image.open("IMAGE").convert("RGB"){resize}
images = np.asarray(image).transpose(2, 0, 1)[None]  # (B, 3, H, W)
probabilities, mask = session.run(["probabilities", "mask"], {{"images": images}})
```

The metadata `segacc` of the file say more: classes, threshold, size, and `at`, the size that it
resizes to by itself.
"""


def about_pt2(repository: str) -> str:
    """Return example code for torch."""
    return f"""With torch alone, for the same images:

```python
import torch
from huggingface_hub import hf_hub_download

module = torch.export.load(hf_hub_download("{repository}", "{FILES["pt2"]}")).module()
probabilities, mask, *_ = module(images)  # uint8 tensor (B, 3, H, W)
```
"""


def about_folder(repository: str, folder: str, library: str) -> str:
    """Return example code that fetches a folder for a library's from_pretrained."""
    card = f"{folder}/README.md"
    return f"""With {library}; [{card}]({card}) has the code, in which PATH is this `path`:

```python
from huggingface_hub import snapshot_download

path = snapshot_download("{repository}", allow_patterns="{folder}/*") + "/{folder}"
```
"""
