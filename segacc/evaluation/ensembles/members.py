"""The models whose mean is scored: what they predict, and the scores of each beside the mean."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import command_of, evaluate_command
from segacc.config.records import ENSEMBLE, read_run_record, to_json
from segacc.config.train import TrainConfig
from segacc.data.loading.loader import rank_share
from segacc.data.split import Split
from segacc.errors import disk_errors, write_text
from segacc.evaluation.scored_runs import OUT_OF_FOLD, numbers_of, with_interval
from segacc.labels import Labels
from segacc.metrics.counts import class_probabilities
from segacc.metrics.intervals import Score
from segacc.metrics.scores import scores_of_images, with_intervals
from segacc.models.segmenter import Segmenter
from segacc.prediction.logits import predict_batch, resize_logits

ABOUT_TRAINING = ("started", "device", "processes", "versions", "git_commit")
"""the keys of config.json that a report shows on a run's training"""


@dataclass(frozen=True, eq=False)
class Member:
    """A run whose model is scored, alone or in a mean."""

    run: Path
    trained: TrainConfig
    """the config of the run"""
    model: Segmenter
    seen: Split
    """the images that are scored, at the size at which the model sees them"""
    predicts: frozenset[int]
    """the positions in the split of the images that it predicts"""


@dataclass(frozen=True, eq=False)
class Predicted:
    """Some images of the split, of one shape."""

    indices: list[int]
    """their positions in the split"""
    of_members: dict[int, Tensor]
    """(B, K, H, W) probabilities on the CPU, by the number of each member that predicts them"""
    label_maps: Tensor
    """(B, H, W) uint8 on the CPU"""

    @property
    def mean(self) -> Tensor:
        """The mean of the members' probabilities, (B, K, H, W)."""
        first, *others = self.of_members.values()
        total = first
        for other in others:
            total = total + other
        return total / len(self.of_members) if others else first


def predict_members(
    config: EvaluateConfig, members: Sequence[Member], split: Split, accelerator: Accelerator
) -> Iterator[Predicted]:
    """Predict this rank's share of the split with each member, at the size at which it is scored.

    The prediction of an image does not depend on the images beside it, and so not on the number of
    ranks (`predict_split`).

    Yields:
        all images of the share, first those that the same members predict.
    """
    share = rank_share(len(split), accelerator.process_index, accelerator.num_processes)
    parts: dict[tuple[int, ...], list[int]] = {}
    for index in share:
        those = tuple(number for number, one in enumerate(members) if index in one.predicts)
        parts.setdefault(those, []).append(index)
    for those, indices in parts.items():
        one_shape = all(members[number].seen.shape for number in those)
        step = config.batch_size if one_shape else 1
        for first in range(0, len(indices), step):
            batch = indices[first : first + step]
            logits = {
                number: predict_batch(
                    members[number].model,
                    members[number].seen,
                    batch,
                    accelerator,
                    step,
                    config.tta,
                    config.tile,
                )[0]
                for number in those
            }
            yield from _at_scored_size(batch, logits, split)
            split.forget()


def _at_scored_size(
    batch: list[int], logits: dict[int, Tensor], split: Split
) -> Iterator[Predicted]:
    """Yield all images at once if nothing is resized, else one by one."""
    whole = all(of_member.shape[-2:] == split.shape for of_member in logits.values())
    for indices in [batch] if whole else [[index] for index in batch]:
        places = [batch.index(index) for index in indices]
        label_maps = torch.stack([torch.from_numpy(split[i][1].copy()) for i in indices])
        shape = (label_maps.shape[1], label_maps.shape[2])
        yield Predicted(
            indices,
            {
                number: class_probabilities(resize_logits(of_member[places], shape)).cpu()
                for number, of_member in logits.items()
            },
            label_maps,
        )


def scale_of(split: Split, index: int) -> tuple[float, float]:
    """Height and width of a pixel of an image that is scored, in px of the image's own size."""
    own, shape = split.sizes[index].tolist(), split.shape_of(index)
    return own[0] / shape[0], own[1] / shape[1]


def mean_scores(counts: Tensor) -> dict[str, Score]:
    """`iou`, `iou_image` and `dice` with intervals, as `segacc.metrics.scores` defines them.

    Args:
        counts: (N, K, 4) float64.
    """

    def values(weights: Tensor) -> dict[str, Tensor]:
        found = scores_of_images(counts, weights, {})
        return {name: found[name] for name in ("iou", "iou_image", "dice")}

    return with_intervals(len(counts), values)


def model_name(members: Sequence[Member]) -> str:
    """Name what was scored: the model; for several `3 x unet`, or `unet + linknet`."""
    counts = Counter(member.trained.model for member in members)
    return " + ".join(f"{n} x {model}" if n > 1 else model for model, n in counts.items())


def write_ensemble(home: Path, members: Sequence[Member]) -> None:
    """Write what a report and `segacc compare` need of the runs: their names, how each was trained,
    and what their configs have in common."""
    configs = [to_json(member.trained) for member in members]
    shared = {
        name: value
        for name, value in configs[0].items()
        if all(config[name] == value for config in configs)
    }
    crop, size = configs[0]["crop"], configs[0]["size"]
    whole, learnt = (
        sum(getattr(member.model, name) for member in members)
        for name in ("parameters_whole", "parameters_trained")
    )
    record = {
        "members": [os.path.abspath(member.run) for member in members],
        "training": [
            {name: read_run_record(member.run).get(name) for name in ABOUT_TRAINING}
            | {"command": command_of(member.trained)}
            for member in members
        ],
        "config": {"crop": crop, "size": size, "dataset": configs[0]["dataset"]}
        | shared
        | {"model": model_name(members), "encoder": None},
        "parameters": {"whole": whole, "trained": learnt},
    }
    with disk_errors(home, remedy="give another --out."):
        home.mkdir(parents=True, exist_ok=True)
        write_text(home / ENSEMBLE, json.dumps(record, indent=2) + "\n")


def members_record(
    members: Sequence[Member], counts: Tensor, config: EvaluateConfig
) -> dict[str, Any]:
    """Return what metrics.json says of each of several runs, and the command that scores them
    again.

    Args:
        counts: (N, members, K, 4) float64.
    """
    has_threshold, given = counts.shape[2] == 1, config.threshold
    of_each = [
        {
            "run": os.path.abspath(member.run),
            "model": member.trained.model,
            "fold": member.trained.fold,
            "images": len(member.predicts),
            "threshold": (given or member.model.threshold) if has_threshold else None,
            "scores": {
                name: asdict(score)
                for name, score in mean_scores(counts[sorted(member.predicts), number]).items()
            },
        }
        for number, member in enumerate(members)
    ]
    return {"command": evaluate_command(config), "members": of_each}


def members_table(record: dict[str, Any]) -> list[dict[str, str]]:
    """The scores of the mean, and of each run on the images that it predicted, every value as text;
    empty for a single run.

    Args:
        record: as in metrics.json.
    """
    if "members" not in record:
        return []
    together = {**record, "run": f"mean of {len(record['members'])}", "fold": ""}
    if record["split"] == OUT_OF_FOLD:
        together["run"] = "out of fold"
    many = len(Labels.from_config(record["labels"]).names) > 2
    return [
        {
            "run": Path(one["run"]).name,
            **({"fold": one.get("fold") or ""} if record["split"] == OUT_OF_FOLD else {}),
            "images": str(one["images"]),
            **{
                "miou" if many and name == "iou" else name: with_interval(one["scores"][name])
                for name in record["members"][0]["scores"]
            },
            **({} if many else {"threshold": f"{one['threshold']:.3g}"}),
        }
        for one in (together, *record["members"])
    ]


def members_lines(record: dict[str, Any]) -> list[dict[str, str]]:
    """Return the same table for a program, with only numbers in a column."""
    return [
        {
            "run": one["run"],
            "fold": one["fold"] or "",
            "images": str(one["images"]),
            "threshold": "" if one["threshold"] is None else f"{one['threshold']:g}",
            **{
                column: text
                for name in record["members"][0]["scores"]
                for column, text in numbers_of(name, one["scores"][name]).items()
            },
        }
        for one in ({**record, "run": "mean", "fold": ""}, *record["members"])
    ]
