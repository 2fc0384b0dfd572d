"""One connection, both ends of it over a real socket."""

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.contract.errors import Failure, NodeLost, TooMany
from homeport.link import frames, messages, outbox, session
from homeport.link.pace import Pace
from tests.link.pairs import CALLS, Served, end, streams
from tests.waiting import until


def raw(message) -> bytes:
    return frames.framed(messages.write(message))


@pytest.fixture
async def both():
    """The end that asks, the end that answers, and what that does."""
    served = Served()
    async with streams() as (one, other):
        asks, answers = end(one), end(other, served)
        yield asks, answers, served
        for each in (asks, answers):
            each.session.cut("the test is over")
            await each.lost()


@pytest.fixture
async def attacked():
    """An end that answers, and the plain socket of whoever speaks to it."""
    served = Served()
    async with streams() as (one, other):
        yield end(other, served, pace=Pace(0.0)), one[1], served


async def test_calls_are_answered_and_take_effect_in_their_order(both):
    asks, _, served = both
    for number in range(50):
        asks.session.tell("note", {"text": str(number)})
    answers = await asyncio.gather(*(asks.session.ask("add", {"a": n, "b": 1}) for n in range(20)))

    assert list(range(1, 21)) == answers
    assert [str(number) for number in range(50)] == served.notes


async def test_a_message_that_is_no_call_is_passed_on_and_a_beat_is_not(both):
    asks, answers, _ = both
    batches = [messages.Kept(number=number) for number in range(3)]
    for message in (batches[0], messages.Beat(), *batches[1:]):
        asks.session.send(message)

    await until(lambda: len(answers.heard) >= 3, "three messages")
    assert batches == answers.heard


async def test_a_long_call_tells_its_progress_and_does_not_hold_up_others(both):
    asks, _, served = both
    said: list[str] = []
    waiting = asyncio.create_task(asks.session.ask("wait", {"text": "x"}, said.append))
    await until(lambda: said, "its progress")
    assert 3 == await asks.session.ask("add", {"a": 1, "b": 2})
    served.may_go.set()

    assert ("x", ["waiting: x"]) == (await waiting, said)


async def test_a_caller_that_stops_waiting_cancels_the_call_at_the_peer(both):
    asks, _, served = both
    said: list[str] = []
    waiting = asyncio.create_task(asks.session.ask("wait", {"text": "x"}, said.append))
    await until(lambda: said, "its progress")
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting

    await until(lambda: served.cancelled == ["x"], "the end of the call")


async def test_a_bug_at_the_peer_is_a_failure_that_shows_no_detail(both, caplog):
    asks, _, _ = both
    with pytest.raises(Failure) as failed:
        await asks.session.ask("fail")

    assert "`fail` failed there: RuntimeError" == failed.value.message
    assert 3 == await asks.session.ask("add", {"a": 1, "b": 2})
    assert "the call `fail` of the peer failed" in caplog.text


async def test_only_so_many_long_calls_run_at_once(both):
    asks, _, served = both
    calls = [
        asyncio.create_task(asks.session.ask("wait", {"text": str(n)}))
        for n in range(session.MAX_LONG + 1)
    ]
    await until(lambda: calls[-1].done(), "the refusal")
    with pytest.raises(TooMany):
        await calls[-1]
    served.may_go.set()

    assert session.MAX_LONG == len(await asyncio.gather(*calls[:-1]))


async def test_each_waiting_call_fails_at_a_loss_and_nothing_is_sent_after_it(both):
    asks, answers, _ = both
    said: list[str] = []
    waiting = asyncio.create_task(asks.session.ask("wait", {"text": "x"}, said.append))
    await until(lambda: said, "its progress")
    answers.session.cut("enough")
    with pytest.raises(NodeLost, match="the connection is lost"):
        await waiting

    assert "the peer has hung up" == await asks.lost()
    assert "enough" == await answers.lost()
    with pytest.raises(NodeLost):
        asks.session.tell("note", {"text": "late"})


async def test_an_idle_connection_stays_open_because_of_its_beats(both, monkeypatch):
    monkeypatch.setattr(session, "BEAT_S", 0.02)
    asks, answers, _ = both
    received = asks.session._reader
    before, beats = received.readexactly, []

    async def counted(size: int) -> bytes:
        body = await before(size)
        beats.append(body)
        return body

    received.readexactly = counted
    await until(lambda: len(beats) > 10, "some beats")

    assert not asks.session.is_lost
    assert not answers.session.is_lost


async def test_a_peer_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(frames.read, "__kwdefaults__", {"silent_s": 0.05})
    async with streams() as (_one, other):
        assert "the peer is silent" == await end(other, Served()).lost()


async def test_a_peer_that_does_not_read_costs_a_connection_and_bounded_memory(monkeypatch):
    monkeypatch.setattr(session, "STALLED_S", 0.2)
    monkeypatch.setattr(outbox.Outbox.__init__, "__defaults__", (2**20, 2**20))
    async with streams() as (one, _other):
        asks = end(one)
        with pytest.raises(NodeLost):
            while True:  # the other end reads nothing
                asks.session.tell("note", {"text": "x" * 10_000})
                await asyncio.sleep(0)
                assert asks.session._outbox.waiting_bytes <= 2**20

        assert "the peer" in await asks.lost()


async def test_a_command_passes_a_flood_of_bulk(both):
    asks, _, _ = both
    loop, order = asyncio.get_running_loop(), []
    bulk = [asyncio.create_task(asks.session.ask("bytes", {"size": 2**18})) for _ in range(20)]
    for task in bulk:
        task.add_done_callback(lambda _task: order.append("bulk"))
    began = loop.time()
    assert 3 == await asks.session.ask("add", {"a": 1, "b": 2})
    order.append("command")
    await asyncio.gather(*bulk)

    assert loop.time() - began < 20
    assert order.index("command") < 10


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        pytest.param(b"\xff\xff\xff\xff", "a message of 4294967295 bytes", id="a huge frame"),
        pytest.param(frames.framed(b"{"), "not JSON", id="no JSON"),
        pytest.param(raw(messages.Call(number=1, name="rm")), "the unknown call 'rm'", id="a call that there is not"),
        pytest.param(raw(messages.Call(number=1, name="add", given={"a": "1", "b": 2})), "`add.a` must be int", id="an argument of another type"),
        pytest.param(raw(messages.Call(number=1, name="add")), "`add.a` must be int", id="no argument"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "bytes; at most", id="another protocol"),
    ],
)  # fmt: skip
async def test_a_peer_that_does_not_keep_to_the_protocol_is_cut_with_the_reason(
    attacked, sent, why
):
    answers, attacker, served = attacked
    attacker.write(sent)

    assert why in await answers.lost()
    assert [] == served.notes


async def test_answers_to_calls_that_nobody_made_are_ignored(attacked):
    answers, attacker, served = attacked
    for number in (0, 1, -1, 2**60):
        attacker.write(raw(messages.Answer(number=number, value={"a": 1})))
        attacker.write(raw(messages.Progress(number=number, text="x")))
        attacker.write(raw(messages.Failed(number=number, failure={})))
        attacker.write(raw(messages.Cancel(number=number)))
    attacker.write(raw(messages.Call(number=1, name="note", given={"text": "after"})))

    await until(lambda: served.notes == ["after"], "the call after them")
    assert not answers.session.is_lost


async def test_an_answer_of_another_type_cuts_the_connection_and_not_the_caller_for_ever():
    async with streams() as (one, other):
        asks = end(one, pace=Pace(0.0))
        asking = asyncio.create_task(asks.session.ask("add", {"a": 1, "b": 2}))
        await asyncio.sleep(0)
        other[1].write(raw(messages.Answer(number=0, value="three")))
        with pytest.raises(NodeLost):
            await asking

        assert "`add` must be int" in await asks.lost()


async def test_a_flood_is_slowed_down_and_does_not_stop_the_loop():
    async with streams() as (one, other):
        served = Served()
        loop = asyncio.get_running_loop()
        slowed = Pace(loop.time(), bytes_per_s=200 * 1024, burst_bytes=50 * 1024)
        answers = end(other, served, pace=slowed)
        began = loop.time()
        for number in range(150):  # each counts 1 KiB: 50 at once, and then 200 a second
            one[1].write(raw(messages.Call(number=number, name="note", given={"text": "x"})))
        await until(lambda: len(served.notes) == 150, "all calls")

        assert loop.time() - began > 0.4
        assert not answers.session.is_lost


async def test_a_connection_that_is_reset_is_lost_with_a_reason(both):
    asks, answers, _ = both
    raw_socket = asks.session._writer.get_extra_info("socket")
    raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    asks.session._writer.transport.abort()

    assert await answers.lost()
    assert await asks.lost()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4), st.booleans())
def test_any_bytes_of_a_peer_end_in_a_loss_that_has_a_reason(parts, as_frames):
    async def story():
        async with streams() as (one, other):
            answers = end(other, Served(), pace=Pace(0.0))
            for part in parts:
                one[1].write(frames.framed(part) if as_frames else part)
            one[1].write_eof()
            why = await answers.lost()
            assert why
            assert "bug" not in why
            assert set(CALLS) == set(answers.session._serves)

    asyncio.run(story())
