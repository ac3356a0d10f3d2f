"""Parameter groups and the schedule."""

import pytest
import torch
from transformers.optimization import get_cosine_schedule_with_warmup

from segacc.models.segmenter import Segmenter
from segacc.training.optim import make_optimizer, make_schedule, rates_at


def test_biases_and_norms_are_not_decayed_and_frozen_ones_left_out():
    model = Segmenter("linknet", "tu-test_resnet")
    model.freeze(encoder=True)
    decayed, plain = make_optimizer(model, lr=0.1, weight_decay=0.3).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0)
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in plain["params"])
    grouped = {id(p) for g in (decayed, plain) for p in g["params"]}
    assert grouped == {id(p) for p in model.parameters() if p.requires_grad}


def test_rates_fall_from_the_head_to_the_first_layer():
    model = Segmenter("linknet", "tu-test_resnet")
    optimizer = make_optimizer(model, 0.1, 0.01, encoder_lr=0.5, layer_decay=0.8)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert len(rates) == sum(p.requires_grad for p in model.parameters())
    parameters = dict(model.named_parameters())
    *encoder, head = [[rates[id(parameters[name])] for name in names] for names in model.layers]
    assert set(head) == {0.1} and len(encoder) > 3
    for depth, found in enumerate(reversed(encoder), start=1):  # the last block is the first here
        assert found == pytest.approx([0.1 * 0.5 * 0.8**depth] * len(found))
    first_layer = parameters["net.encoder.model.conv1.0.weight"]
    schedule = make_schedule(optimizer, warmup=0.0, total_steps=10)
    assert rates_at(schedule, 0) == {"lr": 0.1, "lr_first_layer": rates[id(first_layer)]}
    assert rates[id(first_layer)] == min(rates.values())
    assert rates_at(schedule, 5)["lr_first_layer"] == pytest.approx(min(rates.values()) / 2)


def test_the_last_group_is_of_the_first_layer_also_where_rates_are_equal():
    model = Segmenter("linknet", "tu-test_resnet")
    depth = len(model.layers) - 1
    optimizer = make_optimizer(model, 0.1, 0.01, encoder_lr=2.0**depth, layer_decay=0.5)
    schedule = make_schedule(optimizer, warmup=0.0, total_steps=10)
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(0.1)  # as the head's
    assert max(schedule.base_lrs) == pytest.approx(0.1 * 2 ** (depth - 1))
    first = {id(p) for p in optimizer.param_groups[-1]["params"]}
    assert first <= {id(dict(model.named_parameters())[name]) for name in model.layers[0]}


def test_one_rate_for_all_makes_two_groups_in_the_order_of_the_model():
    model = Segmenter("linknet", "tu-test_resnet")
    decayed, plain = make_optimizer(model, 0.1, 0.01).param_groups
    parameters = list(model.parameters())
    assert [id(p) for p in decayed["params"]] == [id(p) for p in parameters if p.ndim > 1]
    assert [id(p) for p in plain["params"]] == [id(p) for p in parameters if p.ndim <= 1]


def test_the_rate_rises_from_the_first_step_to_its_peak_and_falls_like_a_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = make_schedule(optimizer, warmup=0.1, total_steps=100)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([0.5 * step / 11 for step in range(1, 11)])
    assert max(rates) == rates[10] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.25)  # half of the cosine
    assert 0 < rates[-1] < 1e-3 and schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)
    assert [rates_at(schedule, step) for step in range(100)] == [{"lr": rate} for rate in rates]


@pytest.mark.parametrize("total", [1, 2, 3, 17])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.999])
def test_every_step_of_a_short_run_trains(warmup, total):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = make_schedule(optimizer, warmup, total)
    assert all(0 < rates_at(schedule, step)["lr"] <= 0.5 for step in range(total))
    for _ in range(total):  # the loop steps it after the last step as well
        optimizer.step()
        schedule.step()


def test_after_the_warmup_the_rates_are_those_of_older_versions():
    """A run that one of them stopped goes on as it would have there, but for its warmup."""
    rates = [
        make_schedule(torch.optim.SGD([torch.zeros(1)], lr=0.5), 0.05, 90),
        get_cosine_schedule_with_warmup(torch.optim.SGD([torch.zeros(1)], lr=0.5), 5, 90),
    ]
    ours, theirs = ([rates_at(one, step)["lr"] for step in range(90)] for one in rates)
    assert ours[5:] == theirs[5:] and ours[0] > theirs[0] == 0


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
