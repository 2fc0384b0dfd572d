"""What an agent says of itself: its own log, and its machine."""

import asyncio
import logging
import shutil
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from homeport.link import authority
from homeport.link.authority import Authority
from homeport.link.identity import Identity
from homeport.node.joined import itself
from homeport.node.joined.itself import LINE_CHARS, Itself, OwnLog
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def own_log():
    """The log of a program, with room for five lines."""
    log = OwnLog(5)
    logger = logging.getLogger("tests.itself")
    logger.addHandler(log)
    yield log
    logger.removeHandler(log)


def say(text: str) -> None:
    logging.getLogger("tests.itself").warning(text)


async def read(log: OwnLog, tail: int) -> list[str]:
    pieces: list[str] = []
    await log.read(tail, follow=False, say=pieces.append)
    return "".join(pieces).splitlines()


async def test_the_last_lines_are_kept_and_no_more(own_log):
    for number in range(7):
        say(f"line {number}")

    assert [f"line {number}" for number in range(2, 7)] == await read(own_log, 100)
    assert ["line 6"] == await read(own_log, 1)


async def test_a_text_of_several_lines_is_several_lines_and_a_long_one_is_cut(own_log):
    say("a\nb")
    say("x" * (LINE_CHARS + 1))

    assert ["a", "b", "x" * LINE_CHARS] == await read(own_log, 100)


async def test_lines_are_said_together_as_far_as_a_message_goes():
    own_log = OwnLog()
    for text in [f"line {number}" for number in range(40)] + ["x" * (LINE_CHARS - 100)] * 3:
        own_log.emit(logging.LogRecord("n", logging.INFO, "p", 1, text, None, None))
    pieces: list[str] = []
    await own_log.read(100, follow=False, say=pieces.append)

    assert [20, 20, 1, 1, 1] == [piece.count("\n") for piece in pieces]


async def test_a_follower_gets_each_line_once_also_those_of_other_threads(own_log):
    say("before")
    pieces: list[str] = []
    following = asyncio.create_task(own_log.read(10, follow=True, say=pieces.append))
    await until(lambda: pieces, "the first line")
    say("on the loop")
    await asyncio.to_thread(say, "in a thread")
    await until(lambda: "in a thread" in "".join(pieces), "the last line")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    say("after")

    assert ["before", "on the loop", "in a thread"] == "".join(pieces).splitlines()


def certified(directory: Path) -> Path:
    """Return the file of an agent's key and certificate."""
    ca = Authority(directory / "cluster")
    ca.open()
    key, csr = authority.request()
    pair = directory / "node.pem"
    pair.write_bytes(key + ca.sign(csr, Identity(name="a", id="0" * 32)).encode())
    return pair


async def test_an_agent_says_how_its_machine_is(own_log, tmp_path):
    pair = certified(tmp_path)
    began = time.time()
    about = await Itself(tmp_path, pair, own_log).about()

    assert began <= about.now <= time.time()
    assert 0 < about.free_bytes <= shutil.disk_usage(tmp_path).total
    assert 13 < (about.certificate_until - began) / 86400 <= 14
    assert about.homeport


async def test_an_agent_says_that_the_control_planes_port_for_calls_is_closed(own_log, tmp_path):
    with socket.socket() as held:  # and does not listen
        held.bind(("127.0.0.1", 0))
        way = held.getsockname()
        its = Itself(
            tmp_path, certified(tmp_path), own_log, port=SimpleNamespace(entrance=((), {}), way=way)
        )
        about = await its.about()

    assert f"127.0.0.1:{way[1]}: Connection refused" == about.cannot_call


async def test_a_file_system_that_hangs_takes_one_thread_and_no_more(
    own_log, tmp_path, monkeypatch
):
    gate, looks = threading.Event(), []

    def reported(directory):
        looks.append(directory)
        gate.wait(PATIENCE_S)
        return "mark"

    monkeypatch.setattr(itself.volumes, "reported", reported)
    facts = Itself(tmp_path, certified(tmp_path), own_log, tmp_path)
    for _ in range(3):
        asking = asyncio.create_task(facts.about())
        await until(lambda: looks, "a look")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    last = asyncio.create_task(facts.about())
    gate.set()

    assert "mark" == (await last).shared_volumes
    assert 1 == len(looks)
