"""How lines of containers are shown."""

import pytest

from homeport.cli import output
from homeport.contract.api import events
from homeport.contract.container import LogLine
from homeport.contract.errors import Failure


@pytest.mark.parametrize(("source", "is_dim"), [("output", False), ("system", True)])
def test_homeports_own_lines_are_dim(monkeypatch, capsys, source, is_dim):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = LogLine(at=0.0, app="a", function="f", container="ta-1", text="hello", source=source)
    output.show_line(line)

    assert is_dim is ("\x1b[2mhello" in capsys.readouterr().out)


@pytest.mark.parametrize(("traceback", "left"), [("one\n  two", ""), ("one\nthree", "one\nthree")])
def test_a_failure_does_not_repeat_what_was_shown_before(traceback, left):
    shown = output.Shown()
    for text in ("one", "zero", " two "):
        line = LogLine(at=0.0, app="a", function="f", container="ta-1", text=text)
        shown.add(events.Log(line=line))
    failure = Failure("no", traceback=traceback)
    shown.shorten(failure)

    assert left == failure.traceback
