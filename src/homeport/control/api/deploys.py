"""The routes that deploy an app, or an earlier version of it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from homeport.contract import validate
from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.api.deploys import Deploy, Rollback
from homeport.contract.errors import BadRequest
from homeport.contract.scope import Scope
from homeport.control.api.record import OK, Record, result_of
from homeport.control.api.routing import route
from homeport.control.api.streams import copy_lines
from homeport.control.api.view import View
from homeport.control.deploys.deployer import Deployed, Deployer
from homeport.control.deploys.expiring import Expiring
from homeport.control.deploys.trial import Say
from homeport.control.fleet.owner import Owner
from homeport.state.logs import Logs
from homeport.supervised import Tasks

EXPIRES_S = (60.0, 10 * 365 * 86400.0)


class Deploys:
    """Deploys apps, and streams the progress."""

    def __init__(
        self, view: View, deployer: Deployer, logs: Logs, tasks: Tasks, expiring: Expiring
    ) -> None:
        self._view = view
        self._deployer = deployer
        self._logs = logs
        self._tasks = tasks
        self._expiring = expiring

    @route("POST", "/v1/apps/{name}/deploy")
    async def deploy(
        self, scope: Scope, name: str, body: Deploy, record: Record
    ) -> AsyncIterator[events.DeployEvent]:
        """Deploy an app. The deploy continues if the caller disconnects."""
        validate.check(body.manifest)
        if body.drain_s is not None and not 0 <= body.drain_s <= validate.TIMEOUT_S[1]:
            raise BadRequest(f"`drain_s` must be from 0 to {validate.TIMEOUT_S[1]:g} seconds")
        expires_s = body.expires_s
        if expires_s and not EXPIRES_S[0] <= expires_s <= EXPIRES_S[1]:
            raise BadRequest("an app can live for a minute up to ten years")

        async def renew() -> None:
            await self._expiring.deployed(Owner.app(scope, name), expires_s)

        async def work(say: Say) -> Deployed:
            return await self._deployer.deploy(
                scope,
                name,
                body.manifest,
                tag=body.tag,
                strategy=body.strategy,
                say=say,
                drain_s=body.drain_s,
                then=renew,
            )

        return self._progress(scope, name, work, record)

    @route("POST", "/v1/apps/{name}/rollback")
    async def rollback(
        self, scope: Scope, name: str, body: Rollback, record: Record
    ) -> AsyncIterator[events.DeployEvent]:
        """Deploy an earlier version again, as a new version."""
        if body.version is not None and body.version < 1:
            raise BadRequest("`version` must be a whole number of at least 1")

        async def work(say: Say) -> Deployed:
            return await self._deployer.rollback(
                scope, name, body.version, strategy=body.strategy, say=say
            )

        return self._progress(scope, name, work, record)

    async def _progress(
        self,
        scope: Scope,
        name: str,
        work: Callable[[Say], Awaitable[Deployed]],
        record: Record,
    ) -> AsyncIterator[events.DeployEvent]:
        """Yield the events of a deploy, the last of which says how it ended."""
        queue: asyncio.Queue[events.DeployEvent] = asyncio.Queue()
        record.hold()

        async def deploy() -> None:
            end: events.Done | events.Error
            try:
                deployed = await work(lambda text: queue.put_nowait(events.Progress(text=text)))
                end = events.Done(deployed=self._view.deployed(deployed))
                record.target = f"{name} v{deployed.app.revision.version}"
                await record.end(OK)
            except Exception as error:
                end = events.Error(error=Fault.of(error))
                await record.end(result_of(error))
            queue.put_nowait(end)

        self._tasks.start(f"deploy of `{name}`", deploy())
        with self._logs.following(scope, lambda line: line.app == name) as lines:
            copying = self._tasks.start("log lines of a deploy", copy_lines(lines, queue))
            try:
                while not isinstance(event := await queue.get(), (events.Done, events.Error)):
                    yield event
                yield event
            finally:
                copying.cancel()
