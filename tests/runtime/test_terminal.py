"""Pictures in a terminal."""

import numpy as np
import pytest

from segacc.runtime.terminal import in_characters, show_pictures


@pytest.mark.parametrize(
    ("shape", "across", "lines"), [((64, 64), 24, 12), ((64, 128), 24, 6), ((128, 64), 12, 12)]
)
def test_a_character_shows_two_pixels_above_each_other(shape, across, lines):
    picture = np.zeros((*shape, 3), np.uint8)
    picture[: shape[0] // 2] = (255, 0, 0)
    rows = in_characters(picture, 24).split("\n")
    assert len(rows) == lines and {len(row) for row in rows} == {across}
    styles = [row.spans[0].style for row in rows]
    assert styles[0].color.triplet == styles[0].bgcolor.triplet == (255, 0, 0)
    assert styles[-1].color.triplet == styles[-1].bgcolor.triplet == (0, 0, 0)


@pytest.mark.parametrize(
    "environment",
    [{}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, {"FORCE_COLOR": "1", "TERM": "dumb"}],
)
def test_nothing_is_shown_without_a_terminal_of_many_colours(environment, monkeypatch, capsys):
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not show_pictures({"a": np.zeros((8, 8, 3), np.uint8)})
    assert capsys.readouterr().out == ""
