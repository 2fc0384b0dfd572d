"""Changes that go on, and who follows them."""

from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.scope import MAIN, Scope
from homeport.control.deploys import underway
from homeport.control.deploys.underway import KEPT, KEPT_EVENTS, Underway, until_the_end

END = events.Error(error=Fault(kind="StartError", message="no fuel"))


async def texts(queue) -> list[str]:
    """Return what a reader gets until the end."""
    return [getattr(event, "text", "end") async for event in until_the_end(queue)]


async def test_a_follower_that_comes_later_gets_everything_too():
    watched = Underway().begin(MAIN, "shop", 1)
    with watched.following() as early:
        watched.say("one")
        watched.say("two")
        with watched.following() as late:
            watched.say("three")
            watched.finish(END)
            assert ["one", "two", "three", "end"] == await texts(early) == await texts(late)
    with watched.following() as after:
        assert ["one", "two", "three", "end"] == await texts(after)
    assert not watched._readers


async def test_a_long_build_is_kept_in_part_and_its_end_always(monkeypatch):
    monkeypatch.setattr(underway, "BACKLOG", KEPT_EVENTS + 5)
    watched = Underway().begin(MAIN, "shop", 1)
    with watched.following() as slow:
        for number in range(KEPT_EVENTS + 10):
            watched.say(f"{number}")
        watched.finish(END)
        told = await texts(slow)
        assert (KEPT_EVENTS + 6, "end") == (len(told), told[-1])
    with watched.following() as late:
        told = await texts(late)

    assert (KEPT_EVENTS, "11", "end") == (len(told), told[0], told[-1])


def test_only_ones_of_the_own_environment_are_found_and_not_too_many_that_have_ended():
    changes = Underway()
    going_on = changes.begin(MAIN, "shop", 0)
    for number in range(1, KEPT + 5):
        changes.begin(MAIN, "shop", number).finish(END)

    assert going_on is changes.find(MAIN, 0)
    assert changes.find(Scope("acme", "main"), 0) is None
    assert changes.find(MAIN, 1) is None
    assert changes.find(MAIN, KEPT + 4) is not None
    assert len(changes._all) <= KEPT + 2
