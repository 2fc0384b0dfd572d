"""What `homeport node join` asks of the agent. `tests/journeys/test_nodes.py` and `test_node_service.py` join for real."""

import os
import sys

import pytest

from homeport.cli.joining import _stay, _variables
from homeport.contract import joining
from homeport.contract.errors import BadRequest


def test_a_machine_that_has_joined_needs_no_more_words():
    assert {} == _variables("", "", "", "", {})
    assert {joining.REACH: ":7700"} == _variables("", "", "", ":7700", {})


@pytest.mark.parametrize(
    ("address", "token", "name", "labels", "words"),
    [
        ("10.0.0.1", "", "", {}, "needs the address and a token"),
        ("", "t", "", {}, "needs the address and a token"),
        ("", "", "b", {}, "gets its name and its labels when it joins"),
        ("", "", "", {"region": "eu"}, "gets its name and its labels when it joins"),
    ],
)
def test_words_that_do_not_belong_together_are_refused(address, token, name, labels, words):
    with pytest.raises(BadRequest, match=words):
        _variables(address, token, name, "", labels)


@pytest.mark.parametrize("code", [0, 3])
def test_a_machine_that_stays_a_node_runs_its_agent_only_once_it_has_joined(
    code, home, tmp_path, monkeypatch
):
    """The program that joins ends with this exit code; `run_agent` shows the variables that it gets."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)
    ran: list[dict[str, str]] = []
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(
        "homeport.cli.foreground.run_agent", lambda _, given: ran.append(given) or 7
    )
    joined = {joining.JOIN: "10.0.0.1:7600 b", joining.TOKEN: "t", joining.LABELS: "region=eu"}

    assert (code or 7) == _stay({**os.environ, **joined})
    assert (0 if code else 1) == len(ran)
    assert not any(name in variables for variables in ran for name in joined)
