"""compare(): the table, and the paired test against numbers known beforehand."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from runs import make_run

from segacc.errors import InputError
from segacc.evaluation.compare import (
    COMPARISON_NOTE,
    compare,
    compared_runs,
    comparison_table,
    paired_bootstrap,
)
from segacc.evaluation.scored_runs import notes_of, read_scored_run, report_groups
from segacc.evaluation.tables import markdown, print_table


def results(*runs):
    return [read_scored_run(run, "test") for run in runs]


def test_the_table_has_the_best_first_within_each_data_set(tmp_path):
    runs = [
        make_run(tmp_path / "a", [0.5, 0.6, 0.4]),
        make_run(tmp_path / "b", [0.7, 0.8, 0.9], model="segformer"),
        make_run(tmp_path / "c", [0.1, 0.2], dataset="/some/pedestrian/", size=128),
    ]
    table = comparison_table(compared_runs(results(*runs)))
    assert [row["run"] for row in table] == ["b", "a", "c"]
    assert [row["data"] for row in table] == ["gland 256", "gland 256", "pedestrian 128"]
    assert [row["model"] for row in table] == ["segformer", "linknet", "linknet"]
    assert [row["encoder"] for row in table] == ["segformer-b0", "resnet34", "resnet34"]
    assert table[0]["iou on test"] == "0.800 [0.100, 0.900]" and table[0]["iou_image"] == "0.800"
    assert table[0]["against best"] == table[2]["against best"] == "best"
    assert table[1]["against best"].startswith("-0.300 [-0.")
    assert {row["best epoch"] for row in table} == {"2 of 3"}
    assert {(row["minutes"], row["img/s"], row["threshold"]) for row in table} == {
        ("1.5", "20.0", "0.4375")
    }
    text = markdown(table, COMPARISON_NOTE)
    assert text.count("\n| ") == 4 and COMPARISON_NOTE in text


def test_weights_are_a_column_where_they_differ(tmp_path):
    one = make_run(tmp_path / "a", [0.5, 0.6], weights="imagenet")
    two = make_run(tmp_path / "b", [0.4, 0.5], weights="none")
    table = comparison_table(compared_runs(results(one, two)))
    assert [row["weights"] for row in table] == ["imagenet", "none"]
    assert list(table[0])[:5] == ["model", "encoder", "data", "parameters (M)", "weights"]
    assert "weights" not in comparison_table(compared_runs(results(one)))[0]


def test_the_fingerprint_groups_runs_and_not_what_the_data_set_was_called(tmp_path):
    """One set as a name and as a path, and another set in a folder of the same name. The first run
    is of an older version, which did not store the fingerprint of the split."""
    one = {"fingerprint": "1" * 64, "split_fingerprint": "5" * 64}
    other = {"fingerprint": "2" * 64, "split_fingerprint": "6" * 64}
    runs = results(
        make_run(tmp_path / "a", [0.5, 0.6], scored={"fingerprint": "1" * 64}),
        make_run(tmp_path / "b", [0.8, 0.9], dataset="/x/gland", scored=one),
        make_run(tmp_path / "c", [0.1, 0.2], dataset="/y/gland", scored=other),
    )
    table = comparison_table(compared_runs(runs))
    assert [(row["run"], row["data"]) for row in table] == [
        ("b", "gland 256 (55555555)"),
        ("a", "gland 256 (55555555)"),
        ("c", "gland 256 (66666666)"),
    ]
    assert [row["against best"][:5] for row in table] == ["best", "-0.30", "best"]
    assert [[run.run.name for run in group] for group in report_groups(runs)] == [["a", "b"], ["c"]]


def test_a_report_shows_the_same_images_at_two_sizes(tmp_path):
    runs = results(
        make_run(tmp_path / "a", [0.5, 0.6]),
        make_run(tmp_path / "b", [0.8, 0.9], size=512, crop=256),
        make_run(tmp_path / "c", [0.8, 0.9, 0.7], size=512),
    )
    assert [[run.run.name for run in group] for group in report_groups(runs)] == [["a", "b", "c"]]
    runs[2] = dataclasses.replace(runs[2], metrics=runs[2].metrics | {"fingerprint": "changed"})
    assert [[run.run.name for run in group] for group in report_groups(runs)] == [["a", "b"], ["c"]]


def test_runs_that_were_scored_in_different_ways_are_marked_and_not_compared(tmp_path):
    runs = results(
        make_run(tmp_path / "a", [0.5, 0.6]),
        make_run(tmp_path / "b", [0.4, 0.5]),
        make_run(tmp_path / "c", [0.1, 0.2], scored={"threshold_from": "given", "tta": "hv"}),
        make_run(tmp_path / "d", [0.8, 0.9], scored={"tile": 64}),
    )
    table = {row["run"]: row["against best"] for row in comparison_table(compared_runs(runs))}
    assert table["a"] == "best" and table["b"].startswith("-0.10")
    assert table["c"] == "best with --threshold 0.4375 --tta hv"
    assert table["d"] == "best with --tile 64"
    notes = "\n".join(notes_of(runs))
    assert f"{tmp_path / 'd'} was scored with --tile 64" in notes
    assert "different ways are not compared" in notes
    assert notes_of(runs[3:]) == []  # all in the same way


def test_a_name_with_a_bar_does_not_break_the_table(tmp_path):
    run = make_run(tmp_path / "a|b", [0.5, 0.6])
    assert "a\\|b |" in markdown(comparison_table(compared_runs(results(run))), COMPARISON_NOTE)


def counts_of(ious):
    tp = torch.tensor(ious).double() * 100
    return torch.stack([tp, 0 * tp, 100 - tp, 0 * tp], dim=1)[:, None]


def test_a_constant_difference_has_no_doubt():
    best = [0.9, 0.5, 0.7, 0.6, 0.8]
    pair = paired_bootstrap(counts_of(best), counts_of([v - 0.1 for v in best]))
    assert pair.difference == pytest.approx(-0.1)
    assert pair.low == pytest.approx(-0.1) and pair.high == pytest.approx(-0.1)
    assert pair.p == pytest.approx(2 / 2001)


def test_no_difference_has_p_one():
    same = counts_of([0.9, 0.5, 0.7])
    assert paired_bootstrap(same, same) == type(paired_bootstrap(same, same))(0, 0, 0, 1.0)


def test_the_paired_interval_agrees_with_scipy_and_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(0)
    best = rng.uniform(0.3, 0.95, 40)
    other = np.clip(best - 0.02 + 0.05 * rng.standard_normal(40), 0, 1)
    pair = paired_bootstrap(counts_of(best), counts_of(other))
    # With masks of one size and no false positives the dataset IoU is the mean.
    expected = scipy.stats.bootstrap(
        (other - best,), np.mean, method="percentile", rng=1, n_resamples=9999
    ).confidence_interval
    assert pair.difference == pytest.approx((other - best).mean())
    assert pair.low == pytest.approx(expected.low, abs=2e-3)
    assert pair.high == pytest.approx(expected.high, abs=2e-3)
    assert pair.high - pair.low < 0.2 * (best.max() - best.min())
    test = scipy.stats.ttest_rel(other, best)
    assert pair.p == pytest.approx(test.pvalue, abs=0.03)


def test_what_cannot_be_compared_is_said(tmp_path):
    run = make_run(tmp_path / "a", [0.5, 0.6])
    (run / "test" / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"none of 1 runs has results on test: `segacc evaluate"):
        compare([run], "test", tmp_path / "out")
    with pytest.raises(
        InputError, match=rf"is not a run's folder \(it holds runs, such as {run}\)"
    ):
        compare([tmp_path], "test", tmp_path / "out")
    with pytest.raises(InputError) as error:
        compare([run], "test-tta-hv", tmp_path / "out")
    how = f"`segacc evaluate {run} --split test`, with the flags that test-tta-hv names, makes them"
    assert how in str(error.value)


def test_other_images_are_not_paired(tmp_path):
    runs = make_run(tmp_path / "a", [0.5, 0.6]), make_run(tmp_path / "b", [0.4, 0.5, 0.3])
    assert [row["against best"] for row in comparison_table(compared_runs(results(*runs)))] == [
        "best",
        "",
    ]


@pytest.mark.parametrize(
    ("columns", "shown", "left_out"), [(60, "iou on", "img/s"), (240, "img/s", "")]
)
def test_a_narrow_terminal_shows_fewer_columns(
    tmp_path, monkeypatch, capsys, columns, shown, left_out
):
    table = comparison_table(compared_runs(results(make_run(tmp_path / "a", [0.5, 0.6]))))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # so that rich takes the pipe for a terminal
    print_table(table)
    printed = capsys.readouterr().out
    assert shown in printed and "0.550" in printed and "linknet" in printed
    assert not left_out or left_out not in printed
