"""The routes of machines that have joined."""

from homeport.contract.api.answers import Nothing
from homeport.contract.api.nodes import Drain, JoinedNode, NewNodeToken, NodeList, NodeToken
from homeport.contract.errors import BadRequest
from homeport.contract.permissions import Permission
from homeport.control.api.routing import route
from homeport.control.fleet import nodes
from homeport.control.fleet.machines import Listens, Machines
from homeport.control.fleet.mirror import Health
from homeport.state.nodes import NodeRow


class Nodes:
    """Lets machines join, and lists, drains and removes them."""

    def __init__(self, machines: Machines, every: nodes.Nodes) -> None:
        self._machines, self._every = machines, every

    @route("GET", "/v1/nodes", needs=Permission.ADMIN)
    async def every(self) -> NodeList:
        """List the machines that have joined."""
        return NodeList(nodes=tuple(map(self._told, self._machines.every())))

    @route("POST", "/v1/nodes/tokens", needs=Permission.ADMIN, action="node token")
    async def token(self, body: NewNodeToken) -> NodeToken:
        """Make a token with which one machine may join, and open the port for it."""
        token, listens = await self._machines.token(_listens(body.listen))
        return NodeToken(token=token, host=listens.host, port=listens.port)

    @route("POST", "/v1/nodes/{name}/drain", needs=Permission.ADMIN, action="node drain")
    async def drain(self, name: str, body: Drain) -> Nothing:
        """Start nothing new on a machine, and replace its containers; or take it back into use."""
        await self._machines.drain(name, on=body.on)
        return Nothing()

    @route("DELETE", "/v1/nodes/{name}", needs=Permission.ADMIN, action="node remove")
    async def remove(self, name: str) -> None:
        """Revoke a machine's certificate, and forget the machine: it ends its containers."""
        await self._machines.remove(name)

    def _told(self, row: NodeRow) -> JoinedNode:
        mirror = self._every.mirrors.get(row.name)
        capacity = mirror.capacity if mirror else None
        return JoinedNode(
            name=row.name,
            health=str(mirror.health if mirror else Health.GONE),
            drained=row.drained,
            containers=len(mirror.containers) if mirror else 0,
            joined_at=row.joined_at,
            cores=capacity.cores if capacity else None,
            memory_mib=capacity.memory_mib if capacity else None,
        )


def _listens(text: str) -> Listens | None:
    """Return the address in a text, None for an empty one; `BadRequest` for any other text.

    >>> _listens("[::]:7600"), _listens("")
    (Listens(host='::', port=7600), None)
    """
    if not text:
        return None
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadRequest(f"`{text[:100]}` is no address to listen at", hint="such as 10.0.0.1:7600")
    return Listens(host=host, port=int(port))
