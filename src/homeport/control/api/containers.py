"""The routes of containers."""

from collections.abc import Callable

from homeport.contract.api.answers import Nothing
from homeport.contract.api.containers import ContainerList
from homeport.contract.errors import NotFound
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.control.api.view import View


class Containers:
    """Lists and stops containers."""

    def __init__(self, view: View, stop: Callable[[Scope, str], bool]) -> None:
        self._view = view
        self._stop = stop

    @route("GET", "/v1/containers")
    async def every(self, scope: Scope) -> ContainerList:
        """List the containers."""
        return ContainerList(containers=await self._view.containers_of(scope))

    @route("POST", "/v1/containers/{id}/stop")
    async def stop(self, scope: Scope, id: str) -> Nothing:  # noqa: A002 - the path's
        """Stop one container; another one starts if it is needed."""
        if not self._stop(scope, id):
            raise NotFound(
                f"there is no container `{id}`", hint="`homeport container list` has those that run"
            )
        return Nothing()
