"""A pipeline of albumentations, as training applies it to a sample."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from segacc.data.loading.augment import View
from segacc.errors import InputError, first_line
from segacc.labels import IGNORE

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""The exceptions that albumentations raises for files or settings that it does not understand."""

Record = dict[str, Any]
"""A pipeline in albumentations' serialised form."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline in two parts. The first part moves pixels and sees the neighbourhood of a crop.
    The second part only recolours pixels and sees the crop alone, which is quicker."""

    name: str
    """`light`, `strong`, or the path of a file"""
    record: Record

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """Two Composes of albumentations: of images and label maps, and of images alone."""
        albumentations = import_albumentations()
        whole = load(self.record)
        ignore_outside(whole)
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
            the image and the label map of the view's surroundings, with a margin of half the crop
            on each side; and the view in these.

        Raises:
            InputError: the pipeline fails on it, or gives another shape or type.
        """
        rows, columns = (
            slice(max(0, first - side // 2), min(whole, first + side + side // 2))
            for first, side, whole in zip(
                (view.top, view.left), shape, label_map.shape, strict=True
            )
        )
        moved = self._apply(
            self.parts[0],
            image=np.ascontiguousarray(image[rows, columns]),
            mask=np.ascontiguousarray(label_map[rows, columns]),
        )
        own = view._replace(top=view.top - rows.start, left=view.left - columns.start)
        return moved["image"], moved["mask"], own

    def recolour(self, image: np.ndarray) -> np.ndarray:
        """Run the second part on the pixels of a crop, (H, W, C) uint8; raises as `move`."""
        return self._apply(self.parts[1], image=image)["image"]

    def _apply(self, part: Any, **given: np.ndarray) -> dict[str, np.ndarray]:
        """Run a part. Its effect may depend on the shape of an image, or be rare, so trials before
        a training cannot find every fault."""
        flag = f"--augment {self.name}"
        try:
            made: dict[str, np.ndarray] = part(**given)
        except _failures() as error:
            height, width = given["image"].shape[:2]
            raise InputError(
                f"{flag} fails on an image of {width} x {height} px ({first_line(error)}): mend "
                "the pipeline, or give light or strong."
            ) from error
        for name, wanted in given.items():
            found = made[name]
            about = (getattr(found, "shape", None), str(getattr(found, "dtype", type(found))))
            if about != (wanted.shape, "uint8"):
                what = "a label map" if name == "mask" else "an image"
                raise InputError(
                    f"{flag} makes {what} of shape {about[0]} and type {about[1]} of one of shape "
                    f"{wanted.shape} and type uint8: leave out transforms that crop, resize, turn "
                    "by quarters, normalise or convert; --size, --crop, --flips d4 and the model "
                    "do that, and Affine scales without a change of size."
                )
        return made


def import_albumentations() -> Any:
    """Import albumentations without its check on the network for a newer version."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def load(record: Record) -> Any:
    """Load the pipeline of a record, without warnings about what albumentations itself wrote."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Argument\(s\) |.* specialized version of ")
        return import_albumentations().from_dict(record)


def ignore_outside(pipeline: Any) -> None:
    """Set `fill_mask` on each transform, since some ignore it when loaded from a record."""
    for transform in _leaves(pipeline):
        if getattr(transform, "fill_mask", None) is not None:
            transform.fill_mask = IGNORE


def _only_recolours(transform: Any) -> bool:
    """Whether a transform, or each one inside it, leaves masks alone."""
    image_only = import_albumentations().ImageOnlyTransform
    return all(isinstance(one, image_only) for one in _leaves(transform))


def _leaves(transform: Any) -> Iterator[Any]:
    if isinstance(transform, import_albumentations().BaseCompose):
        for one in transform.transforms:
            yield from _leaves(one)
    else:
        yield transform


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that a pipeline raises for an image that it cannot change."""
    from albumentations.augmentations.crops.transforms import CropSizeError

    return (*UNREADABLE, CropSizeError, cv2.error)
