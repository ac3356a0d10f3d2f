"""Dropout over the global batch: what it drops of a sample is drawn from the seed, the step, the
layer and the sample's place in the global batch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

Unit = Literal["value", "channel", "sample"]


@dataclass
class Place:
    """Which samples of the global batch a forward pass computes. Dropout reads it."""

    seed: int = 0
    step: int = 0
    first: int = 0
    """place of this process's first sample in the global batch"""
    total: int = 1
    """samples in the global batch"""

    @contextmanager
    def set(self, seed: int, step: int, first: int, total: int) -> Iterator[None]:
        """Set the place of the samples that are computed inside of the `with` block."""
        before = (self.seed, self.step, self.first, self.total)
        self.seed, self.step, self.first, self.total = seed, step, first, total
        try:
            yield
        finally:
            self.seed, self.step, self.first, self.total = before


class PlacedDropout(nn.Module):
    """Dropout (Srivastava et al. 2014), of channels (Tompson et al. 2015) or of whole samples
    (stochastic depth, Huang et al. 2016), drawn by the sample's place in the global batch.

    Args:
        p: share that is dropped; the rest is scaled by 1 / (1 - p).
        unit: what is dropped or kept as a whole.
        place: shared by all layers of a model.
        layer: number of this one.
    """

    def __init__(self, p: float, unit: Unit, place: Place, layer: int) -> None:
        super().__init__()
        self.p, self.unit, self.place, self.layer = p, unit, place, layer

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        if not self.training or self.p == 0:
            return x
        return x * (self._kept(x) / (1 - self.p))

    def leave_uncompiled(self) -> None:
        """Exclude this layer from torch.compile, which would compile it anew for each step. This is
        no decorator of `forward`, since that would load the compiler wherever a model is used."""
        self.forward = torch.compiler.disable(self.forward)  # type: ignore[method-assign]

    def _kept(self, x: Tensor) -> Tensor:
        """Return 1 where x is kept, else 0. The shape is that of x, but of length 1 along an axis
        whose values are kept or dropped together."""
        place = self.place
        # Channels-last whatever the order of x: for one sample alone, the layers before may choose
        # another one than for several.
        order = torch.channels_last if x.ndim == 4 else torch.contiguous_format
        if self.unit == "value" and x.device.type == "cpu":
            # numpy's 16 random bits per value cost a third of torch's draws, which would make a
            # step of SegFormer on a CPU 5 % slower. They are used in the order of memory.
            kept = torch.empty(x.shape, dtype=torch.bool, memory_format=order)
            keep = round((1 - self.p) * 2**16)
            for i, sample in enumerate(kept, start=place.first):
                values = sample.numel()
                bits = np.random.SFC64(self._seed(i)).random_raw(-(-values // 4)).view(np.uint16)
                np.less(bits[:values], keep, out=sample.as_strided([values], [1]).numpy())
            return kept.to(x.dtype)
        if self.unit == "value":
            kept = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=order)
            for i, sample in enumerate(kept, start=place.first):
                stream = torch.Generator(x.device).manual_seed(self._seed(i))
                sample.bernoulli_(1 - self.p, generator=stream)
            return kept
        # Few numbers: each process draws those of the whole batch, on the CPU for any device.
        shape = (place.total, x.shape[1] if self.unit == "channel" else 1, *[1] * (x.ndim - 2))
        stream = torch.Generator().manual_seed(self._seed())
        kept = torch.empty(shape).bernoulli_(1 - self.p, generator=stream)
        return kept[place.first : place.first + len(x)].to(x, non_blocking=True)

    def _seed(self, *sample: int) -> int:
        key = (self.place.seed, self.place.step, self.layer, *sample)
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])

    def extra_repr(self) -> str:
        return f"p={self.p}, unit={self.unit}"


def place_dropout(model: nn.Module) -> Place:
    """Replace dropout and stochastic depth in `model`, and return the place that they read."""
    place, layer = Place(), 0
    for module in list(model.modules()):
        if hasattr(module, "_drop_connect_rate"):  # EfficientNet of SMP
            layer = _place_drop_connect(module, place, layer)
        for name, child in module.named_children():
            p: Any
            unit: Unit
            if isinstance(child, nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
                p, unit = child.p, "channel"
            elif isinstance(child, nn.Dropout):
                p, unit = child.p, "value"
            elif type(child).__name__.endswith("DropPath"):  # each library has its own
                p, unit = child.drop_prob, "sample"
            else:
                continue
            setattr(module, name, PlacedDropout(p, unit, place, layer).train(child.training))
            layer += 1
    return place


def _place_drop_connect(encoder: Any, place: Place, layer: int) -> int:
    """Give the blocks of an EfficientNet of SMP, which call a function, a layer for it.

    Block i drops its samples with the probability rate * i / blocks, as in its encoder's forward.

    Returns:
        The number of the next layer.
    """
    for i, block in enumerate(encoder._blocks):
        p = encoder._drop_connect_rate * i / len(encoder._blocks)
        if p > 0 and getattr(block, "_has_drop_connect", False):
            block.stochastic_depth = PlacedDropout(p, "sample", place, layer).train(block.training)
            block._has_drop_connect = False  # so that the class below adds the input, not its base
            kind = type(block)
            block.__class__ = type(f"Placed{kind.__name__}", (kind,), {"forward": _drop_and_add})
            layer += 1
    return layer


def _drop_and_add(self: Any, inputs: Tensor, drop_connect_rate: float | None = None) -> Tensor:
    return self.stochastic_depth(super(type(self), self).forward(inputs)) + inputs


def find_unplaced_random_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Names of the layers that still draw from torch's own stream in training.

    Args:
        model: with its dropout placed, on the CPU; it is left as it is.
        images: a batch that it takes, of two images or more.
    """
    probe = copy.deepcopy(model).train()  # a probe would move BatchNorm's statistics
    before: dict[str, Tensor] = {}
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> None:
        def start(*_: Any) -> None:
            before[name] = torch.get_rng_state()

        def end(*_: Any) -> None:
            drew = not torch.equal(before[name], torch.get_rng_state())
            if drew and not any(inner.startswith(name) for inner in found):
                found.append(name)

        module.register_forward_pre_hook(start)
        module.register_forward_hook(end)

    for name, module in probe.named_modules():
        watch(name and f"{name}.", module)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        probe(images)
    return [name.rstrip(".") for name in found]


def warn_of_unplaced_random_layers(model: nn.Module, images: Tensor) -> None:
    """Warn once if layers of the model draw random numbers that depend on the processes."""
    found = find_unplaced_random_layers(model, images)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        log.warning(
            f"{found[0]}{more} of this model draws random numbers that do not come from --seed, "
            "step and image: the run will differ with the number of processes and after --resume."
        )
