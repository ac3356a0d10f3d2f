"""The programs as a user types them: what they print, write and answer to bad input."""

import json
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save
from small import ROOT, TINY, run_program, write_blobs

from segacc.config.flags import parse_train
from segacc.config.train import SEGFORMER_B0
from segacc.errors import LAUNCH_FOLDER, LAUNCHERS, command
from segacc.models.segmenter import Segmenter
from segacc.models.weights.build import build_model


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


@pytest.mark.slow
def test_launch_train_evaluate_and_start_from_the_result(blobs, tmp_path):
    run = tmp_path / "run"
    flags = ["--dataset", blobs, "--size", 64, "--batch-size", 4, *TINY, "--epochs", 2]
    launch = ["-m", "accelerate.commands.launch"]
    more = ["--crop", 32, "--weights", "none", "--output-dir", run]
    done = run_program(*launch, "train.py", *flags, *more)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "leaked" not in done.stderr  # what a library says of objects that nobody collected
    assert "crops of 32 px in training only" in done.stdout
    assert f"next: python evaluate.py {run}" in done.stdout
    scored = run_program("evaluate.py", run)
    assert scored.returncode == 0, scored.stderr[-3000:]
    assert "3 full images of 64 x 64 px" in scored.stdout
    assert (run / "test" / "overview.png").is_file()
    again = run_program("train.py", *flags, "--weights", run, "--output-dir", tmp_path / "again")
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"{run} (" in again.stdout and "tensors loaded)" in again.stdout


def test_make_demo_trains_and_scores_two_sets_and_says_where_the_pages_are(tmp_path):
    (tmp_path / "installed").touch()
    words = ["make", "--dry-run", "demo", f"INSTALLED={tmp_path / 'installed'}", "EPOCHS=3"]
    printed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    configs = [
        parse_train(line.split("train.py")[1].split()) for line in lines if "train.py" in line
    ]
    assert [(c.dataset, c.epochs) for c in configs] == [("demo", 3), ("demo-street", 3)]
    for config in configs:
        assert any(line.endswith(f"evaluate.py {config.output_dir}") for line in lines)
        assert any(f"{config.output_dir}/test/report.html " in line for line in lines)


@pytest.mark.parametrize(
    ("started", "train", "evaluate"),
    [
        ("train.py", "python train.py", "python evaluate.py"),
        (f"{ROOT}/evaluate.py", f"python {ROOT}/train.py", f"python {ROOT}/evaluate.py"),
        ("/project/train.py", "segacc train", "segacc evaluate"),
        ("/usr/bin/segacc", "segacc train", "segacc evaluate"),
    ],
)
def test_messages_name_the_command_that_the_user_has(monkeypatch, started, train, evaluate):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", [started])
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    assert (command("train"), command("evaluate")) == (train, evaluate)


@pytest.mark.parametrize(
    ("launcher", "train"),
    [
        ("ACCELERATE_DYNAMO_BACKEND", "accelerate launch train.py"),
        ("TORCHELASTIC_RUN_ID", "accelerate launch train.py"),
        (LAUNCH_FOLDER, "python train.py"),  # its flags follow
    ],
)
def test_messages_name_a_launcher_that_the_user_has_started(monkeypatch, launcher, train):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["train.py"])
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(launcher, "x")
    if launcher == LAUNCH_FOLDER:
        monkeypatch.setenv("RANK", "0")  # which our launcher sets, too
    assert (command("train"), command("evaluate")) == (train, "python evaluate.py")


def cut(path):
    path.write_bytes(path.read_bytes()[:200])


BAD_DATA = {
    "a missing mask": (lambda d: (d / "train" / "train3.png").unlink(), "train3.jpg"),
    "a mask without image": (lambda d: (d / "train" / "train3.jpg").unlink(), "train3.png"),
    "a truncated JPEG": (lambda d: cut(d / "valid" / "valid1.jpg"), "valid1.jpg"),
    "an empty valid folder": (
        lambda d: (shutil.rmtree(d / "valid"), (d / "valid").mkdir()),
        "valid: holds no images",
    ),
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


def segacc(*args, **changed):
    return run_program("-m", "segacc", *args, **changed)


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
    from segacc.data.reading.sources import load_dataset

    row = load_from_disk(str(saved))["valid"][0]
    assert (row["name"], row["image"].size, row["mask"].mode) == ("valid0", (64, 64), "L")
    first, second = (prepare(load_dataset(str(d)), 64).fingerprint for d in (blobs, saved))
    assert first == second and first in done.stdout
    assert_one_sentence(segacc("prepare", blobs, "--save", saved), "is not empty")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder, as far as predicting needs one."""
    run = tmp_path_factory.mktemp("runs") / "run"
    torch.manual_seed(0)
    model = Segmenter("linknet", "tu-test_resnet", threshold=0.5, size=64)
    model.save_pretrained(run / "best")
    return run


def test_predict_writes_masks_and_lists_what_it_cannot_read(trained, blobs, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "new" / "masks"
    shutil.copytree(blobs / "test", photos / "deep", ignore=shutil.ignore_patterns("*.png"))
    cut(photos / "deep" / "test1.jpg")
    shutil.copy(blobs / "train" / "train0.jpg", photos / "0.JPG")
    flags = ["--out", out, "--probabilities", "--overlays", "--tta", "hv", "--tile", 32]
    done = segacc("predict", trained, photos / "**" / "*.jpg", photos, *flags)
    assert done.returncode == 1, done.stderr[-3000:]
    said = done.stderr.splitlines()
    assert "without a mask, 1 of 4 images:" in said
    assert said[-1].startswith(f"  image {photos}/deep/test1.jpg is damaged or cut short")
    assert len(said) == 2  # neither warnings nor, in a log, a progress bar
    assert done.stdout.startswith(f"3 masks in {out}, ") and done.stdout.endswith("img/s on cpu\n")
    names = {"0", "deep/test0", "deep/test2"}
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert written == {
        *(f"{name}.png" for name in names),
        *(f"probabilities/{name}.png" for name in names),
        *(f"overlays/{name}.jpg" for name in names),
    }
    for name in names:
        mask = np.asarray(Image.open(out / f"{name}.png"))
        levels = np.asarray(Image.open(out / "probabilities" / f"{name}.png"))
        assert mask.shape == (64, 64) and set(np.unique(mask)) <= {0, 255}
        assert ((mask == 255) == (levels >= 128)).all()


def test_predict_with_another_threshold_and_size(trained, blobs, tmp_path):
    images = sorted((blobs / "test").glob("*.jpg"))
    for threshold, found in ((0.001, True), (0.999, False)):
        flags = ["--threshold", threshold, "--size", 96, "--batch-size", 2]
        done = segacc("predict", trained / "best", *images, "--out", tmp_path / str(found), *flags)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr == "" and done.stdout.startswith("3 masks in ")
        for image in images:
            mask = np.asarray(Image.open(tmp_path / str(found) / f"{image.stem}.png"))
            assert (mask == 255 * found).all()


@pytest.mark.parametrize(
    ("model", "images", "flags", "word"),
    [
        ("RUN", [], [], "segacc predict lacks images"),
        ("RUN", ["no/such.jpg"], [], "no/such.jpg was not found"),
        ("RUN", ["DATA/*"], [], "would both be written to"),
        ("RUN", ["DATA/*.jpg"], ["--out", "DATA"], "is not empty"),
        ("RUN", ["DATA/*.jpg"], ["--tile", 8], "--tile 8: expected 32 or more"),
        ("RUN", ["DATA/*.jpg"], ["--colours"], "--colours is for more than two classes"),
        ("DATA", ["DATA/*.jpg"], [], "holds no model.safetensors"),
        ("no such model", ["DATA/*.jpg"], [], "no such model is not a model"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence(
    trained, blobs, tmp_path, model, images, flags, word
):
    def place(text):
        return str(text).replace("RUN", str(trained)).replace("DATA", str(blobs / "test"))

    flags = ["--out", tmp_path / "out", *flags]
    done = segacc("predict", *map(place, (model, *images, *flags)))
    assert_one_sentence(done, word)
    assert not (tmp_path / "out").exists()


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
from segacc.models.weights.build import build_model
torch.manual_seed(5)
built = build_model(*sys.argv[1:4])
print(built.weights)
save_file({k: v.contiguous() for k, v in built.model.state_dict().items()}, sys.argv[4])
"""


LOAD = """
import sys
from segacc.errors import InputError
from segacc.models.load import load_segmenter
for source in sys.argv[1:]:
    try:
        print(sum(v.double().sum() for v in load_segmenter(source).tensors().values()).item())
    except InputError as error:
        print(error)
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
    processor = {"image_processor_type": "SegformerImageProcessor", "do_rescale": True}
    processor |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.7, 0.8, 0.9]}
    timm_encoder = timm.create_model("test_resnet").state_dict()
    Hub.files = {
        f"{resnet}/config.json": b'{"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.25]}',
        f"{resnet}/model.safetensors": save({k: v.contiguous() for k, v in encoder.items()}),
        f"/{SEGFORMER_B0}/resolve/main/config.json": segformer.config.to_json_string().encode(),
        f"/{SEGFORMER_B0}/resolve/main/model.safetensors": save(
            segformer.state_dict(), metadata={"format": "pt"}
        ),
        f"/{SEGFORMER_B0}/resolve/main/preprocessor_config.json": json.dumps(processor).encode(),
        "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors": save(timm_encoder),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    served = {f"net.encoder.{k}": v for k, v in encoder.items()}
    served_timm = {f"net.encoder.model.{k}": v for k, v in timm_encoder.items()}
    served_segformer = {f"net.{k}": v for k, v in segformer.state_dict().items()}
    all_served = {"resnet34": served, "tu-test_resnet": served_timm, "none": served_segformer}
    yield f"http://127.0.0.1:{server.server_port}", all_served
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "encoder", "mean_std", "not_in_model"),
    [
        ("linknet", "resnet34", "mean 0.5 0.4 0.3 and std 0.1 0.2 0.25", ()),
        # Its encoder ends at stride 8.
        ("pspnet", "resnet34", "mean 0.5 0.4 0.3 and std 0.1 0.2 0.25", ("layer3.", "layer4.")),
        # Those that timm knows for it.
        ("unet", "tu-test_resnet", "mean 0.5 0.5 0.5 and std 0.5 0.5 0.5", (".fc.",)),
        ("segformer", "none", "mean 0.1 0.2 0.3 and std 0.7 0.8 0.9", ("head.classifier",)),
    ],
)
def test_pretrained_weights_come_from_the_hub(hub, tmp_path, name, encoder, mean_std, not_in_model):
    """What is in the model equals what was served, and so does the normalisation."""
    endpoint, all_served = hub
    weights = SEGFORMER_B0 if name == "segformer" else "imagenet"
    done = run_program(
        *("-c", BUILD, name, encoder, weights, tmp_path / "built.safetensors"),
        HF_ENDPOINT=endpoint,
        HF_HOME=str(tmp_path / "hf"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    assert weights in done.stdout and f"normalised by {mean_std}" in done.stdout
    assert "new: decode_head.classifier" in done.stdout or "decoder is new" in done.stdout
    built = load_file(tmp_path / "built.safetensors")
    served = all_served[encoder]
    wanted = {k: v for k, v in served.items() if not any(part in k for part in not_in_model)}
    assert wanted and all(torch.equal(built[k], v) for k, v in wanted.items())


def test_predict_takes_a_model_of_the_hub(hub, trained, blobs, tmp_path):
    """Safetensors only; once it is in the cache, without the network."""
    repository = {f.name: f.read_bytes() for f in (trained / "best").iterdir()}
    for name, left_out in (("us/found", ""), ("us/pickled", "model.safetensors")):
        for file, data in repository.items():
            if file != left_out:
                Hub.files[f"/{name}/resolve/main/{file}"] = data
    Hub.files["/us/pickled/resolve/main/pytorch_model.bin"] = b""
    online = {"HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path / "hf")}
    image, out = blobs / "test" / "test0.jpg", tmp_path / "out"
    done = segacc("predict", "us/found", image, "--out", out, **online)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "test0.png").is_file()
    refused = run_program("-c", LOAD, "us/pickled", "us/nothing", **online)
    said = refused.stdout.splitlines()
    assert said[0].startswith("us/pickled is no folder here, and its model.safetensors could not")
    assert said[1].startswith("us/nothing is no folder here, and its config.json could not be had")
    again = run_program("-c", LOAD, "us/found", trained, **online, HF_HUB_OFFLINE="1")
    cached, local = again.stdout.splitlines()
    assert cached == local != ""


@pytest.mark.parametrize(
    ("model", "hub", "reason"),
    [
        ("linknet", {"HF_HUB_OFFLINE": "1"}, "LocalEntryNotFoundError"),
        ("linknet", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1 cannot be reached"),
        ("segformer", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1 cannot be reached"),
    ],
)
def test_weights_that_cannot_be_downloaded_name_the_ways_out(blobs, tmp_path, model, hub, reason):
    done = run_program(
        *("train.py", "--dataset", blobs, "--model", model, "--batch-size", 4),
        *("--output-dir", tmp_path / "run"),
        HF_HOME=str(tmp_path / "hf"),
        **hub,
    )
    assert_one_sentence(done, f"could not be downloaded ({reason}")
    assert "Retrying" not in done.stderr
    for way in ("a local file or folder", "HF_HOME", "HF_ENDPOINT", "--weights none"):
        assert way in done.stderr
    assert not (tmp_path / "run").exists()
