"""A tunnel: the URL of a port of a container."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelInfo:
    """Where a tunnel answers."""

    scheme: str
    host: str
    port: int
