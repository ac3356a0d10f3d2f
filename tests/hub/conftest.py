"""A Hub on this machine that takes models, and a small run to push."""

import json
import shutil

import pytest
from accelerate.state import AcceleratorState
from model_hub import TOKEN, ModelHub, served
from small import TINY, write_classes

from segacc.config.flags import parse_train
from segacc.training.fit import fit


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub of this process; `.environment` is for others, whose client reads it at its start."""
    from huggingface_hub import constants

    with served(tmp_path) as environment:
        home = environment["HF_ENDPOINT"]
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")[2]
        url = home + "/{repo_id}" + template
        monkeypatch.setattr(constants, "ENDPOINT", home)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield ModelHub


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of one epoch on three classes."""
    folder = tmp_path_factory.mktemp("hub")
    flags = ["--dataset", str(write_classes(folder / "private-place" / "scenes")), *TINY]
    flags += ["--weights", "none", "--size", "64", "--epochs", "1", "--batch-size", "4"]
    AcceleratorState._reset_state(reset_partial_state=True)
    return fit(parse_train([*flags, "--tracker", "none", "--output-dir", str(folder / "run")]))


@pytest.fixture
def run(trained, tmp_path):
    """A copy, to which files may be added."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def evaluated(run):
    """A function that writes what `segacc evaluate` writes, as far as a push reads it."""

    def write() -> None:
        score = {"value": 0.5, "low": 0.4, "high": 0.6}
        record = {
            "images": 3,
            "threshold": None,
            "scores": {"iou": score, "ece": {"value": 0.1, "low": None, "high": None}},
            "formulas": {"iou": "TP / (TP + FP + FN)", "ece": "|a - b|"},
            "per_class": [
                {"name": "disc", "iou": {**score, "value": 0.7}},
                {"name": "box", "iou": {"value": None, "low": None, "high": None}},
            ],
            "notes": ["1 of the 3 images were in train, so the scores are too good: mr_smith.png"],
        }
        (run / "test").mkdir()
        (run / "test" / "metrics.json").write_text(json.dumps(record))
        (run / "test" / "overview.png").write_bytes(b"picture")

    return write
