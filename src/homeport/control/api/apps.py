"""The routes of apps, deployed or served; deploys.py and sessions.py change them."""

import asyncio
import dataclasses

from homeport.contract.api.answers import Fault
from homeport.contract.api.apps import AppList, AppStatus, Changes, ChangesQuery, History, Stopped
from homeport.contract.api.coldstarts import ColdStartList, ColdStartQuery
from homeport.contract.errors import NotFound
from homeport.contract.permissions import Permission
from homeport.contract.scope import Scope
from homeport.control.api.access import Caller
from homeport.control.api.record import OK
from homeport.control.api.routing import route
from homeport.control.api.view import View, cold_start
from homeport.control.deploys import difference
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.parts import Parts
from homeport.state import coldstarts, deploys


class Apps:
    """Lists and stops apps."""

    def __init__(
        self,
        view: View,
        deployer: Deployer,
        cold_starts: coldstarts.ColdStarts,
        deploys: deploys.Deploys,
        parts: Parts,
    ) -> None:
        self._view = view
        self._deployer = deployer
        self._cold_starts = cold_starts
        self._deploys = deploys
        self._parts = parts

    @route("GET", "/v1/apps")
    async def every(self, scope: Scope) -> AppList:
        """List the apps."""
        return await self._view.apps(scope)

    @route("GET", "/v1/apps/{name}")
    async def one(self, scope: Scope, name: str) -> AppStatus:
        """Describe one app; a deployed one before a session of the same name."""
        return await self._view.app(scope, name)

    @route("GET", "/v1/apps/{name}/history")
    async def history(self, scope: Scope, name: str) -> History:
        """List the versions of an app, and who deployed them. `GET /v1/deploys` also has the deploys that failed."""
        history = await self._view.history(scope, name)
        deployers = await self._deploys.deployers(scope, name)
        versions = []
        for version in history.revisions:
            by, user = deployers.get((name, version.version), ("", ""))
            versions.append(dataclasses.replace(version, by=by, user=user))
        return History(revisions=tuple(versions))

    @route("GET", "/v1/apps/{name}/changes")
    async def changes(
        self, scope: Scope, name: str, query: ChangesQuery, caller: Caller
    ) -> Changes:
        """Compare two versions of an app: their files, and the settings of their functions.

        Texts of files, and the arguments of an image's steps, are for callers with the scope `deploy`.
        """
        store = self._parts.store.of(scope)
        numbers = sorted((await store.numbers(name)).values())
        after = query.after or next(reversed(numbers), 1)
        earlier = [number for number in numbers if number < after]
        before = query.before or next(reversed(earlier), 0)
        if not before:
            await store.revision(name, after)  # an unknown app, or version
            raise NotFound(f"the app `{name}` has no version before v{after}")
        old, new = [(await store.revision(name, number)).manifest for number in (before, after)]
        sees_texts = Permission.DEPLOY in caller.permissions
        read = self._parts.blobs.read if sees_texts else None
        files, left_out = await asyncio.to_thread(difference.files, old, new, read)
        return Changes(
            app=name,
            before=before,
            after=after,
            files=files,
            settings=difference.settings(old, new, images=sees_texts),
            left_out=left_out,
        )

    @route("POST", "/v1/apps/{name}/stop")
    async def stop(self, scope: Scope, name: str, caller: Caller) -> Stopped:
        """Stop an app, and every session of that name."""
        if not self._deployer.knows(scope, name):
            await self._view.check(scope, name)
        at = await self._deploys.begin(scope, name, "stop", by=caller.by, user=caller.name)
        try:
            count = await self._deployer.stop_app(scope, name)
        except Exception as error:
            fault = Fault.of(error)
            await self._deploys.end(at, fault.kind, reason=fault.message)
            raise
        await self._deploys.end(at, OK)
        return Stopped(containers=count)

    @route("GET", "/v1/apps/{name}/cold-starts")
    async def cold_starts(self, scope: Scope, name: str, query: ColdStartQuery) -> ColdStartList:
        """List how an app's containers started."""
        await self._view.check(scope, name)
        starts = await self._cold_starts.last(scope, name, query.tail, query.function)
        return ColdStartList(cold_starts=tuple(map(cold_start, starts)))
