"""segacc: fine-tune any semantic-segmentation model on any image/mask set with one loop.

run = segacc.train(dataset="demo", model="linknet")
scores = segacc.evaluate(run)
masks = segacc.predict(run, ["photo.jpg"])
model = segacc.load(run)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported when they are first used, so that `import segacc` is instant.
_MODULES = {
    "Run": "segacc.api.train",
    "train": "segacc.api.train",
    "Scores": "segacc.api.evaluate",
    "evaluate": "segacc.api.evaluate",
    "load": "segacc.api.predict",
    "predict": "segacc.api.predict",
    "InputError": "segacc.errors",
    "Stopped": "segacc.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'segacc' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
