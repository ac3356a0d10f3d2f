"""The formats of ONNX and of torch.export: one file that holds everything."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segacc.errors import InputError, first_line
from segacc.export.network import ExportedNetwork, outputs_of, trace
from segacc.models.onnx_model import METADATA

# Names of the dynamic dimensions, in place of torch's own.
FREE: dict[str, list[str | int]] = {
    "images": ["batch", 3, "height", "width"],
    "mask": ["batch", "height", "width"],
}


def write_onnx(network: ExportedNetwork, pixels: str, metadata: dict[str, Any], path: Path) -> None:
    """Write an ONNX file, for any batch, height and width.

    Args:
        pixels: type of the images, `uint8` or `float32`.
        metadata: stored in the file as JSON under the key `segacc`.

    Raises:
        InputError: torch cannot export the network.
    """
    from onnxscript import ir

    program = trace(network, pixels)
    names = outputs_of(network)
    try:
        written = torch.onnx.export(
            program, dynamo=True, input_names=["images"], output_names=names, verbose=False
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise InputError(
            f"torch cannot write {network.model.architecture} as ONNX ({first_line(error)}): "
            "give --to pt2, or use `segacc predict`."
        ) from error
    assert written is not None
    graph = written.model.graph
    maps = ["batch", network.model.config()["classes"], "height", "width"]
    for value in (*graph.inputs, *graph.outputs):
        value.shape = ir.Shape(FREE.get(str(value.name), maps))
    for node in graph.all_nodes():
        node.metadata_props.clear()  # paths of this machine, in stack traces
    written.model.metadata_props[METADATA] = json.dumps(metadata)
    written.save(path, external_data=False)


def write_pt2(network: ExportedNetwork, pixels: str, metadata: dict[str, Any], path: Path) -> None:
    """Write a file for `torch.export.load`, for any batch, height and width; raises as `trace`."""
    program = trace(network, pixels)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds paths of this machine
    torch.export.save(program, path, extra_files={f"{METADATA}.json": json.dumps(metadata)})


def write_int8(onnx_file: Path, images: Iterable[np.ndarray], path: Path) -> None:
    """Quantise an ONNX file: convolutions and products of matrices compute in 8 bits.

    Weights are int8, a scale per channel; the ranges of what goes through the network are those
    that it has on the images (onnxruntime's static quantisation).

    Args:
        images: (1, 3, H, W) of the type that the file takes, from the training split.
    """
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"images": image} for image in self.left), None)

    prepared = path.with_name(path.name + ".partial")
    with quiet():
        quant_pre_process(onnx_file, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            Reader(),
            per_channel=True,
            op_types_to_quantize=["Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Mul"],
        )
    prepared.unlink()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the log messages of libraries; errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    unread = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
