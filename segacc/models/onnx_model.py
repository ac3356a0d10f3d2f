"""OnnxSegmenter: a model that `segacc export --to onnx` has written, to predict with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segacc.config.sizes import Size, size_of
from segacc.errors import InputError, first_line
from segacc.labels import Labels

METADATA = "segacc"
"""the key in the file's metadata of the JSON that says what its values mean"""
ORT_TYPES = {"tensor(uint8)": torch.uint8, "tensor(float)": torch.float32}


class OnnxSegmenter:
    """An ONNX file with what prediction needs of a `Segmenter`; onnxruntime computes on the CPU.

    Raises:
        InputError: the file cannot be read, is not of segacc, or onnxruntime is not installed.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                f"{path} needs the package onnxruntime: `pip install onnxruntime`."
            ) from error

        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except (errors.InvalidProtobuf, errors.InvalidGraph, errors.Fail) as error:
            raise InputError(
                f"{path} cannot be read as ONNX ({first_line(error)}): export it again."
            ) from error
        known = self.session.get_modelmeta().custom_metadata_map.get(METADATA)
        if known is None:
            raise InputError(
                f"{path} does not say what its values mean: expected a file that `segacc export "
                "--to onnx` has written."
            )
        self.metadata: dict[str, Any] = json.loads(known)
        size, value_range = self.metadata["size"], self.metadata["value_range"]
        threshold = self.metadata["threshold"]  # None where the most probable class is taken
        self.threshold: float = 0.5 if threshold is None else threshold
        self.size: Size | None = size_of(*size) if size else None
        self.value_range: tuple[int, int] | None = tuple(value_range) if value_range else None
        names, colours = self.metadata["classes"], self.metadata["colours"]
        self.labels = names and Labels.from_config({"names": names, "colours": colours})
        self._pixels = ORT_TYPES[self.session.get_inputs()[0].type]

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """Compute all outputs, by their names.

        Args:
            images: (B, 3, H, W) in 0..255, RGB, of any type.

        Raises:
            RuntimeError: onnxruntime cannot compute them, for example for lack of memory.
        """
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        inputs = {"images": images.to(self._pixels).contiguous().numpy()}
        names = [output.name for output in self.session.get_outputs()]
        try:
            found = self.session.run(names, inputs)
        except (errors.Fail, errors.InvalidArgument, errors.RuntimeException) as error:
            raise RuntimeError(str(error)) from error
        return {name: torch.from_numpy(values) for name, values in zip(names, found, strict=True)}

    def __call__(self, images: Tensor) -> Tensor:
        """(B, K, H, W) float32 logits."""
        if self.metadata["at"]:
            raise InputError(
                f"{self.path} resizes images to {self.metadata['at']} itself and has no logits: "
                "export without --at for `segacc predict`, which resizes as well."
            )
        return self.run(images)["logits"]

    def to(self, device: torch.device) -> OnnxSegmenter:
        """Return the model itself: whatever the device, onnxruntime computes on the CPU."""
        return self
