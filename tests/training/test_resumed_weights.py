"""--class-weights FILE of a resumed run are those that it began with."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from small import TINY, lines, write_blobs

from segacc.config.flags import parse_train
from segacc.errors import InputError
from segacc.training.fit import fit
from segacc.training.saving.checkpoint import states


def resume(run):
    AcceleratorState._reset_state(reset_partial_state=True)
    return fit(parse_train(["--resume", str(run)]))


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_a_resumed_run_keeps_the_weights_that_it_began_with(change, tmp_path, capsys):
    data, file = write_blobs(tmp_path / "blobs", train=4, valid=2), tmp_path / "weights.txt"
    file.write_text("background: 0.5\nforeground: 3\n")
    flags = ["--dataset", data, "--size", 64, "--weights", "none", "--batch-size", 4, *TINY]
    flags += ["--loss", "ce", "--class-weights", file, "--epochs", 2, "--save-every", 1]
    flags += ["--keep", 9, "--tracker", "none", "--output-dir", tmp_path / "run"]
    run = fit(parse_train([*map(str, flags)]))
    record = json.loads((run / "config.json").read_text())
    assert record["class_weights"] == [0.5, 3]
    whole, epochs = load_file(states(run)[-1]), lines(run)

    for state in states(run)[1:]:
        state.unlink()
    file.unlink() if change == "gone" else file.write_text("background: 9\nforeground: 1\n")
    capsys.readouterr()
    resume(run)
    said = "pixels weigh by class: background 0.5, foreground 3"
    assert said in capsys.readouterr().out
    assert all(torch.equal(value, whole[k]) for k, value in load_file(states(run)[-1]).items())
    assert [e["train_loss"] for e in lines(run)] == [e["train_loss"] for e in epochs]

    # A run of an older version has stored none: its file is read, or missed.
    del record["class_weights"]
    (run / "config.json").write_text(json.dumps(record))
    for state in states(run)[1:]:
        state.unlink()
    if change == "gone":
        with pytest.raises(InputError, match="weights.txt: there is no such file"):
            resume(run)
    else:
        resume(run)
        assert "background 9, foreground 1" in capsys.readouterr().out
