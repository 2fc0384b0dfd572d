"""Custom domains."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.domains import Domain, DomainList, NewDomain


class Domains:
    """Lists, attaches and detaches domains."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[Domain, ...]:
        return (await self._connection.ask(DomainList, "GET", "/v1/domains")).domains

    async def add(self, domain: str, app: str, tag: str) -> Domain:
        body = NewDomain(domain=domain, app=app, tag=tag)
        return await self._connection.ask(Domain, "POST", "/v1/domains", body)

    async def remove(self, domain: str) -> None:
        await self._connection.call("DELETE", path_of("domains", domain))
