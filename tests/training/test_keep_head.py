"""A run with --keep-head, on one process and on two, and resumed where its weights are gone."""

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from small import lines, run_program, write_blobs
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segacc.config.flags import parse_train
from segacc.training.fit import fit
from segacc.training.saving.checkpoint import states
from segacc.training.setup import Hooks

HEAD = "decode_head.classifier.weight"
NAMES = ("person", "sky", "wall")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A set of blobs whose classes are wall and person, and a tiny SegFormer that knows both."""
    folder = tmp_path_factory.mktemp("place")
    write_blobs(folder / "blobs", train=4, valid=2)
    (folder / "classes.txt").write_text("wall: 0\nperson: 255\n")
    torch.manual_seed(1)
    config = SegformerConfig(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1] * 4,
        decoder_hidden_size=16,
        num_attention_heads=[1, 1, 2, 2],
        id2label=dict(enumerate(NAMES)),
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder / "tiny")
    return folder


def flags_of(place, run, epochs):
    flags = ["--model", "segformer", "--weights", place / "tiny", "--keep-head", "--lr", 0.01]
    flags += ["--dataset", place / "blobs", "--classes", place / "classes.txt", "--size", 64]
    flags += ["--epochs", epochs, "--batch-size", 2, "--save-every", 1, "--keep", 9]
    return [*map(str, flags), "--tracker", "none", "--output-dir", str(run)]


def last(run):
    return load_file(states(run)[-1])


@pytest.mark.distributed
def test_a_kept_head_learns_and_is_the_same_on_two_processes(place, tmp_path, capsys):
    head = load_file(place / "tiny" / "model.safetensors")[HEAD]
    kept = head[NAMES.index("person")] - head[NAMES.index("wall")]
    seen = []
    ready = Hooks(
        ready=lambda job: seen.append(job.model.trained.model.net.state_dict()[HEAD][0].clone())
    )
    fit(parse_train(flags_of(place, tmp_path / "one", 1)), ready)
    assert "(head kept for wall, person); images normalised" in capsys.readouterr().out
    assert torch.equal(seen[0], kept)
    learnt = last(tmp_path / "one")[f"model.net.{HEAD}"][0]
    assert (learnt - kept).abs().max() > 1e-3

    done = run_program("train.py", *flags_of(place, tmp_path / "two", 1), processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("train_loss", "valid_loss"):
        found, expected = (lines(tmp_path / run)[0][name] for run in ("two", "one"))
        assert found == pytest.approx(expected, rel=1e-4), name
    found, expected = (last(tmp_path / run)[f"model.net.{HEAD}"] for run in ("two", "one"))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_resumed_run_does_not_read_the_head_again(place, tmp_path):
    run = fit(parse_train(flags_of(place, tmp_path / "run", 2)))
    whole = last(run)
    for state in states(run)[1:]:
        state.unlink()
    (place / "tiny").rename(place / "gone")
    try:
        AcceleratorState._reset_state(reset_partial_state=True)
        fit(parse_train(["--resume", str(run)]))
    finally:
        (place / "gone").rename(place / "tiny")
    assert all(torch.equal(value, whole[name]) for name, value in last(run).items())
