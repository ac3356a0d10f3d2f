"""Weights of a local file or folder, of any origin, given to a model by their names and shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segacc.errors import InputError, some_names
from segacc.models.normalisation import (
    Normalisation,
    from_config,
    from_image_processor,
    from_timm,
)
from segacc.models.segmenter import Segmenter
from segacc.models.weights.tensors import (
    Loaded,
    copy_matching,
    find_weights,
    match_names,
    read_tensors,
)

LEAST_SHARE = 0.8  # of the encoder's tensors; another encoder of the same family has fewer


def load_weights(model: Segmenter, path: Path, encoder: str | None = None) -> str:
    """Start from a local file or folder; tensors are matched by name and shape.

    Args:
        path: a run's folder, a from_pretrained folder (of segacc, SMP, timm or transformers), or a
            .safetensors, .pt, .pth, .ckpt or .bin file of a whole model or of its encoder.
        encoder: name of the model's encoder, by which its normalisation is looked up where the
            weights do not say it.

    Returns:
        What was loaded, what not, and why, as a sentence.

    Raises:
        InputError: nothing can be read, or too little fits this model.
    """
    state = read_tensors(find_weights(path))
    own = model.state_dict()
    names = match_names(own, state)
    # Every model has the buffers mean and std; they do not make it the same model.
    if not any(k.startswith("net.") and own[k].shape == state[names[k]].shape for k in names):
        raise InputError(
            f"--weights {path} has no tensor that fits the model (it holds "
            f"{some_names(list(state))}; the model expects {some_names(list(own))}): give weights "
            "of this --model and --encoder."
        )
    loaded = copy_matching(model, state, names)
    check_share(model, set(loaded.fitting), str(path))
    stored = _stored_normalisation(model, path, loaded)
    model.normalise_by(stored or (from_timm(encoder) if encoder else None) or Normalisation())
    text = f"{path} ({describe(loaded, model)}); images normalised by {model.normalisation}"
    guessed = "guessed from the encoder's name: a config.json beside the file may hold mean and std"
    return text if stored else f"{text} ({guessed})"


def _stored_normalisation(model: Segmenter, path: Path, loaded: Loaded) -> Normalisation | None:
    """The normalisation of the weights, as they or files beside them say; None if they do not."""
    config = config_beside(path)
    if "mean" in loaded.fitting and "std" in loaded.fitting:  # a model of segacc
        mean, std = (
            tuple(round(v, 7) for v in (buffer.double() / 255).flatten().tolist())
            for buffer in (model.mean, model.std)
        )
        return Normalisation(mean, std, config.get("channel_order", "RGB"))
    found = from_config(config)
    if found is None and path.is_dir():
        found = from_image_processor(path)
    return found


def config_beside(path: Path) -> dict[str, Any]:
    """The config.json of the folder that the weights lie in; empty if there is none."""
    try:
        found = json.loads((find_weights(path).parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, InputError):
        return {}
    return found if isinstance(found, dict) else {}


def check_share(model: Segmenter, fitting: set[str], source: str) -> None:
    """Raises InputError when most of the encoder would stay random.

    Args:
        fitting: names of the model's tensors that were loaded.
    """
    prefix = next(f"{name}." for name, m in model.named_modules() if m is model.encoder)
    own = [k for k in model.state_dict() if k.startswith(prefix) and "num_batches" not in k]
    fits = [k for k in own if k in fitting]
    if len(fits) < LEAST_SHARE * len(own):
        missing = [k for k in own if k not in fitting]
        raise InputError(
            f"--weights {source} has {len(fits)} of the {len(own)} tensors of the encoder, by name "
            f"and shape ({some_names(missing)} would stay random): give weights of this --model "
            "and --encoder, or --weights none."
        )


def describe(loaded: Loaded, model: Segmenter) -> str:
    """What was loaded and what not, with the first layer by its name if it is new."""
    total = len(loaded.fitting) + len(loaded.missing) + len(loaded.reshaped)
    text = f"{len(loaded.fitting)} of {total} tensors loaded"
    first = first_layer(model)
    if first in loaded.reshaped:
        here, there = (" x ".join(map(str, shape)) for shape in loaded.reshaped[first])
        text += f"; the first layer starts random, as {first} is {here} here and {there} there"
    elif first in loaded.missing:
        text += f"; the first layer starts random, as {first} is not in it"
    missing = [k for k in loaded.missing if k not in ("mean", "std", first)]
    if missing:
        text += f"; new, because not in it: {some_names(missing)}"
    reshaped = [k for k in loaded.reshaped if k != first]
    if reshaped:
        text += f"; new, because of another shape there: {some_names(reshaped)}"
    if loaded.left:
        text += f"; unused: {some_names(loaded.left)}"
    return text


def first_layer(model: Segmenter) -> str:
    """Name of the weight that the image meets first."""
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    return next(name for group in model.layers for name in group if shapes[name] == 4)
