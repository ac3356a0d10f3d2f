"""What a model starts from: pretrained weights by name, a local file or folder, or none."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segacc.errors import InputError, some_names
from segacc.labels import Labels
from segacc.models.huggingface import keep_head, load_pretrained_net
from segacc.models.local import check_share, config_beside, load_weights
from segacc.models.normalisation import Normalisation, from_image_processor, from_smp
from segacc.models.segmenter import Segmenter
from segacc.models.smp import make_smp_net
from segacc.models.tensors import copy_matching, find_weights, read_tensors

STRIDE_OF_0_1_0 = 32


@dataclass(frozen=True)
class Built:
    """A model, and a sentence for the banner on where its weights come from."""

    model: Segmenter
    weights: str


def build_model(
    name: str,
    encoder: str | None,
    weights: str,
    classes: int = 1,
    channels: int = 3,
    head_of: Labels | None = None,
) -> Built:
    """Build the model `--model` with the weights `--weights`.

    Args:
        name: one of the study's six names, an architecture of segmentation_models_pytorch, or the
            Hub id (or folder) of a transformers model.
        encoder: of segmentation_models_pytorch. Models of transformers have their own.
        weights: `none`, a file or folder, a name of pretrained encoder weights, or a Hub id.
        classes: logits per pixel.
        channels: channels of an image.
        head_of: the classes whose rows of the head are kept (`keep_head`), of weights of
            transformers; None for a new head.

    Raises:
        InputError: unknown name, or weights that cannot be had. Never random weights instead.
    """
    local = Path(weights).expanduser()
    if name == "segformer" or "/" in name:
        if not local.exists():
            return _build_transformers(name, weights, classes, channels, head_of)
        if "model_type" in config_beside(local):
            # In such a folder, names differ from those in memory; the library knows them.
            folder = find_weights(local).parent
            return _build_transformers(name, str(folder), classes, channels, head_of)
        if head_of is not None:
            raise InputError(
                f"--keep-head: {local} does not name the classes of its head: give --weights with "
                "a config.json of transformers beside them, or leave the flag out."
            )
        built = _build_transformers(name, "none", classes, channels)
        return Built(built.model, load_weights(built.model, local))
    assert encoder is not None
    model = Segmenter(name, encoder, classes, channels=channels)
    if weights == "none":
        return Built(model, f"none (random); images normalised by {model.normalisation}")
    if local.exists():
        return Built(model, load_weights(model, local, encoder))
    return Built(model, _load_encoder_by_name(model, encoder, weights))


def _build_transformers(
    name: str, weights: str, classes: int, channels: int, head_of: Labels | None = None
) -> Built:
    from transformers import AutoConfig, SegformerConfig

    if name == "segformer" and weights == "none":
        config = SegformerConfig()
    else:
        source, flag = (name, "--model") if weights == "none" else (weights, "--weights")
        try:
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise _no_weights(f"{flag} {source}", error) from error
    model = Segmenter(
        "transformers", classes=classes, backbone_config=config.to_dict(), channels=channels
    )
    if weights == "none":
        return Built(model, f"none (random); images normalised by {model.normalisation}")
    try:
        net, new = load_pretrained_net(weights, None if head_of else classes)
    except OSError as error:
        raise _no_weights(f"--weights {weights}", error) from error
    state, about_head = net.state_dict(), ""
    if head_of:
        rows, about_head = keep_head(net, new, model.net, head_of, weights)
        state |= rows
    loaded = copy_matching(model.net, state)
    assert not loaded.missing, loaded
    fitting = {f"net.{k}" for k in loaded.fitting} - {f"net.{k}" for k in new}
    check_share(model, fitting, weights)
    model.normalise_by(from_image_processor(weights) or Normalisation())
    new += loaded.reshaped
    new_tensors = f"new: {some_names(new)}" if new else ""
    about = "; ".join(text for text in (about_head, new_tensors) if text)
    said = f"{weights}" + (f" ({about})" if about else "")
    return Built(model, f"{said}; images normalised by {model.normalisation}")


def _load_encoder_by_name(model: Segmenter, encoder: str, weights: str) -> str:
    from segmentation_models_pytorch.encoders import encoders

    if encoder.startswith("tu-"):
        names = ["imagenet"]
    else:
        names = list(encoders[encoder]["pretrained_settings"])
    if weights not in names:
        raise InputError(
            f"--weights {weights} is neither a file, a folder nor a name known for --encoder "
            f"{encoder}: expected {', '.join([*names, 'none'])}, or a path that exists."
        )
    try:
        # SMP's, which also fits the first layer to other channels than three.
        net = make_smp_net(model.architecture, encoder, 1, model.channels, weights)
        model.normalise_by(from_smp(encoder, weights))
    except (OSError, ValueError, RuntimeError) as error:  # hub and timm raise different ones
        raise _no_weights(f"--weights {weights}", error) from error
    loaded = copy_matching(model.encoder, net.encoder.state_dict())
    assert not loaded.missing and not loaded.reshaped, loaded
    return (
        f"{weights} ({encoder} encoder; the decoder is new); "
        f"images normalised by {model.normalisation}"
    )


def _no_weights(flag: str, error: Exception) -> InputError:
    return InputError(
        f"{flag} could not be downloaded ({_first_line(error)}). Without a network: "
        "give --weights a local file or folder, point HF_HOME at a cache that holds the model or "
        "HF_ENDPOINT at a mirror, or train from random weights with --weights none."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason"]
    return f"{type(error).__name__}: {lines[0].rstrip('. ')}"


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
        model.load_state_dict(read_tensors(weights))
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
    return {"stride": STRIDE_OF_0_1_0, **found}


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
