"""Text from containers cannot control the user's terminal."""

import io
import json
import sys

import pytest

from homeport.cli import output, terminal
from homeport.contract.container import LogLine
from homeport.contract.errors import Failure
from homeport.contract.traffic import RequestRecord

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\x7f\u2028\u202e\u2066\u200f\x00"


def shown(monkeypatch, show, *args, stream="stdout", **kwargs) -> str:
    """Return what a function prints."""
    to = io.StringIO()
    monkeypatch.setattr(sys, stream, to)
    show(*args, **kwargs)
    return to.getvalue()


def line(text: str) -> LogLine:
    return LogLine(at=1.0, app="app", function="f", container="ta-1", text=text)


def test_nothing_is_obeyed_and_everything_is_shown():
    printed = terminal.line(f"a{NASTY}b\tc\nd\r\u2713")

    assert r"a\x1b]0;owned\x07\x1b[2J\x9b31m\x08\x7f\u2028\u202e\u2066\u200f\x00b" == printed[:-8]
    assert "\tc\\nd\\r\u2713" == printed[-8:]
    assert terminal.text("a\r\nb\n\x1b").splitlines() == ["a", "b", r"\x1b"]


def test_a_log_line_cannot_look_like_two(monkeypatch):
    printed = shown(
        monkeypatch, output.show_line, line(f"x{NASTY}\nf ta-2 forged\u2029f ta-3 forged")
    )

    assert 1 == printed.count("\n")
    assert printed.startswith(r"f ta-1 x\x1b")
    assert not any(ord(char) < 32 and char != "\n" for char in printed)


def test_the_pieces_of_a_progress_bar_are_lines_of_their_own(monkeypatch):
    printed = shown(monkeypatch, output.show_line, line(" 10%\r 20%\r 30%"))

    assert ["f ta-1  10%", "f ta-1  20%", "f ta-1  30%"] == printed.splitlines()
    assert "f ta-1 \n" == shown(monkeypatch, output.show_line, line(""))


@pytest.mark.parametrize(
    ("show", "args"),
    [
        (output.say, [NASTY]),
        (output.warn, [NASTY]),
        (output.show_failure, [Failure(NASTY, where=NASTY, hint=NASTY, traceback=NASTY)]),
    ],
)
def test_talk_is_plain_too(monkeypatch, show, args):
    printed = shown(monkeypatch, show, *args, stream="stderr")

    assert r"\x1b[2J" in printed
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(printed)


def test_tables_and_requests_are_plain(monkeypatch):
    table = shown(monkeypatch, output.show_table, ["A"], [[NASTY]], empty="")
    request = RequestRecord(
        endpoint="f", method="GET", path=f"/{NASTY}", status=200, container="ta-1", duration_ms=1
    )
    request_line = shown(monkeypatch, output.show_request, "f", request)

    for printed in (table, request_line):
        assert r"\x1b[2J" in printed
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(printed)


def test_json_is_exact(monkeypatch):
    printed = shown(monkeypatch, output.show_json, {"text": NASTY + "\U000e0041"})

    assert {"text": NASTY + "\U000e0041"} == json.loads(printed)
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(printed)


def test_a_table_is_whole_in_a_terminal_without_a_cursor(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal
    names = [f"a-long-name-{number}" for number in range(12)]
    printed = shown(monkeypatch, output.show_table, names, [names], empty="")

    for row in printed.splitlines():
        assert [name in row for name in names] == [True] * 12
