"""What a model starts from: pretrained weights by name, a local file or folder, or none."""

from __future__ import annotations

import inspect
import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segacc.errors import InputError
from segacc.models.segmenter import Segmenter


@dataclass(frozen=True)
class Built:
    """A model, and a sentence for the banner on where its weights come from."""

    model: Segmenter
    weights: str


def build_model(name: str, encoder: str, weights: str, classes: int = 1) -> Built:
    """Build the model `--model` with the weights `--weights`.

    Args:
        name: one of the study's six names, an architecture of segmentation_models_pytorch, or the
            Hub id (or folder) of a transformers model.
        weights: `none`, a file or folder, a name of pretrained encoder weights, or a Hub id.

    Raises:
        InputError: unknown name, or weights that cannot be had. Never random weights instead.
    """
    local = Path(weights).expanduser()
    if name == "segformer" or "/" in name:
        built = _build_transformers(name, "none" if local.exists() else weights, classes)
        return Built(built.model, load_weights(built.model, local)) if local.exists() else built
    model = Segmenter(name, encoder, classes)
    if weights == "none":
        return Built(model, "none (random)")
    if local.exists():
        return Built(model, load_weights(model, local))
    return Built(model, _load_encoder_by_name(model, encoder, weights))


def _build_transformers(name: str, weights: str, classes: int) -> Built:
    from transformers import AutoConfig, AutoModelForSemanticSegmentation, SegformerConfig

    if name == "segformer" and weights == "none":
        config = SegformerConfig()
    else:
        source, flag = (name, "--model") if weights == "none" else (weights, "--weights")
        try:
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise _no_weights(f"{flag} {source}", error) from error
    model = Segmenter("transformers", classes=classes, backbone_config=config.to_dict())
    if weights == "none":
        return Built(model, "none (random)")
    try:
        net, info = AutoModelForSemanticSegmentation.from_pretrained(
            weights,
            num_labels=classes,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except OSError as error:
        raise _no_weights(f"--weights {weights}", error) from error
    loaded = _copy_matching(model.net, net.state_dict())
    assert not loaded.missing and not loaded.reshaped, loaded
    reshaped = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    new = sorted([*info["missing_keys"], *reshaped])
    return Built(model, f"{weights}" + (f" (new: {_some(new)})" if new else ""))


def _load_encoder_by_name(model: Segmenter, encoder: str, weights: str) -> str:
    from segmentation_models_pytorch.encoders import encoders, get_encoder

    if encoder.startswith("tu-"):
        names = ["imagenet"]
    else:
        names = list(encoders[encoder]["pretrained_settings"])
    if weights not in names:
        raise InputError(
            f"--weights {weights} is neither a file, a folder nor a name known for --encoder "
            f"{encoder}: expected {', '.join([*names, 'none'])}, or a path that exists."
        )
    source = model.net.encoder
    try:
        pretrained = get_encoder(
            encoder,
            weights=weights,
            depth=getattr(source, "_depth", 5),
            output_stride=getattr(source, "_output_stride", 32),
        )
    except (OSError, ValueError, RuntimeError) as error:  # hub and timm raise different ones
        raise _no_weights(f"--weights {weights}", error) from error
    loaded = _copy_matching(source, pretrained.state_dict())
    assert not loaded.missing, loaded
    return f"{weights} ({encoder} encoder; the decoder is new)"


def _no_weights(flag: str, error: Exception) -> InputError:
    return InputError(
        f"{flag} could not be downloaded ({_first_line(error)}). Without a network: "
        "give --weights a local file or folder, point HF_HOME at a cache that holds the model or "
        "HF_ENDPOINT at a mirror, or train from random weights with --weights none."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason"]
    return f"{type(error).__name__}: {lines[0].rstrip('. ')}"


@dataclass(frozen=True)
class _Loaded:
    tensors: int
    missing: list[str]  # in the model, not in the file
    reshaped: list[str]  # in both, of different shape
    left: list[str]  # in the file only


def _copy_matching(module: nn.Module, state: dict[str, Tensor]) -> _Loaded:
    own = module.state_dict()
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(fits, strict=False)
    return _Loaded(
        len(fits),
        missing=[k for k in own if k not in state],
        reshaped=[k for k in own if k in state and k not in fits],
        left=[k for k in state if k not in own],
    )


def load_weights(model: Segmenter, path: Path) -> str:
    """Start from a local file or folder; tensors are matched by name and shape.

    Args:
        path: a run's folder, a from_pretrained folder, or a .safetensors, .pt, .pth or .bin file
            of a whole model or of its encoder.

    Returns:
        What was loaded, what not, and why, as a sentence.

    Raises:
        InputError: nothing can be read, or nothing fits this model.
    """
    state = _read_state(path)
    names = model.state_dict()
    # The same tensors go by other names in files of the model, of its net and of its encoder.
    prefixes = ("", "net.", "net.encoder.", f"net.{getattr(model.net, 'base_model_prefix', '')}.")
    named = [{prefix + k: v for k, v in state.items()} for prefix in prefixes]
    state = max(named, key=lambda s: sum(k in names and names[k].shape == s[k].shape for k in s))
    # Every model has the buffers mean and std; they do not make it the same model.
    both = names.keys() & state.keys()
    if not any(k.startswith("net.") and names[k].shape == state[k].shape for k in both):
        raise InputError(
            f"--weights {path} has no tensor that fits the model (it holds {_some(list(state))}; "
            f"the model expects {_some(list(names))}): give weights of this --model and --encoder."
        )
    loaded = _copy_matching(model, state)
    text = f"{path} ({loaded.tensors} of {len(names)} tensors loaded"
    missing = [k for k in loaded.missing if k not in ("mean", "std")]
    if missing:
        text += f"; new, because not in it: {_some(missing)}"
    if loaded.reshaped:
        text += f"; new, because of another shape there: {_some(loaded.reshaped)}"
    if loaded.left:
        text += f"; unused: {_some(loaded.left)}"
    return text + ")"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _read_state(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.is_dir():
        folders = [path / "best", path]
        names = ("model.safetensors", "pytorch_model.bin")
        files = [f / n for f in folders for n in names if (f / n).is_file()]
        if not files:
            raise InputError(
                f"--weights {path} has no model.safetensors: give a run's folder, a "
                "from_pretrained folder or a weights file."
            )
        path = files[0]
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read ({(str(error) or type(error).__name__).splitlines()[0]}): "
            "expected tensors in a .safetensors file, or in a .pt file that holds nothing else."
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise InputError(f"--weights {path} holds a {type(state).__name__}, not named tensors.")
    return {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}


def load_segmenter(source: str | Path) -> Segmenter:
    """A trained model, in evaluation mode on the CPU.

    Args:
        source: a run's folder, of which `best` is taken; a from_pretrained folder; or a Hub id
            (owner/name), of which config.json and model.safetensors are downloaded, once.

    Raises:
        InputError: there is no model of segacc, or it cannot be had.
    """
    folder = Path(source).expanduser()
    names = ("config.json", "model.safetensors")
    if folder.is_dir():
        folders = [f for f in (folder / "best", folder) if (f / names[1]).is_file()]
        if not folders:
            raise InputError(
                f"{folder} holds no model.safetensors, and neither does a folder best in it: the "
                "run has not finished its first epoch, or this is no run's folder."
            )
        config, weights = (folders[0] / name for name in names)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and not folder.exists():
        config, weights = (_from_hub(str(source), name) for name in names)
    else:
        raise InputError(
            f"{source} is not a model: expected a run's folder, a from_pretrained folder, or a Hub "
            "id (owner/name)."
        )
    # from_pretrained of the mixin does the same and prints a line from every rank.
    model = Segmenter(**_arguments(config))
    try:
        model.load_state_dict(_read_state(weights))
    except RuntimeError as error:
        raise InputError(
            f"{weights} does not fit the model that {config} describes "
            f"({str(error).splitlines()[-1].strip()}): take both from one training."
        ) from error
    return model.eval()


def _arguments(path: Path) -> dict[str, Any]:
    """What config.json of a model's folder says, if it says what Segmenter can be made of."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): expected the config.json that "
            "lies beside a model's weights."
        ) from error
    known = inspect.signature(Segmenter).parameters
    if not isinstance(found, dict) or "architecture" not in found or found.keys() - known.keys():
        raise InputError(
            f"{path} does not describe a model of this segacc: expected one that train.py has "
            f"trained, with an architecture and no other keys than {', '.join(known)}."
        )
    return found


def _from_hub(repository: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError) as error:  # the hub's errors are one or the other
        raise InputError(
            f"{repository} is no folder here, and its {name} could not be had from the Hub "
            f"({_first_line(error)}): give a model's folder, or the id of a segacc model; without "
            "a network point HF_HOME at a cache that holds it."
        ) from error
