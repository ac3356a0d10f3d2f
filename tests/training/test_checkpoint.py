"""States: what comes back, what survives, what is dropped."""

import resource
import signal
import time

import pytest
import torch

from segacc.errors import InputError
from segacc.models.segmenter import Segmenter
from segacc.models.weights import load_segmenter
from segacc.training.checkpoint import (
    Best,
    Progress,
    Trained,
    Writer,
    load_state,
    model_of,
    newest_state,
    save_best,
    states,
    take_state,
    write_state,
)
from segacc.training.optim import make_optimizer


def trained(steps=2, seed=0):
    torch.manual_seed(seed)
    model = Segmenter("linknet", "tu-test_resnet")
    optimizer = make_optimizer(model, 0.01, 0.01)
    for _ in range(steps):
        model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** (steps + 1))
    return Trained(model, optimizer, scaler)


def write(run, progress, of=None, keep=2):
    return write_state(run, take_state(progress, of or trained()), keep)


def test_a_state_brings_everything_back(tmp_path):
    before = trained()
    progress = Progress(5, 1, best_iou=0.1 + 0.2, best_epoch=1, losses=(1 / 3, 2e-7))
    path = write(tmp_path, progress, before)
    after = trained(steps=0, seed=1)
    assert model_of(path).state_dict().keys() == before.model.state_dict().keys()
    assert load_state(path, after) == progress
    for key, value in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[key], value), key
    these, those = before.optimizer.state_dict(), after.optimizer.state_dict()
    assert these["state"].keys() == those["state"].keys()
    for i, moments in these["state"].items():
        assert all(torch.equal(moments[k], those["state"][i][k]) for k in moments)
    assert after.scaler.state_dict() == before.scaler.state_dict()

    # The next step is the same: fused AdamW pairs weights and moments by their place in memory.
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for of in (before, after):
        of.model(images).sum().backward()
        of.optimizer.step()
    for key, value in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[key], value), key


def test_a_copy_does_not_change_with_the_training(tmp_path):
    of = trained()
    state = take_state(Progress(), of)
    before = {name: value.clone() for name, value in state.tensors.items()}
    with torch.no_grad():
        for tensor in (*of.model.state_dict().values(), *of.optimizer.state.values()):
            for value in tensor.values() if isinstance(tensor, dict) else [tensor]:
                value.add_(1)
    assert all(torch.equal(state.tensors[name], value) for name, value in before.items())


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_states_are_kept_and_nothing_else(tmp_path, keep):
    of = trained()
    (tmp_path / "checkpoints").mkdir()
    for left in ("epoch-0000-step-00000002.partial", "best.partial", ".tmpAbC123"):
        (tmp_path / "checkpoints" / left).write_bytes(b"half")  # by a kill
    for epoch, step in ((0, 5), (0, 10), (1, 10), (1, 100)):  # validation is between 10 and 10
        write(tmp_path, Progress(step, epoch), of, keep)
    names = [f"epoch-000{e}-step-{s:08d}" for e, s in ((0, 10), (1, 10), (1, 100))]
    assert sorted(p.stem for p in (tmp_path / "checkpoints").iterdir()) == names[-keep:]
    (tmp_path / "plain").touch()
    assert {p.stat().st_mode for p in states(tmp_path)} == {(tmp_path / "plain").stat().st_mode}


def test_a_state_that_was_not_finished_does_not_count(tmp_path):
    path = write(tmp_path, Progress(step=1))
    path.with_name("epoch-0001-step-00000002.partial").write_bytes(path.read_bytes())
    assert newest_state(tmp_path) == path


def test_a_run_without_a_state_has_none(tmp_path):
    assert newest_state(tmp_path) is None


@pytest.mark.parametrize("left", [0, 7, 1000, -1], ids=lambda left: f"{left} bytes")
def test_a_truncated_state_is_skipped_with_a_warning(tmp_path, caplog, left):
    of = trained()
    good, bad = (write(tmp_path, Progress(step), of) for step in (1, 2))
    bad.write_bytes(bad.read_bytes()[:left])
    assert newest_state(tmp_path) == good
    assert f"{bad} is damaged" in caplog.text
    assert load_state(good, of).step == 1
    write(tmp_path, Progress(3), of)  # the damaged one takes no place
    assert [load_state(path, of).step for path in states(tmp_path)] == [1, 3]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_only_damaged_states_are_an_error_that_says_what_to_do(tmp_path):
    path = write(tmp_path, Progress(1))
    path.write_bytes(b"")
    for _ in range(2):  # the second time, too: it must not begin again from nothing
        with pytest.raises(InputError, match=rf"no state in .* can be read.*--weights {tmp_path}"):
            newest_state(tmp_path)
    assert path.exists()


def test_a_full_disk_leaves_the_state_before_and_says_so(tmp_path):
    """A limit on the size of files stands for the disk: the system refuses the write itself."""
    first = write(tmp_path, Progress(step=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for card in (None, "# card"):
            with Writer(tmp_path, trained(), keep=2, active=True) as writer:
                if card:
                    writer.hold_best(card, card)
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


def test_the_writer_writes_what_was_there_when_it_was_asked(tmp_path):
    of = trained()
    weight = next(of.model.parameters())
    with Writer(tmp_path, of, keep=2, active=True) as writer:
        best = weight.detach().clone()
        writer.hold_best("# card", "name,iou\n")
        with torch.no_grad():
            weight.add_(1)
        writer.wait()
        assert not (tmp_path / "best").exists()  # it waits for a state that knows of it
        newest = weight.detach().clone()
        writer.save(Progress(1))
        with torch.no_grad():
            weight.add_(1)
        writer.save(Progress(1))  # is there already
    assert len(states(tmp_path)) == 1
    load_state(states(tmp_path)[0], of)
    assert torch.equal(weight, newest)
    assert torch.equal(next(load_segmenter(tmp_path).parameters()), best)


def test_a_state_is_due_after_a_while(tmp_path, monkeypatch):
    with Writer(tmp_path, trained(), keep=2, active=True) as writer:
        assert not writer.due
        later = time.monotonic() + 121
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert writer.due
        writer.save(Progress(1))
        assert not writer.due


def test_the_writer_of_another_rank_writes_nothing(tmp_path):
    with Writer(tmp_path, trained(), keep=2, active=False) as writer:
        writer.hold_best("# card", "name,iou\n")
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


def test_progress_counts_epochs_without_gain():
    progress = Progress().after_epoch(0.4).after_epoch(0.4).after_epoch(0.3)
    assert progress == Progress(0, 3, best_iou=0.4, best_epoch=1, epochs_without_gain=2)
    assert progress.after_epoch(0.5) == Progress(0, 4, 0.5, 4, 0)


def test_progress_keeps_the_losses_of_an_unfinished_epoch():
    progress = Progress(step=7).after_steps([3.0, 1.0]).after_steps([2.0])
    assert progress == Progress(step=10, losses=(3.0, 1.0, 2.0))
    assert progress.mean_loss == 2.0
    assert progress.after_epoch(0.5) == Progress(10, 1, 0.5, 1, 0)
