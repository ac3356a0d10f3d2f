"""The table of the epochs: 80 columns, labels above the values, and what it says besides."""

import re

import pytest

from segacc.config.train import TrainConfig
from segacc.labels import BINARY, Labels
from segacc.training.banner import about_fine_tuning, duration, epoch_rows
from segacc.training.saving.checkpoint import Progress
from segacc.training.steps import TrainedSteps

CLASSES = Labels(("road", "car", "sky"), ((0, 0, 0), (9, 9, 9), (99, 99, 99)))
LINE = {"train_loss": 0.8185, "valid_loss": 0.823, "valid_iou": 0.6, "valid_iou_image": 0.61}
LINE |= {"lr": 9.5e-4, "img_per_s": 123.4, "data_wait": 0.001, "seconds": 12.3, "memory_gib": 1.0}
LARGE = {"train_loss": 123456.7, "valid_loss": -12.3456, "valid_iou": 1.0, "valid_iou_image": 1.0}
LARGE |= {"lr": 1e-10, "img_per_s": 123456.7, "data_wait": 1.0, "seconds": 1e9}


def rows(epoch=1, epochs=100, first=1, best=(1, 0.6), constant=0.1, left=1190.0, **line):
    labels = line.pop("labels", BINARY)
    text = epoch_rows(LINE | {"epoch": epoch} | line, epochs, first, best, constant, left, labels)
    return text.splitlines()


def test_labels_stand_above_the_values_and_the_best_epoch_is_marked():
    upper, lower, row = rows()
    assert row.split() == (
        "1/100 0.8185 0.8230 0.6000 0.6100 9.5e-04 123.4 0.1% 12 s 20 min best".split()
    )
    ends = {word.end() for word in re.finditer(r"\S+", row)}
    titles = ("epoch", "loss", "loss", "IoU", "image", "lr", "img/s", "wait", "time", "left")
    place = 0
    for title in titles:  # each ends above the end of its value
        place = lower.index(title, place) + len(title)
        assert place in ends, title
    for word in ("train", "valid", "per", "at most"):
        assert upper.index(word) + len(word) in ends, word
    assert rows(epoch=2)[0].split()[-1] == "min"  # not the best, and no second head
    assert "mIoU" in rows(labels=CLASSES)[1]


@pytest.mark.parametrize("epochs", [1, 10, 999, 1000, 9999])
@pytest.mark.parametrize("line", [{}, LARGE], ids=["usual", "large"])
def test_all_lines_fit_80_columns_and_their_columns_do_not_touch(epochs, line):
    shown = rows(epoch=epochs, first=epochs, epochs=epochs, best=(epochs, 0.1), left=1e12, **line)
    assert len(shown) == 4 and max(map(len, shown)) <= 80
    units = sum(word in ("s", "min", "h", "d") for word in shown[2].split())
    assert len(shown[2].split()) - units == 11


def test_the_head_comes_again_every_25_epochs_of_the_process():
    heads = [epoch for epoch in range(8, 70) if len(rows(epoch=epoch, first=8)) > 1]
    assert heads == [8, 33, 58]


def test_a_run_that_is_no_better_than_a_constant_mask_says_so_beside_each_head():
    assert rows(constant=0.6)[3:] == ["  so far no better than all foreground (IoU 0.6000)"]
    assert rows(epoch=26, constant=0.6)[3:] != []
    assert rows(epoch=27, constant=0.6) == rows(epoch=27)
    said = rows(constant=0.7, labels=CLASSES)[3]
    assert said.strip() == "so far no better than one class everywhere (mIoU 0.7000)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.96, "10 s"), (99, "99 s"), (100, "1.7 min"), (5970, "1.7 h"), (1e6, "12 d")],
)
def test_times_are_short(seconds, text):
    assert duration(seconds) == text


def test_the_time_of_an_epoch_that_was_resumed_in_its_middle_is_that_of_a_whole_one():
    done = TrainedSteps(Progress(losses=(1.0,) * 8), False, 12, 0.0, 6.0, 0.0, 0.0)
    assert done.whole_epoch(seconds=7.0, batch_size=4) == pytest.approx(8 * 2 + 1)
    none = TrainedSteps(Progress(losses=(1.0,) * 8), False, 0, 0.0, 1e-5, 0.0, 0.0)
    assert none.whole_epoch(seconds=1.0, batch_size=4) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, {}),
        ({"freeze_encoder": 1}, {"fine-tuning": "encoder held for the first 1 epoch"}),
        (
            {"freeze_encoder": 3, "encoder_lr": 0.5},
            {"fine-tuning": "lr of the encoder times 0.5; encoder held for the first 3 epochs"},
        ),
        # The rates of an encoder that is never trained do not matter.
        (
            {"freeze_encoder": 9, "epochs": 9, "layer_decay": 0.5},
            {"fine-tuning": "encoder held for all epochs"},
        ),
        ({"freeze_encoder": "all"}, {"fine-tuning": "encoder held for all epochs"}),
    ],
)
def test_the_banner_says_what_fine_tuning_does(values, said):
    assert about_fine_tuning(TrainConfig(**values)) == said
