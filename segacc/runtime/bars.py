"""Progress bars: in a terminal, and in a notebook, where they are its own."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm
from tqdm.auto import tqdm as tqdm_here  # the notebook's, where this is one


def make_bar(shown: bool = True, **options: Any) -> tqdm:
    """A bar of tqdm with its options; nothing is shown where nobody looks, such as in a log.

    Args:
        shown: False shows nothing anywhere.
    """
    watched = sys.stderr.isatty() or in_notebook()
    return tqdm_here(disable=not (shown and watched), **options)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")
