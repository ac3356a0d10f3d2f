"""A model that is ready to train: built, fitted to its processes, and with its optimizer."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn

from segacc.config.sizes import width_height
from segacc.config.train import TrainConfig
from segacc.errors import InputError
from segacc.labels import Labels, check_same_classes
from segacc.models.global_batch.batch_norm import normalise_over_ranks
from segacc.models.global_batch.dropout import (
    Place,
    PlacedDropout,
    place_dropout,
    warn_of_unplaced_random_layers,
)
from segacc.models.pooling import without_random_order
from segacc.models.probe import needs_two_images
from segacc.models.segmenter import Segmenter
from segacc.models.weights.build import Built, build_model
from segacc.training.optim import make_optimizer
from segacc.training.saving.checkpoint import Trained, model_from_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainableModel:
    """A model that is ready to train, in one process."""

    wrapped: nn.Module  # by DDP, and by torch.compile if asked for
    trained: Trained
    place: Place  # tells dropout which samples of the global batch this process has
    weights: str  # where its weights come from, for the banner


def build(
    config: TrainConfig,
    labels: Labels,
    state: Path | None,
    accelerator: Accelerator,
    net: nn.Module | None = None,
) -> tuple[Built, Place]:
    """Build the model with the weights that the run starts from; BatchNorm and dropout are made to
    work on the global batch, and parts are frozen if asked to.

    Returns:
        the model; the place in the global batch that its dropout reads.

    Raises:
        InputError: the model cannot be loaded, has other classes than the data set where it is that
            of a run to resume, or cannot train on one image at a time.
    """
    assert config.size is not None
    built = make_or_restore(config, labels, state, accelerator, net)
    segmenter = built.model
    segmenter.labels = labels
    # Not those stored with the weights.
    segmenter.size = None if isinstance(config.size, str) else config.size
    segmenter.threshold = 0.5
    if config.deterministic:
        without_random_order(segmenter)
    if segmenter.encoder is segmenter.net and (config.freeze_encoder or config.encoder_lr != 1):
        raise InputError(
            "--freeze-encoder and --encoder-lr need a network with an encoder: name that part "
            "`encoder` or `backbone` in yours, or leave them out."
        )
    segmenter.freeze(config.freeze_encoder == "all", config.freeze_bn)
    if config.batch_size == config.accumulate and not config.freeze_bn:
        side = config.crop or (min(width_height(segmenter.size)) if segmenter.size else math.inf)
        side = int(min(side, 2 * segmenter.stride))
        if needs_two_images(segmenter, segmenter.example_input(side=side)):
            raise InputError(
                f"--batch-size {config.batch_size} leaves one image for each forward pass, and "
                f"BatchNorm in {config.model} needs two: give a --batch-size of at least "
                f"{2 * config.accumulate}, or --freeze-bn."
            )
    # The replaced layers keep their names, so saved models do not depend on them.
    place = place_dropout(segmenter)
    warn_of_unplaced_random_layers(segmenter, segmenter.example_input(images=2))
    if not config.freeze_bn:
        several = accelerator.num_processes > 1
        # A layer of ours would split a compiled model, and one process can do without it.
        if accelerator.device.type == "cpu" and (several or not config.compile):
            normalise_over_ranks(segmenter)
        elif accelerator.device.type == "cuda" and several:
            # Unlike torch's function, timm's keeps the activations of timm's BatchNorm layers.
            from timm.layers import convert_sync_batchnorm

            segmenter = convert_sync_batchnorm(segmenter)
    return Built(segmenter, built.weights), place


def make_or_restore(
    config: TrainConfig,
    labels: Labels,
    state: Path | None,
    accelerator: Accelerator,
    net: nn.Module | None,
) -> Built:
    """The model with the weights that a new run starts from; for a resumed run, with any
    weights."""
    assert config.weights is not None
    set_seed(config.seed)
    if state:  # the state has all weights, so nothing is downloaded
        built = Built(model_from_state(state, net), f"of {state}")
        check_same_classes(labels, built.model.labels, f"--resume {config.resume}")
    else:
        built = build_model(
            config.model,
            config.encoder,
            config.weights,
            labels.logits,
            head_of=labels if config.keep_head else None,
            net=net,
        )
        if net is not None:
            share_weights(built.model, accelerator)
    return built


def make_trainable(
    config: TrainConfig, accelerator: Accelerator, built: Built, place: Place
) -> TrainableModel:
    """Wrap the model for its processes, and make its optimizer."""
    segmenter, world = built.model, accelerator.num_processes
    cuda = accelerator.device.type == "cuda"
    optimizer = make_optimizer(
        segmenter, config.lr, config.weight_decay, config.encoder_lr, config.layer_decay
    )
    average = None
    if config.ema:
        from timm.utils import ModelEmaV3

        # A copy of the model before accelerate changes its `forward`, which would be that of the
        # model in the copy, too.
        segmenter.to(accelerator.device)
        average = ModelEmaV3(segmenter, config.ema, use_warmup=True)
    accelerator.gradient_accumulation_steps = config.accumulate
    wrapped, optimizer = accelerator.prepare(segmenter, optimizer)
    if world > 1:
        # BatchNorm's statistics are of the samples of all processes, so they are equal everywhere.
        # (torch 2.15 deprecates this argument of DDP, and accelerate does not know the new one.)
        wrapped.broadcast_buffers = False
        lay_out_buckets(wrapped, segmenter.example_input().to(accelerator.device))
    if config.compile:  # validation is not compiled, so that evaluate.py computes the same
        if not cuda:
            log.warning("--compile made no model faster that was measured on a CPU")
        elif world > 1 and not config.freeze_bn:
            log.warning("--compile leaves out BatchNorm over several GPUs, and so gains less")
        for layer in wrapped.modules():
            if isinstance(layer, PlacedDropout):
                layer.leave_uncompiled()
        wrapped = torch.compile(wrapped)
    trained = Trained(segmenter, optimizer, accelerator.scaler, average)
    return TrainableModel(wrapped, trained, place, built.weights)


def share_weights(model: Segmenter, accelerator: Accelerator) -> None:
    """Give all ranks the weights of rank 0, since each has made the network of a program by itself,
    perhaps with other random numbers."""
    own = {name: value.to(accelerator.device) for name, value in model.state_dict().items()}
    model.load_state_dict(broadcast(own))


def lay_out_buckets(model: nn.Module, images: Tensor) -> None:
    """Have DDP arrange its buckets before the first step, with a gradient that is not used.

    DDP arranges its buckets after the first backward pass. Sums over three or more ranks are
    rounded depending on the place in a bucket. Without this, the first step after a resume would
    be rounded in another way than the same step of a run that was not stopped.
    """
    model.eval()  # so that BatchNorm's statistics do not change
    model(images).sum().backward()
    model.zero_grad()
