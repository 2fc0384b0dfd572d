"""The control plane's API, a class for each noun and a method for each route (docs/reference/api.md).

    async with Client(settings) as client:
        await client.volumes.create(NewVolume(name="models"))

A noun's module is imported when it is asked for, because a command needs one or two of them. Failures of the
server come back as the exceptions that it raised; `ServerBug` is its own fault.
"""

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from homeport.client.connection import Connection, OtherVersion, ServerBug, ServerSilent
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client.alerts import Alerts
    from homeport.client.api_tokens import ApiTokens
    from homeport.client.apps import Apps
    from homeport.client.audit import Audit
    from homeport.client.blobs import Blobs
    from homeport.client.captures import Captures
    from homeport.client.certificates import Certificates
    from homeport.client.containers import Containers
    from homeport.client.dashboard import Dashboard
    from homeport.client.deploys import Deploys
    from homeport.client.domains import Domains
    from homeport.client.environments import Environments
    from homeport.client.images import Images
    from homeport.client.logs import Logs
    from homeport.client.nodes import Nodes
    from homeport.client.programs import Programs
    from homeport.client.rate_limits import RateLimits
    from homeport.client.requests import Requests
    from homeport.client.secrets import Secrets
    from homeport.client.series import OverTime
    from homeport.client.server import Server
    from homeport.client.sessions import Sessions
    from homeport.client.shared import Shared
    from homeport.client.spawned import Spawned
    from homeport.client.tokens import Tokens
    from homeport.client.volumes import Volumes

__all__ = ["Client", "OtherVersion", "ServerBug", "ServerSilent"]


class Client:
    """Every noun of the API, over one connection to this home's server or to a remote one."""

    def __init__(self, settings: Settings) -> None:
        self._connection = Connection(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._connection.close()

    async def raw(self, method: str, path: str, content: bytes = b"") -> bytes:
        """Make a request that no method of a noun makes; return the answer's body."""
        return await self._connection.call(method, path, content)

    @cached_property
    def alerts(self) -> "Alerts":
        from homeport.client.alerts import Alerts

        return Alerts(self._connection)

    @cached_property
    def api_tokens(self) -> "ApiTokens":
        from homeport.client.api_tokens import ApiTokens

        return ApiTokens(self._connection)

    @cached_property
    def apps(self) -> "Apps":
        from homeport.client.apps import Apps

        return Apps(self._connection)

    @cached_property
    def audit(self) -> "Audit":
        from homeport.client.audit import Audit

        return Audit(self._connection)

    @cached_property
    def blobs(self) -> "Blobs":
        from homeport.client.blobs import Blobs

        return Blobs(self._connection)

    @cached_property
    def captures(self) -> "Captures":
        from homeport.client.captures import Captures

        return Captures(self._connection)

    @cached_property
    def certificates(self) -> "Certificates":
        from homeport.client.certificates import Certificates

        return Certificates(self._connection)

    @cached_property
    def containers(self) -> "Containers":
        from homeport.client.containers import Containers

        return Containers(self._connection)

    @cached_property
    def dashboard(self) -> "Dashboard":
        from homeport.client.dashboard import Dashboard

        return Dashboard(self._connection)

    @cached_property
    def deploys(self) -> "Deploys":
        from homeport.client.deploys import Deploys

        return Deploys(self._connection)

    @cached_property
    def dicts(self) -> "Shared":
        from homeport.client.shared import Shared

        return Shared(self._connection, "dicts")

    @cached_property
    def domains(self) -> "Domains":
        from homeport.client.domains import Domains

        return Domains(self._connection)

    @cached_property
    def environments(self) -> "Environments":
        from homeport.client.environments import Environments

        return Environments(self._connection)

    @cached_property
    def images(self) -> "Images":
        from homeport.client.images import Images

        return Images(self._connection)

    @cached_property
    def logs(self) -> "Logs":
        from homeport.client.logs import Logs

        return Logs(self._connection)

    @cached_property
    def over_time(self) -> "OverTime":
        from homeport.client.series import OverTime

        return OverTime(self._connection)

    @cached_property
    def nodes(self) -> "Nodes":
        from homeport.client.nodes import Nodes

        return Nodes(self._connection)

    @cached_property
    def programs(self) -> "Programs":
        from homeport.client.programs import Programs

        return Programs(self._connection)

    @cached_property
    def queues(self) -> "Shared":
        from homeport.client.shared import Shared

        return Shared(self._connection, "queues")

    @cached_property
    def rate_limits(self) -> "RateLimits":
        from homeport.client.rate_limits import RateLimits

        return RateLimits(self._connection)

    @cached_property
    def requests(self) -> "Requests":
        from homeport.client.requests import Requests

        return Requests(self._connection)

    @cached_property
    def secrets(self) -> "Secrets":
        from homeport.client.secrets import Secrets

        return Secrets(self._connection)

    @cached_property
    def server(self) -> "Server":
        from homeport.client.server import Server

        return Server(self._connection)

    @cached_property
    def sessions(self) -> "Sessions":
        from homeport.client.sessions import Sessions

        return Sessions(self._connection)

    @cached_property
    def spawned(self) -> "Spawned":
        from homeport.client.spawned import Spawned

        return Spawned(self._connection)

    @cached_property
    def tokens(self) -> "Tokens":
        from homeport.client.tokens import Tokens

        return Tokens(self._connection)

    @cached_property
    def volumes(self) -> "Volumes":
        from homeport.client.volumes import Volumes

        return Volumes(self._connection)
