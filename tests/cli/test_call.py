"""`homeport call …` as a user types it."""

import json

import httpx

from homeport.contract import frames
from homeport.contract.api.spawned import CallInfo, CallList, StoredCall
from homeport.contract.manifest import CallMethod, FunctionSpec
from tests.control.plane import manifest

FIRST, SECOND = (f"fc-{digit * 32}" for digit in "12")
CALLED = FunctionSpec(
    name="price", module="m", qualname="price", calls=(CallMethod(tag="price", attribute="price"),)
)


async def spawn(user, call: str) -> None:
    """Spawn a call of `price`, as the SDK does; nothing runs it."""
    transport = httpx.AsyncHTTPTransport(uds=str(user.plane.settings.control_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://homeport") as http:
        query = {"id": call, "app": "shop", "function": "price"}
        answer = await http.post("/v1/spawned", params=query, content=frames.pack([b"x"]))
    assert answer.is_success, answer.text


async def test_calls_are_listed_and_cancelled(typed):
    async with typed() as user:
        assert "no call" in (await user.run("call", "list")).stderr
        await user.plane.deploy(manifest(CALLED))
        for call in (FIRST, SECOND):
            await spawn(user, call)
        table = (await user.run("call", "list")).stdout
        (last,) = json.loads((await user.run("call", "list", "-n", "1", "--json")).stdout)
        waiting = json.loads(
            (await user.run("call", "list", "shop", "--state", "waiting", "--json")).stdout
        )
        none = [
            json.loads((await user.run("call", "list", *words, "--json")).stdout)
            for words in (["other"], ["--state", "done"])
        ]
        cancelled = await user.run("call", "cancel", FIRST)
        (shown,) = json.loads((await user.run("call", "show", FIRST, "--json")).stdout)["inputs"]
        row = (await user.run("call", "show", FIRST)).stdout.splitlines()[1]
        missing = [
            await user.refused("call", word, "fc-" + "3" * 32) for word in ("show", "cancel")
        ]

    assert [[SECOND, "shop.price", "waiting", "1"], [FIRST, "shop.price", "waiting", "1"]] == [
        line.split()[:4] for line in table.splitlines()[1:]
    ]
    assert SECOND == last["id"]
    assert [SECOND, FIRST] == [call["id"] for call in waiting]
    assert [[], []] == none
    assert f"✓ Cancelled `{FIRST}`." in cancelled.stderr
    assert ("cancelled", "cancelled") == (shown["state"], shown["outcome"])
    assert "cancelled" in row
    assert 1 == row.count("cancelled"), "what the state says already is no note"
    assert all("3" * 32 in text for text in missing)


async def test_a_call_is_shown_with_what_it_has_made_and_why_it_failed(answered):
    def stored(call: str, **rest) -> StoredCall:
        told = {"place": 0, "app": "shop", "function": "f", "attempt": 0, "created_at": 1.0}
        return StoredCall(id=call, **{**told, **rest})

    inputs = (
        stored(FIRST, state="done", outcome="value"),
        stored(FIRST, state="failed", outcome="timeout", attempt=2, container="ta-1"),
        stored(FIRST, state="waiting", note="its container ended"),
    )
    told = {f"GET /v1/spawned/{FIRST}": CallInfo(state="failed", inputs=inputs)}
    path = f"GET /v1/spawned/{FIRST}/children"
    child = CallList(calls=(stored(SECOND, state="running"),))
    async with answered({**told, path: CallList(calls=())}) as user:
        alone = await user.run("call", "show", FIRST)
    async with answered({**told, path: child}) as user:
        both = await user.run("call", "show", FIRST)

    done, failed, waiting = (line.split() for line in alone.stdout.splitlines()[1:])
    assert "done" == done[2]
    assert 6 == len(done)
    assert ["failed", "3", "ta-1", "timeout"] == [*failed[2:5], failed[-1]]
    assert ["its", "container", "ended"] == waiting[-3:]
    assert "It has made:" not in alone.stderr
    assert "It has made:" in both.stderr
    assert SECOND in both.stdout


async def test_a_call_that_is_terminated_ends_its_containers(answered):
    path = f"POST /v1/spawned/{FIRST}/cancel"
    async with answered({path: {}}) as user:
        for words in ([], ["--terminate"]):
            await user.run("call", "cancel", FIRST, *words)

    assert [f"{path}?", f"{path}?terminate=1"] == user.asked
