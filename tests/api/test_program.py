"""A user's program with own data, network, loss and callbacks, on one process and on two."""

import json
from pathlib import Path

import pytest
from small import run_program


def found(folder: Path, processes: int) -> list[dict]:
    folder.mkdir()
    script = Path(__file__).parent / "program.py"
    done = run_program(script, folder, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{i}.json").read_text()) for i in range(processes)]


@pytest.mark.distributed
def test_what_a_program_gives_trains_the_same_on_two_processes(tmp_path):
    [one] = found(tmp_path / "1", 1)
    two, other = found(tmp_path / "2", 2)
    assert two == other  # callbacks and scores are the same on all processes
    assert [step[:2] for step in one["steps"]] == [[n, 1 + (n > 3)] for n in range(1, 7)]
    losses = [[step[2] for step in of["steps"]] for of in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert two["epochs"] == pytest.approx(one["epochs"], rel=1e-4) and len(one["epochs"]) == 2
    assert two["iou"] == pytest.approx(one["iou"], abs=1e-3) and one["iou"] > 0.5
    # The second training of a program is as its first one would be.
    assert two["second"] == pytest.approx(one["second"], rel=1e-2)
