"""States: what they restore, what happens to damaged ones, and which are deleted."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from states import trained, write

from segacc.errors import InputError
from segacc.training.saving.checkpoint import (
    Progress,
    load_state,
    model_from_state,
    newest_state,
    states,
    take_state,
)


def test_a_state_restores_model_optimizer_scaler_and_progress(tmp_path):
    before = trained()
    progress = Progress(5, 1, best_iou=0.1 + 0.2, best_epoch=1, losses=(1 / 3, 2e-7))
    path = write(tmp_path, progress, before)
    after = trained(steps=0, seed=1)
    assert model_from_state(path).state_dict().keys() == before.model.state_dict().keys()
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


@pytest.mark.parametrize("left", [None, "epoch-0000-step-00000002.partial", ".tmpAbC123"])
def test_a_run_without_a_state_has_none(tmp_path, left):
    if left:  # by a kill during the first write; safetensors makes a temporary file of its own
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / left).write_bytes(b"half")
    assert newest_state(tmp_path) is None


@pytest.mark.parametrize("left", [0, 7, 1000, -1], ids=lambda left: f"{left} bytes")
def test_a_truncated_state_is_skipped_with_a_warning(tmp_path, caplog, left):
    of = trained()
    good, bad = (write(tmp_path, Progress(step), of) for step in (1, 2))
    bad.write_bytes(bad.read_bytes()[:left])
    assert newest_state(tmp_path) == good
    assert f"{bad} is damaged" in caplog.text
    assert load_state(good, of).step == 1
    write(tmp_path, Progress(3), of)  # the damaged state does not count as kept
    assert [load_state(path, of).step for path in states(tmp_path)] == [1, 3]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_only_damaged_states_are_an_error_that_says_what_to_do(tmp_path):
    path = write(tmp_path, Progress(1))
    path.write_bytes(b"")
    for _ in range(2):  # also the second time: the run must not start from the beginning
        with pytest.raises(InputError, match=rf"no state in .* can be read.*--weights {tmp_path}"):
            newest_state(tmp_path)
    assert path.exists()


def test_progress_counts_epochs_without_gain():
    progress = Progress().after_epoch(0.4).after_epoch(0.4).after_epoch(0.3)
    assert progress == Progress(0, 3, best_iou=0.4, best_epoch=1, epochs_without_gain=2)
    assert progress.after_epoch(0.5) == Progress(0, 4, 0.5, 4, 0)


def test_progress_keeps_the_losses_of_an_unfinished_epoch():
    progress = Progress(step=7).after_steps([3.0, 1.0]).after_steps([2.0])
    assert progress == Progress(step=10, losses=(3.0, 1.0, 2.0))
    assert progress.mean_loss == 2.0
    assert progress.after_epoch(0.5) == Progress(10, 1, 0.5, 1, 0)


def edit_state(path, change, **metadata):
    """Write the state again, with other tensors or metadata."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["state"])
    about["scalars"] |= metadata
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"state": json.dumps(about)})


def swap(tensors, one, other):
    tensors[one], tensors[other] = tensors[other], tensors[one]


def test_moments_go_to_the_parameter_of_their_name(tmp_path):
    before = trained()
    path = write(tmp_path, Progress(1), before)
    names = [name for name, parameter in before.model.named_parameters() if parameter.ndim == 4]
    state = load_file(path)
    for name, parameter in before.model.named_parameters():
        assert torch.equal(
            state[f"optimizer.{name}.exp_avg"], before.optimizer.state[parameter]["exp_avg"]
        )
    shapes = [state[f"model.{name}"].shape for name in names]
    first, second = next(
        (names[i], names[j])
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if shapes[i] == shapes[j]
    )
    edit_state(path, lambda t: swap(t, f"optimizer.{first}.exp_avg", f"optimizer.{second}.exp_avg"))
    after = trained(steps=0, seed=1)
    load_state(path, after)
    parameters = dict(after.model.named_parameters())
    assert torch.equal(
        after.optimizer.state[parameters[first]]["exp_avg"], state[f"optimizer.{second}.exp_avg"]
    )


def test_a_state_of_two_parameters_that_have_changed_places_is_refused(tmp_path):
    of = trained()
    path = write(tmp_path, Progress(1), of)
    groups = [
        [name for name, p in of.model.named_parameters() if (p.ndim > 1) == wide]
        for wide in (True, False)
    ]
    groups[0][0], groups[0][1] = groups[0][1], groups[0][0]
    edit_state(path, lambda tensors: None, parameters=groups)
    with pytest.raises(InputError, match=rf"--resume {tmp_path}: .* in another order .*--weights"):
        load_state(path, trained())


def test_a_state_of_other_parameters_is_refused_with_a_name(tmp_path):
    path = write(tmp_path, Progress(1))
    edit_state(path, lambda tensors: None, parameters=[["net.other.weight"], []])
    with pytest.raises(InputError, match=r"other parameters, such as net\.encoder"):
        load_state(path, trained())


def test_a_state_of_segacc_0_1_0_is_refused_in_a_sentence(tmp_path):
    path = write(tmp_path, Progress(1))
    edit_state(path, lambda tensors: None, parameters=None)
    with pytest.raises(InputError, match=r"written by segacc 0\.1\.0, .*--weights"):
        load_state(path, trained())
