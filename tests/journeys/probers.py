"""Visitors of all kinds who ask one app without a pause, and a journal of what its containers have really begun.

Each request has an id. A handler writes it into its container's file of the journal when it begins and when it has ended. The
journal is a volume, which outlives the machine: so whether a failed request was inside what died is a fact, and whether one ran
twice is one too. `Facts` compares the journal with what the visitors got.
"""

import asyncio
import dataclasses
import itertools
import threading
import time
import urllib.parse
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from homeport.ingress.runtime import Runtime
from tests.journeys.machines import On
from tests.waiting import PATIENCE_S, wait_for

GIVES_UP_S = 40.0  # a visitor: longer than any request may have to wait
CONNECT_S = 1.0  # what a dead machine may cost a request
PIECES = 5  # of a stream, and messages on a WebSocket
KINDS = ("get", "post-1", "post-100", "stream", "ws")
BODIES = {"post-1": b"x" * 1024, "post-100": b"y" * 100 * 1024}
SCRIPT = """
import asyncio
import os

import homeport

app = homeport.App("asked")
journal = homeport.Volume.from_name("journal", create_if_missing=True)
TAKES_S, PIECES = 0.05, 5


def note(word):
    file = os.open("/journal/" + os.environ["MODAL_TASK_ID"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (word + "\\n").encode())
    os.close(file)


async def web(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    _, kind, name = scope["path"].split("/")
    me = os.environ["MODAL_TASK_ID"].encode()
    note(f"begun {name}")
    if kind == "ws":
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"x-container", me)]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        note(f"ended {name}")
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await asyncio.sleep(TAKES_S)
    head = [(b"x-container", me), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    if kind == "stream":
        for number in range(PIECES):
            await send({"type": "http.response.body", "body": b"%d " % number, "more_body": True})
            await asyncio.sleep(TAKES_S / PIECES)
    note(f"ended {name}")
    await send({"type": "http.response.body", "body": b"%d" % size})


"""
#: What a visitor who hung up has left in HAProxy of a machine that died ends with the function's timeout.
FUNCTION = """
@app.function(min_containers={least}, timeout=40, memory={memory}, volumes={{"/journal": journal}})
@homeport.concurrent(max_inputs=20)
@homeport.asgi_app()
def {name}():
    return web


"""


def script(memory: int | None = None, **functions: int) -> str:
    """Return an app with these functions: name -> how many containers each has at least."""
    return SCRIPT + "".join(
        FUNCTION.format(name=name, least=least, memory=memory) for name, least in functions.items()
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that has ended."""

    name: str  # its id
    kind: str
    kept: bool  # on a connection that is used again
    began: float  # of time.monotonic()
    ended: float
    status: int  # 0: there was no whole answer
    container: str = ""  # that answered
    error: str = ""

    @property
    def took_s(self) -> float:
        return self.ended - self.began

    @property
    def failed(self) -> bool:
        return bool(self.error)

    def __str__(self) -> str:
        how = "kept" if self.kept else "fresh"
        at = time.strftime("%T", time.localtime(time.time() - time.monotonic() + self.began))
        return f"{at} {self.name} ({how}) {self.took_s:.2f} s {self.status} {self.error[:120]}"


class Probers:
    """One visitor of each kind with a connection that it keeps, and one with a fresh connection for each request."""

    _numbers = itertools.count()

    def __init__(self, first: On, url: str, kinds: Collection[str] = KINDS) -> None:
        self._machine, self._url = first.machine, urllib.parse.urlsplit(url)
        self._kinds = kinds
        self.asked: list[Asked] = []
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="probers")

    def __enter__(self) -> Self:
        self._thread.start()
        self.more(5 * len(self._kinds))
        return self

    def __exit__(self, *_error: object) -> None:
        """Wait for the answers that are under way."""
        self._is_over = True
        self._thread.join(GIVES_UP_S + PATIENCE_S)
        assert not self._thread.is_alive()

    def more(self, count: int = 50) -> None:
        """Return when so many more requests have ended well."""
        before = len(self.asked)
        wait_for(
            lambda: (
                count
                <= sum(not asked.failed for asked in itertools.islice(self.asked, before, None))
            ),
            "answers",
        )

    def _run(self) -> None:
        with self._machine.inside():
            asyncio.run(self._all())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for kind in self._kinds:
                for kept in (True, False):
                    group.create_task(self._again_and_again(kind, kept=kept))

    async def _again_and_again(self, kind: str, *, kept: bool) -> None:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._url.port}",
            headers={"Host": self._url.netloc},
            limits=httpx.Limits(max_keepalive_connections=int(kept)),
            timeout=GIVES_UP_S,
            trust_env=False,
        ) as client:
            while not self._is_over:
                name = f"{kind}-{next(self._numbers)}"
                began, status, container, error = time.monotonic(), 0, "", ""
                try:
                    if kind == "ws":
                        container = await self._talk(name)
                        status = 200
                    else:
                        status, container, error = await self._ask(client, kind, name)
                except (httpx.HTTPError, OSError, WebSocketException, TimeoutError) as failure:
                    error = repr(failure)
                self.asked.append(
                    Asked(
                        name=name,
                        kind=kind,
                        kept=kept,
                        began=began,
                        ended=time.monotonic(),
                        status=status,
                        container=container,
                        error=error,
                    )
                )

    async def _ask(self, client: httpx.AsyncClient, kind: str, name: str) -> tuple[int, str, str]:
        body = BODIES.get(kind, b"")
        answer = await client.request("POST" if body else "GET", f"/{kind}/{name}", content=body)
        pieces = "".join(f"{n} " for n in range(PIECES)) if kind == "stream" else ""
        error = "" if answer.text == f"{pieces}{len(body)}" else answer.text or "an empty answer"
        return answer.status_code, answer.headers.get("x-container", ""), error

    async def _talk(self, name: str) -> str:
        async with (
            asyncio.timeout(GIVES_UP_S),
            connect(
                f"ws://{self._url.netloc}/ws/{name}",
                host="127.0.0.1",
                port=self._url.port,
                proxy=None,
                open_timeout=GIVES_UP_S,
                ping_interval=None,
                close_timeout=1,
            ) as socket,
        ):
            for number in range(PIECES):
                await socket.send(f"{number}")
                assert await socket.recv() == f"{number}"
            assert socket.response is not None
            return socket.response.headers["x-container"]


class Facts:
    """What the visitors of one app have got, beside what its containers have begun."""

    def __init__(self, first: On, journal: Path) -> None:
        """`journal` is a directory that has the volume somewhere below it."""
        self._first, self._journal = first, journal

    def begun(self) -> dict[str, list[str]]:
        """Return the containers that have begun each request: more than one, or one twice, if it ran twice."""
        found: dict[str, list[str]] = {}
        for file in self._journal.rglob("ta-*"):
            for line in file.read_text().splitlines():
                word, name = line.split()
                if word == "begun":
                    found.setdefault(name, []).append(file.name)
        return found

    def twice(self) -> dict[str, list[str]]:
        """Return the requests that ran more than once."""
        return {name: where for name, where in self.begun().items() if len(where) > 1}

    def outside(
        self, asked: Iterable[Asked], dead: Collection[str], since: float, until: float
    ) -> list[str]:
        """Return, in words, the failed requests that were neither inside these containers nor on the way to one.

        On the way was one that no container has begun, and that was sent at the latest at `until`: then the ingress had
        taken what died out of use. It had not ended at `since`, when that died.
        """
        begun = self.begun()
        return [
            f"{each}, {each.began - since:+.2f} s after the death, begun in {where or 'no container'}"
            for each in asked
            if each.failed
            for where in [begun.get(each.name, [])]
            if each.ended < since or each.began > until or not set(where) <= set(dead)
        ]

    def servers(self, tag: str) -> list[str]:
        """Return the containers that the ingress's HAProxy has of all functions, while no request waits for this one."""
        if self._first.ask(f"/v1/functions/asked/{tag}")["backlog"]:
            return ["a request waits"]
        sockets = Path(self._first._socket()).parent.glob("haproxy-*.sock")
        newest = max(sockets, key=lambda path: int(path.stem.partition("-")[2]))
        said = asyncio.run(Runtime(str(newest)).ask(("show", "servers", "state")))
        return sorted(word for word in said.split() if word.startswith("ta-"))


def describe(what: str, asked: Iterable[Asked], begun: Mapping[str, list[str]]) -> str:
    """Return, in words, how many of these requests failed, and how long the others took."""
    every = list(asked)
    failed = [each for each in every if each.failed]
    inside = sum(each.name in begun for each in failed)
    took = sorted(each.took_s for each in every if not each.failed)
    slow = [each for each in took if each > CONNECT_S]
    lasted = max((each.took_s for each in failed), default=0.0)
    return (
        f"{what}: {len(every)} requests, {len(failed)} failed ({inside} inside), the longest after {lasted:.2f} s; "
        f"of the others the longest took {max(took, default=0.0):.2f} s, {len(slow)} longer than {CONNECT_S} s"
    )
