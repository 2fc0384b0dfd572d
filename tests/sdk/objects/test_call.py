"""A spawned call, on the user's machine, beside the API of a server on which nothing runs it."""

import asyncio
import time

import pytest

import homeport as modal
from homeport.contract.manifest import CallMethod, FunctionSpec
from homeport.contract.scope import Scope
from homeport.sdk import exception
from tests.control.api.served import on_a_socket
from tests.control.plane import Plane, manifest

PRICE = FunctionSpec(
    name="price", module="m", qualname="price", calls=(CallMethod(tag="price", attribute="price"),)
)
THERE = Scope("main", "dev")
OLD = f"fc-{int((time.time() - 8 * 86400) * 1e9):016x}{'0' * 24}"


async def asked(home, story):
    """Run what a script does, which blocks, beside a server that has `price` in the environment `dev`."""
    async with Plane(home) as plane, on_a_socket(plane, home):
        await plane.environments.create(THERE)
        plane.environments.reopen(THERE)
        await plane.deployer.deploy(
            THERE, "shop", manifest(PRICE), tag="", strategy="rolling", say=lambda _text: None
        )
        await asyncio.to_thread(story)


async def test_a_call_of_another_environment_is_found_there(home):
    def story():
        price = modal.Function.from_name("shop", "price", environment_name="dev")
        call = price.spawn(1)
        assert (
            1 == call.num_inputs() == modal.FunctionCall(call.object_id, None, "dev").num_inputs()
        )
        (one,) = call.get_call_graph()
        assert ("price", "waiting", []) == (one.function_name, one.status, one.children)
        with pytest.raises(TimeoutError, match=call.object_id):
            call.get(timeout=0)
        call.cancel()
        with pytest.raises(exception.RemoteError, match="was cancelled"):
            call.get(timeout=0)
        assert "cancelled" == call.get_call_graph()[0].status

    await asked(home, story)


async def test_a_call_that_there_is_not_was_never_made_or_is_too_old(home):
    def story():
        with pytest.raises(exception.OutputExpiredError, match="7 days"):
            modal.FunctionCall.from_id(OLD).get(timeout=0)
        for unknown in (f"fc-{time.time_ns():016x}{'0' * 24}", "fc-x"):
            with pytest.raises(exception.NotFoundError):
                modal.FunctionCall.from_id(unknown).get(timeout=0)

    await asked(home, story)


@pytest.mark.parametrize("wrong", ["", "ap-1", None, 7])
def test_another_id_is_refused_at_once(wrong):
    with pytest.raises(exception.InvalidError, match="Invalid FunctionCall ID"):
        modal.FunctionCall.from_id(wrong)


class Call:
    """A call that fails or returns a result once the one before it has begun; a call without a result does not end."""

    def __init__(self, result=None) -> None:
        self.result, self.is_cancelled = result, False
        self.get = self

    def __call__(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def aio(self):
        try:
            if self.result is None:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        return self()


async def test_the_results_of_several_calls_are_gathered_in_their_order():
    several = (Call(1), Call("two"), Call([3]))

    assert [1, "two", [3]] == modal.FunctionCall.gather(*several)
    assert [1, "two", [3]] == await modal.FunctionCall.gather.aio(*several)
    assert [] == modal.FunctionCall.gather() == await modal.FunctionCall.gather.aio()
    with pytest.raises(ValueError, match="wrong"):
        modal.FunctionCall.gather(Call(1), Call(ValueError("wrong")))


async def test_a_failure_is_raised_on_a_loop_before_the_other_calls_have_ended():
    endless = Call()
    with pytest.raises(ValueError, match="wrong"):
        await modal.FunctionCall.gather.aio(endless, Call(ValueError("wrong")))

    assert endless.is_cancelled, "nobody waits for it any more"
