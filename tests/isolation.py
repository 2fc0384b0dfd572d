"""Which cells this machine allows: asked once in a run, in a process that does nothing else.

A test must not ask by itself. What earlier tests have left in its process may change the answer, and a skip would hide that:
OpenTelemetry's exporter starts a thread in each forked child, and a process with threads gets EINVAL for a user namespace.
If the machine allows cells when the run starts, a cell that cannot be made later fails its test.
`tests/house/test_skips.py` checks that.
"""

import subprocess
import sys

import pytest

from homeport.cell.report import Report
from homeport.contract import codec

KEY = "isolation"  # in what xdist's controller sends to each worker
_answers: list[Report] = []


def report() -> Report:
    """Return the cells that this machine allows."""
    if not _answers:
        # In another process, because this one may have threads.
        words = [sys.executable, "-m", "homeport.cell.report"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"nobody knows which cells are allowed: {done.stderr}"
        _answers.append(codec.loads(Report, done.stdout))
    return _answers[0]


def needed(*parts: str) -> Report:
    """Return the allowed cells; skip the test if there are none, or if they lack one of these parts of a report."""
    answer = report()
    if not answer.possible:
        pytest.skip(f"no cells here: {answer.why}")
    for part in parts:
        if not getattr(answer, part):
            pytest.skip(f"no cells with this part here: {part}")
    return answer


def send(sent: dict[str, object]) -> None:
    """Add the answer to what the controller sends to a worker."""
    sent[KEY] = codec.dumps(report())


def receive(sent: dict[str, object]) -> None:
    """Have `report` return the controller's answer in this worker."""
    _answers[:] = [codec.loads(Report, str(sent[KEY]))]
