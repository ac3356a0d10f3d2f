"""Pictures in a terminal: two pixels in each character, in its colours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

WIDEST = 36  # characters


def show_pictures(pictures: Mapping[str, np.ndarray]) -> bool:
    """Print pictures beside each other, with their names below.

    Args:
        pictures: (H, W, 3) uint8 RGB.

    Returns:
        False where nothing was printed: there is no terminal, or it has fewer than 256 colours.
    """
    console = Console(highlight=False)
    if not console.is_terminal or console.color_system not in ("256", "truecolor"):
        return False
    if console.no_color:
        return False
    gap = 2
    side = min(WIDEST, (console.width - 1) // len(pictures) - gap)
    grid = Table.grid(padding=(0, gap, 0, 0))
    for _ in pictures:
        grid.add_column(width=side, no_wrap=True, overflow="ellipsis")
    grid.add_row(*(in_characters(picture, side) for picture in pictures.values()))
    grid.add_row(*map(Text, pictures))
    console.print(grid)
    return True


def in_characters(picture: np.ndarray, side: int) -> Text:
    """A picture as text: at most `side` characters wide, and half as many lines.

    A character is twice as high as it is wide; its upper half shows one pixel, the lower another.
    """
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    across, down = max(1, round(width * scale)), 2 * max(1, round(height * scale / 2))
    small = np.asarray(Image.fromarray(picture).resize((across, down), Image.Resampling.BOX))
    lines = [
        Text.assemble(
            *(
                ("\N{UPPER HALF BLOCK}", Style(color=_colour(above), bgcolor=_colour(below)))
                for above, below in zip(upper, lower, strict=True)
            )
        )
        for upper, lower in zip(small[::2], small[1::2], strict=True)
    ]
    return Text("\n").join(lines)


def _colour(pixel: np.ndarray) -> Color:
    red, green, blue = map(int, pixel)
    return Color.from_rgb(red, green, blue)
