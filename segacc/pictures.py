"""Pictures of single images in the study's form: image, ground truth, prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TITLES = ("image", "ground truth", "prediction")
SMALLEST = 256  # panels narrower than this are enlarged
GAP = 6
BAR = 20  # height of the lines of text
PAPER = (255, 255, 255)
INK = (20, 20, 20)


@dataclass(frozen=True)
class Picture:
    """An image with its mask and what a model found in it."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    truth: np.ndarray  # (H, W) uint8 in {0, 1}
    prediction: np.ndarray  # likewise
    iou: float

    @property
    def caption(self) -> str:
        """The name and the score."""
        return f"{self.name}   IoU {self.iou:.3f}"


def picture_name(name: str) -> str:
    """File name of the picture of the image `name`, which may hold folders."""
    return name.replace("/", "__") + ".png"


def triptych(
    image: np.ndarray, mask: np.ndarray, prediction: np.ndarray, caption: str
) -> Image.Image:
    """Image, ground truth and prediction side by side, with a caption.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask, prediction: (H, W), foreground is not 0.
    """
    scale = max(1, SMALLEST // mask.shape[1])
    height, width = mask.shape[0] * scale, mask.shape[1] * scale
    sheet = Image.new("RGB", (3 * width + 2 * GAP, height + 2 * BAR), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    panels = [image, *((np.asarray(m) > 0).astype(np.uint8) * 255 for m in (mask, prediction))]
    for i, (panel, title) in enumerate(zip(panels, TITLES, strict=True)):
        left = i * (width + GAP)
        shown = (
            Image.fromarray(panel).convert("RGB").resize((width, height), Image.Resampling.NEAREST)
        )
        sheet.paste(shown, (left, BAR))
        draw.text((left + 3, 2), title, INK, font)
    draw.text((3, height + BAR + 2), caption, INK, font)
    return sheet


def overview(pictures: list[Path]) -> Image.Image:
    """Pictures below each other on one sheet."""
    sheets = []
    for path in pictures:
        with Image.open(path) as picture:
            sheets.append(picture.convert("RGB"))
    width = max(s.width for s in sheets)
    result = Image.new("RGB", (width, sum(s.height for s in sheets)), PAPER)
    top = 0
    for sheet in sheets:
        result.paste(sheet, (0, top))
        top += sheet.height
    return result
