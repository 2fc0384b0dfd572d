"""The routes of machines that have joined."""

from collections.abc import AsyncIterator

from homeport.contract.api.answers import Nothing
from homeport.contract.api.nodes import (
    Drain,
    JoinedNode,
    Labels,
    NewNodeToken,
    NodeLine,
    NodeList,
    NodeLogQuery,
    NodeToken,
)
from homeport.contract.errors import BadRequest
from homeport.contract.permissions import Permission
from homeport.contract.sizes import MIB
from homeport.control.api.access import Caller
from homeport.control.api.routing import route
from homeport.control.fleet import machines, nodes
from homeport.control.fleet.machines import Listens, Machines
from homeport.control.fleet.mirror import Health
from homeport.state.nodes import NodeRow


class Nodes:
    """Lets machines join, and lists, labels, drains and removes them."""

    def __init__(self, machines: Machines, every: nodes.Nodes) -> None:
        self._machines, self._every = machines, every

    @route("GET", "/v1/nodes", needs=Permission.ADMIN)
    async def every(self, caller: Caller) -> NodeList:
        """List the machines that have joined."""
        caller.check_server()
        return NodeList(nodes=self.machines())

    @route("POST", "/v1/nodes/tokens", needs=Permission.ADMIN, action="node token")
    async def token(self, caller: Caller, body: NewNodeToken) -> NodeToken:
        """Make a token with which one machine may join, and open the port for it."""
        caller.check_server()
        token, listens = await self._machines.token(_listens(body.listen))
        address = machines.address_of(listens)
        return NodeToken(token=token, host=listens.host, port=listens.port, address=address)

    @route("GET", "/v1/nodes/{name}/logs", needs=Permission.ADMIN)
    async def logs(self, caller: Caller, name: str, query: NodeLogQuery) -> AsyncIterator[NodeLine]:
        """Read the lines that a machine's agent has logged since it was started, the oldest first; at most 1,000."""
        caller.check_server()
        lines = await self._machines.log_lines(name, query.tail, follow=query.follow)
        return _as_answers(lines)

    @route("POST", "/v1/nodes/{name}/labels", needs=Permission.ADMIN, action="node label")
    async def label(self, caller: Caller, name: str, body: Labels) -> JoinedNode:
        """Change labels of a machine; containers that run stay where they are."""
        caller.check_server()
        return self._told(await self._machines.label(name, body.labels))

    @route("POST", "/v1/nodes/{name}/drain", needs=Permission.ADMIN, action="node drain")
    async def drain(self, caller: Caller, name: str, body: Drain) -> Nothing:
        """Start nothing new on a machine, and replace its containers; or take it back into use."""
        caller.check_server()
        await self._machines.drain(name, on=body.on)
        return Nothing()

    @route("DELETE", "/v1/nodes/{name}", needs=Permission.ADMIN, action="node remove")
    async def remove(self, caller: Caller, name: str) -> None:
        """Revoke a machine's certificate, and forget the machine: it ends its containers."""
        caller.check_server()
        await self._machines.remove(name)

    def machines(self) -> tuple[JoinedNode, ...]:
        """Return every machine, for findings and metrics too."""
        return tuple(map(self._told, self._machines.every()))

    def _told(self, row: NodeRow) -> JoinedNode:
        mirror = self._every.mirrors.get(row.name)
        capacity = mirror.capacity if mirror else None
        fact = self._machines.facts.of(row.name)
        round_trip_s = mirror.round_trip_s if mirror else None
        return JoinedNode(
            name=row.name,
            health=str(mirror.health if mirror else Health.GONE),
            drained=row.drained,
            containers=len(mirror.containers) if mirror else 0,
            joined_at=row.joined_at,
            cores=capacity.cores if capacity else None,
            memory_mib=capacity.memory_mib if capacity else None,
            isolated=capacity.isolated if capacity else None,
            volumes=self._machines.volumes_of(row.name),
            labels=row.labels,
            version=fact.version if fact else "",
            clock_off_s=round(fact.clock_off_s, 1) if fact else None,
            free_mib=fact.free_bytes // MIB if fact else None,
            certificate_until=fact.certificate_until if fact else None,
            entrance=fact.entrance if fact else (),
            no_entrance=fact.no_entrance if fact else "",
            cannot_call=fact.cannot_call if fact else "",
            unreached=fact.unreached if fact else "",
            round_trip_ms=None if round_trip_s is None else round(1000 * round_trip_s, 1),
        )


async def _as_answers(lines: AsyncIterator[str]) -> AsyncIterator[NodeLine]:
    async for line in lines:
        yield NodeLine(text=line)


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
