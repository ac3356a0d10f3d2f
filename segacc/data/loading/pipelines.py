"""Augmentation by albumentations: two presets, and pipelines from files in its own serialised form.

Crops and flips are not part of a pipeline; `augment.py` does those.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml

from segacc.config.sizes import AnySize, width_height
from segacc.data.loading.augment import View, draw_view
from segacc.data.loading.transforms import (
    UNREADABLE,
    Pipeline,
    Record,
    ignore_outside,
    import_albumentations,
    load,
)
from segacc.errors import InputError, first_line
from segacc.labels import IGNORE

if TYPE_CHECKING:
    import albumentations

PRESETS = ("light", "strong")
WITHOUT_PIPELINE = ("none", "flips")
GREY = (114, 114, 114)  # one number would be OpenCV's (114, 0, 0), which is red
"""The colour that a transform fills in outside of an image; the label map ignores these pixels."""

TRIALS = 24
"""How often a pipeline is tried on the pattern."""
SHAPE_TRIALS = 12
"""How often it is tried on shapes of the run, whose images may be large: 1 s in all for `strong` at
512 px."""
LEAST_CORRELATION = 0.2
"""The correlation of a pattern and its label map, which stay aligned in all but a few trials."""


def find_pipeline(
    augment: str,
    stored: Record | None = None,
    size: AnySize | None = None,
    crop: int | None = None,
) -> Pipeline | None:
    """The pipeline that `--augment` asks for; None where it asks for flips alone, or for nothing.

    Args:
        stored: for a resumed run, the pipeline that it began with.
        size, crop: of the run; a pipeline from a file is then also tried on their shapes.

    Raises:
        InputError: there is no such file, or it holds no pipeline that can be used.
    """
    if augment in WITHOUT_PIPELINE:
        return None
    # Import it even if it is not needed here: W&B's import hook would fail in a data worker.
    albumentations = import_albumentations()
    if stored:
        return Pipeline(augment, stored)
    if augment in PRESETS:
        preset = albumentations.Compose(list(_preset(augment, albumentations)))
        return Pipeline(augment, _record_of(preset))
    pipeline = Pipeline(augment, _read(Path(augment)))
    _check(pipeline)
    _try_on_shapes(pipeline, size, crop)
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
        pipeline = load(record)
    except FileNotFoundError:
        raise InputError(f"{flag}: there is no such file: {expected}.") from None
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise InputError(f"{flag} cannot be read ({first_line(error)}): {expected}.") from error
    if isinstance(pipeline, albumentations.ReplayCompose):
        raise InputError(
            f"{flag} holds a ReplayCompose, which repeats what it did to an image and is not for "
            "training: save a Compose of the same transforms."
        )
    for transform, given in _with_settings(pipeline, record["transform"]):
        written = _record_of(transform)["transform"]
        invalid = getattr(transform, "invalid_args", [])
        # Some classes write settings of their parents that they do not take themselves.
        if unknown := [k for k in invalid if k not in written or written[k] != given[k]]:
            raise InputError(
                f"{flag}: {type(transform).__name__} has no {' or '.join(sorted(unknown))} in "
                "albumentations 2: name its settings as that version does."
            )
    if not isinstance(pipeline, albumentations.Compose):
        pipeline = albumentations.Compose([pipeline])
    ignore_outside(pipeline)
    return _record_of(pipeline)


def _record_of(pipeline: Any) -> Record:
    """Convert a pipeline to JSON's types."""
    record: Record = json.loads(json.dumps(import_albumentations().to_dict(pipeline)))
    return record


def _with_settings(transform: Any, record: Record) -> Iterator[tuple[Any, Record]]:
    """Yield each transform in a pipeline, with its part of the record."""
    if isinstance(transform, import_albumentations().BaseCompose):
        for one, of_one in zip(transform.transforms, record["transforms"], strict=True):
            yield from _with_settings(one, of_one)
    else:
        yield transform, record


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
    whole, apart = View(0, 0, False, None), 0
    for state in range(TRIALS):
        pipeline.draw(state)
        moved, labels, _ = pipeline.move(image, label_map, whole, label_map.shape)
        moved = pipeline.recolour(moved)
        if new := set(np.unique(labels).tolist()) - {0, 200, IGNORE}:
            raise InputError(
                f"{flag} makes new values in label maps, such as {min(new)} where 0 meets 200: "
                "give its transforms mask_interpolation 0 (nearest)."
            )
        apart += _correlation(moved, labels) < LEAST_CORRELATION
    if apart > TRIALS // 8:
        raise InputError(
            f"{flag} moves masks off their images: in {apart} of {TRIALS} tries, an image had "
            "little in common with its label map; use transforms that change both."
        )


def _try_on_shapes(pipeline: Pipeline, size: AnySize | None, crop: int | None) -> None:
    """Try a pipeline on the shapes that it gets in a training, as far as they are known.

    Raises:
        InputError: it fails, or gives another size or type.
    """
    if not crop and not isinstance(size, (int, tuple)):
        return
    if isinstance(size, (int, tuple)):
        width, height = width_height(size)
    else:
        assert crop
        width = height = 3 * crop  # so that crops have images around them on none to all sides
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    label_map = image[..., 0] % 2
    shape = (crop, crop) if crop else (height, width)
    certain = replace(pipeline, record={"transform": _certain(pipeline.record["transform"])})
    for state in range(SHAPE_TRIALS):
        one = (pipeline, certain)[state % 2]
        one.draw(state)
        one.move(image, label_map, draw_view("none", crop, height, width, state), shape)
        one.recolour(np.ascontiguousarray(image[: shape[0], : shape[1]]))


def _certain(record: Record) -> Record:
    """Return a pipeline that always applies what the given one applies with any probability."""
    within = [_certain(one) for one in record.get("transforms", [])]
    return record | {"p": float(record["p"] > 0)} | ({"transforms": within} if within else {})


def _correlation(image: np.ndarray, label_map: np.ndarray) -> float:
    """Correlate grey values and labels over the pixels that count; colours may be inverted."""
    counts = label_map != IGNORE
    grey, labels = image.mean(axis=2)[counts], label_map[counts]
    if grey.size < 2 or grey.std() == 0 or labels.std() == 0:
        return 1.0  # nothing to compare
    return abs(float(np.corrcoef(grey, labels)[0, 1]))
