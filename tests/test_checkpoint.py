"""States: what comes back, what survives, what is dropped."""

import resource
import signal

import pytest
import torch

from segacc.checkpoint import (
    Progress,
    complete_states,
    disk_errors,
    load_state,
    newest_state,
    save_best,
    save_state,
)
from segacc.config import InputError
from segacc.models import Segmenter
from segacc.optim import make_optimizer, make_schedule
from segacc.weights import load_segmenter


def trained(steps=2, seed=0):
    torch.manual_seed(seed)
    model = Segmenter("linknet", "tu-test_resnet")
    optimizer = make_optimizer(model, 0.01, 0.01)
    schedule = make_schedule(optimizer, 0.5, 10)
    for _ in range(steps):
        model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model, {"optimizer": optimizer, "schedule": schedule}


def test_a_state_brings_everything_back(tmp_path):
    model, others = trained()
    progress = Progress(step=2, epoch=1, best_iou=0.5, best_epoch=1)
    save_state(tmp_path, progress, model, others)
    fresh, fresh_others = trained(steps=0, seed=1)
    assert load_state(newest_state(tmp_path), fresh, fresh_others) == progress
    for key, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value), key
    for these, those in zip(
        others["optimizer"].state.values(), fresh_others["optimizer"].state.values(), strict=True
    ):
        assert all(torch.equal(these[k], those[k]) for k in these)
    assert fresh_others["schedule"].get_last_lr() == others["schedule"].get_last_lr()


def test_the_newest_two_states_are_kept(tmp_path):
    model, others = trained()
    for step in (5, 10, 100):
        save_state(tmp_path, Progress(step=step), model, others)
    assert [p.name for p in complete_states(tmp_path)] == ["step-00000010", "step-00000100"]


def test_a_state_that_was_not_finished_does_not_count(tmp_path):
    model, others = trained()
    save_state(tmp_path, Progress(step=1), model, others)
    (tmp_path / "checkpoints" / "step-00000002.partial").mkdir()
    assert load_state(newest_state(tmp_path), model, others).step == 1


def test_a_run_without_a_state_has_none(tmp_path):
    assert newest_state(tmp_path) is None


def test_a_full_disk_leaves_the_state_before_and_says_so(tmp_path):
    """A limit on the size of files stands for the disk: the system refuses the write itself."""
    model, others = trained()
    first = save_state(tmp_path, Progress(step=1), model, others)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        refused = pytest.raises(InputError, match=rf"could not be written.*--resume {tmp_path}")
        with refused, disk_errors(tmp_path):
            save_state(tmp_path, Progress(step=2), model, others)
        with pytest.raises(InputError, match="could not be written"), disk_errors(tmp_path):
            save_best(tmp_path, model, "# card")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert newest_state(tmp_path) == first
    assert load_state(first, model, others).step == 1
    assert not (tmp_path / "best").exists()


def test_a_state_that_would_run_code_is_not_loaded(tmp_path):
    model, others = trained()
    state = save_state(tmp_path, Progress(step=1), model, others)
    torch.save({"optimizer": print}, state / "optimizer.pt")
    with pytest.raises(Exception, match=r"weights_only|Unsupported"):
        load_state(state, model, others)


def test_the_best_model_is_replaced_whole(tmp_path):
    save_best(tmp_path, trained(seed=0)[0], "# old")
    model, _ = trained(seed=1)
    save_best(tmp_path, model, "# card")
    assert {p.name for p in (tmp_path / "best").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    assert not (tmp_path / "best.partial").exists()
    assert (tmp_path / "best" / "README.md").read_text() == "# card"
    loaded = load_segmenter(tmp_path).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in model.state_dict().items())


def test_progress_counts_epochs_without_gain():
    progress = Progress().after_epoch(5, 0.4).after_epoch(9, 0.4).after_epoch(14, 0.3)
    assert progress == Progress(14, 3, best_iou=0.4, best_epoch=1, epochs_without_gain=2)
    assert progress.after_epoch(20, 0.5) == Progress(20, 4, 0.5, 4, 0)
