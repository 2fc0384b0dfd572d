"""Commands are words, and a word is nothing more."""

import pytest

from homeport.ingress.runtime import Runtime


@pytest.mark.parametrize(
    "word",
    ["a;help", "a\\", "<<", "0<<", "a b", "a\nshow info", "", "é", "a\x00", "#1", "a\r", "'"],
)
async def test_a_word_that_could_be_more_is_never_sent(tmp_path, word):
    runtime = Runtime(str(tmp_path / "nobody-listens"))

    with pytest.raises(ValueError, match="not a word"):
        await runtime.ask(("add", "map", "backends.map", word, "b1"))
    with pytest.raises(ValueError, match="not a word"):
        await runtime.tell([("show", "info"), ("add", "map", "backends.map", "key", word)])


async def test_what_haproxy_says_is_not_taken_for_its_answer_to_another_command(ingress):
    runtime = Runtime(ingress._supervisor.runtime.socket)
    await runtime.tell([("add", "map", "hosts.map", "x.localhost", "x")])

    assert "b0" in await runtime.ask(("show", "stat", "b0", "6", "-1"), ("show", "info"))
    assert "x.localhost x" in await runtime.ask(("show", "map", "hosts.map"))
