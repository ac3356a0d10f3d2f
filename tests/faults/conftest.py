"""Data for the runs of a file, and the outcome of the one that nothing happens to."""

import pytest
from lives import live, outcome
from small import write_blobs


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


@pytest.fixture(scope="module")
def whole(blobs, request, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert live(run, ["--dataset", str(blobs), *request.module.FLAGS]) == 0
    return outcome(run)
