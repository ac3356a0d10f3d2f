"""README and docs name every flag."""

import dataclasses
import re

import pytest
from small import ROOT

from segacc.config.evaluate import EvaluateConfig
from segacc.config.launch import Launch
from segacc.config.train import TrainConfig

NO_FLAGS = {"run", "others", "debug"}  # arguments without a name, and a flag for developers


@pytest.mark.parametrize(
    ("config", "pages"),
    [
        (TrainConfig, ["README.md"]),
        (EvaluateConfig, ["README.md", "docs/evaluation.md"]),
        (Launch, ["docs/launching.md"]),
    ],
)
def test_the_docs_name_every_flag(config, pages):
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    names = {field.name for field in dataclasses.fields(config)} - NO_FLAGS
    flags = {f"--{name.replace('_', '-')}" for name in names}
    assert flags - set(re.findall(r"--[a-z][a-z-]*", text)) == set()
