"""segacc train, export and predict with a Hub, as a user types them."""

import json

import numpy as np
import pytest
from model_hub import TOKEN
from PIL import Image
from small import ROOT, TINY, run_here, run_program, write_blobs

from segacc.models.load import load_segmenter
from segacc.models.weights.build import build_model

NAME = "me/discs-net"


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


def flags_of(blobs, run):
    flags = ["--dataset", blobs, "--size", 64, "--batch-size", 4, *TINY, "--weights", "none"]
    return [*flags, "--epochs", 1, "--tracker", "none", "--output-dir", run]


def train(hub, blobs, run, *more):
    """Train in a process of its own."""
    words = ("-m", "segacc", "train", *flags_of(blobs, run), *more)
    return run_program(*words, **hub.environment)


@pytest.mark.slow
def test_a_model_goes_to_the_hub_when_training_ends_and_comes_back(hub, blobs, tmp_path):
    run = tmp_path / "run"
    done = train(hub, blobs, run, "--push-to-hub", NAME)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"/{NAME}, private: config.json, model.safetensors, README.md" in done.stdout
    assert hub.visibility == {NAME: "private"}
    shown = (done.stdout + done.stderr).encode()
    texts = [shown, *hub.repositories[NAME].values()]
    texts += [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in text for text in texts)
    assert not any(str(blobs).encode() in text for text in hub.repositories[NAME].values())
    assert json.loads((run / "config.json").read_text())["config"]["push_to_hub"] == NAME

    image = blobs / "test" / "test0.jpg"
    masks = []
    for model, out in ((NAME, tmp_path / "of_hub"), (run, tmp_path / "of_run")):
        predicted = run_here("predict", model, image, "--out", out)
        assert predicted.returncode == 0, predicted.stderr[-3000:]
        masks.append(np.asarray(Image.open(out / "test0.png")))
    assert (masks[0] == masks[1]).all()
    again = run_here("train", *flags_of(blobs, tmp_path / "again"), "--weights", NAME)
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"weights     {NAME} (" in again.stdout and "tensors loaded" in again.stdout

    # A resumed run that is finished pushes, too: to another place, as it is asked to.
    moved = run_here("train", "--resume", run, "--push-to-hub", "team/discs", "--public")
    assert moved.returncode == 0, moved.stderr[-3000:]
    assert hub.visibility["team/discs"] == "public"
    weights = [hub.repositories[name]["model.safetensors"] for name in (NAME, "team/discs")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_run_whose_push_breaks_is_kept_and_says_how_to_push(hub, blobs, tmp_path):
    run = tmp_path / "run"
    hub.failing = {"/commit/main": 9}
    done = train(hub, blobs, run, "--push-to-hub", NAME, "--debug")
    assert done.returncode != 0 and TOKEN not in done.stdout + done.stderr
    assert f"push it with: segacc export {run} --push-to-hub {NAME}." in done.stderr
    assert load_segmenter(run) is not None and "best epoch 1 of 1" in done.stdout
    words = ("export", run, "--to", "onnx", "--push-to-hub", NAME)
    hub.failing = {"/objects/batch": 9}
    broken = run_here(*words)
    assert broken.returncode != 0 and "give the same command again" in broken.stderr
    hub.failing = {}
    pushed = run_here(*words)
    assert pushed.returncode == 0, pushed.stderr[-3000:]
    assert "there already, and newer than the model, so pushed as it is" in pushed.stdout
    assert (run / "run.onnx").read_bytes() == hub.repositories[NAME]["model.onnx"]
    for place, data in hub.repositories[NAME].items():
        assert str(tmp_path).encode() not in data and str(ROOT).encode() not in data, place
    card = hub.repositories[NAME]["README.md"].decode()
    code = card.split("With onnxruntime")[1].split("```python\n")[1].split("```")[0]
    code = code.replace("IMAGE", str(blobs / "test" / "test0.jpg")) + "print(mask.shape)"
    used = run_program("-c", code, **hub.environment)
    assert used.stdout == "(1, 64, 64)\n", used.stderr[-3000:]


@pytest.mark.slow
def test_the_card_says_how_to_use_a_folder_of_another_library(hub, run):
    done = run_here("export", run, "--to", "smp", "--push-to-hub", NAME)
    assert done.returncode == 0, done.stderr[-3000:]
    card = hub.repositories[NAME]["README.md"].decode()
    fetch = card.split("With segmentation_models_pytorch")[1].split("```python\n")[1]
    code = hub.repositories[NAME]["smp/README.md"].decode().split("```python\n")[1].split("```")[0]
    Image.new("RGB", (64, 64)).save(run.parent / "one.png")
    code = code.replace('"PATH"', "path").replace("IMAGE", str(run.parent / "one.png"))
    used = run_program("-c", fetch.split("```")[0] + code + "print(mask.shape)", **hub.environment)
    assert used.stdout.endswith("torch.Size([1, 64, 64])\n"), used.stderr[-3000:]


@pytest.mark.distributed
@pytest.mark.slow
def test_of_two_processes_one_pushes(hub, blobs, tmp_path):
    flags = [*flags_of(blobs, tmp_path / "run"), "--push-to-hub", NAME]
    done = run_program("train.py", *flags, processes=2, **hub.environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("pushed: ") == 1
    commits = [request for request in hub.requests if "/commit/" in request]
    assert len(commits) == 1 and "model.safetensors" in hub.repositories[NAME]


def test_what_would_fail_in_the_end_fails_before_training(hub, blobs, tmp_path):
    run = tmp_path / "run"
    flags = flags_of(blobs, run)
    refused = run_here("train", *flags, "--push-to-hub", "they/net")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "the token is that of me, who cannot push to they" in refused.stderr
    assert not run.exists()
    refused = run_here("train", *flags, "--public")
    assert refused.stderr.startswith("error: --public has no effect without --push-to-hub")


def test_weights_of_the_hub_give_what_those_of_the_folder_give(hub, run):
    files = {path.name: path.read_bytes() for path in (run / "best").iterdir()}
    hub.repositories["me/net"], hub.repositories["me/other"] = files, {"config.json": b"{}"}
    ours, theirs = (
        build_model("linknet", "tu-test_resnet", weights, classes=3)
        for weights in (str(run), "me/net")
    )
    own = ours.model.state_dict()
    assert all(value.equal(own[name]) for name, value in theirs.model.state_dict().items())
    assert theirs.weights.startswith("me/net (")
    with pytest.raises(ValueError, match="me/other is neither a file, a folder, a segacc model"):
        build_model("linknet", "tu-test_resnet", "me/other")
    with pytest.raises(ValueError, match=r"me/none is no folder here, and its config.json could"):
        build_model("linknet", "tu-test_resnet", "me/none")


def test_the_export_of_a_model_alone_needs_a_flag_more(hub, run):
    done = run_here("export", run)
    assert done.returncode == 2 and done.stderr.startswith("error: --to is missing without --push")
    done = run_here("export", run, "--push-to-hub", NAME, "--int8")
    assert "--int8 have no effect without --to" in done.stderr
