"""The notebooks of examples/ run from the first cell to the last, each alone in a folder of its
own, on the CPU and without a network; and they are stored without outputs."""

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbmake.nb_run import NotebookRun
from notebooks import NOTEBOOKS, stored
from small import ROOT

WIDGET = "application/vnd.jupyter.widget-view+json"
OWN_FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)


@pytest.fixture
def kernel(monkeypatch):
    """Kernels import this checkout, and see no settings of the user."""
    home = Path(os.environ["SEGACC_CACHE"]).parent
    for name in (*OWN_FOLDERS, "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    others = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *others]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@each
def test_a_notebook_runs(notebook, kernel, tmp_path):
    copy = Path(shutil.copy(notebook, tmp_path))
    done = NotebookRun(copy, default_timeout=600).execute()
    assert done.error is None, done.error.trace
    outputs = [out for cell in done.nb.cells for out in cell.get("outputs", [])]
    printed = "".join(out.text for out in outputs if out.output_type == "stream")
    assert "all epochs are done" in printed and "warning" not in printed.lower()
    shown = [out.data for out in outputs if "data" in out]
    assert any("image/png" in data for data in shown)
    assert any(WIDGET in data for data in shown)  # the progress bar is the notebook's own
    if "3" in notebook.stem:
        [differ] = re.findall(r"^(\d+) of \d+ pixels differ", printed, re.M)
        assert "the same mask: True" in printed and int(differ) < 10  # those at the threshold


@each
def test_a_notebook_is_stored_without_outputs(notebook):
    is_stored = notebook.read_text(encoding="utf-8") == stored(notebook)
    assert is_stored, f"examples/{notebook.name} has outputs or other traces: run `make format`"


@each
def test_links_of_a_notebook_lead_to_files(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)\s#]+)", text) if "://" not in link]
    assert links and [link for link in links if not (notebook.parent / link).is_file()] == []
