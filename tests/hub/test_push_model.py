"""Pushing a model to the Hub: its files, its card, what is refused, and what goes on."""

import json
import os
import signal
import subprocess
import sys
import traceback

import pytest
import yaml
from model_hub import TOKEN
from small import ROOT

from segacc.errors import InputError, Stopped
from segacc.export.push import Push, export_and_push
from segacc.hub.access import look_at
from segacc.hub.card import MARK
from segacc.hub.push import push_run
from segacc.labels import Labels
from segacc.models.load import load_segmenter
from segacc.training import fit

NAME = "me/scenes-net"


def metadata_of(hub, name=NAME):
    return yaml.safe_load(hub.repositories[name]["README.md"].decode().split("---\n")[1])


def test_a_push_makes_a_private_repository_with_model_and_card(hub, run):
    said = push_run(run, NAME)
    files = hub.repositories[NAME]
    assert hub.visibility == {NAME: "private"}
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert files["model.safetensors"] == (run / "best" / "model.safetensors").read_bytes()
    assert f"/{NAME}, private: config.json, model.safetensors, README.md" in said
    assert "to fill in on its card: the licence" in said
    everything = b"".join(files.values()) + said.encode()
    for secret in (TOKEN, "private-place", str(run), os.path.expanduser("~") + "/"):
        assert secret.encode() not in everything
    assert load_segmenter(NAME).labels == load_segmenter(run).labels


def test_colours_of_classes_reach_the_hub(hub, run):
    push_run(run, NAME)
    config = json.loads(hub.repositories[NAME]["config.json"])
    labels = Labels.from_config(config["labels"])
    assert labels == load_segmenter(run).labels and len(set(labels.colours)) == 3
    card = hub.repositories[NAME]["README.md"].decode()
    for name, colour in zip(labels.names, labels.colours, strict=True):
        assert f"| {name} | `#{bytes(colour).hex()}` |" in card


def test_the_config_does_not_say_where_a_model_of_transformers_came_from(hub, run):
    path = run / "best" / "config.json"
    config = json.loads(path.read_text())
    config["backbone_config"] = {"_name_or_path": "/home/me/x", "depth": {"_name_or_path": "/y"}}
    path.write_text(json.dumps(config))
    push_run(run, NAME)
    pushed = json.loads(hub.repositories[NAME]["config.json"])
    assert pushed == config | {"backbone_config": {"depth": {}}}


def test_public_is_asked_for_and_never_changed_by_a_push(hub, run):
    push_run(run, NAME, public=True)
    assert hub.visibility == {NAME: "public"}
    with pytest.raises(InputError, match=f"{NAME} is a public repository.*give --public, or"):
        push_run(run, NAME)
    push_run(run, "team/other")
    with pytest.raises(InputError, match=r"team/other is a private .* leave --public out"):
        push_run(run, "team/other", public=True)


@pytest.mark.parametrize(
    ("ending", "closes"),
    [
        ("/objects/batch", False),
        ("/upload", False),
        ("/commit/main", False),
        ("/commit/main", True),
    ],
)
def test_an_upload_that_broke_goes_on_with_the_same_command(hub, run, ending, closes, caplog):
    hub.failing, hub.closes = {ending: 1}, closes
    with pytest.raises(InputError) as raised:
        push_run(run, NAME)
    sentence = str(raised.value)
    assert "\n" not in sentence and TOKEN not in sentence and TOKEN not in caplog.text
    assert f"push it with: segacc export {run} --push-to-hub {NAME}." in sentence
    assert hub.repositories == {NAME: {}}  # nothing by half
    sent = sum(request == "PUT /upload" for request in hub.requests)
    (said,) = export_and_push(str(run), None, None, None, "uint8", False, Push(NAME, False, False))
    assert "pushed:" in said and "model.safetensors" in hub.repositories[NAME]
    puts = sum(request == "PUT /upload" for request in hub.requests)
    assert puts - sent == (0 if ending == "/commit/main" else 1)  # what is there is not sent again


def test_a_push_that_was_killed_goes_on_with_the_same_command(hub, run):
    command = [sys.executable, "-m", "segacc", "export", str(run), "--push-to-hub", NAME]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **hub.environment})
    hub.called = {"/upload": process.kill}
    assert process.wait(timeout=120) == -signal.SIGKILL and not hub.called
    assert hub.repositories == {NAME: {}}
    push_run(run, NAME)
    files = hub.repositories[NAME]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert files["model.safetensors"] == (run / "best" / "model.safetensors").read_bytes()


def test_a_server_that_repeats_the_token_does_not_get_it_printed(hub, run, capfd):
    hub.failing = {"/api/whoami-v2": 1}
    with pytest.raises(InputError) as raised:
        push_run(run, NAME)
    shown = "".join(traceback.format_exception(raised.value)) + "".join(capfd.readouterr())
    assert TOKEN not in shown and "501 Not Implemented" in shown


@pytest.mark.parametrize(
    ("name", "token", "role", "words"),
    [
        ("scenes", TOKEN, "write", "'scenes': expected owner/name"),
        ("me/a/b", TOKEN, "write", "expected owner/name"),
        ("me/a b", TOKEN, "write", "expected owner/name"),
        (NAME, "", "write", "found none: log in with `hf auth login`, or set HF_TOKEN"),
        (NAME, "hf_of\u00e9", "write", "HF_TOKEN holds characters that no token has"),
        (NAME, "hf_old", "write", "did not say whose token .* still valid"),
        (NAME, TOKEN, "read", "the token may only read"),
        ("they/net", TOKEN, "write", "that of me, who cannot push to they: .* me/ or team/"),
    ],
)
def test_what_cannot_be_pushed_is_one_sentence(hub, monkeypatch, name, token, role, words):
    hub.role = role
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=words) as raised:
        look_at(name, public=False)
    assert "\n" not in str(raised.value) and (not token or token not in str(raised.value))
    assert hub.repositories == {}


def test_without_a_network_it_is_one_sentence(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="ConnectError"):
        look_at(NAME, public=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="needs the network, and HF_HUB_OFFLINE is set"):
        look_at(NAME, public=False)


def test_a_later_push_keeps_the_licence_and_the_text_below_the_mark(hub, run, evaluated):
    push_run(run, NAME)
    files = hub.repositories[NAME]
    card = files["README.md"].decode().replace("# license: to fill in, such as", "license:")
    above, _, _ = card.partition(MARK)
    files["README.md"] = f"{above}{MARK}\n\nMade for our sand.\n".encode()
    evaluated()
    said = push_run(run, NAME)
    assert "to fill in" not in said
    card = files["README.md"].decode()
    assert metadata_of(hub)["license"] == "apache-2.0" and "to fill in" not in card.lower()
    assert card.endswith(f"{MARK}\n\nMade for our sand.\n") and "Split `test`" in card


def test_a_card_that_is_not_ours_is_kept_below(hub, run):
    hub.repositories[NAME] = {"README.md": b"---\nlanguage: en\n---\nMy own words.\n"}
    hub.visibility[NAME] = "private"
    push_run(run, NAME)
    assert hub.repositories[NAME]["README.md"].decode().endswith(f"{MARK}\n\nMy own words.\n")
    assert metadata_of(hub)["language"] == "en"


def test_what_was_of_another_model_is_removed(hub, run):
    hub.repositories[NAME] = {
        "model.safetensors": b"another one",
        "model.onnx": b"of it",
        "smp/config.json": b"{}",
        "notes.txt": b"stays",
    }
    hub.visibility[NAME] = "private"
    assert "removed there, since they were of another model: model.onnx, smp/con" in push_run(
        run, NAME
    )
    names = sorted(hub.repositories[NAME])
    assert names == ["README.md", "config.json", "model.safetensors", "notes.txt"]
    assert "onnxruntime" not in hub.repositories[NAME]["README.md"].decode()


def test_pictures_go_only_when_asked_for(hub, run, evaluated):
    with pytest.raises(InputError, match=r"--push-pictures: .*overview.png is not there"):
        push_run(run, NAME, pictures=True)
    evaluated()
    push_run(run, NAME)
    assert not [path for path in hub.repositories[NAME] if path.endswith((".png", ".csv"))]
    push_run(run, NAME, pictures=True)
    assert hub.repositories[NAME]["overview.png"] == b"picture"
    assert "](overview.png)" in hub.repositories[NAME]["README.md"].decode()


def test_a_push_that_is_stopped_says_how_to_push_later(run, monkeypatch):
    def stopped(*_: object) -> str:
        raise Stopped("by SIGTERM")

    monkeypatch.setattr("segacc.hub.push.push_run", stopped)
    with pytest.raises(Stopped, match=rf"push it with: segacc export {run} --push-to-hub {NAME} "):
        fit.push(run, NAME, public=True)


def test_a_folder_that_is_no_run_is_refused(hub, run):
    with pytest.raises(InputError, match="is not a run's folder"):
        export_and_push(
            str(run / "best"), None, None, None, "uint8", False, Push(NAME, False, False)
        )
    (run / "best" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has finished its first epoch"):
        push_run(run, NAME)
