"""The routes that deploy an app, or an earlier version of it again."""

from collections.abc import AsyncIterator, Awaitable, Callable

from homeport.contract import validate
from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.api.apps import CanaryState
from homeport.contract.api.deploys import Deploy, Deployed, DeployList, DeployQuery, Rollback
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.scope import Scope
from homeport.control.api.access import Caller
from homeport.control.api.record import OK, Record, result_of
from homeport.control.api.routing import route
from homeport.control.api.streams import copy_lines
from homeport.control.api.view import View
from homeport.control.deploys import deployer
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.expiring import Expiring
from homeport.control.deploys.trial import Say
from homeport.control.deploys.underway import Underway, Watched, until_the_end
from homeport.control.fleet.owner import Owner
from homeport.state.deploys import SKIPPED
from homeport.state.deploys import Deploys as History
from homeport.state.logs import Logs
from homeport.supervised import Tasks

EXPIRES_S = (60.0, 10 * 365 * 86400.0)


class Deploys:
    """Deploys apps, and streams the progress."""

    def __init__(
        self,
        view: View,
        deployer: Deployer,
        logs: Logs,
        tasks: Tasks,
        expiring: Expiring,
        history: History,
    ) -> None:
        self._view = view
        self._deployer = deployer
        self._logs = logs
        self._tasks = tasks
        self._expiring = expiring
        self._history = history
        self._underway = Underway()

    @route("POST", "/v1/apps/{name}/deploy")
    async def deploy(
        self, scope: Scope, name: str, body: Deploy, record: Record, caller: Caller
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

        async def work(say: Say) -> deployer.Deployed:
            return await self._deployer.deploy(
                scope,
                name,
                body.manifest,
                tag=body.tag,
                strategy=body.strategy,
                say=say,
                drain_s=body.drain_s,
                canary=body.canary,
                then=renew,
            )

        kind = "deploy" if body.canary is None else "canary"
        number = await self._history.begin(
            scope, name, kind, tag=body.tag, by=caller.by, user=caller.name
        )
        return self._progress(scope, name, work, record, number)

    @route("POST", "/v1/apps/{name}/rollback")
    async def rollback(
        self, scope: Scope, name: str, body: Rollback, record: Record, caller: Caller
    ) -> AsyncIterator[events.DeployEvent]:
        """Deploy an earlier version again, as a new version. If the app has a canary, only end that."""
        if body.version is not None and body.version < 1:
            raise BadRequest("`version` must be a whole number of at least 1")

        async def work(say: Say) -> deployer.Deployed:
            return await self._deployer.rollback(
                scope, name, body.version, strategy=body.strategy, say=say
            )

        number = await self._history.begin(scope, name, "rollback", by=caller.by, user=caller.name)
        return self._progress(scope, name, work, record, number)

    @route("POST", "/v1/apps/{name}/promote")
    async def promote(self, scope: Scope, name: str, record: Record, caller: Caller) -> Deployed:
        """Let an app's canary serve all of its requests."""
        number = await self._history.begin(scope, name, "promote", by=caller.by, user=caller.name)
        try:
            promoted = await self._deployer.promote(scope, name, "hand")
        except Exception as error:
            fault = Fault.of(error)
            await self._history.end(number, fault.kind, reason=as_text(fault))
            raise
        answer = self._view.deployed(promoted)
        record.target = f"{name} v{answer.version}"
        await self._history.end(number, OK, reason=f"v{answer.version}")
        return answer

    @route("GET", "/v1/deploys")
    async def every(self, scope: Scope, query: DeployQuery) -> DeployList:
        """List the deploys, rollbacks and stops of an environment, also those that are running or have failed."""
        return DeployList(deploys=tuple(await self._history.last(scope, query.app, query.tail)))

    @route("GET", "/v1/deploys/{id}/progress")
    async def progress(self, scope: Scope, id: str) -> AsyncIterator[events.DeployEvent]:  # noqa: A002 - the path's
        """Follow a deploy or a rollback that is still running, from its beginning; of the last ones that have ended, read how they went."""
        watched = self._underway.find(scope, int(id)) if id.isdecimal() and len(id) < 19 else None
        if watched is None:
            raise NotFound(
                f"no deploy `{id}` is running",
                hint="`GET /v1/deploys` lists them, with how they ended",
            )
        return self._events(watched)

    async def _progress(
        self,
        scope: Scope,
        name: str,
        work: Callable[[Say], Awaitable[deployer.Deployed]],
        record: Record,
        number: int | None,
    ) -> AsyncIterator[events.DeployEvent]:
        """Yield the events of a deploy, the last of which says how it ended."""
        watched = self._underway.begin(scope, name, number)
        record.hold()

        async def deploy() -> None:
            end: events.Done | events.Error
            try:
                deployed = await work(watched.say)
                end = events.Done(deployed=self._view.deployed(deployed))
                version = end.deployed.version
                record.target = f"{name} v{version}"
                await record.end(OK)
                if deployed.skipped:
                    await self._history.end(number, SKIPPED)
                elif deployed.canary is None or deployed.canary.state is CanaryState.RUNNING:
                    await self._history.end(number, OK, version=version)
                else:  # a canary was promoted or ended, and no version was made
                    why = f"v{deployed.canary.version} is {deployed.canary.state.value}"
                    await self._history.end(number, OK, reason=why)
            except Exception as error:
                end = events.Error(error=Fault.of(error))
                await record.end(result_of(error))
                await self._history.end(number, result_of(error), reason=as_text(end.error))
            watched.finish(end)

        self._tasks.start(f"deploy of `{name}`", deploy())
        async for event in self._events(watched):
            yield event

    async def _events(self, watched: Watched) -> AsyncIterator[events.DeployEvent]:
        """Yield the events of a deploy, and the lines that the app's containers print meanwhile."""
        with (
            watched.following() as queue,
            self._logs.following(watched.scope, lambda line: line.app == watched.app) as lines,
        ):
            copying = self._tasks.start("log lines of a deploy", copy_lines(lines, queue))
            try:
                async for event in until_the_end(queue):
                    yield event
            finally:
                copying.cancel()


def as_text(fault: Fault) -> str:
    """Return an error as text: what happened, where, and what to do."""
    parts = (fault.message, fault.where, fault.traceback, fault.hint)
    return "\n".join(part for part in parts if part)
