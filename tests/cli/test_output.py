"""How lines of containers are shown."""

import pytest

from homeport.cli import output
from homeport.contract.container import LogLine


@pytest.mark.parametrize(("source", "is_dim"), [("output", False), ("system", True)])
def test_homeports_own_lines_are_dim(monkeypatch, capsys, source, is_dim):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = LogLine(at=0.0, app="a", function="f", container="ta-1", text="hello", source=source)
    output.show_line(line)

    assert is_dim is ("\x1b[2mhello" in capsys.readouterr().out)
