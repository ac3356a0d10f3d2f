"""Networks of segmentation_models_pytorch (SMP): an architecture and an encoder by name."""

from __future__ import annotations

import difflib
import re
from typing import Any

from torch import nn

from segacc.config.names import MODELS
from segacc.errors import InputError
from segacc.runtime.accelerator import is_out_of_memory

SMP_STRIDE = 32


def check_architecture(architecture: str) -> None:
    """Raises InputError for a name that segmentation_models_pytorch does not know."""
    import segmentation_models_pytorch as smp

    known = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    if larger := re.fullmatch(r"segformer\W?(b[1-5])", architecture.lower().replace("_", "-")):
        raise InputError(
            f"--model {architecture}: expected --model segformer, with the larger encoder as "
            f"--weights nvidia/mit-{larger[1]}."
        )
    if architecture not in known:
        names = sorted({*known, *MODELS})
        near = difflib.get_close_matches(architecture, names, n=3, cutoff=0.5)
        raise InputError(
            f"--model {architecture} is not known"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + f" Expected one of {', '.join(names)}, or the Hub id (owner/name) of a "
            "transformers segmentation model."
        )


def check_encoder(encoder: str) -> None:
    """Raises InputError for a name that is neither an encoder of SMP nor starts with `tu-`."""
    from segmentation_models_pytorch.encoders import encoders

    if encoder not in encoders and not encoder.startswith("tu-"):
        near = sorted(name for name in encoders if name.startswith(encoder))[:3]
        near = near or difflib.get_close_matches(encoder, encoders, n=3, cutoff=0.5)
        raise InputError(
            f"--encoder {encoder} is not known"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + " Expected an encoder of segmentation_models_pytorch, or tu-NAME for one of timm."
        )


def make_smp_net(
    architecture: str, encoder: str, classes: int, channels: int, weights: str | None = None
) -> Any:
    """Build a network.

    Args:
        architecture: such as `unet`.
        encoder: a name of SMP, or `tu-NAME` for an encoder of timm.
        classes: logits per pixel.
        channels: channels of the input image.
        weights: name of the encoder's pretrained weights, which are downloaded; None is random.

    Raises:
        InputError: a name is not known, or the two do not go together.
        OSError, ValueError, RuntimeError: the weights cannot be loaded. Only if they are named.
    """
    check_architecture(architecture)
    check_encoder(encoder)
    try:
        return _create(architecture, encoder, classes, channels, weights)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        if weights is not None or is_out_of_memory(error):
            raise
        raise InputError(
            f"--model {architecture} cannot be built with --encoder {encoder} ({error}): "
            "choose another encoder."
        ) from error


def _create(
    architecture: str, encoder: str, classes: int, channels: int, weights: str | None
) -> Any:
    import segmentation_models_pytorch as smp

    options: dict[str, Any] = {
        "encoder_name": encoder,
        # Of timm there is one set of weights per name, which SMP wants to hear as True.
        "encoder_weights": True if weights and encoder.startswith("tu-") else weights,
        "in_channels": channels,
        "classes": classes,
    }
    if not _has_fixed_size(encoder):
        return smp.create_model(architecture, **options)
    try:
        net = smp.create_model(architecture, **options, dynamic_img_size=True)
    except TypeError:  # this encoder has no such option
        net = smp.create_model(architecture, **options)
    if architecture != "dpt":
        return net
    patch = net.encoder.output_stride
    if patch & (patch - 1):
        raise ValueError(
            f"its patches are {patch} px wide, and the decoder of DPT needs 8 or 16, as those of "
            "tu-vit_small_patch16_dinov3 are"
        )
    return net


def _has_fixed_size(encoder: str) -> bool:
    """Whether an encoder of timm takes images of one size only, if no option changes that."""
    import timm

    if not encoder.startswith("tu-"):
        return False
    found = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    return found is not None and found.fixed_input_size


def smp_stride(architecture: str, net: nn.Module) -> int:
    """The number that height and width have to be multiples of."""
    if architecture == "dpt":  # its decoder halves the map of patches once
        return 2 * int(net.encoder.output_stride)  # type: ignore[union-attr, arg-type]
    # Dilated encoders would do with 8 or 16; models of 0.1.0 were trained with this one.
    return SMP_STRIDE
