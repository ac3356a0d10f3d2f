"""The model card: README.md beside the best model of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segacc.config.sizes import size_in_words, sizes_in_words
from segacc.config.train import OWN, TrainConfig, is_own
from segacc.errors import quoted, write_text
from segacc.labels import Labels
from segacc.metrics.intervals import Score

BEGIN, END = "<!-- test scores: segacc evaluate writes them -->", "<!-- end of test scores -->"


def model_card(run: Path, config: TrainConfig, labels: Labels, line: dict[str, float]) -> str:
    """The README.md of the best model: what it is, how good it is, how to use it.

    Args:
        run: the run's folder.
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
{BEGIN}
Not scored on test images yet: `segacc evaluate {quoted(run.absolute())}`.
{END}

```python
import segacc

model = segacc.load({str(run.absolute())!r}{net})
logits = model(images)  # RGB in 0..255, (B, 3, H, W) of any size -> {use}
```
"""


def write_test_scores(run: Path, record: Mapping[str, Any]) -> None:
    """Put the scores on the test images into the card of the run's best model.

    A card without the two lines of comment that mark their place stays as it is.

    Args:
        record: metrics.json of these scores.
    """
    path = run / "best" / "README.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return
    at = "" if record["threshold"] is None else f", threshold {record['threshold']:g}"
    found = record["scores"]
    scores = {n: Score(**found[n]) for n in ("iou", "iou_image", "dice") if n in found}
    rows = "".join(f"| {n} | {one.value:.4f} | {one.interval} |\n" for n, one in scores.items())
    text = (
        f"Test split, {record['images']} images of {sizes_in_words(record)}{at}:\n\n"
        f"| score | value | 95 % interval |\n|---|---|---|\n{rows}"
    )
    write_text(path, f"{before}{BEGIN}\n{text}{END}{after}")
