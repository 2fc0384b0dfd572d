"""A revision on trial: what `prove` raises when its containers do not start."""

import asyncio

import pytest

from homeport.contract.errors import BadRequest, Failure, ScriptError, StartError
from homeport.contract.manifest import FunctionSpec, Manifest, Parameter
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.control.deploys import trial
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from tests.control.plane import function
from tests.waiting import until, virtual, virtually


def pool(name: str = "f", **function) -> Pool:
    spec = FunctionSpec(name=name, module="m", qualname=name, where=f"app.py:1  {name}", **function)
    return Pool(
        key=PoolKey("app", name, "rv-1"), function=spec, source="", owner=Owner.app(MAIN, "app")
    )


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"name": "a b"}, Failure, "Invalid App name: 'a b'"),
        ({"tag": "a b"}, BadRequest, "Invalid deployment tag: 'a b'"),
        ({"strategy": "at once"}, BadRequest, "not 'at once'"),
        ({"functions": ()}, ScriptError, "the app `shop` has no function"),
    ],
)
def test_a_deploy_that_cannot_be_meant_is_refused_at_once(changes, error, text):
    functions = changes.get("functions", (function("f"),))
    given = {"name": "shop", "tag": "", "strategy": "rolling", **changes}
    wanted = Manifest(app_name="shop", functions=functions)

    with pytest.raises(error, match=text):
        trial.check(given["name"], wanted, given["tag"], given["strategy"])
    trial.check("shop", Manifest(app_name="", functions=(function("f"),)), "v-1", "recreate")


async def watched(*pools: Pool) -> None:
    """Return once somebody waits for each pool's first container."""
    await until(lambda: all(each.watchers for each in pools), "a watcher of each pool")


async def test_the_failure_of_a_container_comes_out_as_itself_and_not_in_a_group():
    first, second = pool("first"), pool("second")
    proving = asyncio.create_task(
        trial.prove([first, second], lambda _pool: None, lambda _text: None)
    )
    await watched(first, second)
    for subject in (first, second):
        subject.failed(StartError("no module named torch"), 0.0)

    with pytest.raises(StartError, match="no module named torch") as told:
        await proving
    assert "app.py:1  first" == told.value.where
    assert [0, 0] == [first.floor, second.floor]


async def tried(*, replaced: tuple[Pool, ...] = ()) -> list[str]:
    """Prove a function with a URL and one without, which does not start; return what is said."""
    said: list[str] = []
    visited, called = pool("visited", web=function("visited").web), pool("called")
    proving = asyncio.create_task(
        trial.prove([visited, called], lambda _pool: None, said.append, replaced)
    )
    await watched(visited, called)
    called.failed(StartError("no module named pandas"), 0.0)
    visited.release()
    await proving
    assert [0, 0] == [visited.floor, called.floor]
    return said


async def test_a_function_that_perhaps_nothing_calls_may_fail_beside_one_with_a_url():
    said = await tried()

    assert "`called` does not start, so calls of it will fail: no module named pandas" in said
    assert "`visited` is ready" in said


async def test_a_function_that_worked_before_may_not_fail():
    broken, working = pool("called"), pool("called")
    broken.failed(StartError("no module named pandas"), 0.0)

    assert await tried(replaced=(broken,))
    with pytest.raises(StartError, match="no module named pandas"):
        await tried(replaced=(working,))


async def test_a_mistake_of_ours_stays_a_mistake_of_ours():
    def say(_text: str) -> None:
        raise RuntimeError("ours")

    subject = pool()
    proving = asyncio.create_task(trial.prove([subject], lambda _pool: None, say))
    await watched(subject)
    subject.release()

    with pytest.raises(ExceptionGroup):
        await proving


def test_a_container_that_never_gets_its_turn_is_an_error_of_the_start():
    async def story():
        await trial.prove([pool(startup_timeout_s=5)], lambda _pool: None, lambda _text: None)

    with pytest.raises(StartError) as told:
        virtually(story())

    assert "app.py:1  f" == told.value.where


@virtual
async def test_a_class_that_cannot_start_without_a_parameter_is_not_tried():
    needs, has = (
        pool(name, parameters=(Parameter(name="size", type="int", required=required, default=1),))
        for name, required in (("needs", True), ("has", False))
    )
    proving = asyncio.create_task(trial.prove([needs, has], lambda _pool: None, lambda _text: None))
    await watched(has)
    floors = needs.floor, has.floor
    has.succeeded(0.0)
    await proving

    assert (0, 1) == floors
    assert not needs.watchers


def test_the_time_in_which_a_container_waits_for_a_machine_does_not_count():
    async def story():
        subject = pool(startup_timeout_s=5)
        subject.awaits_since = 1.0
        proving = asyncio.create_task(
            trial.prove([subject], lambda _pool: None, lambda _text: None)
        )
        await asyncio.sleep(500)
        assert not proving.done()
        subject.awaits_since = 0.0
        with pytest.raises(StartError, match="no container that was ready in time"):
            await proving
        return asyncio.get_running_loop().time()

    assert 560 <= virtually(story()) <= 570
