"""Tables of text: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io

# The columns that a narrow terminal leaves out, first to last; the files have all of them.
LEFT_OUT = (
    *("img/s", "minutes", "encoder", "seeds", "best epoch"),
    *("parameters (M)", "threshold", "weights", "iou_image"),
)


def markdown(table: list[dict[str, str]], note: str) -> str:
    """The table for a README, with what its columns mean."""
    lines = [list(table[0]), ["---"] * len(table[0]), *(list(row.values()) for row in table)]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + f"\n\n{note}\n"


def comma_separated(table: list[dict[str, str]]) -> str:
    """The table for a spreadsheet."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def print_table(table: list[dict[str, str]]) -> None:
    """The table for a terminal, with as many columns as it is wide enough for."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    for count in range(len(LEFT_OUT) + 1):
        names = [name for name in table[0] if name not in LEFT_OUT[:count]]
        shown = Table()
        for name in names:
            shown.add_column(name, overflow="fold")
        for row in table:
            shown.add_row(*(row[name] for name in names))
        needed = console.measure(shown, options=console.options.update(width=10_000)).maximum
        if not console.is_terminal:
            console.width = needed
        if needed <= console.width:
            break
    console.print(shown)
