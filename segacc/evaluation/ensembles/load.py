"""Several runs as one model: the mean of their probabilities, and out-of-fold predictions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator

from segacc.config.evaluate import EvaluateConfig
from segacc.config.options import fold_of_text
from segacc.config.records import read_run_config
from segacc.config.sizes import size_in_words
from segacc.config.train import TrainConfig
from segacc.data.known import absolute, images_seen, known_data, prepare_found
from segacc.data.reading.depth import WHOLE, ValueRange, about_other_range
from segacc.data.reading.division.folds import pooled
from segacc.data.rows import Source
from segacc.data.split import Prepared
from segacc.errors import InputError
from segacc.evaluation.ensembles.members import Member
from segacc.evaluation.load import (
    Evaluation,
    at_own_sizes,
    check_decides,
    find_to_score,
    split_to_score,
)
from segacc.evaluation.notes import notes_on
from segacc.evaluation.results import results_folder
from segacc.evaluation.scored_runs import OUT_OF_FOLD
from segacc.labels import check_same_classes
from segacc.models.load import load_segmenter
from segacc.models.segmenter import Segmenter
from segacc.prediction.ensemble import check_models_agree
from segacc.runtime.accelerator import make_accelerator, uses_gpu
from segacc.runtime.threads import prepare_cpu


@dataclass(frozen=True, eq=False)
class _Trained:
    """One of the runs."""

    run: Path
    config: TrainConfig
    model: Segmenter

    @property
    def value_range(self) -> ValueRange:
        """The range by which it scales images of 16 bits per channel."""
        return self.model.value_range or WHOLE


@dataclass(frozen=True, eq=False)
class _Images:
    """The images that the runs are scored on."""

    source: Source | Prepared
    views: list[Prepared]
    """as each run sees it"""
    predicts: list[frozenset[int]]
    """the positions of the images that each run predicts"""
    notes: list[str]


def load_ensemble(config: EvaluateConfig) -> Evaluation:
    """Load the models of several runs, and the images to score them on together.

    The data set and the size of the images are those of the first run; each model sees the images
    at its own size. The threshold is the mean of those of the models: each was picked on
    images that its model has not learnt from, and no more data are needed.

    Raises:
        InputError: a folder has no model, the classes differ, or there is no such split.
    """
    runs = [config.run, *config.others]
    configs = [read_run_config(run) for run in runs]
    accelerator, precision = _start(configs)
    trained = [
        _Trained(run, of_run, load_segmenter(run).to(accelerator.device))
        for run, of_run in zip(runs, configs, strict=True)
    ]
    check_models_agree(runs, [one.model.labels for one in trained])
    known = known_data(config.run)
    dataset = config.dataset or known.dataset
    source, reading = find_to_score(config, known)
    folds = _folds_of(config, trained)
    called = OUT_OF_FOLD if folds else config.split
    if folds:
        images = _out_of_fold(source, trained, folds, dataset)
    else:
        images = _same_for_all(config, source, trained, dataset)
    first, threshold = trained[0], config.threshold
    data = images.views[0]
    if config.at == "own":
        data = at_own_sizes(images.source, data, dataset, first.value_range)
    for one in trained:
        check_same_classes(data.labels, one.model.labels, str(one.run))
    check_decides(config, data)
    split = split_to_score(called, data, dataset)
    if threshold is None:
        threshold = sum(one.model.threshold for one in trained) / len(trained)
    unlike = about_other_range(first.model.value_range, data.own_range)
    is_own = bool(folds) or images.views[0].fingerprint == known.fingerprint
    home = config.out or _folder_of(runs)
    return Evaluation(
        config=config,
        members=tuple(
            Member(one.run, one.config, one.model, view.splits[called], predicts)
            for one, view, predicts in zip(trained, images.views, images.predicts, strict=True)
        ),
        accelerator=accelerator,
        precision=precision,
        threshold=threshold,
        dataset=dataset,
        reading=reading,
        source=absolute(config.dataset or known.source or known.dataset),
        data=data,
        split=split,
        home=home,
        folder=results_folder(replace(config, run=home, split=called), data.fingerprint, is_own),
        notes=(*images.notes, *((unlike,) if unlike else ())),
        called=called,
    )


def _start(configs: Sequence[TrainConfig]) -> tuple[Accelerator, str]:
    """The accelerator, and the precision: that of the runs where they share one, else fp32."""
    precisions = {config.precision for config in configs}
    precision = precisions.pop() if len(precisions) == 1 else "fp32"
    if precision == "fp16" and not uses_gpu():
        precision = "fp32"
    accelerator = make_accelerator(precision)
    prepare_cpu(accelerator.device)
    return accelerator, precision


def _folds_of(config: EvaluateConfig, trained: Sequence[_Trained]) -> int | None:
    """Return into how many folds the runs have divided their data set, if its valid is asked for;
    None if all runs have the same splits.

    Raises:
        InputError: they have divided it in several ways.
    """
    if config.split != "valid" or config.dataset:
        return None
    found = {one.run: one.config.fold for one in trained}
    if not any(found.values()):
        return None
    counts = {fold_of_text(fold)[1] if fold else None for fold in found.values()}
    groups = {one.config.group_by for one in trained}
    if len(counts) > 1 or len(groups) > 1:
        ways = ", ".join(
            f"{one.run} has --fold {one.config.fold or 'none'}"
            + (f" by --group-by '{one.config.group_by}'" if one.config.group_by else "")
            for one in trained
        )
        raise InputError(
            f"--split valid of several runs needs folds of one division, and {ways}: give runs of "
            "the same N and --group-by."
        )
    return counts.pop()


def _view(source: Source | Prepared, one: _Trained, dataset: str) -> Prepared:
    """The data set as a run sees it."""
    size = one.config.size
    assert size is not None
    if isinstance(source, Prepared) and source.size != size:
        raise InputError(
            f"{one.run} needs the images of {dataset} at {size_in_words(size)}, but the data set "
            f"is not here, and the cache has it at {size_in_words(source.size)}: give --dataset "
            "with the place where it is now."
        )
    return prepare_found(source, size, one.value_range)


def _same_for_all(
    config: EvaluateConfig, source: Source | Prepared, trained: Sequence[_Trained], dataset: str
) -> _Images:
    """Return all images of a split; each run predicts all of them."""
    views = [_view(source, one, dataset) for one in trained]
    split_to_score(config.split, views[0], dataset)
    every = frozenset(range(len(views[0].splits[config.split])))
    notes = [
        f"{one.run.name}: {note}"
        for one, view in zip(trained, views, strict=True)
        for note in notes_on(replace(config, run=one.run), view, known_data(one.run))
    ]
    return _Images(source, views, [every] * len(trained), notes)


def _out_of_fold(
    source: Source | Prepared, trained: Sequence[_Trained], folds: int, dataset: str
) -> _Images:
    """Return all images that some run had for validation. Each is predicted by these runs only, and
    so by none that was trained on it. Images are recognised by their pixels, as in trained_on.csv.

    Raises:
        InputError: the data set is not here, or a run has not had any of its images.
    """
    if isinstance(source, Prepared):
        raise InputError(
            f"--split valid of several folds needs the files of {dataset}, which are not here: "
            "put them back where they were."
        )
    whole = pooled(source, OUT_OF_FOLD)
    views = [_view(whole, one, dataset) for one in trained]
    names = views[0].splits[OUT_OF_FOLD].names
    held_out = []
    for one, view in zip(trained, views, strict=True):
        seen = images_seen(one.run, view, view.splits[OUT_OF_FOLD]) or {"train": [], "valid": []}
        held_out.append({*seen["valid"]} - {*seen["train"]})
        if not held_out[-1]:
            raise InputError(
                f"{one.run} had none of the images of {dataset} for validation: give runs of one "
                "data set, which has not changed since."
            )
    covered = [i for i, name in enumerate(names) if any(name in own for own in held_out)]
    notes = []
    if len(covered) < len(names):
        done = {fold_of_text(one.config.fold)[0] for one in trained if one.config.fold}
        missing = ", ".join(str(k) for k in range(1, folds + 1) if k not in done)
        notes.append(
            f"{len(names) - len(covered)} of the {len(names)} images of train and valid are not "
            f"scored, since no run had them for validation (folds without a run: {missing})"
        )
        rows = whole.rows[OUT_OF_FOLD].select(covered)
        whole = replace(whole, rows=type(whole.rows)({OUT_OF_FOLD: rows}))
        views = [_view(whole, one, dataset) for one in trained]
        names = views[0].splits[OUT_OF_FOLD].names
    predicts = [frozenset(i for i, name in enumerate(names) if name in own) for own in held_out]
    return _Images(whole, views, predicts, notes)


def _folder_of(runs: Sequence[Path]) -> Path:
    """The folder for the results of several runs: beside the first run, and the same for the same
    runs in any order."""
    places = sorted(os.path.abspath(run) for run in runs)
    digits = hashlib.sha256("\n".join(places).encode()).hexdigest()[:6]
    return runs[0].parent / f"mean-of-{len(runs)}-{digits}"
