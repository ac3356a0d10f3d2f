"""Properties of a network, found by running it: the parts it uses, their order, its least input."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segacc.errors import InputError
from segacc.runtime.accelerator import is_out_of_memory

Order = dict[nn.Module, int]
LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
REFUSALS = (RuntimeError, ValueError, AssertionError)  # of networks that do not accept an image


ONEDNN_CHANNELS = 16
"""Convolutions of fewer channels than this are not trusted with strides in channels_last. Wrong
gradients were seen for 2 to 7, on a processor that computes on eight numbers at a time."""


def logits_of(output: Any) -> Tensor:
    """The logits in what a network returns: those of transformers return an object around them,
    those of torchvision a dictionary."""
    if isinstance(output, Mapping):
        return output.get("logits", output.get("out"))
    return getattr(output, "logits", output)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Set evaluation mode, since a probe must not move BatchNorm's statistics or draw numbers."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def drop_stages_without_gradient(net: nn.Module, order: Order) -> None:
    """Remove modules that never run and freeze parameters that the output does not depend on.

    PSPNet, for one, reads only the first stages of its encoder. DDP waits for the gradients of
    the others and stops; they would also be stored, averaged and counted for nothing.

    Args:
        net: with the gradients that `find_order` has left.
        order: from `find_order`.
    """
    _prune(net, order)
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


def find_order(net: nn.Module, channels: int, stride: int) -> tuple[Order, bool]:
    """Run a network, which leaves gradients in its parameters.

    Returns:
        The modules that ran, with their places in the order in which they were done; and whether
        the network takes square images only.

    Raises:
        InputError: the network takes images of one size only.
    """
    order: Order = {}

    def record(module: nn.Module, args: Any, output: Any) -> None:
        order.setdefault(module, len(order))

    hooks = [module.register_forward_hook(record) for module in net.modules()]
    refusals = []
    for sizes in ([(4 * stride, 5 * stride)], [(4 * stride,) * 2, (5 * stride,) * 2]):
        order.clear()
        refused = _run(net, channels, sizes)
        if refused is None:
            break
        refusals.append(refused)
    for hook in hooks:
        hook.remove()
    if len(refusals) == 2:
        raise InputError(
            f"--model: this architecture does not run on images of {4 * stride} x {4 * stride} and "
            f"{5 * stride} x {5 * stride} px ({refusals[1]}); expected one that takes any size, so "
            "choose another --model or --encoder."
        ) from refusals[1]
    return order, len(refusals) == 1


def _run(net: nn.Module, channels: int, sizes: list[tuple[int, int]]) -> Exception | None:
    """Leave gradients in the parameters; return the error if the network does not run on a size."""
    try:
        with evaluating(net), torch.enable_grad():
            for height, width in sizes:
                logits_of(net(torch.zeros(1, channels, height, width))).sum().backward()
    except REFUSALS as error:
        if is_out_of_memory(error):
            raise
        return error
    return None


def _prune(module: nn.Module, ran: Order) -> None:
    for name, child in module.named_children():
        # Some layers are read by their parent, which takes their weights and never calls them.
        used = any(m in ran for m in child.modules()) or any(
            p.grad is not None for p in child.parameters()
        )
        if not used and any(True for _ in child.parameters()):
            setattr(module, name, nn.Identity())
        else:
            _prune(child, ran)


def find_least_side(net: nn.Module, channels: int, stride: int) -> int:
    """The least width and height in px that the network takes, a multiple of its stride.

    PAN, for one, halves the map of its encoder three times more.
    """
    for side in (stride, 2 * stride):
        try:
            with evaluating(net), torch.no_grad():
                net(torch.zeros(1, channels, side, side))
        except REFUSALS as error:
            if is_out_of_memory(error):
                raise
            continue
        return side
    return 4 * stride  # on which `drop_stages_without_gradient` has run it


def has_layer_that_onednn_fails_on(net: nn.Module) -> bool:
    """Whether the network must be trained in the plain memory format on a CPU.

    oneDNN reads and writes past the memory of a 1 x 1 convolution with a stride, if that has few
    input channels in channels_last order (torch 2.15). Its weights then get wrong gradients, or the
    process crashes or hangs. MobileOne, FastViT, RepVGG and others put such a layer on the image.
    """
    return any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < ONEDNN_CHANNELS
        for layer in net.modules()
    )


def needs_two_images(net: nn.Module, image: Tensor) -> bool:
    """Whether training refuses a batch of one image.

    DeepLabV3 pools an image to one value per channel, and one value has no variance, which
    BatchNorm needs.

    Args:
        image: (1, C, H, W), of the least size that training uses.
    """
    probe = copy.deepcopy(net).train()  # a pass in training mode moves BatchNorm's statistics
    try:
        with torch.no_grad():
            probe(image)
    except ValueError:  # of BatchNorm
        return True
    return False


def parameters_by_depth(net: nn.Module, encoder: nn.Module, order: Order) -> list[list[str]]:
    """Names of the parameters of `net`, in groups from the input to the output.

    A group is one block of the encoder (a residual block, a transformer layer, a convolution
    outside of them), as in timm's `group_matcher`; the decoder and the head are the last one.

    Args:
        order: the modules in the order in which they ran.
    """
    names = {parameter: name for name, parameter in net.named_parameters()}
    root = getattr(encoder, "model", encoder)  # SMP wraps encoders of timm
    large = _count(root) / 2
    blocks = [block for child in root.children() for block in _blocks(child, large)]
    place, places = 0, []
    for block in blocks:  # a block that was read, not called, follows the one before it
        place = order.get(block, place)
        places.append(place)
    groups: list[list[nn.Parameter]] = []
    for _, block in sorted(zip(places, blocks, strict=True), key=lambda pair: pair[0]):
        parameters = list(block.parameters())
        if groups and all(p.ndim < 2 for p in parameters):  # a norm layer, part of the one before
            groups[-1] += parameters
        elif parameters:
            groups.append(parameters)
    grouped = {p for group in groups for p in group}
    # Parameters of no block, such as embeddings of positions, are added to the input.
    groups[0] += [p for p in encoder.parameters() if p not in grouped]
    grouped |= set(groups[0])
    groups.append([p for p in net.parameters() if p not in grouped])
    return [[names[p] for p in group] for group in groups if group]


def _blocks(module: nn.Module, large: float, in_list: bool = False) -> Iterator[nn.Module]:
    """The items of the outermost lists of blocks in `module`; itself if it has none.

    Args:
        large: a list of single layers with more parameters than this is taken apart, too, as that
            of VGG has to be.
    """
    single = isinstance(module, LISTS) and not in_list and _count(module) > large
    if _is_list_of_blocks(module) or single:
        for child in module.children():
            yield from _blocks(child, large, in_list=True)
    elif not in_list and any(map(_is_list_of_blocks, module.modules())):
        for child in module.children():
            yield from _blocks(child, large)
    else:
        yield module


def _is_list_of_blocks(module: nn.Module) -> bool:
    return isinstance(module, LISTS) and any(
        any(True for _ in block.children()) for block in module.children()
    )


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
