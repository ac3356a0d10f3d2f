"""Recipes: the defaults of the flags of a training. A flag that is given always wins.

docs/recipes.md says what each choice gave.
"""

from __future__ import annotations

from typing import Any

from segacc.config import RecipeName

# What differs from the defaults of `TrainConfig`, which are those of the recipe `default`.
RECIPES: dict[RecipeName, dict[str, Any]] = {
    "default": {},
    "study": {"loss": "dice"},
    "strong": {
        "augment": "strong",
        "ema": 0.99,
        "batch_size": 8,
        "epochs": 150,
        "patience": 40,
    },
}
