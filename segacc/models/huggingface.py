"""Networks of the library transformers: semantic segmentation by a config or a Hub id."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from segacc.errors import InputError, some_names
from segacc.labels import FOREGROUND, Labels, first_few
from segacc.models.weights.tensors import Tensors
from segacc.runtime.bars import is_watched

TRANSFORMERS_STRIDE = 32


def make_transformers_net(config: dict[str, Any], classes: int, channels: int) -> Any:
    """Build a network with random weights.

    Args:
        config: the model's config as a dict, as `PreTrainedConfig.to_dict` gives it.
        classes: logits per pixel.
        channels: channels of the input image.

    Raises:
        InputError: transformers has no semantic segmentation model of this type.
    """
    from transformers import AutoConfig, AutoModelForSemanticSegmentation

    config = {k: v for k, v in config.items() if k not in ("id2label", "label2id", "num_labels")}
    settings = AutoConfig.for_model(**config, num_labels=classes)
    if channels != 3:  # the default of all of them
        for part in (settings, getattr(settings, "backbone_config", None)):
            if part is not None:
                part.num_channels = channels
    try:
        return AutoModelForSemanticSegmentation.from_config(settings, trust_remote_code=False)
    except ValueError as error:
        raise InputError(
            f"--model: transformers has no semantic segmentation model of the type "
            f"{settings.model_type} ({str(error).splitlines()[0]}): choose another model."
        ) from error


def transformers_stride(net: Any) -> int:
    """The number that height and width have to be multiples of: a plain ViT's patch, else 32."""
    config = getattr(net.config, "backbone_config", None) or net.config
    patch = getattr(config, "patch_size", None)
    # Smaller patches are those of networks that go on to halve the map.
    return patch if isinstance(patch, int) and patch >= 8 else TRANSFORMERS_STRIDE


def load_pretrained_net(source: str, classes: int | None) -> tuple[Any, list[str]]:
    """Load a pretrained network; also return the names of its tensors that are new.

    Args:
        source: a Hub id or a folder that `save_pretrained` of transformers has written.
        classes: logits per pixel; None for those that it was trained with.

    Raises:
        OSError: it cannot be loaded.
    """
    from transformers import AutoModelForSemanticSegmentation

    with _quiet():
        net, info = AutoModelForSemanticSegmentation.from_pretrained(
            source,
            **({} if classes is None else {"num_labels": classes}),
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    reshaped = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    return net, sorted([*info["missing_keys"], *reshaped])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' report of new tensors, which the banner names in a line; and hide its
    progress bars where nobody looks."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not is_watched():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def keep_head(
    trained: Any, new: list[str], net: nn.Module, labels: Labels, source: str
) -> tuple[Tensors, str]:
    """Take the rows of a pretrained head whose classes have the names of ours, in our order.

    The row of another class is that of `net`. For two classes, the single logit is the foreground's
    row minus the background's: its sigmoid is then the softmax over the two. A pretrained head of
    one row is such a logit already: its other row is 0.

    Args:
        trained: the pretrained network, with its own classes.
        new: names of its tensors that were not in the weights.
        net: the network that will be trained, whose head is random.
        source: the weights' name, for errors.

    Returns:
        the tensors of the head, for `net`; which rows were kept and which are new, in words.

    Raises:
        InputError: the weights have no head, or none of its classes has the name of one of ours.
    """
    theirs = [str(trained.config.id2label.get(i, "")) for i in range(trained.config.num_labels)]
    places = [place_of(name, theirs) for name in labels.names]
    heads = head_tensors(trained.config)
    if heads & {*new}:
        raise InputError(
            f"--keep-head: {source} has no head of semantic segmentation ({some_names(new)} are "
            "not in it): leave the flag out, or give --weights that were trained to segment."
        )
    if all(place is None for place in places):
        raise InputError(
            f"--keep-head: none of the classes {first_few(list(labels.names))} has the name of "
            f"one of {source}, which are {first_few(theirs)}: name the classes as it does (see "
            "--classes), or leave the flag out for a new head."
        )
    own, old = net.state_dict(), trained.state_dict()
    rows = {}
    for name in heads & own.keys():
        random = own[name].expand(labels.classes, *own[name].shape[1:])
        if labels.logits == len(theirs) == 1:
            random = torch.zeros_like(random)
        of_class = [
            random[i] if place is None else old[name][place] for i, place in enumerate(places)
        ]
        if labels.logits == 1:
            of_class = [of_class[FOREGROUND] - of_class[1 - FOREGROUND]]
        rows[name] = torch.stack(of_class)
    kept = [
        name if name == theirs[place] else f"{name} ({theirs[place]})"
        for name, place in zip(labels.names, places, strict=True)
        if place is not None
    ]
    added = [name for name, place in zip(labels.names, places, strict=True) if place is None]
    said = f"head kept for {some_names(kept, 12)}"
    return rows, said + (f", new for {some_names(added, 12)}" if added else "")


def place_of(name: str, names: list[str]) -> int | None:
    """The place in a list of the class of this name; None if it is not there.

    A name may list synonyms with `;` or `,` between them, as those of ADE20K do, and case and the
    marks between words do not count. If several agree, the one with the same whole name is taken,
    else the one in whose list the synonym comes first: `door` is `door;double door`, and not
    `screen door;door`.
    """
    ours = _synonyms(name)
    ranks = []
    for i, other in enumerate(names):
        theirs = _synonyms(other)
        found = [theirs.index(synonym) for synonym in ours if synonym in theirs]
        if found:
            ranks.append((theirs != ours, min(found), i))
    return min(ranks)[-1] if ranks else None


def _synonyms(name: str) -> list[str]:
    words = [re.sub(r"[\W_]+", " ", part).strip().casefold() for part in re.split("[;,]", name)]
    return [word for word in words if word]


def head_tensors(config: Any) -> set[str]:
    """The names of the tensors that have a row for each class, in the auxiliary head as well: those
    that get a row more with a class more."""
    from transformers import AutoModelForSemanticSegmentation

    shapes = []
    for labels in (config.num_labels, config.num_labels + 1):
        other = copy.deepcopy(config)
        other.num_labels = labels
        with torch.device("meta"):  # without memory, since only shapes are asked for
            net = AutoModelForSemanticSegmentation.from_config(other, trust_remote_code=False)
        shapes.append({name: tensor.shape for name, tensor in net.state_dict().items()})
    fewer, more = shapes
    return {
        name for name, shape in fewer.items() if more[name] != shape and more[name][1:] == shape[1:]
    }
