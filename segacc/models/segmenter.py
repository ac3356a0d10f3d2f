"""Segmenter: raw RGB in, logits at input size out, for every architecture."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from segacc.config import STUDY_MODELS
from segacc.errors import InputError
from segacc.runtime.accelerator import is_out_of_memory

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TRANSFORMERS_STRIDE = 32


class Segmenter(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="segacc",
    pipeline_tag="image-segmentation",
    tags=["semantic-segmentation"],
):
    """A segmentation network that needs no preprocessing around it.

    Args:
        architecture: a name of segmentation_models_pytorch, or `transformers`.
        encoder: encoder of segmentation_models_pytorch.
        classes: logits per pixel; 1 for binary masks.
        backbone_config: for `transformers`, the model's config as a dict.
        mean, std: per channel of RGB in 0..1.
        threshold: foreground is where the probability is above this. The validation split chose it.
        size: width and height in px that images were resized to in training, if they were.

    `threshold` and `size` may be set as attributes; what they are then is saved.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        encoder: str = "resnet34",
        classes: int = 1,
        backbone_config: dict[str, Any] | None = None,
        mean: Iterable[float] = IMAGENET_MEAN,
        std: Iterable[float] = IMAGENET_STD,
        threshold: float = 0.5,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.threshold = threshold
        self.size = size
        if architecture == "transformers":
            assert backbone_config is not None
            self.net = _transformers_net(backbone_config, classes)
            self.stride = TRANSFORMERS_STRIDE
            # Measured on CPU: attention loses 10 % where convolutions win 20 to 40 %.
            self.memory_format = torch.contiguous_format
        else:
            self.net = _smp_net(architecture, encoder, classes)
            self.stride = max(32, self.net.encoder.output_stride)
            self.memory_format = torch.channels_last
        self.register_buffer("mean", 255 * torch.tensor(list(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(list(std)).view(1, 3, 1, 1))
        self._frozen: list[nn.Module] = []
        self.parameters_whole = sum(p.numel() for p in self.net.parameters())
        drop_stages_without_gradient(self.net, self.stride)
        self.to(memory_format=self.memory_format)

    @property
    def encoder(self) -> nn.Module:
        """The part that `--freeze-encoder` freezes."""
        names = ("encoder", getattr(self.net, "base_model_prefix", ""), "backbone")
        return next(getattr(self.net, name) for name in names if hasattr(self.net, name))

    @property
    def parameters_trained(self) -> int:
        """Number of parameters that receive a gradient."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch.

        Args:
            images: (B, 3, H, W), RGB in 0..255, uint8 or floating point, any H and W.

        Returns:
            (B, classes, H, W) logits.
        """
        height, width = images.shape[-2:]
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        pad_bottom, pad_right = -height % self.stride, -width % self.stride
        if pad_bottom or pad_right:
            x = functional.pad(x, (0, pad_right, 0, pad_bottom), mode="replicate")
        x = x.contiguous(memory_format=self.memory_format)
        logits = self.net(x)
        logits = getattr(logits, "logits", logits)
        if logits.shape[-2:] != x.shape[-2:]:
            logits = functional.interpolate(
                logits.to(torch.promote_types(logits.dtype, torch.float32)),
                size=x.shape[-2:],
                mode="bilinear",
                align_corners=False,
            )
        return logits[..., :height, :width]

    def tensors(self) -> dict[str, Tensor]:
        """All weights and buffers on the CPU, in plain memory order, as safetensors wants them."""
        return {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}

    def config(self) -> dict[str, Any]:
        """The arguments that make this model again: config.json of a model's folder."""
        assert isinstance(self._hub_mixin_config, dict)
        return {**self._hub_mixin_config, "threshold": self.threshold, "size": self.size}

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

    def train(self, mode: bool = True) -> Segmenter:
        """Training mode, in which frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def check_architecture(architecture: str) -> None:
    """Raises InputError for a name that segmentation_models_pytorch does not know."""
    import segmentation_models_pytorch as smp

    known = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in known:
        names = sorted({*known, *STUDY_MODELS})
        near = difflib.get_close_matches(architecture, names, n=3, cutoff=0.5)
        raise InputError(
            f"--model {architecture} is not known"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + f" Expected one of {', '.join(names)}, or the Hub id (owner/name) of a "
            "transformers segmentation model."
        )


def _smp_net(architecture: str, encoder: str, classes: int) -> Any:
    import segmentation_models_pytorch as smp

    check_architecture(architecture)
    if encoder not in smp.encoders.encoders and not encoder.startswith("tu-"):
        near = difflib.get_close_matches(encoder, smp.encoders.encoders, n=3, cutoff=0.5)
        raise InputError(
            f"--encoder {encoder} is not known"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + " Expected an encoder of segmentation_models_pytorch, or tu-NAME for one of timm."
        )
    try:
        return smp.create_model(
            architecture, encoder_name=encoder, encoder_weights=None, classes=classes
        )
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"--model {architecture} cannot be built with --encoder {encoder} ({error}): "
            "choose another encoder."
        ) from error


def _transformers_net(config: dict[str, Any], classes: int) -> Any:
    from transformers import AutoConfig, AutoModelForSemanticSegmentation

    config = {k: v for k, v in config.items() if k not in ("id2label", "label2id", "num_labels")}
    settings = AutoConfig.for_model(**config, num_labels=classes)
    try:
        return AutoModelForSemanticSegmentation.from_config(settings, trust_remote_code=False)
    except ValueError as error:
        raise InputError(
            f"--model: transformers has no semantic segmentation model of the type "
            f"{settings.model_type} ({str(error).splitlines()[0]}): choose another model."
        ) from error


class MatmulAvgPool2d(nn.Module):
    """What nn.AdaptiveAvgPool2d computes, as two products of matrices: cuBLAS has a deterministic
    backward pass, the pooling itself has none (torch 2.15)."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, *output_size), the means of cells that cover the image."""
        rows, columns = (
            _mean_of_cells(cells, length).to(x)
            for cells, length in zip(self.output_size, x.shape[-2:], strict=True)
        )
        return rows @ x @ columns.T


def _mean_of_cells(cells: int, length: int) -> Tensor:
    """(cells, length): the weights, in row i, of the places floor(i L / C) to ceil((i+1) L / C)."""
    cell, place = torch.arange(cells)[:, None], torch.arange(length)[None]
    inside = (place >= cell * length // cells) & (place < -(-(cell + 1) * length // cells))
    return inside / inside.sum(dim=1, keepdim=True)


def without_random_order(model: nn.Module) -> None:
    """Replace layers whose backward pass on a GPU sums in an order that is never the same."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size = child.output_size
                height, width = size if isinstance(size, tuple) else (size, size)
                if height is not None and width is not None:
                    setattr(module, name, MatmulAvgPool2d((height, width)))


def drop_stages_without_gradient(net: nn.Module, stride: int) -> None:
    """Remove modules that never run and freeze parameters that the output does not depend on.

    PSPNet, for one, reads only the first stages of its encoder. DDP waits for the gradients of
    the others and stops; they would also be stored, averaged and counted for nothing.
    """
    ran: set[nn.Module] = set()
    hooks = [
        m.register_forward_hook(lambda module, args, output: ran.add(module)) for m in net.modules()
    ]
    training = net.training
    net.eval()  # a probe must not move BatchNorm's statistics
    side = 4 * stride
    try:
        with torch.enable_grad():
            output = net(torch.zeros(1, 3, side, side))
            getattr(output, "logits", output).sum().backward()
    except (RuntimeError, ValueError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"--model: this architecture does not run on an image of {side} x {side} px ({error}); "
            "expected one that takes any size, so choose another --model or --encoder."
        ) from error
    for hook in hooks:
        hook.remove()
    net.train(training)

    def prune(module: nn.Module) -> None:
        for name, child in module.named_children():
            # Some layers are read by their parent, which takes their weights and never calls them.
            used = any(m in ran for m in child.modules()) or any(
                p.grad is not None for p in child.parameters()
            )
            if not used and any(True for _ in child.parameters()):
                setattr(module, name, nn.Identity())
            else:
                prune(child)

    prune(net)
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
