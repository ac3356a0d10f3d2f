"""The card: metadata that the Hub reads, data, recipe, scores with intervals, no local paths."""

import json
import os
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import RepoCard

from segacc.config.flags import parse_train
from segacc.config.train import TrainConfig
from segacc.hub.card import hub_card, public_name, read_earlier, recipe_flags
from segacc.hub.scores import scored_splits
from segacc.models.load import load_segmenter


def card_of(run, files=("config.json", "model.safetensors")):
    labels = load_segmenter(run).labels
    splits, _ = scored_splits(run, labels)
    return hub_card(run, "me/net", files, labels, splits, read_earlier(None))


def test_the_metadata_hold_the_scores_with_their_intervals(run, evaluated):
    evaluated()
    card = RepoCard(card_of(run))
    assert card.data.library_name == "segacc" and card.data.pipeline_tag == "image-segmentation"
    test, valid = yaml.safe_load(card.content.split("---\n")[1])["model-index"][0]["results"]
    assert (test["dataset"]["split"], valid["dataset"]["split"]) == ("test", "valid")
    assert test["dataset"]["name"] == "scenes" and len(test["dataset"]["args"]["fingerprint"]) > 8
    iou = test["metrics"][0]
    assert (iou["type"], iou["value"]) == ("mean_iou", 0.5)
    assert iou["name"] == "iou (95 % interval 0.4000 to 0.6000, 3 images)"
    assert iou["args"]["interval_95"] == [0.4, 0.6]
    low, high = valid["metrics"][0]["args"]["interval_95"]
    assert low <= valid["metrics"][0]["value"] <= high
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert valid["metrics"][0]["value"] == pytest.approx(line["valid_iou"])


def test_the_card_says_data_recipe_scores_and_how_to_use_the_model(run, evaluated):
    evaluated()
    card = card_of(run, ("model.onnx", "model-int8.onnx", "model.pt2", "smp/config.json"))
    assert "images: train 12, valid 5, test 3; 64 px; fingerprint `" in card
    (disc,) = (line for line in card.splitlines() if line.startswith("| 1 | disc |"))
    assert disc.endswith("` | 0.7000 | 0.4000 to 0.6000 |")
    assert "segacc train --dataset DATA --size 64 --encoder tu-" in card
    assert "--weights none" in card and "--batch-size 4 --epochs 1" in card
    assert "| iou | 0.5000 | 0.4000 to 0.6000 | TP / (TP + FP + FN) |" in card
    assert r"| ece | 0.1000 |  | \|a - b\| |" in card
    assert "so the scores are too good." in card and "smith" not in card
    for use in ("segacc predict me/net", "--weights me/net", "InferenceSession", "torch.export"):
        assert use in card
    assert "model-int8.onnx" in card and 'allow_patterns="smp/*"' in card
    assert "transformers" not in card.split("## Data")[0]
    assert "# license: to fill in" in card and "## Licence\n\nTo fill in" in card
    for path in ("private-place", str(run)):
        assert path not in card


def test_scores_of_an_earlier_model_are_left_out_and_it_is_said(run, evaluated):
    evaluated()
    os.utime(run / "test" / "metrics.json", (1, 1))
    splits, said = scored_splits(run, load_segmenter(run).labels)
    assert [one.split for one in splits] == ["valid"]
    assert "metrics.json is older than the model" in said


def test_flags_name_no_local_path(tmp_path):
    (tmp_path / "start").mkdir()
    config = TrainConfig(
        weights=str(tmp_path / "start"),
        augment=str(tmp_path / "gone" / "pipeline.json"),
        size=(48, 32),
        keep_head=True,
        push_to_hub="me/net",
        pairs=(f"{tmp_path}/{{}}=x",),
        output_dir=tmp_path,
    )
    flags = " ".join(recipe_flags(config))
    assert flags == "--size 48x32 --augment pipeline.json --weights start --keep-head"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("", ""),
        ("--dataset demo-pedestrian", "--size 128 --flips h"),  # DATA has other defaults
        ("--recipe strong --lr 1e-3 --ema None", "--recipe strong --lr 0.001 --ema None"),
        ("--recipe study --loss dice+ce", "--recipe study --loss dice+ce"),
        ("--recipe strong --weights none", "--weights none --recipe strong"),
    ],
)
def test_the_command_of_a_card_trains_such_a_model(given, shown):
    config = parse_train(given.split())
    flags = recipe_flags(config)
    assert " ".join(flags) == shown
    again = parse_train(["--dataset", "x", *" ".join(flags).split()])
    assert again == replace(config, dataset="x")


def test_a_public_name_is_not_a_local_path():
    assert public_name("nvidia/mit-b2") == "nvidia/mit-b2"
