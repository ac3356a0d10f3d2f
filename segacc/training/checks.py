"""Checks before a run, and explanations of errors that libraries raise during one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from segacc.config.sizes import scaled_to, sides_in_words, size_of, size_text, width_height
from segacc.config.train import TrainConfig, is_own
from segacc.data.content import doubts, lost_in_resize, masks_of, why_meaningless
from segacc.data.loading.pipelines import WITHOUT_PIPELINE
from segacc.data.loading.workers import MORE_ROOM
from segacc.data.regions import STEP
from segacc.data.split import Prepared, Split
from segacc.errors import InputError, how_to_continue
from segacc.models.weights.build import check_names
from segacc.runs.folder import check_output_dir
from segacc.runtime.accelerator import is_out_of_memory
from segacc.runtime.ranks import is_lost_connection
from segacc.tracking.start import check_tracker
from segacc.training.losses.terms import WEIGHED_LOSSES, make_loss
from segacc.training.own import NOTHING, Own, own_loss

log = logging.getLogger(__name__)


@contextmanager
def explain_errors(config: TrainConfig, run: Path | None = None) -> Iterator[None]:
    """Turn errors of libraries that have a known cause into one sentence for the user.

    Args:
        run: the run's folder, once there is one.

    Raises:
        InputError: in place of such an error; others are raised as they are.
    """
    try:
        yield
    except InputError as error:
        message = str(error).rstrip()
        if not message.startswith("Caught "):
            raise
        # PyTorch puts the traceback of a data worker around its sentence, which is the last line.
        raise InputError(message.splitlines()[-1].partition(": ")[2]) from error
    except (RuntimeError, MemoryError) as error:
        sentence = _explanation(error, config, run)
        if sentence is None:
            raise
        raise InputError(sentence) from error


def _explanation(error: Exception, config: TrainConfig, run: Path | None) -> str | None:
    """What an error of a library means for the user; None if that is not known."""
    message = str(error).strip()
    again = how_to_continue(run) if run else "give the same command again."
    if is_out_of_memory(error):
        where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        resident = where == "the GPU" and not config.workers
        resident &= config.augment in WITHOUT_PIPELINE
        parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
        return (
            f"{where} has too little memory for --batch-size {config.batch_size}{parts}: give a "
            "larger --accumulate, or a smaller --crop, --size or --batch-size"
            + (", or --workers 2, which keeps the images off the GPU." if resident else ".")
        )
    if "shared memory" in message:
        return (
            "/dev/shm is full, through which data workers send their batches: give fewer --workers "
            f"or more shared memory {MORE_ROOM}; {again}"
        )
    if message.startswith("DataLoader worker"):
        return (
            f"a process that loads data for rank {os.environ.get('RANK', '0')} has ended "
            f"({message.splitlines()[0]}): if the system killed it for want of memory, give fewer "
            f"--workers; {again}"
        )
    if config.compile and isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return (
            f"--compile: PyTorch could not compile {config.model} "
            f"({' '.join(message.splitlines()[:2])}): give --no-compile, or "
            "install what it misses, such as a C++ compiler."
        )
    if "determine home directory" in message:  # of pathlib, in any library
        return (
            "HOME is not set, and a library (such as that of the tracker) keeps files there: set "
            "it to a folder that can be written."
        )
    if "does not have a deterministic implementation" in message:
        return (
            f"--deterministic: {config.model} with --loss {config.loss} uses an operation that "
            f"PyTorch has no deterministic version of ({message.split()[0]}): choose another "
            "model or loss, or leave the flag out."
        )
    if is_lost_connection(error):
        return (
            "this process cannot talk to the others, one of which has probably ended: its own "
            f"error is beside this one; {again}"
        )
    return None


def check_flags(config: TrainConfig, accelerator: Accelerator, own: Own = NOTHING) -> None:
    """Raises InputError for flags that are wrong whatever the data set is."""
    check_loss(config, own)
    check_batch(config, accelerator.num_processes)
    check_tracker(config.tracker)
    if config.tracker == "none" and config.pictures != TrainConfig.pictures:
        log.warning(f"--pictures {config.pictures} has no effect with --tracker none")
    if config.freeze_encoder == "all" and (config.encoder_lr, config.layer_decay) != (1, 1):
        log.warning("--encoder-lr and --layer-decay have no effect on an encoder that is frozen")
    if config.freeze_encoder == "all" and config.weights == "none" and not config.resume:
        log.warning(
            "--freeze-encoder keeps the random weights that --weights none gives the encoder: what "
            "it sees stays noise; leave one of the two out"
        )
    if accelerator.is_main_process and not config.resume:
        check_output_dir(config)
    if not config.resume:
        check_names(config.model, config.encoder)
    if config.public and not config.push_to_hub:
        raise InputError("--public has no effect without --push-to-hub: leave it out.")
    if config.push_to_hub:
        check_push(config.push_to_hub, config, accelerator)


def check_push(repository: str, config: TrainConfig, accelerator: Accelerator) -> None:
    """Raises InputError where the model could not be pushed when the training has ended."""
    from segacc.hub.access import look_at
    from segacc.hub.push import check_network

    check_network(config.model)
    if accelerator.is_main_process:
        look_at(repository, config.public)


def check_loss(config: TrainConfig, own: Own = NOTHING) -> None:
    """Raises InputError for a loss that is not known, and for a flag that has no effect on it."""
    own_loss(config, own) or make_loss(config.loss)
    terms = config.loss.split("+")
    weighed = any(term in WEIGHED_LOSSES for term in terms)
    for flag, value, has_effect, works_on in (
        ("--class-weights", config.class_weights, weighed, "ce and focal"),
        ("--ohem", config.ohem, weighed, "ce and focal"),
        ("--label-smoothing", config.label_smoothing, {"ce", "bce"} & {*terms}, "ce"),
    ):
        if value and not has_effect:
            remedy = "." if is_own(config.loss) else f", or give --loss {config.loss}+ce."
            raise InputError(
                f"{flag} {value} has no effect on --loss {config.loss}, only on {works_on}: leave "
                f"it out{remedy}"
            )


def check_data(config: TrainConfig, data: Prepared) -> None:
    """Raises InputError when the batch is larger than the training set, when all of train or of
    valid is background, or foreground, or when images of different shapes would make a batch."""
    if not config.crop:
        check_shapes(config, data.splits["train"])
    for name in ("train", "valid"):
        split = data.splits[name]
        why = why_meaningless(masks_of(split)) if data.labels.classes == 2 else None
        if why:
            raise InputError(
                f"--dataset {config.dataset}: in its split {name}, {why}; {_remedy(split)}"
            )
    samples = len(data.splits["train"])
    if config.batch_size > samples:
        raise InputError(
            f"--batch-size {config.batch_size} is larger than the training set of "
            f"{config.dataset}, which has {samples} images: give --batch-size {samples} or less."
        )


def check_shapes(config: TrainConfig, train: Split) -> None:
    """Raises InputError where whole images make no batch: their sizes differ, or do after turns."""
    if train.shape is None:
        by_size = train.sizes.prod(axis=1, dtype=np.int64)
        ends = (
            "{1} x {0} px ({2})".format(*train.sizes[i], train.names[i])
            for i in (by_size.argmin(), by_size.argmax())
        )
        raise InputError(
            f"--size native leaves the training images of {config.dataset} at different sizes, "
            f"from {' to '.join(ends)}, and those of a batch need one: give --crop 256 to train on "
            "random crops, or a --size that all are resized to."
        )
    if config.flips == "d4" and train.shape[0] != train.shape[1]:
        raise InputError(
            f"--flips d4 turns images by quarters, and the images of {config.dataset} are "
            f"{train.shape[1]} x {train.shape[0]} px: give --flips hv, a --crop, or a square "
            "--size."
        )


def _remedy(split: Split) -> str:
    """What to do about a split that cannot be scored; the end of a sentence."""
    lost = not split.foreground.any() and any(regions.count for regions in split.regions)
    if lost and not isinstance(split.size, str):
        sides = width_height(split.size)
        larger = scaled_to(sides, max(regions.size for regions in split.regions), STEP)
        return (
            f"all foreground has vanished in the resize to {sides_in_words(split.size)}: give "
            f"--size {size_text(size_of(*larger))}, and --crop {min(sides)} for the same memory"
        )
    return (
        "put images with foreground and background into it, or make the folders train and valid "
        "yourself where segacc has made the splits (`segacc check` finds masks of another coding)"
    )


def warnings_of(data: Prepared) -> list[str]:
    """Sentences on a data set that can be trained on, but whose scores may mislead."""
    said = []
    binary_splits = data.splits if data.labels.classes == 2 else {}
    for name, split in binary_splits.items():
        if why := why_meaningless(masks_of(split)):
            said.append(f"{name}: {why}; evaluate.py will refuse it")
        else:
            said += [f"{name}: {doubt}" for doubt in doubts(masks_of(split)) if name != "train"]
    names = [name for split in data.splits.values() for name in split.names]
    regions = [of_mask for split in data.splits.values() for of_mask in split.regions]
    if isinstance(data.size, str):
        return said
    lost = lost_in_resize(names, regions, data.size)
    return [*said, lost] if lost else said


def check_batch(config: TrainConfig, world_size: int) -> None:
    """Raises InputError when the batch cannot be split evenly."""
    parts = world_size * config.accumulate
    if config.batch_size % parts:
        lower = config.batch_size // parts * parts
        raise InputError(
            f"--batch-size {config.batch_size} cannot be split over {world_size} processes"
            + (f" in {config.accumulate} parts each" if config.accumulate > 1 else "")
            + f": give a multiple of {parts}, such as {lower or parts}."
        )
