"""Finished runs: --resume leaves them as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from segacc.config.train import TrainConfig, is_own
from segacc.errors import InputError, how_to_score, how_to_train_on
from segacc.labels import Labels
from segacc.runs.epochs import read_epochs
from segacc.runs.status import read_status
from segacc.runtime.accelerator import end_run
from segacc.training.saving.checkpoint import Progress, read_progress, start_from


class Finished(Exception):  # noqa: N818, since it is no error
    """The run to resume is finished.

    Args:
        is_main: whether this is rank 0.
    """

    def __init__(self, is_main: bool) -> None:
        self.is_main = is_main


def end_if_finished(
    config: TrainConfig,
    run: Path,
    record: Mapping[str, Any],
    state: Path | None,
    accelerator: Accelerator,
) -> None:
    """End the start of a run that has nothing to do, before anything in its folder has changed.

    Args:
        record: its config.json.
        state: the newest one of the run; None where there is none, since the run stopped before its
            first one or `segacc runs --clean` has removed them.

    Raises:
        Finished: it is finished; rank 0 has printed that, and what would make it go on.
        InputError: it has done more epochs than it now should, or its states were removed and there
            is something to do.
    """
    status = read_status(run, held=True)
    cleaned = state is None and status is not None and status.cleaned
    if state is None and not cleaned:
        return
    progress = read_progress(state) if state else _progress_of(run)
    if config.epochs < progress.epoch:
        raise InputError(
            f"--epochs {config.epochs}: {run} has done {progress.epoch} epochs already: leave the "
            f"flag out, or give more than {progress.epoch} to go on."
        )
    if cleaned and not is_done(config, progress):
        raise InputError(
            f"--resume {run}: the run is finished, and `segacc runs --clean` has removed its saved "
            f"states, so it cannot go on: {start_from(run)}"
        )
    # A run that was killed after its last state may not have sent all to its tracker.
    if not is_done(config, progress) or (status is not None and status.state != "finished"):
        return
    if accelerator.is_main_process:
        print(about_finished(config, run, record, progress, not cleaned), flush=True)
    is_main = accelerator.is_main_process
    end_run(accelerator)
    raise Finished(is_main)


def _progress_of(run: Path) -> Progress:
    """Read how far a run has come from its metrics.jsonl."""
    progress = Progress()
    for line in read_epochs(run):
        progress = progress.after_epoch(line["valid_iou"])
    return progress


def is_done(config: TrainConfig, progress: Progress) -> bool:
    """Whether no epoch is left: all are done, or patience ran out."""
    return progress.epoch >= config.epochs or _is_out_of_patience(config, progress)


def _is_out_of_patience(config: TrainConfig, progress: Progress) -> bool:
    assert config.patience is not None  # `with_protocol` has filled it in
    return progress.epochs_without_gain >= config.patience


def about_finished(
    config: TrainConfig,
    run: Path,
    record: Mapping[str, Any],
    progress: Progress,
    can_go_on: bool = True,
) -> str:
    """Say how a run ended, what would make it go on, and how it is scored."""
    flags, least, why = {}, [], "patience ran out"
    if progress.epoch >= config.epochs:
        flags, least, why = {"epochs": "N"}, [f"N above {progress.epoch}"], "all epochs are done"
    if _is_out_of_patience(config, progress):
        flags |= {"patience": "P"}
        least += [f"P above {progress.epochs_without_gain}"]
    more = f"{how_to_train_on(run, flags)} ({', '.join(least)})" if can_go_on else start_from(run)
    data = record["data"]
    labels = Labels.from_config(data.get("labels"))
    iou = "iou" if labels.logits == 1 else "miou"
    split = "test" if "test" in data.get("images", ["test"]) else "valid"
    return (
        f"{run} is finished, {why}: best epoch {progress.best_epoch} of {progress.epoch}, "
        f"validation {iou} {progress.best_iou:.4f}\n"
        f"for more: {more}\n"
        f"next: {how_to_score(run, split, is_own(config.model))}"
    )
