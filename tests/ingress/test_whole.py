"""A change happens whole or not at all, whatever HAProxy and the disk do."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from homeport.contract.errors import IngressError, PortTaken
from homeport.contract.traffic import Endpoint, Pass, PoolKey
from homeport.ingress import haproxy as module
from homeport.ingress import picture, process
from homeport.ingress.runtime import Runtime
from tests.ingress.conftest import POOL, abandoned, routed
from tests.waiting import turns, until


class Wrapper:
    """An HAProxy that cannot be started while `fails(True)` holds."""

    def __init__(self, directory: Path) -> None:
        self._fails, self._failed = directory / "fails", directory / "failed"
        self.path = directory / "haproxy"
        self.path.write_text(
            f'#!/bin/sh\n[ "$1" = -vv ] || [ ! -e {self._fails} ] || {{ touch {self._failed}; exit 1; }}\n'
            f'exec {process.find("").path} "$@"\n'
        )
        self.path.chmod(0o755)

    @property
    def failed(self) -> bool:
        """Whether a start has failed since it was told to."""
        return self._failed.exists()

    def fails(self, value: bool) -> None:
        if value:
            self._failed.unlink(missing_ok=True)
            self._fails.touch()
        else:
            self._fails.unlink()


@pytest.fixture
def wrapper(tmp_path):
    return Wrapper(tmp_path)


@pytest.fixture
async def ingress(start, wrapper):
    return await start(haproxy=str(wrapper.path))


MAPS = [
    name for name in module.config.MAPS if name not in ("covered", "challenges", "members")
]  # without TLS and nodes


def pool(number: int) -> PoolKey:
    return PoolKey("app", f"f{number}", "rv-1")


async def maps_of(ingress) -> dict[str, dict[str, str]]:
    """Return the maps as HAProxy has them."""
    runtime, maps = ingress._supervisor.runtime, {}
    for name in MAPS:
        lines = (await runtime.ask(("show", "map", f"{name}.map"))).strip().splitlines()
        maps[name] = {line.split()[1]: line.split()[2] for line in lines}
    return maps


async def agrees(ingress) -> bool:
    """Return whether HAProxy's state equals the state that the ingress believes in."""
    known = {name: dict(ingress._maps.items(name)) for name in MAPS}
    servers = {f"{p.backend}/{name}" for p in ingress._picture.pools.values() for name in p.servers}
    state = await ingress._supervisor.runtime.ask(("show", "servers", "state"))
    rows = [line.split() for line in state.splitlines()[2:] if line]
    told = {f"{w[1]}/{w[3]}" for w in rows if w[1][0] in "bu" and w[3] != "again"}
    return known == await maps_of(ingress) and servers == told


@pytest.mark.parametrize("shared", [True, False])
async def test_a_supply_that_cannot_grow_is_used_up_and_grows_when_it_can(
    ingress, wrapper, upstream, visitor, shared
):
    one = await upstream("one")
    url = await routed(ingress)
    await ingress.attach(POOL, "one", one.address, 1, shared=shared)
    count = picture.FIRST_BACKENDS if shared else picture.FIRST_UNSHARED
    wrapper.fails(True)
    for number in range(1, count):
        await ingress.attach(pool(number), f"c{number}", one.address, 1, shared=shared)
    for _ in range(2):
        with pytest.raises(IngressError):
            await ingress.attach(pool(count), f"c{count}", one.address, 1, shared=shared)
        assert await agrees(ingress)
        assert 200 == (await visitor.get(url)).status_code
    wrapper.fails(False)
    for number in range(count, count + 3):
        await ingress.attach(pool(number), f"c{number}", one.address, 1, shared=shared)

    assert await agrees(ingress)
    assert 200 == (await visitor.get(url)).status_code


async def test_ports_that_haproxy_did_not_take_are_not_offered(ingress, wrapper, visitor):
    wrapper.fails(True)
    offered = [await ingress.free_port() for _ in range(module.FIRST_PORTS)]
    with pytest.raises(IngressError):
        await ingress.free_port()
    wrapper.fails(False)
    offered += [await ingress.free_port() for _ in range(3)]
    for number, port in enumerate(offered):
        endpoint = Endpoint(id=f"e{number}", hosts=(f"e{number}.x",), pool=POOL, local_port=port)
        await ingress.route(endpoint)
        await ingress.unroute(endpoint.id)

    assert len(offered) == len(set(offered))
    assert {404} == {
        (await visitor.get(f"http://127.0.0.1:{port}/")).status_code for port in offered
    }


async def refuse(monkeypatch, after: int):
    """Let the Runtime API refuse each command of a change after the first `after` commands, also within a batch."""
    real = Runtime.ask
    asked = []

    async def ask(self, *commands):
        if commands[0][0] not in ("add", "set", "del", "enable"):
            return await real(self, *commands)
        carried_out = commands[: max(after - len(asked), 0)]
        asked.extend(commands)
        answer = await real(self, *carried_out) if carried_out else ""
        return answer if len(carried_out) == len(commands) else f"{answer}\nNo.\n"

    monkeypatch.setattr(Runtime, "ask", ask)


async def change(ingress, what: str) -> None:
    if what == "attach":
        await ingress.attach(pool(2), "c2", "unix:/nowhere", 1)
    elif what == "route":
        await ingress.route(Endpoint(id="new", hosts=("new.x", "*.new.y"), pool=pool(2)))
    elif what == "move":
        await ingress.route(Endpoint(id="e", hosts=("other.x",), pool=pool(1), protected=True))
    elif what == "unroute":
        await ingress.unroute("e")
    elif what == "lose":
        await ingress.lose(POOL, "one")
    elif what == "hold":
        await ingress.hold(POOL, "one", 1)
    elif what == "drop":
        await ingress.drop(pool(3))
    elif what == "tokens":
        await ingress.tokens({"wk-2": Pass(sha256="1" * 64), "wk-3": Pass(sha256="2" * 64)})
    elif what == "alias":
        await ingress.alias(f"{POOL}?a=1", POOL)


CHANGES = ("attach", "route", "move", "unroute", "lose", "hold", "drop", "tokens", "alias")


@pytest.fixture
async def house(ingress, upstream):
    """An ingress with an endpoint `e` that answers, and with one thing of each kind."""
    one = await upstream("one")
    await routed(ingress, id="e", hosts=("e.localhost",))
    await ingress.attach(POOL, "one", one.address, 1)
    await ingress.attach(pool(3), "c3", "unix:/nowhere", 1)
    await ingress.lose(pool(3), "c3")
    assert await ingress.detach(pool(3), "c3")
    await ingress.tokens({"wk-1": Pass(sha256="0" * 64), "wk-2": Pass(sha256="0" * 64)})
    return ingress


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("what", CHANGES)
async def test_a_haproxy_that_refuses_half_of_a_change_is_replaced_by_one_with_all_of_it(
    house, monkeypatch, what, after
):
    with monkeypatch.context() as patched:
        await refuse(patched, after)
        try:
            await change(house, what)
        except IngressError:  # the new process was not told that a server takes no requests
            assert what in ("lose", "hold")
    await until(lambda: not house._supervisor._astray.is_set(), "HAProxy to have every change")

    assert await agrees(house)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("what", CHANGES)
async def test_a_change_that_cannot_be_done_leaves_what_served_before(
    house, wrapper, visitor, monkeypatch, what, after
):
    before = {name: house._maps.items(name) for name in MAPS}
    wrapper.fails(True)
    done = True
    with monkeypatch.context() as patched:
        await refuse(patched, after)
        try:
            await change(house, what)
        except IngressError:
            done = False
    now = {name: house._maps.items(name) for name in MAPS}
    wrapper.fails(False)
    await until(lambda: not house._supervisor._astray.is_set(), "HAProxy to have every change")

    assert done or {k: sorted(v) for k, v in before.items()} == {
        k: sorted(v) for k, v in now.items()
    }
    assert await agrees(house)
    if not done:
        url = f"http://127.0.0.1:{house.http_port}/"
        answer = await visitor.get(url, headers={"Host": "e.localhost"})
        assert "one" == answer.json()["name"]


async def test_no_change_begins_on_top_of_half_of_another(house, wrapper, monkeypatch):
    wrapper.fails(True)
    with monkeypatch.context() as patched:
        await refuse(patched, 1)
        with pytest.raises(IngressError):
            await change(house, "attach")
    with pytest.raises(IngressError):
        await house.attach(pool(5), "c5", "unix:/nowhere", 1)
    wrapper.fails(False)
    await house.attach(pool(5), "c5", "unix:/nowhere", 1)

    assert await agrees(house)


async def test_a_caller_that_is_cancelled_leaves_no_half_of_a_change(house):
    for _ in range(20):
        task = asyncio.create_task(change(house, "attach"))
        await turns(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await agrees(house)
        await house.lose(pool(2), "c2")
        assert await house.detach(pool(2), "c2")


async def back(house, old: int):
    await until(
        lambda: house.pid != old and house._supervisor.runtime is not None, "another HAProxy"
    )


async def test_the_watcher_tries_until_haproxy_starts_again(house, wrapper, visitor):
    old = house.pid
    wrapper.fails(True)
    os.kill(old, signal.SIGKILL)
    await until(lambda: house._supervisor.runtime is None, "the end of HAProxy to be seen")
    await change(house, "route")  # HAProxy does not hear of it, and gets it later
    answer = asyncio.create_task(
        visitor.get(f"http://127.0.0.1:{house.http_port}/", headers={"Host": "e.localhost"})
    )
    await until(lambda: wrapper.failed, "a start that fails")
    wrapper.fails(False)
    await back(house, old)

    assert 200 == (await answer).status_code
    assert await agrees(house)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
async def test_the_watcher_survives_what_it_was_not_made_for(house, monkeypatch, error):
    old, fails = house.pid, []

    async def start(*_args, **_kwargs):
        fails.append(error)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(process, "start", start)
        os.kill(old, signal.SIGKILL)
        await until(lambda: fails, "a start that fails")
    await back(house, old)

    assert await agrees(house)


async def test_on_a_full_disk_haproxy_starts_from_memory_and_deploys_go_on(
    house, visitor, monkeypatch
):
    real = Path.write_text
    full = house._supervisor.directory

    def write_text(self, data, *args, **kwargs):
        if self.is_relative_to(full):
            raise OSError(28, "No space left on device", str(self))
        return real(self, data, *args, **kwargs)

    old = house.pid
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", write_text)
        await change(house, "route")
        os.kill(old, signal.SIGKILL)
        await back(house, old)
        await change(house, "attach")
        url = f"http://127.0.0.1:{house.http_port}/"
        answer = await visitor.get(url, headers={"Host": "e.localhost"})
        found = process.left((full, house._supervisor.spare), house._settings.socket_dir)
        assert await agrees(house)
    await until(lambda: "new.x" in (full / "hosts.map").read_text(), "the files to be written")

    assert 200 == answer.status_code
    assert [house.pid] == [each.pid for each in found]
    assert house._supervisor.spare.exists()
    await house.close()
    assert not house._supervisor.spare.exists()


async def test_somebody_elses_directory_in_memory_is_not_used(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "open").mkdir(mode=0o755)

    for name in ("link", "open"):
        with pytest.raises(OSError, match="another user"):
            process.own(tmp_path / name)
    process.own(tmp_path / "mine")
    process.own(tmp_path / "mine")


async def test_spellings_of_class_parameters_are_forgotten_the_oldest_first(house, monkeypatch):
    monkeypatch.setattr(picture, "MAX_ALIASES", 3)
    for number in range(10):
        await house.alias(f"{POOL}?a=0{number}", POOL)

    assert 1 + 3 == len(house._maps.items("backends"))
    assert 3 == len(house._picture.pools[POOL].aliases)
    assert await agrees(house)
    await house.lose(POOL, "one")
    assert await house.detach(POOL, "one")
    await house.drop(POOL)
    assert {} == house._picture._aliases


async def test_a_server_that_cannot_have_its_port_leaves_an_earlier_haproxy_serving(
    make_settings, upstream, visitor
):
    left = module.HAProxy(make_settings(), tied=False)
    await left.open()
    await left.start()
    url, one = await routed(left), await upstream("one")
    await left.attach(POOL, "one", one.address, 4)
    await abandoned(left)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fresh = module.HAProxy(make_settings(http_port=taken.getsockname()[1]), tied=False)
        with pytest.raises(PortTaken):
            await fresh.open()

    assert 200 == (await visitor.get(url)).status_code
    last = module.HAProxy(make_settings(), tied=False)
    await last.open()
    await last.start()
    await last.close()
    assert not left._supervisor._process.running
