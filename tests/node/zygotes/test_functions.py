"""Which pools share a function zygote, and when it ends. No process is started here."""

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from homeport.contract.container import Launch
from homeport.contract.scope import MAIN, Scope
from homeport.contract.traffic import PoolKey
from homeport.node.images.made import Made
from homeport.node.zygotes import learned
from homeport.node.zygotes.functions import Function, Functions
from tests.orders import launch

FIRST, SECOND = (PoolKey("app", "f", revision) for revision in ("rv-1", "rv-2"))
MADE = Made(key="im-1", python="/usr/bin/python3", directory=Path("/none"))


def of(pool: PoolKey) -> Launch:
    return launch(app=pool.app, function=pool.function, revision=pool.revision)


class OneEach:
    """The functions of a node, in which each has a zygote: a text instead of a process."""

    def __init__(self, root: Path) -> None:
        self.ended: list[str] = []
        self.functions = Functions(root, retire=self.ended.append)

    def start(self, pool: PoolKey, **environ: str) -> Function:
        """Start a container of this pool; return its function."""
        function = self.functions.of(of(pool), MADE, environ)
        if function.current is None:
            function.current = f"the zygote with {environ}"
        return function


@pytest.fixture
def node(tmp_path):
    return OneEach(tmp_path / "learned")


def test_revisions_that_are_alike_share_a_zygote_that_ends_with_the_last_of_their_pools(node):
    function = node.start(FIRST)
    zygote = function.current
    assert function is node.start(SECOND) is node.functions.get(FIRST)

    node.functions.forget(FIRST)
    assert [] == node.ended
    assert function is node.start(SECOND)

    node.functions.forget(SECOND)
    assert [zygote] == node.ended
    assert [] == node.functions.all()
    assert node.functions.get(SECOND) is None


def test_a_secret_that_has_changed_ends_the_zygote_that_knew_the_old_one(node):
    old = node.start(FIRST, WORD="old").current
    new = node.start(FIRST, WORD="new").current

    assert old != new
    assert [old] == node.ended
    assert [new] == [function.current for function in node.functions.all()]


def test_a_secret_that_has_changed_for_one_revision_leaves_the_others_their_zygote(node):
    function = node.start(FIRST, WORD="old")
    assert function is node.start(SECOND, WORD="old")
    node.start(SECOND, WORD="new")

    assert [] == node.ended
    assert function is node.start(FIRST, WORD="old")
    assert 2 == len(node.functions.all())


def test_a_zygote_is_made_from_the_files_of_the_latest_revision(node):
    node.start(FIRST)
    function = node.start(SECOND)

    assert SECOND == function.launch.order.pool


async def test_a_forgotten_function_starts_no_zygote_and_gives_none_to_a_container_that_waited(
    node,
):
    function = node.start(FIRST)
    function.starting = asyncio.get_running_loop().create_future()
    node.functions.forget(FIRST)

    assert function.starting.cancelled()
    assert function.current is None


def test_a_pool_of_which_nothing_was_asked_has_no_function_and_may_be_forgotten(node):
    node.functions.forget(FIRST)

    assert node.functions.get(FIRST) is None


@pytest.mark.parametrize("other", [MAIN, Scope("main", "staging")])
def test_functions_of_one_name_in_two_environments_learn_apart(node, other):
    orders = [dataclasses.replace(of(FIRST).order, within=w) for w in (Scope("main", "dev"), other)]
    records = [node.functions.of(Launch(order=each), MADE, {}).learned for each in orders]
    records[0].add(("pandas",))

    assert (("pandas",), ()) == tuple(record.wanted("rv-1") for record in records)


def test_alike_revisions_and_those_with_another_secret_learn_together(node):
    node.start(FIRST, WORD="old").learned.add(("pandas",))

    assert ("pandas",) == node.start(SECOND, WORD="new").learned.wanted("rv-2")


def test_a_node_keeps_what_the_functions_that_learned_last_have_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "MAX_FILES", 2)
    for at_s in (2, 1, 3):
        (tmp_path / f"{at_s}.json").touch()
        os.utime(tmp_path / f"{at_s}.json", (at_s, at_s))
    Functions(tmp_path, retire=[].append)

    assert ["2.json", "3.json"] == sorted(path.name for path in tmp_path.iterdir())
