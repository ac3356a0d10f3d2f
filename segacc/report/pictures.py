"""Pictures of single images in the study's form: image, ground truth, prediction."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segacc.errors import InputError, command
from segacc.labels import BINARY, IGNORE, Labels, is_background

SUFFIX = ".png"
LONGEST_NAME = 255  # bytes, of most file systems
TITLES = ("image", "ground truth", "prediction")
SMALLEST = 256  # px; panels that are narrower are enlarged
LARGEST = 1024  # px of the longer side; panels that are larger are reduced
GAP = 6  # px between panels
BAR = 20  # px, height of a line of text
MARK = (255, 214, 10)  # is seen well on tissue and streets, by colour-blind people too
PAPER = (255, 255, 255)
INK = (20, 20, 20)
FRAME = (150, 150, 150)


@dataclass(frozen=True)
class Picture:
    """An image with its mask and what a model found in it."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    truth: np.ndarray  # (H, W) uint8, a label map
    prediction: np.ndarray  # likewise
    iou: float
    labels: Labels = BINARY

    @property
    def caption(self) -> str:
        """The name and the score."""
        return f"{self.name}   {'IoU' if self.labels.logits == 1 else 'mIoU'} {self.iou:.3f}"


def picture_name(name: str) -> str:
    """The file name of the picture of an image; no two images have the same one.

    As in addresses, a slash becomes %2F and % becomes %25; a dot at the beginning, which would hide
    the file, becomes %2E. A name that is too long for a file system is cut, and %~ and a hash of
    the whole name are added.

    Args:
        name: the name of the image, with the folders that it is in.
    """
    escaped = re.sub(r"^\.|[%/]", lambda found: f"%{ord(found[0]):02X}", name)
    if len(os.fsencode(escaped + SUFFIX)) <= LONGEST_NAME:
        return escaped + SUFFIX
    end = f"%~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}{SUFFIX}"
    while len(os.fsencode(escaped + end)) > LONGEST_NAME:
        escaped = escaped[:-1]
    return escaped + end


def find_pictures(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the paths of the pictures of all images of a split; the files may not exist.

    In runs of 0.1.0 a slash became two underscores, so that two images could get the same picture.

    Raises:
        InputError: two images have the same picture.
    """
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    old_names = [name.replace("/", "__") + SUFFIX for name in names]
    times = Counter(old_names)
    paths = []
    for name, old in zip(names, old_names, strict=True):
        is_old = picture_name(name) not in there and old in there
        if is_old and times[old] > 1:
            raise InputError(
                f"{folder / old} is the picture of {times[old]} images, one of them {name}, since "
                "segacc 0.1.0 wrote them into one file: score the run again with "
                f"`{command('evaluate')}`."
            )
        paths.append(folder / (old if is_old else picture_name(name)))
    return paths


def detail_folder(labels: Labels) -> str:
    """The folder in which an evaluation keeps what it has found in each image."""
    return "probabilities" if labels.logits == 1 else "predictions"


def palette_of(labels: Labels) -> np.ndarray:
    """(256, 3) uint8: the colour of each value of a label map."""
    palette = np.full((256, 3), PAPER, dtype=np.uint8)
    if labels.logits == 1:
        palette[:2] = ((0, 0, 0), (255, 255, 255))
        palette[IGNORE] = MARK
    else:
        palette[: labels.classes] = labels.colours
    return palette


def triptych(
    image: np.ndarray,
    mask: np.ndarray,
    prediction: np.ndarray,
    caption: str,
    labels: Labels = BINARY,
) -> Image.Image:
    """Image, ground truth and prediction side by side, with a caption below.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask, prediction: (H, W) uint8, label maps.
    """
    palette = palette_of(labels)
    panels = [
        reduced(image, LARGEST, Image.Resampling.LANCZOS),
        *(reduced(palette[m], LARGEST, Image.Resampling.NEAREST) for m in (mask, prediction)),
    ]
    scale = max(1, min(SMALLEST // mask.shape[1], LARGEST // max(mask.shape)))
    width, height = (side * scale for side in panels[0].size)
    sheet = Image.new("RGB", (3 * width + 2 * GAP + 2, height + 2 * BAR), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for i, (panel, title) in enumerate(zip(panels, TITLES, strict=True)):
        left = 1 + i * (width + GAP)
        shown = panel.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
        # A frame, since a mask may be as white as the sheet.
        draw.rectangle((left - 1, BAR - 1, left + width, BAR + height), outline=FRAME)
        sheet.paste(shown, (left, BAR))
        draw.text((left + 3, 2), title, INK, font)
    draw.text((3, height + BAR + 2), caption, INK, font)
    return sheet


def outlined(
    image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = MARK
) -> Image.Image:
    """The image with the mask's foreground tinted and outlined.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, foreground is not 0.
    """
    import cv2

    # The larger the picture, the wider the line, so that all look alike when shown at one size.
    reach = 2 * max(1, round(max(mask.shape) / 800)) + 1
    inside = cv2.erode(mask, np.ones((reach, reach), np.uint8), borderValue=255)
    tints = np.round(0.75 * np.arange(256)[:, None] + 0.25 * np.array(colour)).astype(np.uint8)
    marked = cv2.LUT(image, tints[None])
    cv2.copyTo(image, (mask == 0).view(np.uint8), marked)
    marked[(mask != 0) & (inside == 0)] = colour
    return Image.fromarray(marked)


def tinted(image: np.ndarray, label_map: np.ndarray, labels: Labels) -> Image.Image:
    """The image with each class tinted in its colour, the background excepted; lines are drawn
    where classes meet.

    Args:
        image: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8.
    """
    import cv2

    palette = palette_of(labels)
    marked = cv2.addWeighted(image, 0.5, palette[label_map], 0.5, 0)
    plain = [i for i, name in enumerate(labels.names) if is_background(name)] or [IGNORE]
    cv2.copyTo(image, (label_map == plain[0]).view(np.uint8), marked)
    reach = 2 * max(1, round(max(label_map.shape) / 800)) + 1
    inner = cv2.erode(label_map, np.ones((reach, reach), np.uint8), borderValue=255)
    edges = inner != label_map
    marked[edges] = palette[label_map[edges]]
    return Image.fromarray(marked)


def overview(pictures: list[Path], title: str, labels: Labels = BINARY) -> Image.Image:
    """One picture that shows all of these below each other, under a title and, with more than two
    classes, their colours."""
    sheets = []
    for path in pictures:
        with Image.open(path) as picture:
            sheets.append(picture.convert("RGB"))
    width = max(s.width for s in sheets)
    sheets.insert(0, _heading(title, labels, width))
    result = Image.new("RGB", (width, sum(s.height for s in sheets)), PAPER)
    top = 0
    for sheet in sheets:
        result.paste(sheet, (0, top))
        top += sheet.height
    return result


def _heading(title: str, labels: Labels, width: int) -> Image.Image:
    """A title, and below it the classes, in as many lines as they take."""
    font = ImageFont.load_default(13)
    names = labels.names if labels.logits > 1 else ()
    places, left, line = [], 3, 0
    for name in names:
        wide = BAR + 12 + round(font.getlength(name))
        if line == 0 or left + wide > width:
            left, line = 3, line + 1
        places.append((left, line * BAR))
        left += wide
    sheet = Image.new("RGB", (width, (line + 1) * BAR), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((3, 2), title, INK, font)
    for name, colour, (left, top) in zip(names, labels.colours, places, strict=False):
        draw.rectangle((left, top + 3, left + 13, top + 16), fill=colour, outline=FRAME)
        draw.text((left + 18, top + 2), name, INK, font)
    return sheet


def reduced(pixels: np.ndarray, side: int, how: Image.Resampling) -> Image.Image:
    """Pixels as a picture whose longer side has at most `side` px; its proportions are kept.

    Args:
        pixels: (H, W) or (H, W, 3) uint8.
        how: the filter, if the picture is reduced.
    """
    picture = Image.fromarray(pixels)
    scale = min(1, side / max(picture.size))
    if scale == 1:
        return picture
    return picture.resize([max(1, round(length * scale)) for length in picture.size], how)


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a file of the picture.

    Args:
        form: "PNG", "JPEG" and so on.
        options: Pillow's options for this form.
    """
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()
