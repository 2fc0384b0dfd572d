"""A word of a command can never become another command."""

import socket

import pytest

from homeport.contract.errors import IngressError
from homeport.ingress import runtime
from homeport.ingress.runtime import Runtime, Step


@pytest.mark.parametrize(
    "word",
    ["a;help", "a\\", "<<", "0<<", "a b", "a\nshow info", "", "é", "a\x00", "#1", "a\r", "'"],
)
async def test_a_word_that_could_be_more_is_never_sent(tmp_path, word):
    runtime = Runtime(str(tmp_path / "nobody-listens"))

    with pytest.raises(ValueError, match="cannot take this word"):
        await runtime.ask(("add", "map", "backends.map", word, "b1"))
    with pytest.raises(ValueError, match="cannot take this word"):
        await runtime.tell([("show", "info"), ("add", "map", "backends.map", "key", word)])
    with pytest.raises(ValueError, match="cannot take this word"):  # nor what comes before it
        await runtime.tell([("show", "info")], [("add", "map", "backends.map", "key", word)])


@pytest.mark.parametrize(
    "lines",
    ["a\n\nshow info", "\nshow info", "a\n", "a\n b", "a\r", "a\tb", "é", "a\x00", ""],
)
async def test_lines_that_could_end_and_begin_another_command_are_never_sent(tmp_path, lines):
    """An empty line ends them, and what follows would be a command."""
    step = Step(
        ("set", "ssl", "cert", "certs/a.pem"), payload=f"first\n{lines}", good="Transaction"
    )
    with pytest.raises(ValueError, match="cannot take these lines"):
        await Runtime(str(tmp_path / "nobody-listens")).carry_out([step])


async def test_a_process_that_hangs_is_an_error_and_not_a_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "control.sock"))
        silent.listen()
        with pytest.raises(IngressError, match="does not answer"):
            await Runtime(str(tmp_path / "control.sock")).ask(("show", "info"))


async def test_the_answer_to_one_command_is_not_taken_for_that_to_another(ingress):
    running = Runtime(ingress._supervisor.runtime.socket)
    await running.tell([("add", "map", "hosts.map", "x.localhost", "x")])

    assert "b0" in await running.ask(("show", "stat", "b0", "6", "-1"), ("show", "info"))
    assert "x.localhost x" in await running.ask(("show", "map", "hosts.map"))


async def test_commands_go_in_batches_and_none_after_one_that_is_refused(ingress):
    running = Runtime(ingress._supervisor.runtime.socket)
    asked, ask = [], running.ask

    async def counted(*commands):
        asked.append(len(commands))
        return await ask(*commands)

    running.ask = counted
    await running.tell(
        [("add", "map", "hosts.map", f"{i}.localhost", "x" * (i + 1)) for i in range(120)],
        [("set", "map", "hosts.map", "7.localhost", "seven")],
    )
    assert [50, 50, 20, 1] == asked
    told = await ask(("show", "map", "hosts.map"))
    assert all(f" {i}.localhost " in told for i in range(120))
    assert " 7.localhost seven" in told

    asked.clear()
    long = [("add", "map", "hosts.map", f"l{i}.localhost", "y" * 20_000) for i in range(3)]
    await running.tell(long)
    assert [1, 1, 1] == asked

    asked.clear()
    with pytest.raises(IngressError, match=r"`set map`.*not found"):
        await running.tell(
            [("set", "map", "hosts.map", "nobody.localhost", "x"), *long], [("show", "info")]
        )
    assert 1 == len(asked)


def test_sessions_are_read_with_their_server_and_their_age():
    from homeport.ingress.runtime import sessions

    text = (
        "0x7f21: proto=tcpv4 src=127.0.0.1:1 fe=web be=b0 srv=ta-1 ts=00 epoch=0 age=5s calls=2 rq[f=1]\n"
        "0x7f22: proto=tcpv4 src=127.0.0.1:2 fe=web be=b0 srv=ta-2 ts=00 epoch=0 age=1h2m3s calls=2\n"
        "0x7f23: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 age=0s calls=1\n"
        "\n"
    )

    assert [("0x7f21", "ta-1", 5), ("0x7f22", "ta-2", 3723), ("0x7f23", "<none>", 0)] == [
        (session.id, session.server, session.age_s) for session in sessions(text)
    ]
