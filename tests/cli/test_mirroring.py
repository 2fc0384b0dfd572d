"""What `--mirror` says, and what becomes of the copies."""

import asyncio

import pytest

from homeport.cli import mirroring, replay
from homeport.cli.mirroring import Mirror, Wanted
from homeport.contract.api.captures import Mirrored
from homeport.contract.captured import Captured, Message
from homeport.contract.errors import BadRequest
from homeport.settings import Settings


@pytest.mark.parametrize(
    ("text", "share"),
    [("shop=5%", 500), ("shop=100%", 10_000), ("shop=0.01%", 1), ("my.app/price=2%", 200)],
)
def test_a_share_is_percent(text, share):
    assert share == mirroring.parse(text).share


@pytest.mark.parametrize("text", ["shop", "shop=5", "=5%", "shop=0%", "shop=101%", "shop=x%"])
def test_another_text_is_refused(text):
    with pytest.raises(BadRequest, match="--mirror"):
        mirroring.parse(text)


def copy(target: str, lost: int = 0, tag: str = "web") -> Mirrored:
    told = Message(body=b"1", body_bytes=1)
    captured = Captured(
        id="x", tag=tag, method="GET", target=target, request=Message(), status=200, response=told
    )
    return Mirrored(captured=captured, lost=lost)


class Client:
    """The part of a client that has copies."""

    def __init__(self, *copies: Mirrored) -> None:
        self.captures = self
        self._copies = copies

    async def mirror(self, _query):
        for each in self._copies:
            yield each
            await asyncio.sleep(0)


async def told(monkeypatch, capsys, answers, *copies: Mirrored) -> list[str]:
    """Return what is printed of these copies; `answers` returns the session's answer."""
    monkeypatch.setattr(replay, "sent", answers)
    mirror = Mirror(Settings(home="/"), [Wanted(app="shop", tag="web", share=1)])
    mirror._urls = {"web": "http://x"}
    await mirror.run(Client(*copies))
    await asyncio.gather(*mirror._sending)
    return capsys.readouterr().err.splitlines()


async def test_differences_are_one_line_each(monkeypatch, capsys):
    async def answers(_settings, _url, captured, _added):
        if captured.target == "/down":
            raise BadRequest("it does not answer")
        body = b"2" if captured.target == "/other" else b"1"
        return replay.Answer(status=200, fields=(), body=body, took_ms=7)

    lines = await told(
        *(monkeypatch, capsys, answers),
        *(copy("/same"), copy("/other"), copy("/down"), copy("/", tag="gone")),
    )

    assert [
        "mirror  GET /: this session has no URL `gone`",
        "mirror  GET /down: it does not answer",
        "mirror  GET /other: body, 0 ms -> 7 ms",
        "mirror  `shop` is mirrored no more",
    ] == sorted(lines)


async def test_more_than_the_session_takes_are_left_out(monkeypatch, capsys):
    release = asyncio.Event()

    async def answers(*_args):
        await release.wait()
        return replay.Answer(status=200, fields=(), body=b"1", took_ms=7)

    asyncio.get_running_loop().call_later(0.05, release.set)
    lines = await told(
        *(monkeypatch, capsys, answers),
        *(copy("/") for _ in range(mirroring.AT_ONCE)),
        copy("/late", lost=2),
    )

    assert "mirror  (3 copies were left out: the session is too slow)" in lines
