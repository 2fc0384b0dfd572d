"""`homeport serve --mirror APP=5%`: sends copies of live requests to the session, and says how its answers differ.

The server copies GET and HEAD without credentials alone, and only as long as this command reads them. A visitor waits for
none of it, and a copy for which there is no time is left out.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from homeport.cli import output, replay
from homeport.cli.endpoint import parts
from homeport.contract.captured import OF, Captured
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, Failure
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client
    from homeport.contract.api.apps import EndpointStatus

AT_ONCE = 4  # copies that are on their way to the session


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One endpoint to mirror."""

    app: str
    tag: str
    share: int  # of `OF`


def parse(text: str) -> Wanted:
    """Return the endpoint and the share that a value of `--mirror` names.

    >>> parse("shop.price=2.5%")
    Wanted(app='shop', tag='price', share=250)
    """
    match = re.fullmatch(r"(.+)=([0-9]{1,3}(?:\.[0-9]{1,2})?)%", text)
    share = round(float(match[2]) * OF / 100) if match is not None else 0
    if match is None or not 0 < share <= OF:
        raise BadRequest(f"--mirror is {text!r}", hint="write --mirror shop=5%, or shop.price=0.5%")
    app, tag = parts(match[1])
    return Wanted(app=app, tag=tag, share=share)


class Mirror:
    """Sends copies to the endpoints of a session."""

    def __init__(self, settings: Settings, every: Sequence[Wanted]) -> None:
        self._settings = settings
        self._every = every
        self._urls: dict[str, str] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def serves(self, endpoints: "Sequence[EndpointStatus]") -> None:
        """Note where the session serves now."""
        self._urls = {
            endpoint.tag: endpoint.local_url or endpoint.url
            for endpoint in endpoints
            if endpoint.url
        }

    async def run(self, client: "Client") -> None:
        """Mirror until the command ends."""
        async with asyncio.TaskGroup() as group:
            for mirrored in self._every:
                group.create_task(self._copy(client, mirrored))

    async def _copy(self, client: "Client", mirrored: Wanted) -> None:
        from homeport.contract.api.captures import MirrorQuery

        query = MirrorQuery(app=mirrored.app, tag=mirrored.tag, share=mirrored.share)
        async for copy in client.captures.mirror(query):
            left_out = copy.lost
            if len(self._sending) < AT_ONCE:
                task = asyncio.create_task(self._send(copy.captured))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
            else:
                left_out += 1
            if left_out:
                output.say(f"mirror  ({left_out} copies were left out: the session is too slow)")
        output.say(f"mirror  `{mirrored.app}` is mirrored no more")

    async def _send(self, captured: Captured) -> None:
        title = f"mirror  {captured.method} {captured.target}"
        url = self._urls.get(captured.tag)
        if url is None:
            output.say(f"{title}: this session has no URL `{captured.tag}`")
            return
        try:
            answer = await replay.sent(self._settings, url, captured, ())
        except Failure as failure:
            output.say(f"{title}: {failure.message}")
            return
        if differences := replay.summary(captured, answer):
            output.say(f"{title}: {differences}, {captured.took_ms} ms -> {answer.took_ms} ms")
