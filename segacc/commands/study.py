"""The command that trains and scores many models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from segacc.config.names import encoder_name, model_name
from segacc.config.options import NO_BUDGET, NO_FLAGS, BudgetFlags, ReadingFlags, shown_as
from segacc.config.train import ENCODER, STUDY_MODELS, RecipeName, TrackerName
from segacc.errors import InputError


def study(
    dataset: Annotated[str | None, shown_as("SETS", "pedestrian,gland")] = None,
    models: str = "all",
    seeds: str = "0",
    encoder: Annotated[str | None, shown_as("NAME", ENCODER)] = None,
    weights: Annotated[str | None, shown_as("STR", "each model's pretrained ones")] = None,
    recipe: RecipeName = "study",
    out: Annotated[Path | None, shown_as("DIR", "runs/study, or runs/study-fast")] = None,
    tracker: Annotated[TrackerName | None, shown_as("NAME", "wandb, with --fast none")] = None,
    fast: bool = False,
    folds: Annotated[int | None, shown_as("N", "none")] = None,
    budget: BudgetFlags = NO_BUDGET,
    reading: ReadingFlags = NO_FLAGS,
) -> int:
    """Train, score and compare many models: one command, one table.

    Without flags, it trains all models of the study on the study's data sets. Runs are spread over
    the GPUs. The same command again skips what is done and resumes what was killed.

    Args:
        dataset: what `segacc train` takes as --dataset; several with commas between them.
        models: what `segacc train` takes as --model, also any other architecture and Hub ids;
            several with commas, all for the study's six.
        seeds: numbers with commas between them; each is another run of every cell.
        encoder: what `segacc train` takes as --encoder, for the models that take one.
        weights: what `segacc train` takes as --weights; none for random weights. With several, with
            commas between them, a second table says what pretrained weights gave: imagenet,none.
        recipe: what `segacc train` takes as --recipe.
        out: folder for the runs, the table (study.md, study.csv) and the reports.
        tracker: what `segacc train` takes as --tracker; W&B shows the runs as one group.
        fast: the demo sets at half the size, two epochs, random weights: to see it work in minutes.
        folds: cross-validation: this many runs of every cell, each with another part of train and
            valid for validation, and their out-of-fold score (docs/cross-validation.md).
        budget: how all runs are trained.
        reading: how the files of all sets are read.

    Returns:
        1 when a run has failed, else 0.
    """
    if folds is not None and folds < 2:
        raise InputError(f"--folds {folds}: expected 2 or more.")
    from segacc.study.cells import cells_of
    from segacc.study.study import study as run_study

    out = out or Path("runs") / ("study-fast" if fast else "study")
    cells = cells_of(
        datasets=_words(dataset or ("demo-pedestrian,demo" if fast else "pedestrian,gland")),
        models=_models(models),
        seeds=_numbers(seeds),
        encoder=encoder and encoder_name(encoder),
        weights=_words(weights or ("none" if fast else "imagenet")),
        recipe=recipe,
        tracker=tracker or ("none" if fast else "wandb"),
        fast=fast,
        out=out,
        reading=reading,
        budget=budget,
        folds=folds,
    )
    return run_study(cells, out)


def _models(names: str) -> list[str]:
    return list(STUDY_MODELS) if names == "all" else [model_name(name) for name in _words(names)]


def _numbers(seeds: str) -> list[int]:
    try:
        return [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise InputError(f"--seeds {seeds}: expected numbers such as 0,1,2.") from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
