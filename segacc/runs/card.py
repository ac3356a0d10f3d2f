"""The model card of a run's best model."""

from __future__ import annotations

from pathlib import Path

from segacc.config.sizes import size_in_words
from segacc.config.train import OWN, TrainConfig, is_own
from segacc.labels import Labels


def model_card(config: TrainConfig, labels: Labels, line: dict[str, float]) -> str:
    """The README.md of the best model: what it is, how good it is, how to use it.

    Args:
        line: the line of its epoch in metrics.jsonl.
    """
    dataset = Path(config.dataset.rstrip("/")).name
    # The network is code of a program, of which the folder holds the weights alone.
    net = f", net={config.model.removeprefix(OWN)}()" if is_own(config.model) else ""
    average = ""
    if config.ema:
        average = f" The weights are a moving average, decay {config.ema:g}."
    crop = f", trained on random crops of {config.crop} px" if config.crop else ""
    if labels.logits == 1:
        task, threshold = "Binary segmentation", ", threshold 0.5"
        best = (
            f"| iou | over all pixels, threshold {line['valid_threshold']:g} | "
            f"{line['valid_iou_best_threshold']:.4f} |\n\nThe threshold "
            f"{line['valid_threshold']:g} has the largest `iou` on this split; it is stored with "
            "the\nmodel, and is what evaluate.py and `segacc predict` use.\n"
        )
        use = "(B, 1, H, W)\nmask = logits.sigmoid() > model.threshold"
    else:
        task, threshold = f"Segmentation of {labels.classes} classes", ""
        names = ", ".join(f"{i} {name}" for i, name in enumerate(labels.names))
        best = f"\nScores are means over the classes. The classes are {names}.\n"
        use = f"(B, {labels.logits}, H, W)\nclasses = logits.argmax(dim=1)"
    return f"""---
library_name: segacc
pipeline_tag: image-segmentation
tags: [semantic-segmentation, pytorch_model_hub_mixin]
---

# {config.model} on {dataset}

{task} of {dataset} at {size_in_words(config.size or 0)}{crop}. Started from the weights
`{config.weights}`, loss `{config.loss}`, seed {config.seed}.{average}

Validation split, full images{threshold}, epoch {line["epoch"]}:

| score | | value |
|---|---|---|
| iou | over all pixels | {line["valid_iou"]:.4f} |
| iou_image | mean over images | {line["valid_iou_image"]:.4f} |
| dice | over all pixels | {line["valid_dice"]:.4f} |
{best}
```python
import segacc

model = segacc.load("PATH"{net})  # this folder
logits = model(images)  # RGB in 0..255, (B, 3, H, W) of any size -> {use}
```
"""
