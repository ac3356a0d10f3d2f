"""Networks of the library transformers: semantic segmentation by a config or a Hub id."""

from __future__ import annotations

from typing import Any

from segacc.errors import InputError

TRANSFORMERS_STRIDE = 32


def make_transformers_net(config: dict[str, Any], classes: int, channels: int) -> Any:
    """Build a network with random weights.

    Args:
        config: the model's config as a dict, as `PreTrainedConfig.to_dict` gives it.
        classes: logits per pixel.
        channels: channels of the input image.

    Raises:
        InputError: transformers has no semantic segmentation model of this type.
    """
    from transformers import AutoConfig, AutoModelForSemanticSegmentation

    config = {k: v for k, v in config.items() if k not in ("id2label", "label2id", "num_labels")}
    settings = AutoConfig.for_model(**config, num_labels=classes)
    if channels != 3:  # the default of all of them
        for part in (settings, getattr(settings, "backbone_config", None)):
            if part is not None:
                part.num_channels = channels
    try:
        return AutoModelForSemanticSegmentation.from_config(settings, trust_remote_code=False)
    except ValueError as error:
        raise InputError(
            f"--model: transformers has no semantic segmentation model of the type "
            f"{settings.model_type} ({str(error).splitlines()[0]}): choose another model."
        ) from error


def transformers_stride(net: Any) -> int:
    """What height and width have to be multiples of: a plain ViT's patch, else 32."""
    config = getattr(net.config, "backbone_config", None) or net.config
    patch = getattr(config, "patch_size", None)
    # Smaller patches are those of networks that go on to halve the map.
    return patch if isinstance(patch, int) and patch >= 8 else TRANSFORMERS_STRIDE


def load_pretrained_net(source: str, classes: int) -> tuple[Any, list[str]]:
    """A pretrained network, and the names of its tensors that are new.

    Args:
        source: a Hub id or a folder that `save_pretrained` of transformers has written.

    Raises:
        OSError: it cannot be had.
    """
    from transformers import AutoModelForSemanticSegmentation

    net, info = AutoModelForSemanticSegmentation.from_pretrained(
        source,
        num_labels=classes,
        ignore_mismatched_sizes=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    reshaped = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    return net, sorted([*info["missing_keys"], *reshaped])
