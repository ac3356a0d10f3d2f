"""Sentences that say why the scores of an evaluation may mislead."""

from __future__ import annotations

from segacc.config.evaluate import EvaluateConfig
from segacc.data.known import KnownData, images_seen
from segacc.data.split import Prepared

USES = {"train": "trained on", "valid": "used to pick the epoch and the threshold"}


def notes_on(config: EvaluateConfig, data: Prepared, known: KnownData) -> tuple[str, ...]:
    """Sentences on images that the run has seen before it is scored on them.

    `--split train` asks for the images of the training, and `--split valid` for those of the
    validation, so they are then not named.

    Args:
        data: at the size at which the run has seen its images.
    """
    split = data.splits[config.split]
    if config.dataset is None and config.split == "train":
        return ()
    seen = images_seen(config.run, data, split)
    if seen is None:
        return (
            "which of the images that are scored were trained on is not known: the run is of a "
            "version that did not store it, and its data set was another one (the fingerprint "
            "differs)",
        )
    asked_for = config.dataset is None or data.fingerprint == known.fingerprint
    return tuple(
        f"{len(names)} of the {len(split)} images that are scored were {USES[use]}, so the scores "
        f"are too good: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for use, names in seen.items()
        if names and not (asked_for and use == config.split)
    )
