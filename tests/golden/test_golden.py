"""Short trainings give the numbers that `runs.json` holds.

Losses and scores are compared on any machine. The sha256 of the weights after the last step is
compared where the processor and the versions are those in the file.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from golden import RUNS

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "runs.json").read_text())


# These in `make soak` only.
MORE = ("unet", "fpn", "pspnet", "deeplabv3plus", "segformer", "accumulate")
NAMES = [
    pytest.param(name, marks=pytest.mark.soak if name in MORE else ()) for name in GOLDEN["runs"]
]


@pytest.fixture(scope="module")
def found(tmp_path_factory, request):
    """All runs of which the tests that were chosen ask for one."""
    asked = {item.callspec.params["name"] for item in request.session.items if _is_of_a_run(item)}
    names = [name for name in RUNS if name in asked or name in ("linknet", "crop")]
    file = tmp_path_factory.mktemp("golden") / "runs.json"
    command = [sys.executable, str(HERE / "golden.py"), str(file), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(file.read_text())


def _is_of_a_run(item):
    return item.function is test_a_run_gives_the_numbers_in_the_file


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first one waits for all runs
@pytest.mark.parametrize("name", NAMES)
def test_a_run_gives_the_numbers_in_the_file(found, name):
    run, wanted = found["runs"][name], GOLDEN["runs"][name]
    assert len(run["epochs"]) == len(wanted["epochs"])
    for epoch, expected in zip(run["epochs"], wanted["epochs"], strict=True):
        assert epoch == pytest.approx(expected, rel=0, abs=1e-5)
    assert run.get("test", {}) == pytest.approx(wanted.get("test", {}), rel=1e-5, abs=1e-5)
    if found["machine"] == GOLDEN["machine"]:
        assert run["sha256"] == wanted["sha256"]


def test_a_run_that_is_resumed_in_its_middle_has_the_weights_of_one_that_is_not(found):
    runs = found["runs"]
    assert runs["resumed"]["sha256"] == runs["linknet"]["sha256"] != runs["crop"]["sha256"]
