"""Names of models and encoders as people write them; and whether a text is a path or a Hub id.

This module imports nothing heavy, so that a name is known to be wrong before anything is loaded.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from segacc.config.train import STUDY_MODELS, is_own
from segacc.errors import InputError, quoted

SPLIT_NAMES = ("train", "valid", "test")
"""The names of a data set's splits, whatever its folders are called."""

MODELS = (
    *STUDY_MODELS,
    *("unetplusplus", "manet", "deeplabv3", "pan", "upernet", "dpt"),
)
"""The names that --model takes."""

# Names of segmentation_models_pytorch, which takes seconds to import. A name that is missing here
# has to be written exactly as in the library.
ENCODERS = """
densenet121 densenet161 densenet169 densenet201 dpn107 dpn131 dpn68 dpn68b dpn92 dpn98
efficientnet-b0 efficientnet-b1 efficientnet-b2 efficientnet-b3 efficientnet-b4 efficientnet-b5
efficientnet-b6 efficientnet-b7 inceptionresnetv2 inceptionv4 mit_b0 mit_b1 mit_b2 mit_b3 mit_b4
mit_b5 mobilenet_v2 mobileone_s0 mobileone_s1 mobileone_s2 mobileone_s3 mobileone_s4 resnet101
resnet152 resnet18 resnet34 resnet50 resnext101_32x16d resnext101_32x32d resnext101_32x48d
resnext101_32x4d resnext101_32x8d resnext50_32x4d se_resnet101 se_resnet152 se_resnet50
se_resnext101_32x4d se_resnext50_32x4d senet154 timm-efficientnet-b0 timm-efficientnet-b1
timm-efficientnet-b2 timm-efficientnet-b3 timm-efficientnet-b4 timm-efficientnet-b5
timm-efficientnet-b6 timm-efficientnet-b7 timm-efficientnet-b8 timm-efficientnet-l2
timm-skresnet18 timm-skresnet34 timm-skresnext50_32x4d timm-tf_efficientnet_lite0
timm-tf_efficientnet_lite1 timm-tf_efficientnet_lite2 timm-tf_efficientnet_lite3
timm-tf_efficientnet_lite4 vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn xception
"""


def _plain(name: str) -> str:
    """Remove what people write in different ways: case, marks between words, + for plus."""
    return re.sub(r"[-_.\s]", "", name.lower().replace("+", "plus"))


_MODELS = {_plain(name): name for name in MODELS} | {"segformerb0": "segformer"}
_ENCODERS = {_plain(name): name for name in ENCODERS.split()}


def model_name(given: str) -> str:
    """Our name of the model that `--model` names: `unetplusplus` for UNet++, and so on. A Hub id,
    the name of a program's network, and a name that is not known stay as they are."""
    return given if "/" in given or is_own(given) else _MODELS.get(_plain(given), given)


def encoder_name(given: str) -> str:
    """The library's name of the encoder that `--encoder` names: `efficientnet-b0` for
    EfficientNet_B0. Names of timm (`tu-NAME`) and unknown names stay as they are."""
    return _ENCODERS.get(_plain(given), given)


def is_path(text: str) -> bool:
    """Whether a text can only mean a file or folder, not a repository (owner/name) of the Hub.

    This holds for `./x`, `~/x`, `/x`, `x/`, `x/y/z`, for `runs/x`, and for any `x/y` if there is a
    folder x here.
    """
    first, slash, rest = text.partition("/")
    if not slash:
        return False
    if first in ("", ".", "..", "~", "runs") or "/" in rest or not rest:
        return True
    return os.path.isdir(first)


A_DATASET = "a folder, an archive, a parquet file or a Hub id (owner/name)"
A_MODEL = "the name of a model, or the Hub id (owner/name) or folder of one of transformers"
WEIGHTS = "a file or folder, a Hub id (owner/name), a pretrained name, or none"
A_TRAINED_MODEL = (
    "a run's folder, a from_pretrained folder, an ONNX file of segacc, or a Hub id (owner/name)"
)
"""ends of sentences that say what may be given"""


def check_place(what: str, text: str, expected: str) -> None:
    """Raises InputError for a path that does not exist, so that the Hub is not asked for it.

    Args:
        what: the flag that gives it, or what it is for, as the start of a sentence.
        expected: what may be given, as the end of one.
    """
    path = Path(text).expanduser()
    if not is_path(text) or os.path.lexists(path):
        return
    raise InputError(f"{what} {quoted(text)} was not found ({nearest(path)}): expected {expected}.")


def nearest(path: Path) -> str:
    """Say of a missing path which part of it is missing, or which similar name exists."""
    folder = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(folder).parts[0]
    names = [entry.name for entry in folder.iterdir()]
    near = difflib.get_close_matches(missing, names, n=1)
    if near:
        return f"{folder / near[0]} is there"
    where = "here" if folder == Path() else f"in {folder}"
    return f"there is no {missing} {where}"
