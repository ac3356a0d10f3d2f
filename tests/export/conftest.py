"""A small run, and what is exported of it."""

import pytest
from accelerate.state import AcceleratorState
from small import TINY, write_blobs

from segacc.config.flags import parse_train
from segacc.export.export import export
from segacc.training.fit import fit


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Of images of 64 px; most pixels get a probability that is far from 0.5."""
    folder = tmp_path_factory.mktemp("export")
    flags = ["--dataset", str(write_blobs(folder / "blobs")), *TINY, "--weights", "none"]
    flags += ["--size", "64", "--epochs", "4", "--lr", "5e-3", "--batch-size", "4"]
    AcceleratorState._reset_state(reset_partial_state=True)
    return fit(parse_train([*flags, "--tracker", "none", "--output-dir", str(folder / "run")]))


@pytest.fixture(scope="session")
def onnx_files(run, capfd_session):
    """model.onnx, model-int8.onnx, and what was printed."""
    paths = export(str(run), "onnx", int8=True)
    return *paths, capfd_session()


@pytest.fixture(scope="session")
def capfd_session(request):
    """The standard output since the last call; pytest's own fixtures live for one test."""
    manager = request.config.pluginmanager.getplugin("capturemanager")
    return lambda: manager.read_global_capture().out
