"""The loops of alerts, on a virtual clock, with real files and a real database; and their routes."""

import asyncio
import dataclasses
import json
import shutil
import types

import pytest

from homeport.contract.errors import StorageError
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN, Scope
from homeport.control.api.access import Caller, Guard
from homeport.control.api.findings import of_apps, of_server
from homeport.control.reporting.alerts import watcher as module
from homeport.control.reporting.alerts.watcher import EVERY_S, Watcher
from homeport.control.reporting.alerts.webhook import Undelivered
from homeport.state.alerts import Alerts
from homeport.state.canaries import ROLLED_BACK, CanaryRow
from homeport.state.requests import LEAST_BYTES, PARTS, Place, Requests
from homeport.state.usage import Sample, Usages
from homeport.state.vault import Vault
from tests import databases
from tests.control.api.served import api_of
from tests.control.api.test_environments import client
from tests.control.plane import Plane, a_vault
from tests.in_place import InPlace
from tests.recorded import words
from tests.state.test_alerts import URL, row
from tests.waiting import virtually

CANARY = CanaryRow(
    app="shop",
    version=2,
    revision="rv-2",
    before=1,
    per_mille=100,
    began_at=10.0,
    ends_at=20.0,
    state=ROLLED_BACK,
    ended_at=15.0,
    reason="11 of 11 requests failed",
)

START = 1_700_000_000.0
PLACES = {"price": Place(MAIN, "shop", "price"), "theirs": Place(Scope("acme"), "shop", "price")}


class Hook:
    """A webhook that keeps what it gets, and answers as `answers` says."""

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.broken = False
        self.tries = 0

    async def send(self, url, body, secret, *, trusted):
        self.tries += 1
        if self.broken:
            raise Undelivered("the answer was 500")
        if "cursed" in url:
            raise ZeroDivisionError
        self.got.append(json.loads(body))

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(each["alert"], each["state"]) for each in self.got]


class House:
    """A watcher with what it watches; its clock is the loop's."""

    def __init__(self, database, vault, home) -> None:
        self._loop = asyncio.get_running_loop()
        self.requests = Requests(home / "r", PARTS * LEAST_BYTES)
        self.usages = Usages(home / "u", clock=self.now)
        self.alerts = Alerts(database, vault, self.now)
        self.hook = Hook()
        self.certificates: list = []
        self.canaries: list[CanaryRow] = []
        self.gone: list[str] = []  # machines
        self.looks = 0
        self.jumped_s = 0.0  # the machine's clock, since the start
        self.watcher = self._watcher(home)
        self.home = home

    def _watcher(self, home) -> Watcher:
        watcher = Watcher(
            self.alerts,
            self.requests,
            self.usages,
            home=home,
            certificates=lambda: self.certificates,
            canaries=lambda scope: self.canaries if scope == MAIN else [],
            machines=lambda: self.gone,
            webhooks=self.hook,
            now=self.now,
        )
        measured = watcher._measured

        def counted(*args):
            self.looks += 1
            return measured(*args)

        watcher._measured = counted
        self.requests.added = watcher.touched
        return watcher

    async def again(self) -> None:
        """Start another server with what the first one has left."""
        await self.watcher.close()
        await self.alerts.load()
        self.watcher = self._watcher(self.home)
        self.watcher.open()

    def now(self) -> float:
        return START + self._loop.time() + self.jumped_s  # it is asked in threads, too

    def visit(self, count: int, status: str = "200", endpoint: str = "price", **more) -> None:
        ended = f"{int(self.now() * 1000)}"
        lines = [words(status=status, endpoint=endpoint, ended=ended, **more)] * count
        self.requests.add(lines, PLACES.get, lambda _name: "")


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Do at once what is done in threads: a virtual clock would go on meanwhile."""

    async def at_once(function, *args):
        return function(*args)

    monkeypatch.setattr(module.asyncio, "to_thread", at_once)


async def story(tmp_path, tell):
    database = databases.opened(tmp_path, InPlace())
    house = House(database, a_vault(tmp_path), tmp_path)
    house.watcher.open()
    await tell(house)
    await house.watcher.close()
    house.requests.close()
    database.dispose()


def test_requests_that_fail_are_told_and_so_is_their_end(tmp_path):
    async def tell(house):
        await house.alerts.add(row("e", threshold=20.0, window_s=60.0), URL)
        house.visit(15)
        await asyncio.sleep(20)
        assert [] == house.hook.told
        house.visit(5, "503")
        await asyncio.sleep(20)
        assert [("e", "firing")] == house.hook.told
        assert "shop.price: 25 % of the requests failed (limit 20 %)" == house.hook.got[0]["text"]
        assert "firing" == house.alerts.find(MAIN, "e").state
        house.visit(100)
        await asyncio.sleep(40)
        assert 1 == len(house.hook.got)
        await asyncio.sleep(120)

        assert [("e", "firing"), ("e", "resolved")] == house.hook.told
        assert 2 == len({each["id"] for each in house.hook.got})

    virtually(story(tmp_path, tell))


def test_a_few_requests_and_those_of_others_say_nothing(tmp_path):
    async def tell(house):
        await house.alerts.add(row("e"), URL)
        await house.alerts.add(row("other", app="blog"), URL)
        house.visit(9, "500")
        house.visit(50, "500", endpoint="theirs")
        await asyncio.sleep(60)

        assert [] == house.hook.told

    virtually(story(tmp_path, tell))


def test_slow_requests_are_told(tmp_path):
    async def tell(house):
        slow = row("slow", kind="latency", threshold=500.0, app="shop", tag="price")
        await house.alerts.add(slow, URL)
        house.visit(95, total="10")
        house.visit(5, total="800")
        await asyncio.sleep(20)

        assert [("slow", "firing")] == house.hook.told
        assert "shop.price: the 99th percentile is" in house.hook.got[0]["text"]

    virtually(story(tmp_path, tell))


@pytest.mark.parametrize(("tag", "fires"), [("", True), ("Cart.add", True), ("price", False)])
def test_containers_that_do_not_start_are_told(tmp_path, tag, fires):
    async def tell(house):
        await house.alerts.add(row("starts", kind="starts", threshold=3.0, tag=tag), URL)
        await asyncio.sleep(20)
        sample = Sample(
            app="shop",
            function="Cart.*",
            containers=0,
            cold_starts=0,
            failed_starts=2,
            cpu_s=0.0,
            memory_mib=0,
            gpu_memory_mib=0,
        )
        for _ in range(2):
            house.usages.add(house.now(), 1.0, {MAIN: [sample]})
        house.watcher.touched()
        await asyncio.sleep(20)

        assert ([("starts", "firing")] if fires else []) == house.hook.told

    virtually(story(tmp_path, tell))


@pytest.mark.parametrize(("app", "fires"), [("", True), ("shop", True), ("blog", False)])
def test_a_canary_that_was_rolled_back_is_told_until_the_app_has_another_version(
    tmp_path, app, fires
):
    async def tell(house):
        await house.alerts.add(row("worse", kind="canary", threshold=1.0, app=app), URL)
        await asyncio.sleep(70)
        assert [] == house.hook.told
        house.canaries = [CANARY]
        await asyncio.sleep(70)
        assert ([("worse", "firing")] if fires else []) == house.hook.told
        house.canaries = []
        await asyncio.sleep(200)

        text = "shop v2: the canary was rolled back: 11 of 11 requests failed"
        assert ([("firing", text), ("resolved", "")] if fires else []) == [
            (each["state"], each["text"]) for each in house.hook.got
        ]

    virtually(story(tmp_path, tell))


def test_a_full_disk_and_a_certificate_that_ends_are_told(tmp_path, monkeypatch):
    used = 50
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        module.shutil,
        "disk_usage",
        lambda _path: usage._replace(total=120, used=used, free=100 - used),
    )

    async def tell(house):
        nonlocal used
        await house.alerts.add(row("disk", kind="disk", threshold=90.0), URL)
        await house.alerts.add(row("tls", kind="certificate", threshold=7.0), URL)
        house.certificates = [
            types.SimpleNamespace(host="far.test", not_after=house.now() + 60 * 86400),
            types.SimpleNamespace(host="none.test", not_after=None),
        ]
        await asyncio.sleep(90)
        assert [] == house.hook.told
        used = 95
        soon = types.SimpleNamespace(host="near.test", not_after=house.now() + 6 * 86400)
        house.certificates.append(soon)
        await asyncio.sleep(61)
        assert [("disk", "firing")] == house.hook.told
        await asyncio.sleep(EVERY_S["certificate"])

        assert [("disk", "firing"), ("tls", "firing")] == house.hook.told
        assert "near.test: the certificate is valid for 6 more days" in house.hook.got[1]["text"]

    virtually(story(tmp_path, tell))


def test_a_machine_that_does_not_answer_is_told_once_and_its_return_too(tmp_path):
    async def tell(house):
        await house.alerts.add(row("m", kind="machine", threshold=1.0), URL)
        await asyncio.sleep(100)
        assert [] == house.hook.told
        house.gone = ["b", "c"]
        await asyncio.sleep(EVERY_S["machine"] + 1)
        assert [("m", "firing")] == house.hook.told
        assert "machines that do not answer: b, c" == house.hook.got[0]["text"]
        house.gone = []
        await asyncio.sleep(100)

        assert [("m", "firing"), ("m", "resolved")] == house.hook.told

    virtually(story(tmp_path, tell))


def test_nothing_is_looked_at_while_nothing_happens(tmp_path):
    async def tell(house):
        await asyncio.sleep(10_000)
        assert 0 == house.looks
        await house.alerts.add(row("e"), URL)
        await asyncio.sleep(10_000)
        assert 1 == house.looks  # there may have been requests before
        house.visit(1)
        await asyncio.sleep(10_000)
        assert 2 == house.looks
        for _ in range(60):
            house.visit(1)
            await asyncio.sleep(1)

        assert house.looks <= 2 + 5

    virtually(story(tmp_path, tell))


def test_a_webhook_that_does_not_answer_gets_its_messages_later_in_their_order(tmp_path, caplog):
    async def tell(house):
        await house.alerts.add(row("e", window_s=60.0), URL)
        await house.alerts.add(row("other", kind="disk", threshold=0.001), URL)
        house.hook.broken = True
        house.visit(10, "500")
        await asyncio.sleep(300)
        assert 2 == len({message.alert for message in await house.alerts.messages()})
        assert 5 <= house.hook.tries <= 20
        await house.again()
        house.hook.broken = False
        await asyncio.sleep(700)

        assert [] == await house.alerts.messages()
        assert ["firing", "resolved"] == [e["state"] for e in house.hook.got if e["alert"] == "e"]
        assert "hook.test" in caplog.text
        assert "secret" not in caplog.text

    virtually(story(tmp_path, tell))


def test_a_message_that_nobody_takes_is_given_up_after_a_day(tmp_path, caplog):
    async def tell(house):
        await house.alerts.add(row("disk", kind="disk", threshold=0.001), URL)
        house.hook.broken = True
        await asyncio.sleep(90_000)

        assert [] == await house.alerts.messages()
        assert "is given up" in caplog.text

    virtually(story(tmp_path, tell))


def test_a_clock_that_is_set_back_holds_up_no_message(tmp_path):
    async def tell(house):
        await house.alerts.add(row("disk", kind="disk", threshold=0.001), URL)
        house.hook.broken = True
        await asyncio.sleep(1)
        house.jumped_s = -7200.0
        house.hook.broken = False
        await asyncio.sleep(60)

        assert [("disk", "firing")] == house.hook.told

    virtually(story(tmp_path, tell))


def test_a_message_that_cannot_be_sent_holds_up_no_other_one(tmp_path):
    async def tell(house):
        await house.alerts.add(row("a", kind="disk", threshold=0.001), f"{URL}/cursed")
        await house.alerts.add(row("b", kind="disk", threshold=0.001), URL)
        await asyncio.sleep(60)

        assert [("b", "firing")] == house.hook.told
        (waiting,) = await house.alerts.messages()
        assert ("a", "ZeroDivisionError: ") == (waiting.alert, waiting.error)
        assert house.hook.tries <= 6, "with pauses"

    virtually(story(tmp_path, tell))


def test_an_alert_whose_url_cannot_be_read_says_so_and_holds_up_no_other_one(tmp_path):
    async def tell(house):
        alert = await house.alerts.add(row("a", kind="disk", threshold=0.001), URL)
        house.alerts._vault = Vault(tmp_path / "another.key")
        await house.alerts.add(row("b", kind="disk", threshold=0.001), URL)
        await asyncio.sleep(60)

        assert [("b", "firing")] == house.hook.told
        assert 1 < (await house.alerts.messages())[0].tries < 6
        assert "" == house.watcher.target(alert)
        assert await house.watcher.test(alert)

    virtually(story(tmp_path, tell))


def test_a_message_whose_row_cannot_be_deleted_is_sent_once(tmp_path, monkeypatch):
    async def tell(house):
        failures = []

        async def delivered(message):
            if len(failures) < 3:
                failures.append(message)
                raise StorageError("the disk is full")
            await Alerts.delivered(house.alerts, message)

        monkeypatch.setattr(house.alerts, "delivered", delivered)
        await house.alerts.add(row("disk", kind="disk", threshold=0.001), URL)
        await asyncio.sleep(60)

        assert 3 == len(failures)
        assert [("disk", "firing")] == house.hook.told
        assert [] == await house.alerts.messages()

    virtually(story(tmp_path, tell))


def test_a_restart_tells_nothing_twice(tmp_path):
    async def tell(house):
        await house.alerts.add(row("disk", kind="disk", threshold=0.001), URL)
        await asyncio.sleep(5)
        await house.again()
        await asyncio.sleep(500)

        assert [("disk", "firing")] == house.hook.told

    virtually(story(tmp_path, tell))


async def test_only_the_owner_names_any_address_and_watches_the_server(tmp_path):
    plain = {"name": "a", "kind": "errors", "url": "http://127.0.0.1:1/"}
    callers = {
        "owner": Caller(by="socket"),
        "deployer": Caller(by="token", permissions=frozenset({Permission.DEPLOY})),
        "workspace": Caller(by="token", workspace="main", environments=frozenset({"main"})),
    }
    async with Plane(tmp_path) as plane, api_of(plane, tmp_path) as server:
        for name, caller in callers.items():
            guard = Guard(server.api.app(), lambda _scope, caller=caller: caller)
            async with client(guard) as http:
                answers = [
                    (await http.post("/v1/alerts", json={**plain, "name": name})).status_code,
                    (
                        await http.post(
                            "/v1/alerts",
                            json={"name": f"{name}-d", "kind": "disk", "url": "https://a.test"},
                        )
                    ).status_code,
                ]
                wanted = {"owner": [200, 200], "deployer": [400, 200], "workspace": [400, 403]}
                assert wanted[name] == answers, name
        trusted = {each.name: each.trusted for each in plane_alerts(server)}

    assert {"owner": 1, "owner-d": 1, "deployer-d": 0} == trusted


def plane_alerts(server):
    """Return the rows of a server's alerts."""
    (noun,) = (each for each in server.api._nouns if type(each).__name__ == "Alerts")
    return noun._alerts.all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": ""},
        {"kind": "moon"},
        {"limit": 0},
        {"limit": -1},
        {"window_s": 10.0},
        {"window_s": 1e9},
        {"url": "ftp://a.test"},
        {"kind": "canary", "app": "shop", "tag": "price"},
    ],
)
async def test_an_alert_that_makes_no_sense_is_refused(tmp_path, wrong):
    body = {"name": "a", "kind": "errors", "url": "https://a.test/x", **wrong}
    async with (
        Plane(tmp_path) as plane,
        api_of(plane, tmp_path) as server,
        client(Guard(server.api.app(), lambda _scope: Caller(by="socket"))) as http,
    ):
        assert 400 == (await http.post("/v1/alerts", json=body)).status_code


async def test_findings_come_with_the_worst_first(tmp_path):
    async with Plane(tmp_path) as plane, api_of(plane, tmp_path) as server:
        (noun,) = (each for each in server.api._nouns if type(each).__name__ == "Findings")
        status = await noun._view.status()
        broken = dataclasses.replace(status, trouble="no disk", ingress_pid=None)

        told = [each.what for each in of_server(broken, tmp_path, 5)]
        assert ["database", "HAProxy", "disk"] == told
        assert [] == list(of_server(status, tmp_path, 2**40))
        assert [] == list(of_apps(status))
        app = types.SimpleNamespace(
            name="shop", state="deployed", version=1, canary=CANARY, endpoints=()
        )
        (finding,) = of_apps(types.SimpleNamespace(apps=(app,)))
        assert "v2 of `shop` was rolled back: 11 of 11 requests failed" == finding.text
        assert finding.needed, "`homeport status` prints only these"
        kept = noun._alerts
        await kept.add(row("e", app="shop"), URL)
        await kept.become(dataclasses.replace(kept.find(MAIN, "e"), state="firing", told="x"), None)
        found = (await noun.every(Caller(by="socket"))).findings
        assert [("alert", True), ("isolation", False)] == [(e.what, e.needed) for e in found]
        theirs = await noun.every(Caller(by="token", workspace="acme"))
        assert () == theirs.findings
