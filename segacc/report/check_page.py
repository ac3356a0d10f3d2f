"""The page of `segacc check`: what a data set holds, with examples of each class."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segacc.data.audit.audit import Audit
from segacc.data.audit.draws import Draws
from segacc.data.audit.examples import Example, examples_of_class, examples_of_split
from segacc.data.audit.findings import entries
from segacc.data.audit.summary import split_rows
from segacc.labels import BINARY, FOREGROUND, Labels
from segacc.report.class_page import colour_hex
from segacc.report.pictures import MARK, encoded, outlined, reduced, tinted
from segacc.report.rendering import write_page

SIDE = 320  # px of a picture, at most
QUALITY = 80  # of its JPEG
OF_SPLIT = 4  # images of each split
EXAMPLES_OF_CLASS = 4  # examples of each class
MOST_EXAMPLES = 240  # of all classes together


@dataclass(frozen=True)
class Shown:
    """A picture of an example, and what is said below it."""

    name: str
    about: str
    picture: str  # base64 of a JPEG
    width: int
    height: int


def write_check_page(path: Path, dataset: str, audit: Audit, draws: Sequence[Draws] = ()) -> None:
    """Write the page on a data set.

    Args:
        dataset: as the user gave it.
        draws: what a training will see of some images, if the page shows it.

    Raises:
        DecodeError: a file has changed since it was checked.
    """
    labels, splits = audit.coding.labels, list(dict.fromkeys(s.split for s in audit.samples))
    shown_classes = [FOREGROUND] if labels.logits == 1 else list(range(labels.classes))
    each = max(1, min(EXAMPLES_OF_CLASS, MOST_EXAMPLES // len(shown_classes)))
    write_page(
        path,
        "check.html.j2",
        (),
        {},
        dataset=dataset,
        title=Path(dataset.rstrip("/")).name,
        findings=entries(audit.findings),
        classes=labels,
        shown=shown_classes,
        colours=[colour_hex(colour) for colour in colours_of(labels)],
        rows=split_rows(audit),
        draws=[shown_draws(one, labels) for one in draws],
        images={
            split: [shown_whole(one, labels) for one in examples_of_split(audit, split, OF_SPLIT)]
            for split in splits
        },
        examples={
            number: [
                shown_class(one, number, labels) for one in examples_of_class(audit, number, each)
            ]
            for number in shown_classes
        },
    )


def colours_of(labels: Labels) -> list[tuple[int, int, int]]:
    """The colour in which each class is shown on an image."""
    return [BINARY.colours[0], MARK] if labels.logits == 1 else list(labels.colours)


def pictures_of(audit: Audit, split: str, most: int) -> dict[str, np.ndarray]:
    """Some images of a split with their classes tinted, for a terminal.

    Returns:
        (H, W, 3) uint8 RGB, by the names of their files.
    """
    labels, pictures = audit.coding.labels, {}
    for one in examples_of_split(audit, split, most):
        if labels.logits == 1:  # an outline would be lost in so few pixels
            picture, there = one.image.copy(), one.label_map == FOREGROUND
            picture[there] = picture[there] // 2 + np.array(MARK, np.uint8) // 2
        else:
            picture = np.asarray(tinted(one.image, one.label_map, labels))
        pictures[Path(one.sample.image).name] = picture
    return pictures


def shown_whole(example: Example, labels: Labels) -> Shown:
    """An image with all its classes in their colours."""
    return _shown(example.sample.image, _marked(example.image, example.label_map, labels), "")


def shown_draws(draws: Draws, labels: Labels) -> list[Shown]:
    """An image, and what it becomes in the first epochs."""
    pairs = [(draws.image, draws.label_map), *draws.drawn]
    return [
        _shown(draws.name, _marked(*pair, labels), f"epoch {number}" if number else "as it is")
        for number, pair in enumerate(pairs)
    ]


def _marked(image: np.ndarray, label_map: np.ndarray, labels: Labels) -> Image.Image:
    if labels.logits == 1:
        return outlined(image, (label_map == FOREGROUND).view(np.uint8))
    return tinted(image, label_map, labels)


def shown_class(example: Example, number: int, labels: Labels) -> Shown:
    """A class in its colour on its image."""
    colour = colours_of(labels)[number]
    of_class = (example.label_map == number).view(np.uint8)
    about = f"{example.share:.1%} of the image" if example.share >= 0.001 else "less than 0.1%"
    about += ", cut out" if example.is_part else ""
    return _shown(example.sample.image, outlined(example.image, of_class, colour), about)


def _shown(name: str, marked: Image.Image, about: str) -> Shown:
    picture = reduced(np.asarray(marked), SIDE, Image.Resampling.LANCZOS)
    options: dict[str, Any] = {"quality": QUALITY}
    coded = base64.b64encode(encoded(picture, "JPEG", **options)).decode()
    return Shown(name, about, coded, picture.width, picture.height)
