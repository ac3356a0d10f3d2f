"""Segmenter: raw images in, logits at input size out, for every architecture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from segacc.config.sizes import Size, size_of
from segacc.config.train import ENCODER, is_own
from segacc.labels import Labels
from segacc.models.huggingface import make_transformers_net, transformers_stride
from segacc.models.normalisation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ChannelOrder,
    Normalisation,
    per_channel,
)
from segacc.models.own import (
    check_own_net,
    copy_of_own_net,
    freeze_what_is_not_learnt,
    own_stride,
)
from segacc.models.probe import (
    drop_stages_without_gradient,
    find_least_side,
    find_order,
    has_layer_that_onednn_fails_on,
    logits_of,
    parameters_by_depth,
)
from segacc.models.smp import make_smp_net, smp_stride


class Segmenter(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="segacc",
    pipeline_tag="image-segmentation",
    tags=["semantic-segmentation"],
):
    """A segmentation network that needs no preprocessing around it.

    Args:
        architecture: a name of segmentation_models_pytorch, `transformers`, or `own:` and a name
            for a network that a program gives.
        encoder: encoder of segmentation_models_pytorch; models of transformers have their own.
        classes: logits per pixel; 1 for binary masks.
        backbone_config: for `transformers`, the model's config as a dict.
        mean: per channel of the image in 0..1; where there are more channels than values, these
            begin again at the first.
        std: the same.
        threshold: foreground is where the probability is above this. The validation split chose it.
        size: px that images were resized to in training, if they were: width and height, or one
            number where these are equal.
        channels: channels of an image.
        channel_order: the order in which the network takes channels; images are always RGB.
        value_range: the values that became 0 and 255 where images of 16 bits per channel were
            trained on; None where there were none, and then 65535 becomes 255.
        labels: names and colours of the classes, from `Labels.to_config`; None is background and
            foreground where `classes` is 1, and else that nobody has named them.
        stride: height and width are padded to multiples of this; None is the network's own.
        net: the network of a program (`segacc.models.own`). It is copied and stays as it is.

    `threshold`, `size` and `value_range` may be set as attributes, and `normalise_by` sets mean,
    std and order; the new values are saved.

    Attributes:
        least_side: smaller images are padded to this height and width, in px.
        is_square: whether images are padded to squares, since the network takes no others.
        layers: names of all parameters, in groups from the input to the output: one group per
            block of the encoder, and the decoder and the head as the last one.

    Raises:
        InputError: the network cannot be built, or runs on images of one size only.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        encoder: str | None = ENCODER,
        classes: int = 1,
        backbone_config: dict[str, Any] | None = None,
        mean: Iterable[float] = IMAGENET_MEAN,
        std: Iterable[float] = IMAGENET_STD,
        threshold: float = 0.5,
        size: int | Iterable[int] | None = None,
        channels: int = 3,
        channel_order: ChannelOrder = "RGB",
        stride: int | None = None,
        labels: dict[str, Any] | None = None,
        value_range: Iterable[int] | None = None,
        net: nn.Module | None = None,
    ) -> None:
        super().__init__()
        assert isinstance(self._hub_mixin_config, dict)
        self._hub_mixin_config.pop("net", None)  # the mixin keeps all arguments
        self.architecture = architecture
        is_smp = architecture != "transformers" and not is_own(architecture)
        self.encoder_name = encoder if is_smp else None
        self.threshold = threshold
        self.size: Size | None = None
        if size is not None:
            self.size = size if isinstance(size, int) else size_of(*size)
        self.value_range: tuple[int, int] | None = None
        if value_range is not None:
            low, high = value_range
            self.value_range = (low, high)
        self.channels = channels
        self.labels = Labels.from_config(labels) if labels or classes == 1 else None
        assert self.labels is None or self.labels.logits == classes
        if architecture == "transformers":
            assert backbone_config is not None
            self.net = make_transformers_net(backbone_config, classes, channels)
        elif is_smp:
            assert encoder is not None
            self.net = make_smp_net(architecture, encoder, classes, channels)
        else:
            self.net = copy_of_own_net(architecture, net)
        self.stride = stride or stride_of(architecture, self.net)
        # Measured on CPU: attention loses 10 % where convolutions win 20 to 40 %.
        plain = architecture == "transformers" or has_layer_that_onednn_fails_on(self.net)
        self.memory_format = torch.contiguous_format if plain else torch.channels_last
        self.register_buffer("mean", torch.empty(1, channels, 1, 1))
        self.register_buffer("std", torch.empty(1, channels, 1, 1))
        self.normalise_by(Normalisation(tuple(mean), tuple(std), channel_order))
        self._frozen: list[nn.Module] = []
        self._held: list[nn.Module] = []
        self.parameters_whole = sum(p.numel() for p in self.net.parameters())
        self._look_at_net(classes)
        self.to(memory_format=self.memory_format)

    def _look_at_net(self, classes: int) -> None:
        """Run the network to find out what it is like, and freeze what is not learnt."""
        if is_own(self.architecture):
            check_own_net(self.architecture, self.net, classes, self.channels, self.stride)
        order, self.is_square = find_order(self.net, self.channels, self.stride)
        if is_own(self.architecture):
            freeze_what_is_not_learnt(self.net, self.channels, self.stride)
        else:
            drop_stages_without_gradient(self.net, order)
        self.least_side = find_least_side(self.net, self.channels, self.stride)
        self.layers = [
            [f"net.{name}" for name in group]
            for group in parameters_by_depth(self.net, self.encoder, order)
        ]

    @property
    def encoder(self) -> nn.Module:
        """The part that is pretrained, and that `--freeze-encoder` freezes; for a network of a
        program without such a part, the whole network."""
        net = self.net
        names = ("encoder", getattr(net, "base_model_prefix", ""), "backbone")
        parts = (getattr(net, name, None) for name in names)
        return next((part for part in parts if isinstance(part, nn.Module)), net)

    @property
    def device(self) -> torch.device:
        """The device on which the images have to be."""
        return self.mean.device

    @property
    def parameters_trained(self) -> int:
        """Number of parameters that receive a gradient."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def example_input(self, images: int = 1, side: int | None = None) -> Tensor:
        """Return (B, C, H, W) uint8 zeros, two strides high and wide unless `side` is given."""
        side = 2 * self.stride if side is None else side
        return torch.zeros(images, self.channels, side, side, dtype=torch.uint8)

    def normalise_by(self, normalisation: Normalisation) -> None:
        """Scale images as it was done when the weights were pretrained."""
        self.normalisation = normalisation
        for buffer, values in ((self.mean, normalisation.mean), (self.std, normalisation.std)):
            scaled = 255 * torch.tensor(per_channel(values, self.channels))
            buffer.copy_(scaled.view(buffer.shape))

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width to which an image is padded before the network sees it."""
        height, width = (
            max(self.least_side, side + -side % self.stride) for side in (height, width)
        )
        return (max(height, width),) * 2 if self.is_square else (height, width)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch.

        Args:
            images: (B, C, H, W), RGB in 0..255, uint8 or floating point, any H and W.

        Returns:
            (B, classes, H, W) logits.
        """
        height, width = images.shape[-2:]
        x = self.normalise(images)
        padded_height, padded_width = self.padded_size(height, width)
        if (padded_height, padded_width) != (height, width):
            border = (0, padded_width - width, 0, padded_height - height)
            x = functional.pad(x, border, mode="replicate")
        logits = logits_of(self.net(x.contiguous(memory_format=self.memory_format)))
        if logits.shape[-2:] != x.shape[-2:]:
            logits = enlarged(logits, (padded_height, padded_width))
        return logits[..., :height, :width]

    def normalise(self, images: Tensor) -> Tensor:
        """Images in 0..255 as the network takes them, but for the padding."""
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        return x.flip(1) if self.normalisation.channel_order == "BGR" else x

    def tensors(self) -> dict[str, Tensor]:
        """All weights and buffers on the CPU, in plain memory order, as safetensors wants them."""
        return {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}

    def config(self) -> dict[str, Any]:
        """The arguments that make this model again: config.json of a model's folder."""
        assert isinstance(self._hub_mixin_config, dict)
        return {
            **self._hub_mixin_config,
            "encoder": self.encoder_name,
            "mean": list(self.normalisation.mean),
            "std": list(self.normalisation.std),
            "channel_order": self.normalisation.channel_order,
            "stride": self.stride,
            "threshold": self.threshold,
            "size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "value_range": None if self.value_range is None else list(self.value_range),
            "labels": self.labels.to_config() if self.labels else None,
        }

    def _save_pretrained(self, save_directory: Path) -> None:
        self._hub_mixin_config = self.config()  # which the mixin writes next
        # The mixin's own goes through a temporary file that no other user may read.
        data = save(self.tensors(), metadata={"format": "pt"})
        (save_directory / "model.safetensors").write_bytes(data)

    def freeze(self, encoder: bool = False, batchnorm: bool = False) -> None:
        """Keep the encoder, or all BatchNorm layers, as they are (statistics included)."""
        if encoder:
            self._frozen.append(self.encoder)
        if batchnorm:
            self._frozen += [
                m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
            ]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def hold_encoder(self, held: bool) -> None:
        """Keep the encoder as it is for some time, in evaluation mode.

        DDP expects a gradient of every parameter in each step, so the encoder goes on to get some;
        `leave_out_held` drops them.
        """
        self._held = [self.encoder] if held else []
        self.train(self.training)

    def leave_out_held(self) -> None:
        """Drop the gradients of what is held, before a step of the optimizer."""
        for module in self._held:
            module.zero_grad()

    def train(self, mode: bool = True) -> Segmenter:
        """Training mode, in which parts that are frozen or held stay in evaluation mode."""
        super().train(mode)
        for module in (*self._frozen, *self._held):
            module.eval()
        return self


def stride_of(architecture: str, net: nn.Module) -> int:
    """The number to whose multiples the height and width of a network's images are padded."""
    if architecture == "transformers":
        return transformers_stride(net)
    return own_stride(net) if is_own(architecture) else smp_stride(architecture, net)


def enlarged(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize logits (B, K, h, w) of a network with a lower resolution to the size of the image."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.interpolate(wide, size=shape, mode="bilinear", align_corners=False)
