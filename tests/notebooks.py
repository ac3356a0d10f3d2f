"""The notebooks of examples/, as they are stored: without outputs and without traces of the program
that has saved them.

python tests/notebooks.py    writes them so; `make format` calls it
"""

from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def stored(notebook: Path) -> str:
    """The text of a notebook's file, as it should be."""
    content = nbformat.read(notebook, as_version=4)
    content.metadata = nbformat.from_dict(METADATA)
    for cell in content.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nbformat.writes(content) + "\n"


if __name__ == "__main__":
    for notebook in NOTEBOOKS:
        notebook.write_text(stored(notebook), encoding="utf-8")
