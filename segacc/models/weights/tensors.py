"""Tensors of weights files: read without running code, and matched to a model by their names."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segacc.errors import InputError

Tensors = dict[str, Tensor]
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")


def find_weights(path: Path) -> Path:
    """The weights file of a run's folder, of a from_pretrained folder, or the file itself.

    Raises:
        InputError: the folder has none.
    """
    if not path.is_dir():
        return path
    files = [f / n for f in (path / "best", path) for n in WEIGHTS_FILES if (f / n).is_file()]
    if not files:
        raise InputError(
            f"--weights {path} has no model.safetensors: give a run's folder, a "
            "from_pretrained folder or a weights file."
        )
    return files[0]


def read_tensors(path: Path) -> Tensors:
    """The named tensors of a .safetensors, .pt, .pth, .ckpt or .bin file.

    Raises:
        InputError: it cannot be read, holds no named tensors, or would have to run code.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read ({(str(error) or type(error).__name__).splitlines()[0]}): "
            "expected tensors in a .safetensors file, or in a .pt file that holds nothing else."
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"--weights {path} holds a {type(state).__name__}, not named tensors.")
    return _tensors_in(state, path)


def _tensors_in(state: dict[Any, Any], path: Path) -> Tensors:
    """The named tensors of a checkpoint, which may lie below a key, beside an optimizer's state."""
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state.get(key), dict):
            state = state[key]
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    below = {str(k): v for k, v in state.items() if isinstance(v, dict)}
    sets = {k: v for k, v in below.items() if any(isinstance(one, Tensor) for one in v.values())}
    if len(sets) == 1 and len(*sets.values()) > len(tensors):
        (tensors,) = sets.values()
        return _tensors_in(tensors, path)
    if tensors:
        return tensors
    if sets:
        raise InputError(
            f"--weights {path} holds several sets of tensors ({', '.join(sets)}): save the one to "
            "start from in a file of its own."
        )
    raise InputError(f"--weights {path} holds no named tensors: expected a model's state_dict.")


def match_names(own: Tensors, state: Tensors) -> dict[str, str]:
    """Map names of `own` to the names of the same tensors in `state`.

    The same tensor is `encoder.conv1.weight` in SMP, `conv1.weight` in a file of its encoder,
    `model.encoder.conv1.weight` in one of Lightning, `module.encoder...` in one of DDP. So each
    prefix that many names of `state` have is tried in place of each that many of `own` have, and
    the pair under which most tensors agree in name and shape is taken.
    """
    best, most = {}, -1
    for there in _prefixes(state):
        unprefixed = {_plain(k.removeprefix(there)): k for k in state if k.startswith(there)}
        for here in _prefixes(own):
            pairs = {
                name: unprefixed[plain]
                for name in own
                if name.startswith(here)
                and (plain := _plain(name.removeprefix(here))) in unprefixed
            }
            fits = sum(own[name].shape == state[k].shape for name, k in pairs.items())
            if fits > most:
                best, most = pairs, fits
    return best


def _prefixes(names: Tensors, share: float = 0.1) -> list[str]:
    """Candidate prefixes: the empty one, and each dotted prefix that at least `share` of the names
    begin with."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1]
        counts.update(".".join(parts[: i + 1]) + "." for i in range(len(parts)))
    return ["", *(prefix for prefix, count in counts.items() if count >= share * len(names))]


def _plain(name: str) -> str:
    """Return a form of the name that is equal in several libraries."""
    name = re.sub(r"(^|\.)_orig_mod\.", r"\1", name)  # of torch.compile
    name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name)  # of older torchvision
    return name.replace(".", "_")  # timm's features_only turns stages.0 into stages_0


@dataclass(frozen=True)
class Loaded:
    """Which tensors of a model and of a file matched, and which did not."""

    fitting: list[str]
    missing: list[str]
    """in the model, not in the file"""
    reshaped: dict[str, tuple[torch.Size, torch.Size]]
    """in both, but of another shape: that in the model and that in the file"""
    left: list[str]
    """in the file only"""


def copy_matching(module: nn.Module, state: Tensors, names: dict[str, str] | None = None) -> Loaded:
    """Copy the tensors that have the name and shape of one of the module.

    Args:
        names: what the tensors of the module are called in `state`, where that is known.
    """
    own = module.state_dict()
    names = {k: k for k in own if k in state} if names is None else names
    shapes = {k: (own[k].shape, state[there].shape) for k, there in names.items()}
    fitting = [k for k, (here, there) in shapes.items() if here == there]
    module.load_state_dict({k: state[names[k]] for k in fitting}, strict=False)
    used = set(names.values())
    return Loaded(
        fitting,
        missing=[k for k in own if k not in names],
        reshaped={k: pair for k, pair in shapes.items() if k not in set(fitting)},
        left=[k for k in state if k not in used],
    )
