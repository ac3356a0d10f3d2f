"""What is seen of progress: bars in a terminal, lines in a log."""

import io
import sys

import pytest

from segacc.runtime.bars import LogLines, close_bars, make_bar, show_doing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def make_terminal(monkeypatch):
    """A function that makes stderr a terminal; pytest sets it anew when a test begins."""

    def make() -> Terminal:
        monkeypatch.delenv("RANK", raising=False)
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        return terminal

    return make


def test_a_log_gets_a_line_every_thirty_seconds_from_the_start_on():
    now = [100.0]
    lines = LogLines(shown=True, clock=lambda: now[0])
    due = []
    for now[0] in (100, 129, 130, 131, 159.9, 160, 200, 229, 230):
        due.append(lines.are_due())
    assert due == [False, False, True, False, False, True, True, False, True]


def test_a_bar_is_a_line_every_thirty_seconds_in_a_log(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    monkeypatch.setattr(LogLines.__init__, "__defaults__", (lambda: now[0],))
    caplog.set_level("INFO")
    for shown, in_log in ((True, True), (False, True), (True, False)):
        with make_bar(shown, in_log, total=12000, desc="preparing", unit="img") as bar:
            for now[0] in range(0, 120, 2):
                bar.update(100)
        expected = ["preparing: 1,600 of 12,000", "preparing: 3,100 of 12,000"]
        expected += ["preparing: 4,600 of 12,000"]
        assert caplog.messages == (expected if shown and in_log else [])
        assert log.getvalue() == ""
        caplog.clear()


def test_there_are_no_lines_where_there_is_a_bar_or_on_other_ranks(make_terminal, monkeypatch):
    now = [0.0]
    make_terminal()
    on_terminal = LogLines(shown=True, clock=lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    of_rank_1 = LogLines(shown=False, clock=lambda: now[0])
    now[0] = 1000
    assert not on_terminal.are_due() and not of_rank_1.are_due()


def test_a_terminal_shows_what_is_being_done_and_a_log_does_not(make_terminal, monkeypatch):
    terminal = make_terminal()
    show_doing("reading the data")
    show_doing()
    assert terminal.getvalue() == "\r\x1b[K  reading the data ...\r\r\x1b[K"
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    show_doing("reading the data")
    assert log.getvalue() == ""


def test_only_the_first_of_several_processes_shows_it(make_terminal, monkeypatch):
    terminal = make_terminal()
    monkeypatch.setenv("RANK", "1")
    show_doing("reading the data")
    assert terminal.getvalue() == ""


def test_a_bar_that_was_closed_from_outside_writes_nothing_more(make_terminal):
    terminal = make_terminal()
    with make_bar(total=3, desc="steps", leave=False) as bar:
        bar.update()
        close_bars()
        before = terminal.getvalue()
        assert before.startswith("\rsteps:") and before.endswith("\r")
        bar.update()
        bar.set_postfix_str("loss 1")
    assert terminal.getvalue() == before
