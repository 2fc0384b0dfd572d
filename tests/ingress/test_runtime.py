"""A word of a command can never become another command."""

import pytest

from homeport.contract.errors import IngressError
from homeport.ingress.runtime import Runtime


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


async def test_the_answer_to_one_command_is_not_taken_for_that_to_another(ingress):
    runtime = Runtime(ingress._supervisor.runtime.socket)
    await runtime.tell([("add", "map", "hosts.map", "x.localhost", "x")])

    assert "b0" in await runtime.ask(("show", "stat", "b0", "6", "-1"), ("show", "info"))
    assert "x.localhost x" in await runtime.ask(("show", "map", "hosts.map"))


async def test_commands_go_in_batches_and_none_after_one_that_is_refused(ingress):
    runtime = Runtime(ingress._supervisor.runtime.socket)
    asked, ask = [], runtime.ask

    async def counted(*commands):
        asked.append(len(commands))
        return await ask(*commands)

    runtime.ask = counted
    await runtime.tell(
        [("add", "map", "hosts.map", f"{i}.localhost", "x" * (i + 1)) for i in range(120)],
        [("set", "map", "hosts.map", "7.localhost", "seven")],
    )
    assert [50, 50, 20, 1] == asked
    told = await ask(("show", "map", "hosts.map"))
    assert all(f" {i}.localhost " in told for i in range(120))
    assert " 7.localhost seven" in told

    asked.clear()
    long = [("add", "map", "hosts.map", f"l{i}.localhost", "y" * 20_000) for i in range(3)]
    await runtime.tell(long)
    assert [1, 1, 1] == asked

    asked.clear()
    with pytest.raises(IngressError, match=r"`set map`.*not found"):
        await runtime.tell(
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
