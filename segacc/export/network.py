"""A model as one network with everything inside: raw pixels in, probabilities and a mask out."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.fx.experimental._config as tracing
from torch import Tensor, nn

from segacc.config.sizes import Size, width_height
from segacc.errors import InputError, first_line
from segacc.export.resizing import resize_like_pillow, resize_maps
from segacc.metrics.counts import class_probabilities
from segacc.models.pooling import without_random_order
from segacc.models.probe import logits_of
from segacc.models.segmenter import Segmenter, enlarged

PIXEL_TYPES = {"uint8": torch.uint8, "float32": torch.float32}


class ExportedNetwork(nn.Module):
    """A copy of a model, written so that batch, height and width stay free in what is exported.

    Args:
        model: in evaluation mode, on the CPU; it stays as it is.
        at: images are resized to this size first, and the probabilities back to the image's.
    """

    def __init__(self, model: Segmenter, at: Size | None = None) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.to(memory_format=torch.contiguous_format)
        # Pooling to a grid can be exported for one size only; as products of matrices, for all.
        without_random_order(self.model.net)
        self.at = at
        with torch.no_grad():
            example = torch.zeros(1, model.channels, *model.padded_size(1, 1))
            self.enlarges = logits_of(self.model.net(example)).shape[-2:] != example.shape[-2:]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict a batch.

        Args:
            images: (B, C, H, W), RGB in 0..255, of any size.

        Returns:
            probabilities (B, K, H, W) float32, of the foreground or of each class; the mask
            (B, H, W) uint8, the number of the class, 1 for foreground; without `at` also the logits
            (B, K, H, W) float32.
        """
        height, width = images.shape[-2:]
        if self.at is not None:
            seen_width, seen_height = width_height(self.at)
            seen = resize_like_pillow(images, seen_height, seen_width)
            maps = class_probabilities(self.logits(seen))
            probabilities = resize_maps(maps, height, width)
            return probabilities, self.mask(probabilities)
        logits = self.logits(images)
        probabilities = class_probabilities(logits)
        return probabilities, self.mask(probabilities), logits

    def logits(self, images: Tensor) -> Tensor:
        """Compute what `Segmenter.forward` computes. Sizes are never compared here: a comparison
        would be true for some sizes only, and the export would then be limited to those."""
        model = self.model
        height, width = images.shape[-2:]
        sides: list[Any] = [
            torch.sym_max(
                model.least_side, (side + model.stride - 1) // model.stride * model.stride
            )
            for side in (height, width)
        ]
        if model.is_square:
            sides = [torch.sym_max(*sides)] * 2
        # Beyond its border the image goes on with its last row and column: replicate padding.
        rows = torch.arange(sides[0]).clamp(max=height - 1)
        columns = torch.arange(sides[1]).clamp(max=width - 1)
        x = model.normalise(images)[:, :, rows][:, :, :, columns]
        logits = logits_of(model.net(x)).to(torch.float32)
        if self.enlarges:
            logits = enlarged(logits, (sides[0], sides[1]))
        return logits[:, :, torch.arange(height)][:, :, :, torch.arange(width)]

    def mask(self, probabilities: Tensor) -> Tensor:
        """Return (B, H, W) uint8: the number of the most probable class; for two classes, 1 where
        the probability is above the model's threshold."""
        if probabilities.shape[1] == 1:
            return (probabilities[:, 0] > self.model.threshold).to(torch.uint8)
        return probabilities.argmax(dim=1).to(torch.uint8)


def outputs_of(network: ExportedNetwork) -> list[str]:
    """Names of what `ExportedNetwork.forward` returns."""
    return ["probabilities", "mask"] + (["logits"] if network.at is None else [])


def trace(network: ExportedNetwork, pixels: str) -> Any:
    """The network as a `torch.export.ExportedProgram`, for any batch, height and width.

    Args:
        pixels: type of the images, `uint8` or `float32`.

    Raises:
        InputError: torch cannot export this network.
    """
    model = network.model
    # Neither side is a multiple of the stride, so that padding is in the graph.
    side = model.padded_size(1, 1)[0]
    images = model.example_input(2, side).to(PIXEL_TYPES[pixels])
    images = nn.functional.pad(images, (0, side + 11, 0, 6))
    free = torch.export.Dim.DYNAMIC
    try:
        # Without this, torch takes for granted that a size which is not 1 in the example never is.
        with tracing.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            program = torch.export.export(
                network,
                (images,),
                dynamic_shapes={"images": {0: free, 2: free, 3: free}},
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except (RuntimeError, ValueError, torch._dynamo.exc.TorchDynamoException) as error:
        raise InputError(
            f"torch cannot export {model.architecture} with the encoder {model.encoder_name} "
            f"({first_line(error)}): train another --model or --encoder, or use `segacc predict`."
        ) from error
    # What torch has assumed of sizes, such as a map of more than one pixel. All that follows holds
    # for the others, too: `segacc.export.check` compares images that are smaller than the stride.
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program
