"""From a container's pulse the node sees that it hangs."""

import asyncio
import dataclasses
import os
import time

import pytest

from homeport.contract import pulse
from homeport.contract.container import State
from homeport.contract.pulse import Pulse, Reader, Reading, create
from homeport.node.containers import pulses
from homeport.node.containers.pulses import Patient, Usage

WELL = Reading(beat=100.0, turn=100.0, deadline=0.0, inside=0, refused=0, requests=0)


class Ward:
    """A container whose pulse and CPU use are set by the test."""

    def __init__(self, timeout_s: float = 60.0) -> None:
        self.patient = Patient(None, 0, timeout_s)
        self.patient.since = 100.0
        self.usage = Usage(stopped=False, cpu_ticks=5)

    def look(self, now: float, **changes) -> str:
        return self.patient.judge(dataclasses.replace(WELL, **changes), now, lambda: self.usage)


def test_a_container_that_beats_and_turns_is_well():
    ward = Ward()

    assert "" == ward.look(101.0)
    assert "" == ward.look(5000.0, beat=4992.0, turn=4995.0)


def test_a_request_that_should_have_ended_is_ended_from_outside():
    ward = Ward(timeout_s=2.0)

    assert "" == ward.look(105.9, deadline=104.0, inside=1)
    assert "timeout of 2 s" in ward.look(106.1, deadline=104.0, inside=1)


@pytest.mark.parametrize(("inside", "limit_s"), [(0, 15), (1, 10)])
def test_a_container_that_shows_nothing_is_noticed_sooner_with_a_request_inside(inside, limit_s):
    ward = Ward()
    end = 100.0 + limit_s

    assert "" == ward.look(end - 0.1, inside=inside)
    assert "" == ward.look(
        end + 0.1, inside=inside
    )  # its use of the CPU is compared at the next look
    why = ward.look(end + 1.1, inside=inside)
    assert f"no sign of life for {limit_s + 1} s (did C code hold the GIL?)" in why


def test_a_quick_look_at_a_page_says_well_only_if_a_whole_one_does():
    descriptor = create()
    page, reader = Pulse(descriptor), Reader(descriptor)
    patient = Patient(reader, 0, 60.0)
    assert not reader.is_well(time.monotonic() - 10.0)  # it has shown nothing yet
    page.beat()
    assert not reader.is_well(time.monotonic() - 10.0)  # the loop has not turned
    page.turn()
    assert reader.is_well(time.monotonic() - 10.0)
    assert not reader.is_well(time.monotonic() + 1.0)  # too long ago
    assert "" == patient.look(time.monotonic())
    page.inside(1, time.monotonic() - 60.0)
    assert not reader.is_well(time.monotonic() - 10.0)
    page.inside(0, None)
    page.refused(24)
    assert not reader.is_well(time.monotonic() - 10.0)
    page.refused(0)

    assert reader.is_well(time.monotonic() - 10.0)
    reader.close()
    os.close(descriptor)


def test_a_pulse_that_is_well_again_starts_each_count_from_the_beginning():
    descriptor = create()
    page, reader = Pulse(descriptor), Reader(descriptor)
    patient = Patient(reader, 0, 60.0)
    page.beat()
    page.turn()
    now = patient.since
    page.refused(24)
    assert "" == patient.look(now)
    page.refused(0)
    assert "" == patient.look(now + 4.0)
    page.refused(24)
    assert "" == patient.look(now + 4.5)

    assert "" == patient.look(now + 6.0)
    reader.close()
    os.close(descriptor)


def test_a_container_that_is_stopped_is_ended_even_with_a_request_inside():
    ward = Ward()
    ward.usage = Usage(stopped=True, cpu_ticks=5)

    assert "(it was stopped)" in ward.look(110.1, deadline=500.0, inside=1)


def test_long_work_in_c_is_no_reason_to_die_while_somebody_has_time_for_it():
    ward = Ward(timeout_s=300.0)
    for now in range(111, 399):
        assert "" == ward.look(now, deadline=400.0, inside=1, turn=100.0)

    assert "timeout of 300 s" in ward.look(402.1, deadline=400.0, inside=1)


def test_long_work_in_c_without_anybody_inside_may_take_as_long_as_a_request():
    ward = Ward(timeout_s=30.0)
    for now in range(111, 130):
        ward.usage = Usage(stopped=False, cpu_ticks=now)
        assert "" == ward.look(now)

    ward.usage = Usage(stopped=False, cpu_ticks=130)
    assert "no sign of life for 30 s" in ward.look(130.1)


def test_a_loop_that_stands_still_is_noticed_though_the_process_lives():
    ward = Ward(timeout_s=20.0)
    for now in range(111, 119):
        ward.usage = Usage(stopped=False, cpu_ticks=now)
        assert "" == ward.look(now, beat=float(now))

    ward.usage = Usage(stopped=False, cpu_ticks=119)
    assert "event loop stood still for 20 s" in ward.look(120.1, beat=119.0)


def test_a_recovery_is_a_new_beginning():
    ward = Ward()
    assert "" == ward.look(115.1)
    assert "" == ward.look(116.0, beat=115.9, turn=115.9)
    assert "" == ward.look(131.0, beat=115.9, turn=115.9)
    assert "no sign" in ward.look(132.0, beat=115.9, turn=115.9)


def test_a_container_that_cannot_accept_connections_is_ended():
    ward = Ward()
    for now in (101.0, 103.0):
        assert "" == ward.look(now, beat=now, turn=now, refused=24)
    assert "" == ward.look(104.0, beat=104.0, turn=104.0)
    for now in (105.0, 109.9):
        assert "" == ward.look(now, beat=now, turn=now, refused=24)

    assert "5 s (EMFILE)" in ward.look(110.0, beat=110.0, turn=110.0, refused=24)


def test_a_container_may_write_anything_and_nobody_else_is_hurt():
    ward = Ward()
    most = float(2**64 - 1)

    assert "" == ward.look(101.0, beat=most, turn=most, deadline=most, inside=2**64 - 1)
    ward.patient.judge(dataclasses.replace(WELL, refused=2**64 - 1), 200.0, lambda: ward.usage)
    assert "an unknown error" in ward.look(206.0, refused=2**64 - 1)


async def test_after_a_pause_of_the_machine_everybody_begins_anew(monkeypatch):
    now, killed, woken = [100.0], [], asyncio.Event()
    ward = Ward()
    ward.patient._reader = type(
        "Silent", (), {"is_well": lambda _self, _since: False, "read": lambda _self: WELL}
    )()
    monkeypatch.setattr(pulses.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pulses, "usage", lambda _pid: ward.usage)
    steps = iter([1.0, 1.0, 600.0, 1.0, 1.0, *[1.0] * 12, 1.0, 1.0])

    async def sleep(_seconds: float) -> None:
        try:
            now[0] += next(steps)
        except StopIteration:
            woken.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(pulses.asyncio, "sleep", sleep)
    task = asyncio.create_task(
        pulses.watch(
            lambda: [("ta-1", ward.patient)],
            lambda *why: killed.append((now[0], *why)),
            lambda *why: pytest.fail(f"replaced: {why}"),
        )
    )
    await woken.wait()
    task.cancel()

    assert killed
    assert now[0] - 1 <= killed[0][0] <= now[0]


def test_a_pulse_is_found_again_at_a_containers_init():
    descriptor = pulse.create()
    there = os.open("/dev/null", os.O_RDONLY) if descriptor != 3 else -1
    beats = Pulse(descriptor)
    beats.began()
    reader = Reader(descriptor)
    with pytest.raises((OSError, ValueError)):
        pulses.of_init(2**22 + 1)

    assert 1 == reader.read().requests
    reader.close()
    for each in {descriptor, there} - {-1}:
        os.close(each)


BEATS = """
from homeport.contract.pulse import Pulse
pulse = Pulse(given.pulse)
pulse.beat(); pulse.turn()
"""


@pytest.mark.parametrize(
    ("act", "how", "reason"),
    [
        (
            "pulse.inside(1, time.monotonic() - 60)",
            "was killed: ",
            "a request took longer than its timeout",
        ),
        ("pulse.refused(24)", "was ended: ", "could not accept connections"),
    ],
)
async def test_the_agent_ends_what_is_beyond_help_and_says_why(
    start, monkeypatch, act, how, reason
):
    monkeypatch.setattr(pulses, "LOOK_S", 0.05)
    monkeypatch.setattr(pulses, "OVERDUE_S", 0.1)
    monkeypatch.setattr(pulses, "REFUSED_S", 0.1)
    _, watched = await start(BEATS + f"say(kind='ready')\n{act}\ntime.sleep(60)\n")
    container = await watched.until(State.GONE)

    assert container.reason.startswith(how)
    assert reason in container.reason


async def test_a_container_that_is_stopped_is_ended(start, monkeypatch):
    monkeypatch.setattr(pulses, "LOOK_S", 0.05)
    monkeypatch.setattr(pulses, "SILENT_S", 0.3)
    monkeypatch.setattr(pulses, "IDLE_SILENT_S", 0.3)
    _, watched = await start(
        BEATS + "say(kind='ready')\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(60)\n"
    )
    container = await watched.until(State.GONE)

    assert "(it was stopped)" in container.reason
