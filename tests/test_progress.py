"""What a person sees of a job: lines where nothing can be drawn, a bar on a terminal."""

import io
import sys

import pytest

from neuronlake import progress as progress_module
from neuronlake.progress import LineProgress, SilentProgress, TerminalProgress, show_progress


class Clock:
    """Stands in for module `time`: goes on only when told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_a_phase_is_one_line_when_it_ends_soon(clock, capsys):
    progress = LineProgress()
    progress.phase("forward", total=3000, unit="tokens")
    for _ in range(3):
        clock.now += 5
        progress.advance(1000)
    assert capsys.readouterr() == ("", "forward: 3,000 of 3,000 tokens, 200 a second\n")


def test_a_long_phase_is_a_line_every_half_minute_with_the_time_left(clock, capsys):
    progress = LineProgress()
    progress.phase("forward", total=10_000, unit="tokens")
    for _ in range(10):
        clock.now += 10
        progress.advance(1000)
    assert capsys.readouterr().err.splitlines() == [
        "forward: 3,000 of 10,000 tokens, 100 a second, 70 s left",
        "forward: 6,000 of 10,000 tokens, 100 a second, 40 s left",
        "forward: 9,000 of 10,000 tokens, 100 a second, 10 s left",
        "forward: 10,000 of 10,000 tokens, 100 a second",
    ]


def test_less_than_ten_a_second_are_no_round_number(clock, capsys):
    progress = LineProgress()
    progress.phase("clustering", total=6, unit="layers")
    clock.now += 25
    progress.advance(6)
    assert capsys.readouterr().err == "clustering: 6 of 6 layers, 0.24 a second\n"


def test_each_phase_counts_from_nothing(clock, capsys):
    progress = LineProgress()
    for name, unit in (("forward", "tokens"), ("scoring", "neurons")):
        progress.phase(name, total=100, unit=unit)
        clock.now += 10
        progress.advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "forward: 100 of 100 tokens, 10 a second",
        "scoring: 100 of 100 neurons, 10 a second",
    ]


def test_a_phase_that_takes_no_time_is_told_all_the_same(clock, capsys):
    progress = LineProgress()
    progress.phase("scoring", total=5, unit="neurons")
    progress.advance(5)
    assert capsys.readouterr().err.startswith("scoring: 5 of 5 neurons, ")


def test_a_note_is_a_line_on_standard_error(capsys):
    LineProgress().note("its encoder is measured")
    assert capsys.readouterr() == ("", "its encoder is measured\n")


def test_silence_is_silent(capsys):
    progress = SilentProgress()
    progress.phase("forward", total=1, unit="tokens")
    progress.advance(1)
    progress.note("a note")
    assert capsys.readouterr() == ("", "")


def test_lines_are_shown_where_standard_error_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with show_progress() as progress:
        assert isinstance(progress, LineProgress)


def test_a_bar_is_shown_on_a_terminal_with_rate_unit_and_notes_above(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with show_progress() as progress:
        assert isinstance(progress, TerminalProgress)
        progress.phase("forward", total=10, unit="tokens")
        progress.advance(10)
        progress.note("the first [red]note[/red]")
        progress.phase("scoring", total=4, unit="neurons")
        progress.advance(1)
    text = terminal.getvalue()
    assert "forward" in text
    assert "100%" in text
    assert "tokens/s" in text
    assert "scoring" in text
    assert " 25%" in text
    assert "neurons/s" in text
    assert "the first [red]note[/red]\n" in text.replace("\r", "")


def test_the_bar_is_gone_when_the_job_fails(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    def fail():
        with show_progress() as progress:
            progress.phase("forward", total=10, unit="tokens")
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert terminal.getvalue().endswith("\x1b[?25h"), "the cursor is hidden still"
