"""load_evaluation(): the model of a run, and the split that it is scored on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from segacc.config.evaluate import EvaluateConfig
from segacc.config.options import Reading
from segacc.config.records import read_run_config
from segacc.config.sizes import NATIVE, size_in_words
from segacc.config.train import TrainConfig
from segacc.data.content import masks_of, why_meaningless
from segacc.data.known import KnownData, absolute, find_again, known_data, prepare_found
from segacc.data.reading.depth import WHOLE, ValueRange, about_other_range
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import Source
from segacc.data.split import Prepared, Split
from segacc.errors import InputError
from segacc.evaluation.ensembles.members import Member
from segacc.evaluation.notes import notes_on
from segacc.evaluation.results import results_folder
from segacc.labels import check_same_classes
from segacc.models.load import load_segmenter
from segacc.models.segmenter import Segmenter
from segacc.runtime.accelerator import make_accelerator, uses_gpu
from segacc.runtime.bars import show_doing
from segacc.runtime.threads import prepare_cpu


@dataclass(frozen=True)
class Evaluation:
    """The models, the images that they are scored on, and how."""

    config: EvaluateConfig
    members: tuple[Member, ...]
    """the models whose mean is scored; usually one"""
    accelerator: Accelerator
    precision: str
    """fp32, bf16 or fp16"""
    threshold: float
    dataset: str
    reading: Reading
    source: str
    """where the data set is, as in `KnownData`"""
    data: Prepared
    """the data set as it is scored; with `--at own`, at native size"""
    split: Split
    """the images and masks that are scored"""
    home: Path
    """the run's folder, or that of several"""
    folder: Path
    """the folder for the results, in `home`"""
    notes: tuple[str, ...]
    """why the scores may mislead, in sentences"""
    called: str
    """the name of the split"""

    @property
    def trained(self) -> TrainConfig:
        """The config of the run; for several runs, that of the first one."""
        return self.members[0].trained

    @property
    def model(self) -> Segmenter:
        """The model; for several runs, the first one."""
        return self.members[0].model

    @property
    def seen(self) -> Split:
        """The same images at the size at which the model sees them; for several, the first
        model."""
        return self.members[0].seen


def load_evaluation(config: EvaluateConfig, net: nn.Module | None = None) -> Evaluation:
    """Load the run's best model, and the split to score it on; `net` as in `evaluate`.

    Raises:
        InputError: the folder has no model, or the data set no such split.
    """
    trained = read_run_config(config.run)
    show_doing("loading the model")
    precision = "fp32" if trained.precision == "fp16" and not uses_gpu() else trained.precision
    accelerator = make_accelerator(precision)
    prepare_cpu(accelerator.device)
    model = load_segmenter(config.run, net).to(accelerator.device)
    show_doing("reading the data")
    known = known_data(config.run)
    dataset = config.dataset or known.dataset
    source, reading = find_to_score(config, known)
    assert trained.size is not None
    value_range = model.value_range or WHOLE
    seen = prepare_found(source, trained.size, value_range)
    data = seen if config.at == "model" else at_own_sizes(source, seen, dataset, value_range)
    check_same_classes(data.labels, model.labels, str(config.run))
    check_decides(config, data)
    split = split_to_score(config.split, data, dataset)
    its_seen = seen.splits[config.split]
    assert split.names == its_seen.names
    unlike = about_other_range(model.value_range, data.own_range)
    return Evaluation(
        config=config,
        members=(Member(config.run, trained, model, its_seen, frozenset(range(len(split)))),),
        accelerator=accelerator,
        precision=precision,
        threshold=model.threshold if config.threshold is None else config.threshold,
        dataset=dataset,
        reading=reading,
        source=absolute(config.dataset or known.source or known.dataset),
        data=data,
        split=split,
        home=config.run,
        folder=results_folder(config, data.fingerprint, seen.fingerprint == known.fingerprint),
        notes=notes_on(config, seen, known) + ((unlike,) if unlike else ()),
        called=config.split,
    )


def find_to_score(config: EvaluateConfig, known: KnownData) -> tuple[Source | Prepared, Reading]:
    """The data set that is scored, and how its files are read.

    Args:
        known: the run's data, which are scored unless other data are named.
    """
    reading = Reading.of(vars(config))
    if config.dataset:
        return load_dataset(config.dataset, reading), reading
    reading = reading.over(known.reading)
    return find_again(replace(known, reading=reading)), reading


def check_decides(config: EvaluateConfig, data: Prepared) -> None:
    """Raises InputError for a --threshold or a --spacing that has no effect."""
    if config.spacing is not None and data.labels.logits > 1:
        raise InputError(
            f"--spacing {config.spacing} has no effect on {config.run}, which has "
            f"{data.labels.classes} classes: hd95 is of two; leave it out."
        )
    if config.threshold is not None and data.labels.logits > 1:
        raise InputError(
            f"--threshold {config.threshold} decides between two classes, and {config.run} has "
            f"{data.labels.classes}, of which the most probable one is predicted: leave it out."
        )


def split_to_score(name: str, data: Prepared, dataset: str) -> Split:
    """The split of this name; raises InputError if there is none, or if its scores would be
    meaningless."""
    if name not in data.splits:
        raise InputError(
            f"--split {name}: {dataset} has no such split, it has {', '.join(data.splits)}."
        )
    split = data.splits[name]
    if data.labels.classes == 2 and (why := why_meaningless(masks_of(split))):
        raise InputError(
            f"--split {name} of {dataset}: {why}; score a split with foreground and "
            "background, or look at the masks that `segacc predict` writes."
        )
    return split


def at_own_sizes(
    source: Source | Prepared, seen: Prepared, dataset: str, value_range: ValueRange
) -> Prepared:
    """The data set at the images' own sizes.

    Args:
        seen: the same at the model's size.

    Raises:
        InputError: it is not here, and the cache has it at another size.
    """
    if seen.size != NATIVE and isinstance(source, Prepared):
        raise InputError(
            f"--at own needs the images of {dataset} at their own sizes, but the data set is not "
            f"here, and the cache has it at {size_in_words(seen.size)}: give --dataset with the "
            "place where it is now."
        )
    return prepare_found(source, NATIVE, value_range)
