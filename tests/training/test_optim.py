"""Parameter groups and the schedule."""

import pytest
import torch

from segacc.models.segmenter import Segmenter
from segacc.training.optim import make_optimizer, make_schedule, rate_at


def test_biases_and_norms_are_not_decayed_and_frozen_ones_left_out():
    model = Segmenter("linknet", "tu-test_resnet")
    model.freeze(encoder=True)
    decayed, plain = make_optimizer(model, lr=0.1, weight_decay=0.3).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0)
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in plain["params"])
    grouped = {id(p) for g in (decayed, plain) for p in g["params"]}
    assert grouped == {id(p) for p in model.parameters() if p.requires_grad}


def test_the_rate_rises_to_its_peak_and_falls_to_zero_like_a_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = make_schedule(optimizer, warmup=0.1, total_steps=100)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0 and max(rates) == rates[10] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.25)  # half of the cosine
    assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)
    assert [rate_at(schedule, step) for step in range(100)] == rates


def test_a_resumed_schedule_goes_on_where_it_was_and_with_other_epochs_follows_those():
    def rates(total: int, done: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        schedule = make_schedule(optimizer, warmup=0.1, total_steps=total, done=done)
        found = []
        for _ in range(done, total):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    for done in (0, 1, 5, 10, 73):
        assert rates(100, done) == rates(100, 0)[done:]
    assert rates(200, 73) == rates(200, 0)[73:]
