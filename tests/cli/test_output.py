"""How a build's lines are shown."""

import io
import sys

import pytest

from homeport.cli import output
from homeport.contract.container import LogLine
from homeport.contract.output import PASSING


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_passing_line_is_written_over_on_a_terminal_and_left_out_elsewhere(
    monkeypatch, is_terminal
):
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    progress = output.Progress()
    for text in (f"{PASSING}1 MiB fetched", f"{PASSING}2 MiB \x1b[31mfetched", "done", "again"):
        progress.show(text)
    progress.end()

    told = screen.getvalue()
    assert told.endswith("done\nagain\n")
    if is_terminal:
        assert told.startswith("\r\x1b[K1 MiB fetched\r\x1b[K2 MiB \\x1b[31mfetched\r\x1b[K")
    else:
        assert "fetched" not in told


@pytest.mark.parametrize(("source", "is_dim"), [("output", False), ("system", True)])
def test_homeports_own_lines_are_dim(monkeypatch, capsys, source, is_dim):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = LogLine(at=0.0, app="a", function="f", container="ta-1", text="hello", source=source)
    output.show_line(line)

    assert is_dim is ("\x1b[2mhello" in capsys.readouterr().out)
