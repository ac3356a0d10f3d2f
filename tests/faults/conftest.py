"""The data of the runs in a file of tests, and the outcome of a run that is not interrupted."""

import pytest
from attempts import outcome, run_attempt
from small import write_blobs


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


@pytest.fixture(scope="module")
def uninterrupted(blobs, request, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run_attempt(run, ["--dataset", str(blobs), *request.module.FLAGS]) == 0
    return outcome(run)
