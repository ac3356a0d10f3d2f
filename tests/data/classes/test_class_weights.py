"""--class-weights: balanced by the pixels of train, or from a file."""

import numpy as np
import pytest
from small import write_shapes

from segacc.data.classes.weights import balanced_weights, read_weights
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source
from segacc.errors import InputError
from segacc.labels import Labels, colours_for

NAMES = ("road", "a: b", "sky")
LABELS = Labels(NAMES, colours_for(NAMES))


def test_balanced_weights_make_all_classes_weigh_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    data = write_shapes(tmp_path / "data", [(32, 48), (40, 40)])
    prepared = prepare(Source(convert_folder(data)), 32)
    train = prepared.splits["train"]
    pixels = np.bincount(np.concatenate([train[i][1].ravel() for i in range(len(train))]))
    weights = balanced_weights(train, 3)  # the third is in no image
    assert weights[2] == 1 and weights[0] * pixels[0] == pytest.approx(weights[1] * pixels[1])
    assert np.dot(weights[:2], pixels) == pytest.approx(pixels.sum())


def test_weights_are_read_by_name(tmp_path):
    file = tmp_path / "weights.yaml"
    file.write_text('sky: 0\n"a: b": 2.5\nroad: 1\n')
    assert read_weights(file, LABELS) == (1.0, 2.5, 0.0)
    file.write_text('{"road": 1, "a: b": 2, "sky": 3}')
    assert read_weights(file, LABELS) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file"),
        ("road\n", "holds str: expected a line for each class"),
        ("road: 1\nsky: 2\n", r"no weight for a: b \(1 in all\)"),
        ("road: 1\nsky: 2\n'a: b': 1\ncar: 2", "weights for car .* the classes .* are road, a: b"),
        ("road: -1\nsky: 2\n'a: b': 1", "road has the weight -1, expected a number from 0"),
        ("road: .nan\nsky: 2\n'a: b': 1", "road has the weight nan"),
        ("road: yes\nsky: 2\n'a: b': 1", "road has the weight True"),
        ("road: 0\nsky: 0\n'a: b': 0", "all weights are 0"),
        ("road: [", "cannot be read"),
    ],
)
def test_files_without_a_weight_for_each_class_are_refused(tmp_path, text, said):
    file = tmp_path / "weights.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=said):
        read_weights(file, LABELS)
