"""Augmentation by albumentations: two presets, and pipelines of files in its own serialised form.

Crops and flips are not part of a pipeline; `augment.py` does those.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml

from segacc.data.loading.augment import View
from segacc.errors import InputError, first_line
from segacc.labels import IGNORE

if TYPE_CHECKING:
    import albumentations

PRESETS = ("light", "strong")
WITHOUT_PIPELINE = ("none", "flips")
GREY = (114, 114, 114)  # one number would be OpenCV's (114, 0, 0), which is red
"""What an image shows where a transform looks outside of it; the label map ignores these pixels."""

CHECKS = 24
"""How often a pipeline of a file is tried before a training."""
LEAST_CORRELATION = 0.2
"""Between a pattern and its label map, which stay together in all but a few tries."""

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What albumentations raises for a file, or for settings, that it does not understand."""

Record = dict[str, Any]
"""A pipeline in albumentations' serialised form."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline in two parts. What moves pixels sees the neighbourhood of a crop; what only
    recolours them, behind that, sees the crop alone, which is quicker."""

    name: str
    """`light`, `strong`, or the path of a file"""
    record: Record

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """Two Composes of albumentations: of images and label maps, and of images alone."""
        albumentations = import_albumentations()
        whole = albumentations.from_dict(self.record)
        transforms = list(whole.transforms)
        moving = [i for i, one in enumerate(transforms) if not _only_recolours(one)]
        # A Compose with a probability of its own is not taken apart: it is drawn once.
        end = len(transforms) if whole.p < 1 else max(moving, default=-1) + 1
        options = {"p": whole.p, "seed": 0}
        return (
            albumentations.Compose(transforms[:end], **options),
            albumentations.Compose(transforms[end:], **options),
        )

    @property
    def names(self) -> list[str]:
        """The names of its transforms, in their order."""
        transforms = self.record["transform"].get("transforms", [])
        return [one["__class_fullname__"].rpartition(".")[2] for one in transforms]

    def draw(self, state: int) -> None:
        """Give all transforms one stream of random numbers, to be used for one sample."""
        streams = np.random.default_rng(state), random.Random(state)
        for part in self.parts:
            part.set_random_state(*streams)

    def move(
        self, image: np.ndarray, label_map: np.ndarray, view: View, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray, View]:
        """Run the first part around what a view shows.

        Args:
            image, label_map: a whole sample, (H, W, C) and (H, W) uint8.
            shape: height and width of what the view shows, before it is transposed.

        Returns:
            the neighbourhood of the view, half as much again on each side: image and label map; the
            view of it.
        """
        rows, columns = (
            slice(max(0, first - side // 2), min(whole, first + side + side // 2))
            for first, side, whole in zip(
                (view.top, view.left), shape, label_map.shape, strict=True
            )
        )
        moved = self.parts[0](
            image=np.ascontiguousarray(image[rows, columns]),
            mask=np.ascontiguousarray(label_map[rows, columns]),
        )
        own = view._replace(top=view.top - rows.start, left=view.left - columns.start)
        return moved["image"], moved["mask"], own

    def recolour(self, image: np.ndarray) -> np.ndarray:
        """Run the second part on the pixels of a crop, (H, W, C) uint8."""
        recoloured: np.ndarray = self.parts[1](image=image)["image"]
        return recoloured


def import_albumentations() -> Any:
    """albumentations, without its question on the network whether there is a newer version."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def find_pipeline(augment: str, stored: Record | None = None) -> Pipeline | None:
    """The pipeline that `--augment` asks for; None where it asks for flips alone, or for nothing.

    Args:
        stored: of a run that is resumed, the pipeline that it began with.

    Raises:
        InputError: there is no such file, or it holds no pipeline that can be used.
    """
    if augment in WITHOUT_PIPELINE:
        return None
    # Also where it is not needed here: W&B's hook on its import would fail in a data worker.
    albumentations = import_albumentations()
    if stored:
        return Pipeline(augment, stored)
    if augment in PRESETS:
        preset = albumentations.Compose(list(_preset(augment, albumentations)))
        return Pipeline(augment, _record_of(preset))
    pipeline = Pipeline(augment, _read(Path(augment)))
    _check(pipeline)
    return pipeline


def _preset(name: str, albumentations: Any) -> Iterator[albumentations.BasicTransform]:
    """The transforms of a preset. Those that move pixels come first."""
    a = albumentations
    outside: dict[str, Any] = {"fill": GREY, "fill_mask": IGNORE}
    affine = {"keep_ratio": True, "balanced_scale": True, **outside}
    if name == "light":
        yield a.Affine(scale=(0.8, 1.25), rotate=(-10, 10), p=0.5, **affine)
        yield a.ColorJitter(0.2, 0.2, 0.2, 0.02, p=0.5)
        return
    yield a.Affine(scale=(0.5, 2.0), rotate=(-20, 20), shear=(-8, 8), p=0.8, **affine)
    yield a.ElasticTransform(alpha=60, sigma=8, approximate=True, p=0.1, **outside)
    sides = (0.05, 0.2)
    yield a.CoarseDropout((1, 4), sides, sides, fill=GREY, fill_mask=IGNORE, p=0.2)
    yield a.ColorJitter(0.3, 0.3, 0.3, 0.05, p=0.8)
    yield a.RandomGamma((70, 140), p=0.2)
    yield a.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.5), p=0.1)
    yield a.GaussNoise(std_range=(0.01, 0.06), p=0.1)


def _only_recolours(transform: Any) -> bool:
    """Whether a transform, or all of those in it, leaves masks alone."""
    image_only = import_albumentations().ImageOnlyTransform
    return all(isinstance(one, image_only) for one in _leaves(transform))


def _read(path: Path) -> Record:
    """The pipeline in a JSON or YAML file that `albumentations.save` wrote. Pixels that are outside
    of an image are ignored, whatever class the file gives them."""
    flag = f"--augment {path}"
    expected = (
        "give none, flips, light, strong, or a file that albumentations.save(pipeline, "
        '"FILE.json") has written'
    )
    albumentations = import_albumentations()
    try:
        text = path.read_text(encoding="utf-8")
        record = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if not isinstance(record, dict) or not isinstance(record.get("transform"), dict):
            raise ValueError("it holds no transform")
        pipeline = albumentations.from_dict(record)
    except FileNotFoundError:
        raise InputError(f"{flag}: there is no such file: {expected}.") from None
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise InputError(f"{flag} cannot be read ({first_line(error)}): {expected}.") from error
    if not isinstance(pipeline, albumentations.Compose):
        pipeline = albumentations.Compose([pipeline])
    for transform in _leaves(pipeline):
        if unknown := getattr(transform, "invalid_args", None):
            raise InputError(
                f"{flag}: {type(transform).__name__} has no {' or '.join(sorted(unknown))} in "
                "albumentations 2: name its settings as that version does."
            )
        if getattr(transform, "fill_mask", None) is not None:
            transform.fill_mask = IGNORE
    return _record_of(pipeline)


def _record_of(pipeline: Any) -> Record:
    """In JSON's types."""
    record: Record = json.loads(json.dumps(import_albumentations().to_dict(pipeline)))
    return record


def _leaves(transform: Any) -> Iterator[Any]:
    if isinstance(transform, import_albumentations().BaseCompose):
        for one in transform.transforms:
            yield from _leaves(one)
    else:
        yield transform


def _check(pipeline: Pipeline) -> None:
    """Try a pipeline on a pattern whose label map is the pattern itself, with classes 0 and 200.

    Raises:
        InputError: it fails, gives another size or type, makes new values in label maps, or moves
            them off their images.
    """
    flag = f"--augment {pipeline.name}"
    blocks = np.random.default_rng(0).integers(0, 2, (8, 6), dtype=np.uint8)
    label_map = 200 * np.kron(blocks, np.ones((16, 16), np.uint8))
    image = cv2.cvtColor(40 + label_map // 2, cv2.COLOR_GRAY2RGB)
    from albumentations.augmentations.crops.transforms import CropSizeError

    failures = (*UNREADABLE, CropSizeError, cv2.error)
    whole, apart = View(0, 0, False, None), 0
    for state in range(CHECKS):
        pipeline.draw(state)
        try:
            moved, labels, _ = pipeline.move(image, label_map, whole, label_map.shape)
            moved = pipeline.recolour(moved)
        except failures as error:
            raise InputError(
                f"{flag} fails on an image of 96 x 128 px ({first_line(error)}): mend the "
                "pipeline, or give light or strong."
            ) from error
        both = (("an image", moved, image), ("a label map", labels, label_map))
        for what, found, wanted in both:
            about = (getattr(found, "shape", None), str(getattr(found, "dtype", type(found))))
            if about != (wanted.shape, "uint8"):
                raise InputError(
                    f"{flag} makes {what} of shape {about[0]} and type {about[1]} of one of shape "
                    f"{wanted.shape} and type uint8: leave out transforms that crop, resize, turn "
                    "by quarters, normalise or convert; --size, --crop, --flips d4 and the model "
                    "do that."
                )
        if new := set(np.unique(labels).tolist()) - {0, 200, IGNORE}:
            raise InputError(
                f"{flag} makes new values in label maps, such as {min(new)} where 0 meets 200: "
                "give its transforms mask_interpolation 0 (nearest)."
            )
        apart += _correlation(moved, labels) < LEAST_CORRELATION
    if apart > CHECKS // 8:
        raise InputError(
            f"{flag} moves masks off their images: in {apart} of {CHECKS} tries, an image had "
            "little in common with its label map; use transforms that change both."
        )


def _correlation(image: np.ndarray, label_map: np.ndarray) -> float:
    """Of grey values and labels, where these count; colours may be inverted."""
    counts = label_map != IGNORE
    grey, labels = image.mean(axis=2)[counts], label_map[counts]
    if grey.size < 2 or grey.std() == 0 or labels.std() == 0:
        return 1.0  # nothing to compare
    return abs(float(np.corrcoef(grey, labels)[0, 1]))
