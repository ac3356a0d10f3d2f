"""The programs as a user types them: what they print, write and answer to bad input."""

import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file, save
from small import TINY, run_program, write_blobs

from segacc.config import SEGFORMER_B0
from segacc.weights import build_model


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


def test_launch_train_evaluate_and_start_from_the_result(blobs, tmp_path):
    run = tmp_path / "run"
    flags = ["--dataset", blobs, "--size", 64, "--batch-size", 4, *TINY, "--epochs", 2]
    launch = ["-m", "accelerate.commands.launch", "train.py", *flags]
    done = run_program(*launch, "--crop", 32, "--weights", "none", "--output-dir", run)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "crops of 32 px in training only" in done.stdout
    scored = run_program("evaluate.py", run)
    assert scored.returncode == 0, scored.stderr[-3000:]
    assert "3 full images of 64 x 64 px" in scored.stdout
    assert (run / "test" / "overview.png").is_file()
    again = run_program(*launch, "--weights", run, "--output-dir", tmp_path / "again")
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"{run} (" in again.stdout and "tensors loaded)" in again.stdout


def cut(path):
    path.write_bytes(path.read_bytes()[:200])


BAD_DATA = {
    "a missing mask": (lambda d: (d / "train" / "train3.png").unlink(), "train3.jpg"),
    "a mask without image": (lambda d: (d / "train" / "train3.jpg").unlink(), "train3.png"),
    "a truncated JPEG": (lambda d: cut(d / "valid" / "valid1.jpg"), "valid1.jpg"),
    "no validation set": (lambda d: shutil.rmtree(d / "valid"), "valid"),
    "an empty folder": (lambda d: (shutil.rmtree(d), d.mkdir()), "no images"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_one_sentence_and_code_2(tmp_path, name):
    data = write_blobs(tmp_path / "data")
    spoil, word = BAD_DATA[name]
    spoil(data)
    done = run_program("train.py", "--dataset", data, "--weights", "none", *TINY)
    assert_one_sentence(done, word)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--dataset", "glnad"], "did you mean 'gland'"),
        (["--crop", "600"], "--crop 600 is larger"),
        (["--model", "lnknet", "--weights", "none"], "did you mean linknet"),
        (["--weights", "no/such/file.pt"], "--weights no/such/file.pt"),
    ],
)
def test_bad_flags_are_one_sentence_and_code_2(blobs, flags, word):
    assert_one_sentence(run_program("train.py", "--dataset", blobs, *flags), word)


def test_debug_shows_the_traceback(blobs):
    done = run_program("train.py", "--dataset", blobs, "--loss", "dcie", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr and "InputError" in done.stderr


def test_evaluating_no_run_is_one_sentence_and_code_2(tmp_path):
    assert_one_sentence(run_program("evaluate.py", tmp_path), "is not a run's folder")


def assert_one_sentence(done, word):
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert word in sentence


def segacc(*args):
    return run_program("-c", "from segacc.cli import main; main()", *args)


def test_check_lists_every_finding_and_fails(tmp_path):
    data = write_blobs(tmp_path / "data")
    good = segacc("check", data)
    assert good.returncode == 0, good.stderr[-3000:]
    (data / "train" / "train3.png").unlink()
    cut(data / "valid" / "valid1.jpg")
    bad = segacc("check", data)
    assert bad.returncode == 1
    assert "train3.jpg" in bad.stdout and "valid1.jpg" in bad.stdout and "errors: 2" in bad.stdout


def test_prepare_writes_a_data_set_that_trains(blobs, tmp_path):
    saved = tmp_path / "saved"
    done = segacc("prepare", blobs, "--size", 64, "--save", saved)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "train      12 images of 64 x 64 px" in done.stdout
    from datasets import load_from_disk

    from segacc.data.prepare import prepare
    from segacc.data.sources import load_dataset

    row = load_from_disk(str(saved))["valid"][0]
    assert (row["name"], row["image"].size, row["mask"].mode) == ("valid0", (64, 64), "L")
    first, second = (prepare(load_dataset(str(d)), 64).fingerprint for d in (blobs, saved))
    assert first == second and first in done.stdout
    assert_one_sentence(segacc("prepare", blobs, "--save", saved), "is not empty")


class Hub(BaseHTTPRequestHandler):
    """The endpoints of the Hub that loading a model needs."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.send_response(200 if body is not None else 404)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.send_header("ETag", f'"{abs(hash(self.path)):x}"')
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


BUILD = """
import sys, torch
from safetensors.torch import save_file
from segacc.weights import build_model
torch.manual_seed(5)
built = build_model(sys.argv[1], "resnet34", sys.argv[2])
print(built.weights)
save_file({k: v.contiguous() for k, v in built.model.state_dict().items()}, sys.argv[3])
"""


@pytest.fixture(scope="module")
def hub():
    """A mirror of the Hub that serves weights of the right names and shapes."""
    from segmentation_models_pytorch.encoders import encoders
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(1)
    settings = encoders["resnet34"]["pretrained_settings"]["imagenet"]
    resnet = f"/{settings['repo_id']}/resolve/{settings['revision']}"
    encoder = build_model("unet", "resnet34", "none").model.net.encoder.state_dict()
    segformer = SegformerForSemanticSegmentation(SegformerConfig(num_labels=150))
    Hub.files = {
        f"{resnet}/config.json": b"{}",
        f"{resnet}/model.safetensors": save({k: v.contiguous() for k, v in encoder.items()}),
        f"/{SEGFORMER_B0}/resolve/main/config.json": segformer.config.to_json_string().encode(),
        f"/{SEGFORMER_B0}/resolve/main/model.safetensors": save(
            segformer.state_dict(), metadata={"format": "pt"}
        ),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", encoder, segformer.state_dict()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["linknet", "pspnet", "segformer"])
def test_pretrained_weights_come_from_the_hub(hub, tmp_path, name):
    endpoint, encoder, segformer = hub
    weights = SEGFORMER_B0 if name == "segformer" else "imagenet"
    done = run_program(
        *("-c", BUILD, name, weights, tmp_path / "built.safetensors"),
        HF_ENDPOINT=endpoint,
        HF_HOME=str(tmp_path / "hf"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert weights in done.stdout
    assert "new: decode_head.classifier" in done.stdout or "decoder is new" in done.stdout
    built = load_file(tmp_path / "built.safetensors")
    if name == "segformer":
        served = {f"net.{k}": v for k, v in segformer.items() if "classifier" not in k}
        assert built["net.decode_head.classifier.weight"].shape[0] == 1
    else:
        served = {f"net.encoder.{k}": v for k, v in encoder.items()}
    kept = [k for k in served if k in built]
    assert all(torch.equal(built[k], served[k]) for k in kept)
    assert len(kept) == len(served) or name == "pspnet"


@pytest.mark.parametrize("model", ["linknet", "segformer"])
def test_weights_that_cannot_be_downloaded_name_the_ways_out(blobs, tmp_path, model):
    done = run_program(
        *("train.py", "--dataset", blobs, "--model", model, "--batch-size", 4),
        *("--output-dir", tmp_path / "run"),
        HF_HOME=str(tmp_path / "hf"),
        HF_HUB_OFFLINE="1",  # spares the test the client's retries
    )
    assert_one_sentence(done, "could not be downloaded")
    for way in ("a local file or folder", "HF_HOME", "HF_ENDPOINT", "--weights none"):
        assert way in done.stderr
    assert not (tmp_path / "run").exists()
