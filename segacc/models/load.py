"""load_segmenter(): a trained model, from a run's folder, a saved folder, the Hub or ONNX."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from segacc.config.names import A_TRAINED_MODEL, check_place
from segacc.config.train import is_own
from segacc.errors import InputError
from segacc.models.onnx_model import OnnxSegmenter
from segacc.models.segmenter import Segmenter
from segacc.models.weights.hub import CONFIG, WEIGHTS, download, is_repository
from segacc.models.weights.tensors import read_tensors

Predictor = Segmenter | OnnxSegmenter
"""A model that predicts: its call takes images (B, C, H, W) in 0..255 and returns logits (B, K, H,
W)."""

STRIDE_OF_0_1_0 = 32


def load_predictor(source: str | os.PathLike[str], net: nn.Module | None = None) -> Predictor:
    """Load a model to predict with, from what `load_segmenter` takes, or from a file that
    `segacc export --to onnx` has written.

    Raises:
        InputError: there is no model of segacc, or it cannot be loaded.
    """
    path = Path(source).expanduser()
    if path.suffix == ".onnx" and path.is_file():
        return OnnxSegmenter(path)
    return load_segmenter(source, net)


def load_segmenter(source: str | os.PathLike[str], net: nn.Module | None = None) -> Segmenter:
    """Load a trained model, in evaluation mode on the CPU.

    Args:
        source: a run's folder, whose `best` is loaded; a from_pretrained folder; or a Hub id
            (owner/name), whose config.json and model.safetensors are downloaded, once.
        net: the network of a program (`segacc.models.own`), if the model has one; a copy of it gets
            the trained weights.

    Raises:
        InputError: there is no model of segacc, or it cannot be loaded.
    """
    source = os.fspath(source)
    folder = Path(source).expanduser()
    names = (CONFIG, WEIGHTS)
    if folder.is_dir():
        folders = [f for f in (folder / "best", folder) if (f / names[1]).is_file()]
        if not folders:
            raise InputError(
                f"{folder} holds no model.safetensors, and neither does a folder best in it: the "
                "run has not finished its first epoch, or this is no run's folder."
            )
        config, weights = (folders[0] / name for name in names)
    elif is_repository(source):
        config, weights = (download(source, name) for name in names)
    else:
        check_place("the model", source, A_TRAINED_MODEL)
        raise InputError(f"{source} is not a model: expected {A_TRAINED_MODEL}.")
    # from_pretrained of the mixin does the same and prints a line from every rank.
    arguments = _arguments(config)
    if net is not None and not is_own(arguments["architecture"]):
        raise InputError(
            f"{source} is a model of the architecture {arguments['architecture']}, which needs no "
            "network of yours: leave net out."
        )
    model = Segmenter(**arguments, net=net)
    try:
        model.load_state_dict(read_tensors(weights))
    except RuntimeError as error:
        raise InputError(
            f"{weights} does not fit the model that {config} describes "
            f"({str(error).splitlines()[-1].strip()}): take both from one training."
        ) from error
    return model.eval()


def _arguments(path: Path) -> dict[str, Any]:
    """Read the arguments of Segmenter from the config.json of a model's folder."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): expected the config.json that "
            "lies beside a model's weights."
        ) from error
    known = {**inspect.signature(Segmenter).parameters}
    del known["net"]
    if not isinstance(found, dict) or "architecture" not in found or found.keys() - known.keys():
        raise InputError(
            f"{path} does not describe a model of this segacc: expected one that train.py has "
            f"trained, with an architecture and no other keys than {', '.join(known)}."
        )
    return {"stride": STRIDE_OF_0_1_0, **found}
