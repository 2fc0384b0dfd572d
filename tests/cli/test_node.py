"""`homeport node …` as a user types it."""

import hashlib
import json

import pytest

from homeport.contract.api.nodes import JoinedNode, NodeList, NodeToken
from tests.control.api.asking_nodes import Remote


async def joined(user, name: str) -> None:
    """Let a machine join, which has not connected yet."""
    told = await user.run("node", "token", "--listen", "127.0.0.1:0", "--json")
    secret = json.loads(told.stdout)["token"].rpartition("-")[2]
    digest = hashlib.sha256(secret.encode()).hexdigest()
    await user.server.machines.rows.join(digest, name, "1" * 32)


async def test_a_machine_is_listed_labelled_drained_and_removed(typed):
    async with typed() as user:
        assert (
            "no other machine has joined: `homeport node token`"
            in (await user.run("node", "list")).stderr
        )
        await joined(user, "a")
        table = (await user.run("node", "list")).stdout
        labelled = await user.run("node", "label", "a", "region=eu", "disk=fast")
        unlabelled = await user.run("node", "label", "a", "region=", "disk=")
        drained = await user.run("node", "drain", "a")
        state = (await user.run("node", "list")).stdout
        back = await user.run("node", "drain", "a", "--undo")
        (told,) = json.loads((await user.run("node", "list", "--json")).stdout)
        unasked = await user.refused("node", "remove", "a")
        removed = await user.run("node", "remove", "a", "--yes")
        again = await user.refused("node", "remove", "a", "--yes")

    assert ["a", "gone", "0", "?", "?", "?"] == table.splitlines()[1].split()[:6]
    assert "✓ `a` has disk=fast,region=eu" in labelled.stderr
    assert "✓ `a` has no labels" in unlabelled.stderr
    assert "✓ `a` gets no new containers, and those that it has are replaced" in drained.stderr
    assert ["a", "drained"] == state.splitlines()[1].split()[:2]
    assert "✓ `a` gets containers again" in back.stderr
    assert not told["drained"]
    assert "Rerun with --yes" in unasked
    assert "✓ `a` is removed" in removed.stderr
    assert "`a`" in again


async def test_a_token_is_printed_as_the_command_for_the_other_machine(typed):
    async with typed() as user:
        here = await user.run("node", "token", "--listen", "127.0.0.1:0")
        wrong = await user.refused("node", "token", "--listen", "127.0.0.1")

    assert "on the other machine, within an hour:" in here.stderr
    assert here.stdout.startswith("homeport node join ")
    assert " --token " in here.stdout
    assert 1 == here.stdout.count("\n")
    assert "127.0.0.1" in wrong


async def test_the_log_of_a_machine_is_printed_as_it_is(typed):
    async with typed() as user:
        await joined(user, "a")
        user.server.machines._remotes["a"] = Remote()
        shown = await user.run("node", "logs", "a", "-n", "2")
        del user.server.machines._remotes["a"]
        unknown = await user.refused("node", "logs", "b")

    assert "one\ntwo\n" == shown.stdout
    assert "`b`" in unknown


@pytest.mark.parametrize("word", ["region", "=eu", "A=b"])
async def test_a_wrong_label_is_refused_with_all_others(typed, word):
    async with typed() as user:
        await joined(user, "a")
        await user.refused("node", "label", "a", "zone=x", word)
        (told,) = json.loads((await user.run("node", "list", "--json")).stdout)

    assert {} == told["labels"]


async def test_the_words_of_an_agent_are_listed(answered):
    node = JoinedNode(
        name="a", health="ready", drained=False, containers=3, joined_at=1.0, cores=8,
        memory_mib=16000, free_mib=900, round_trip_ms=1.5, entrance=(80, 443), version="1.2",
        labels={"region": "eu"},
    )  # fmt: skip
    async with answered({"GET /v1/nodes": NodeList(nodes=(node,))}) as user:
        table = (await user.run("node", "list")).stdout

    said = "a ready 3 8 16000 MiB 900 MiB 1.5 ms 80, 443 1.2 region=eu"
    assert said.split() == table.splitlines()[1].split()


async def test_a_token_names_an_address_that_the_other_machine_can_use(answered):
    def token(address: str) -> NodeToken:
        return NodeToken(token="nt-1", host="0.0.0.0", port=7600, address=address)

    printed = []
    for address in ("10.0.0.1", "fd00::1", ""):
        async with answered({"POST /v1/nodes/tokens": token(address)}) as user:
            printed.append((await user.run("node", "token")).stdout.split()[3])

    assert ["10.0.0.1:7600", "[fd00::1]:7600", "ADDRESS-OF-THIS-MACHINE:7600"] == printed
