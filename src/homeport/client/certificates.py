"""Certificates."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.certificates import Certificate, CertificateList


class Certificates:
    """Lists and renews certificates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[Certificate, ...]:
        return (await self._connection.ask(CertificateList, "GET", "/v1/certificates")).certificates

    async def renew(self, host: str) -> Certificate:
        path = path_of("certificates", host, "renew")
        return await self._connection.ask(Certificate, "POST", path)
