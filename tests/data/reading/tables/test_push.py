"""A set is saved, pushed to the Hub, and loaded from there, with its classes."""

import json
import os
import subprocess
import sys
from http.server import ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from loopback_hub import HubHandler
from PIL import Image

from segacc.commands.data import prepare

NAMES = ["road", "sky: blue", "car"]
PUSH = """
import sys
from datasets import load_from_disk
load_from_disk(sys.argv[1]).push_to_hub("me/scenes", token="hf_none")
"""
LOAD = """
import json, sys
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError
for place in sys.argv[1:]:
    try:
        source = load_dataset(place)
        done = prepare(source, "native")
    except InputError as error:
        print(json.dumps(str(error)))
        continue
    counts = {name: len(split) for name, split in done.splits.items()}
    print(json.dumps([counts, source.labels.names, done.fingerprint, source.labels.colours]))
"""


@pytest.fixture
def hub(tmp_path):
    """The environment of processes for which this is the Hub."""
    HubHandler.repositories, HubHandler.uploads = {"me/scenes": {}}, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "SEGACC_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    server.shutdown()
    server.server_close()


def run(code, *args, **environment):
    """In another process: the address of the Hub is read when its client is imported."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in '["']


def scenes(folder):
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("valid", 2)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            mask = rng.integers(0, 3, (12, 10)).astype(np.uint8)
            mask[:2] = 255
            Image.fromarray(image).save(folder / split / f"{i}.jpg")
            Image.fromarray(mask).save(folder / split / f"{i}.png")
    (folder / "id2label.json").write_text(json.dumps(dict(enumerate(NAMES))))
    return folder


def test_a_set_is_the_same_after_it_was_pushed(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    folder, saved = scenes(tmp_path / "set"), tmp_path / "saved"
    prepare(str(folder), size="native", save=saved)
    run(PUSH, saved, **hub)
    assert sorted(HubHandler.repositories["me/scenes"]) == [
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/valid-00000-of-00001.parquet",
    ]
    own, of_saved, of_hub = run(LOAD, folder, saved, "me/scenes", **hub)
    assert own == of_saved == of_hub
    assert own[:2] == [{"train": 3, "valid": 2}, NAMES]


def test_colours_of_classes_reach_the_hub(hub, tmp_path, monkeypatch):
    """In the palettes of the masks, since the Hub gets no other file of a pushed set."""
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    folder, saved = scenes(tmp_path / "set"), tmp_path / "saved"
    (folder / "id2label.json").unlink()
    (folder / "classes.txt").write_text("road: 0; #102030\nsky: 1; #0a0b0c\ncar: 2; #ff0001\n")
    prepare(str(folder), size="native", save=saved)
    run(PUSH, saved, **hub)
    of_saved, of_hub = run(LOAD, saved, "me/scenes", **hub)
    assert of_saved == of_hub
    assert of_hub[3] == [[16, 32, 48], [10, 11, 12], [255, 0, 1]]


@pytest.mark.slow
def test_a_repository_names_its_classes_in_a_file(hub, tmp_path, monkeypatch):
    """Columns as those of segments.ai, without names in their types; offline from the cache."""
    from datasets import load_from_disk

    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    saved = tmp_path / "saved"
    prepare(str(scenes(tmp_path / "set")), size="native", save=saved)
    columns = {"image": "pixel_values", "mask": "label"}
    files = HubHandler.repositories["me/scenes"]
    for split, name in (("train", "train"), ("valid", "dev")):
        data = load_from_disk(saved)[split].remove_columns(["mask_classes"])
        data.rename_columns(columns).to_parquet(tmp_path / "part.parquet")
        files[f"data/{name}.parquet"] = (tmp_path / "part.parquet").read_bytes()
    (without,) = run(
        LOAD,
        "me/scenes",
        **hub,
    )
    assert "a binary mask holds 0 and 255" in without
    files["id2label.json"] = json.dumps(dict(enumerate(NAMES))).encode()
    own, of_hub = run(LOAD, tmp_path / "set", "me/scenes", **hub)
    assert own == of_hub
    assert own[1] == NAMES
    (offline,) = run(LOAD, "me/scenes", **hub, HF_HUB_OFFLINE="1")
    assert offline == own
