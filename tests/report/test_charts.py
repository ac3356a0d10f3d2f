"""Axes and lines of the report's charts."""

import math

import pytest

from segacc.report.charts import (
    Axis,
    Series,
    chart,
    fit_axis,
    line,
    line_class,
    tick_labels,
    unit_axis,
)


@pytest.mark.parametrize(
    ("values", "low", "ticks"),
    [
        ([0.31, 0.7], None, [0.3, 0.4, 0.5, 0.6, 0.7]),
        ([0.001, 0.0001], 0.0, [0, 0.00025, 0.0005, 0.00075, 0.001]),
        ([12, 950], 0.0, [0, 250, 500, 750, 1000]),
        ([-2.0, 3.0], None, [-2, 0, 2, 4]),
    ],
)
def test_ticks_are_round_and_hold_the_values(values, low, ticks):
    axis = fit_axis("", values, low)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.low <= min(values) and axis.high >= max(values)


def test_epochs_have_whole_ticks_from_the_first_to_the_last():
    assert fit_axis("", range(1, 35), whole=True).ticks == [1, 10, 20, 30]
    assert fit_axis("", range(1, 4), whole=True).ticks == [1, 2, 3]
    assert fit_axis("", [1], whole=True) == Axis("", 0, 2, [1])


@pytest.mark.parametrize("values", [[], [0.0], [0.7, 0.7], [math.nan], [-3.0], [0.0, math.inf]])
@pytest.mark.parametrize("low", [None, 0.0])
def test_an_axis_of_no_value_or_one_has_two_different_ends(values, low):
    axis = fit_axis("", values, low)
    assert axis.high > axis.low and len(axis.ticks) > 1


def test_labels_are_short():
    assert tick_labels([1e-17, 5e-5, 0.25, 0.1 + 0.2, 100]) == ["0", "5e-5", "0.25", "0.3", "100"]


@pytest.mark.parametrize("low", [0.0, 0.69314, 123456.0, 1 - 1e-9])
@pytest.mark.parametrize("span", [1.0, 1e-3, 2e-6])
def test_the_labels_of_an_axis_differ(low, span):
    labels = tick_labels(fit_axis("", [low, low + span]).ticks)
    assert len(set(labels)) == len(labels)
    assert [float(label) for label in labels] == sorted(map(float, labels))


def test_a_line_has_a_gap_where_there_is_no_value():
    nan = math.nan
    drawn = line(Series("", [(0, 0), (0.5, 1), (0.6, nan), (1, 1)]), unit_axis(""), unit_axis(""))
    assert drawn.count("M") == 2 and "nan" not in drawn
    alone = line(Series("", [(0, nan), (0.5, 0.5)]), unit_axis(""), unit_axis(""))
    assert "<circle" in alone and "nan" not in alone  # a line of one point would show nothing


def test_twelve_lines_look_different():
    assert len({line_class(i) for i in range(12)}) == 12


def test_text_is_escaped():
    evil = "<script>&"
    drawn = chart("a", evil, evil, unit_axis(evil), unit_axis(evil), [], [Series(evil, [])] * 2)
    assert "<script>" not in drawn and drawn.count("&lt;script&gt;&amp;") == 7
