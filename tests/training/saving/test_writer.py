"""The writer: what it saves, when, and the error when it cannot."""

import resource
import signal

import pytest
import torch
from states import trained, write

from segacc.errors import InputError
from segacc.models.load import load_segmenter
from segacc.training.saving.checkpoint import Progress, load_state, newest_state, states
from segacc.training.saving.writer import Best, Writer, save_best


def test_a_full_disk_is_an_error_and_leaves_the_state_before(tmp_path):
    """A limit on the size of files stands for a full disk: the system refuses to write more."""
    first = write(tmp_path, Progress(step=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for card in (None, "# card"):
            with Writer(tmp_path, trained(), keep=2, active=True) as writer:
                if card:
                    writer.hold_best(0.5, card, card)
                writer.save(Progress(step=2))
                with pytest.raises(
                    InputError, match=rf"could not be written.*too large.*--resume {tmp_path}"
                ):
                    writer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert newest_state(tmp_path) == first
    assert load_state(first, trained()).step == 1
    assert not (tmp_path / "best" / "model.safetensors").exists()


def test_the_writer_saves_the_weights_of_the_moment_of_the_call(tmp_path):
    of = trained()
    weight = next(of.model.parameters())
    with Writer(tmp_path, of, keep=2, active=True) as writer:
        best = weight.detach().clone()
        writer.hold_best(0.25, "# card", "name,iou\n")
        with torch.no_grad():
            weight.add_(1)
        writer.wait()
        assert not (tmp_path / "best").exists()  # it is written with the next state
        newest = weight.detach().clone()
        writer.save(Progress(1))
        with torch.no_grad():
            weight.add_(1)
        writer.save(Progress(1))  # nothing is written: this state is saved already
    assert len(states(tmp_path)) == 1
    load_state(states(tmp_path)[0], of)
    assert torch.equal(weight, newest)
    kept = load_segmenter(tmp_path)
    assert torch.equal(next(kept.parameters()), best) and kept.threshold == 0.25


def test_a_state_is_due_after_two_minutes(tmp_path):
    now = 0.0
    with Writer(tmp_path, trained(), keep=2, active=True, clock=lambda: now) as writer:
        assert not writer.due
        now = 121.0
        assert writer.due
        writer.save(Progress(1))
        assert not writer.due


def test_the_writer_of_another_rank_writes_nothing(tmp_path):
    with Writer(tmp_path, trained(), keep=2, active=False) as writer:
        writer.hold_best(0.25, "# card", "name,iou\n")
        writer.save(Progress(1))
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_writer(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with (
        pytest.raises(RuntimeError, match="first"),
        Writer(tmp_path, trained(), keep=2, active=True) as writer,
    ):
        writer.save(Progress(1))
        raise RuntimeError("first")


def test_the_best_model_is_replaced_whole(tmp_path):
    of = trained(seed=1)
    for model, card in ((trained(seed=0).model, "# old"), (of.model, "# card")):
        save_best(tmp_path, Best(model.config(), model.tensors(), card, card))
    assert {p.name for p in (tmp_path / "best").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "valid_per_image.csv",
    }
    assert (tmp_path / "best" / "README.md").read_text() == "# card"
    assert len({p.stat().st_mode for p in (tmp_path / "best").iterdir()}) == 1
    assert list((tmp_path / "checkpoints").iterdir()) == []
    loaded = load_segmenter(tmp_path).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in of.model.state_dict().items())
