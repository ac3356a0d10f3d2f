"""What fine-tuning adds to the loop: a moving average, and an encoder that is held for a while."""

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from small import TINY, evaluate, lines, write_blobs

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.training.fit import fit
from segacc.training.saving.checkpoint import states
from segacc.training.setup import NO_HOOKS, Hooks

ALL = ["--ema", 0.8, "--encoder-lr", 0.3, "--layer-decay", 0.9, "--freeze-encoder", 1]
PIPELINE = """
transform:
  __class_fullname__: Compose
  transforms:
    - {__class_fullname__: Rotate, limit: [-40, 40], p: 0.7}
    - {__class_fullname__: ColorJitter, p: 0.7}
"""


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


def train(dataset, run, *flags, hooks=NO_HOOKS):
    base = ["--dataset", dataset, "--output-dir", run, "--size", 64, "--weights", "none", *TINY]
    base += ["--batch-size", 4, "--tracker", "none", "--save-every", 1, "--keep", 99]
    AcceleratorState._reset_state(reset_partial_state=True)
    return fit(parse_train([*map(str, base), *map(str, flags)]), hooks)


def part(state, name):
    return {k.removeprefix(name): v for k, v in load_file(state).items() if k.startswith(name)}


def test_the_average_is_what_its_formula_says(blobs, tmp_path):
    """And its warmup: decay 1 - (1 + t)^(-2/3) after t + 1 steps, up to 0.8."""
    run = train(blobs, tmp_path / "run", "--epochs", 5, "--ema", 0.8)
    by_step = {path.stem.partition("-step-")[2]: path for path in states(run)}
    found = [(part(path, "model."), part(path, "average.")) for path in by_step.values()]
    assert len(found) == 15
    average = {name: value.double() for name, value in found[0][0].items()}
    for t, (model, stored) in enumerate(found):
        decay = min(0.8, 1 - (1 + t) ** (-2 / 3))
        for name, value in model.items():
            if value.is_floating_point():  # BatchNorm's statistics as well
                average[name] = decay * average[name] + (1 - decay) * value.double()
                assert torch.allclose(stored[name].double(), average[name], atol=1e-6), (t, name)
            else:
                assert torch.equal(stored[name], value)
    last_model, last_average = found[-1]
    assert not torch.allclose(last_model["net.encoder.model.bn1.running_mean"], torch.zeros(1))
    assert any(not torch.allclose(last_model[k], v) for k, v in last_average.items())


def test_the_average_is_what_is_scored_saved_and_evaluated(blobs, tmp_path):
    run = train(blobs, tmp_path / "run", "--epochs", 4, "--ema", 0.8, "--lr", "5e-3")
    best = max(lines(run), key=lambda line: line["valid_iou"])
    state = next(path for path in states(run) if f"step-{best['step']:08d}" in path.name)
    saved, average = load_file(run / "best" / "model.safetensors"), part(state, "average.")
    assert saved.keys() == average.keys()
    assert all(torch.equal(value, average[name]) for name, value in saved.items())
    AcceleratorState._reset_state(reset_partial_state=True)
    scores = evaluate(EvaluateConfig(run, split="valid", threshold=0.5))
    assert scores["iou"] == pytest.approx(best["valid_iou"], abs=1e-6)


def test_a_held_encoder_stays_as_it_is_and_then_learns(blobs, tmp_path):
    def encoder(job):
        return {k: v.clone() for k, v in job.model.trained.model.encoder.state_dict().items()}

    seen = []

    def look(job):
        seen.append(encoder(job))

    hooks = Hooks(ready=look, epoch_done=look)
    train(blobs, tmp_path / "run", "--epochs", 3, "--freeze-encoder", 2, hooks=hooks)
    start, first, second, third = seen
    for name, value in start.items():
        assert torch.equal(value, first[name]) and torch.equal(value, second[name]), name
    assert not any(torch.equal(v, third[k]) for k, v in start.items() if v.numel() > 1)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_a_run_resumed_anywhere_ends_with_the_same_weights(blobs, tmp_path, whole, steps):
    """Steps 1 to 3 are those in which the encoder is held. The file of --augment may be gone."""
    run, pipeline = tmp_path / "run", tmp_path / "mine.yaml"
    pipeline.write_text(PIPELINE)

    def stop(step):
        if step == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flags = ["--epochs", 3, *ALL, "--augment", pipeline, "--workers", 0]
        train(blobs, run, *flags, hooks=Hooks(step_begins=stop))
    pipeline.unlink()
    AcceleratorState._reset_state(reset_partial_state=True)
    fit(parse_train(["--resume", str(run)]))
    resumed = load_file(states(run)[-1])
    expected = load_file(states(whole)[-1])
    assert resumed.keys() == expected.keys()
    assert {k.split(".")[0] for k in resumed} == {"model", "average", "optimizer"}
    assert all(torch.equal(value, expected[name]) for name, value in resumed.items())
    for mine, theirs in zip(lines(run), lines(whole), strict=True):
        for name in ("train_loss", "valid_loss", "valid_iou", "lr", "lr_first_layer"):
            assert mine[name] == theirs[name]


@pytest.fixture(scope="module")
def whole(blobs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    (folder / "same.yaml").write_text(PIPELINE)
    flags = ["--epochs", 3, *ALL, "--augment", folder / "same.yaml"]
    return train(blobs, folder / "run", *flags)
