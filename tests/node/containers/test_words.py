"""Which messages of a container the node accepts."""

import json

import pytest

from homeport.contract import codec
from homeport.contract.container import KINDS, Event, State
from homeport.node.containers import words


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_is_read_as_it_was_written(kind):
    event = Event(
        kind=kind,
        reason="r",
        traceback="t",
        phase="import",
        timings_ms={"imported": 1.5},
        imports_ms={"json": 2},
        modules=("a.b", "c"),
        held=3,
        tunnel="0123456789" * 2 if kind in ("tunnel", "closed") else "",
        port=8000 if kind == "tunnel" else 0,
    )

    assert event == words.read(codec.dumps(event).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"garbage \xff",
        b"[" * 100_000,
        b'{"kind": "ready"',
        b'{"kind": "owned"}',
        b'{"kind": ["ready"]}',
        b'{"kind": "ready", "timings_ms": {"imported": NaN}}',
        b'{"kind": "ready", "timings_ms": {"imported": 1e400}}',
        b'{"kind": "ready", "timings_ms": {"imported": "long"}}',
        b'{"kind": "ready", "timings_ms": {"imported": -1}}',
        b'{"kind": "ready", "timings_ms": [1]}',
        b'{"kind": "failed", "reason": 5}',
        b'{"kind": "ready", "tunnel": "01234567890123456789"}',
        b'{"kind": "tunnel", "tunnel": "01234567890123456789", "port": 0}',
        b'{"kind": "tunnel", "tunnel": "01234567890123456789", "port": 65536}',
        b'{"kind": "tunnel", "tunnel": "0123456789012345678/", "port": 80}',
        b'{"kind": "tunnel", "tunnel": 5, "port": 80}',
        b'{"kind": "closed", "tunnel": ""}',
        b'{"kind": "imported", "modules": ["os; import sys"]}',
        b'{"kind": "imported", "modules": [["os"]]}',
        b'{"kind": "held", "held": -1}',
        b'{"kind": "held", "held": 1.5}',
        b'{"kind": "held", "held": 1' + b"0" * 5000 + b"}",
        json.dumps({"kind": "failed", "reason": "x" * 100_000}).encode(),
        json.dumps({"kind": "imported", "modules": ["a"] * 30_000}).encode(),
    ],
)
def test_a_line_that_is_no_message_is_refused(line):
    with pytest.raises(ValueError):
        words.read(line)


@pytest.mark.parametrize(
    "act",
    [
        'os.write(report, b\'{\\"kind\\": \\"ready\\", \\"held\\": [1]}\\n\')',
        "os.write(report, b'x' * (3 << 20))",
        "[say(kind='held', held=n % 5) for n in range(100_000)]",
        (
            "import socket; way = socket.socket(fileno=report); way.setblocking(True); "
            "event = json.dumps({'kind': 'tunnel', 'tunnel': '0' * 20, 'port': 80}).encode(); "
            "socket.send_fds(way, [event + b'\\n'], [0])"
        ),
    ],
)
async def test_a_container_that_says_something_else_ends_and_the_reason_says_so(
    start, act, monkeypatch
):
    monkeypatch.setattr("homeport.node.containers.process.WORDS_PER_S", 100)  # slow machines too
    agent, watched = await start(
        f"say(kind='ready')\nheard()\ntry:\n    {act}\nexcept OSError: pass\ntime.sleep(60)"
    )
    await watched.until(State.READY)
    await agent.confirm_held("ta-1", 0)  # what it waits for
    container = await watched.until(State.GONE)

    assert container.reason.startswith("was killed: the node cannot read its report: ")
