"""The few methods that the control plane asks of the others.

`FakeNode` and `FakeIngress` in the tests keep the same promises; `tests/roles` runs one suite
against a fake and the real thing.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, LogLine, StartOrder
from homeport.contract.image import Environment, Image
from homeport.contract.traffic import Endpoint, Load, PoolKey, RequestRecord


class Node(Protocol):
    """Starts and stops containers on one machine."""

    def watch(self, changed: Callable[[Container], None], said: Callable[[LogLine], None]) -> None:
        """Call `changed` on every change of a container's state and `said` for every log line.

        Both are called on the event loop and must not block. Called once, before `open`.
        """

    async def open(self) -> None:
        """Take possession of the run directory, and over the ready containers of an earlier server.

        Those that were not ready are ended; `list` then has the others.
        """

    async def close(self) -> None:
        """End every container, at once and for good."""

    async def prepare(
        self, image: Image, source: str, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        """Make the image's environment ready; `ImageError` names the step that cannot be.

        `source` is the revision's source tree, which steps that copy files or run a function read;
        `environ` holds the build's secrets; `say` is told of the progress, line by line.
        """

    def environments(self) -> Collection[Environment]:
        """Every environment that was built here."""

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Remove the environments that none of these images needs; returns what has gone."""

    def forget(self, pool: PoolKey) -> None:
        """No container of this pool will be started again: let go of what was kept for one."""

    def capacity(self) -> Capacity:
        """What the machine has for all containers together."""

    def start(self, order: StartOrder, environ: Mapping[str, str]) -> None:
        """Begin to start a container; what becomes of it is told to `changed`.

        `environ` holds the function's secrets, and never appears in a log or on disk.
        """

    def stop(self, container: str, *, grace_s: float | None = None) -> None:
        """SIGTERM, and SIGKILL after `grace_s` (default: the order's); unknown ids are ignored."""

    def confirm_held(self, container: str, held: int) -> None:
        """Tell a container that the ingress keeps `held` of its slots back from now on.

        The runner finishes a response whose work goes on (a background task) only then, so that no
        visitor is sent to a slot that is still taken. Unknown ids are ignored.
        """

    def list(self) -> Collection[Container]:
        """Every container that is not gone."""


class Ingress(Protocol):
    """Brings requests to containers."""

    def watch(self, answered: Callable[[str, float], None]) -> None:
        """Call `answered` once for each container that was attached, after its first answer.

        With the container and the milliseconds from its having a request to the first byte of the
        response. It may come late, and never for an answer that was missed. Called on the event
        loop; must not block. Called once, before `open`.
        """

    def hear(self, ended: Callable[[RequestRecord], None] | None) -> None:
        """Call `ended` soon after the end of each request to an endpoint; None: nobody listens.

        Under a flood of requests some are left out. Called on the event loop; must not block.
        """

    async def open(self) -> None:
        """Have the ports, an earlier server's included; `IngressError` or `PortTaken` else.

        What is routed and attached from now on is answered from `start` on.
        """

    async def start(self) -> None:
        """Start answering; an earlier server's ingress hands over without losing a request."""

    async def close(self) -> None:
        """Stop answering and leave nothing behind."""

    async def route(self, endpoint: Endpoint) -> None:
        """Make the endpoint answer from its pool; replaces what had its id, between two requests."""

    async def unroute(self, endpoint_id: str) -> None:
        """The endpoint's hosts and port are unknown from now on; an unknown id is ignored."""

    async def attach(
        self, pool: PoolKey, container: str, address: str, slots: int, *, shared: bool = True
    ) -> None:
        """Let the pool's requests into a container, `slots` at a time.

        Without `shared`, two visitors never use one connection to the container, and each connection
        carries one request: a program of the user's may leave a body unread (RFC 9112, 9.3).
        """

    async def hold(self, pool: PoolKey, container: str, held: int) -> None:
        """Keep `held` of a container's slots back: no new request gets them; 0 gives them all back.

        Returns when the ingress obeys. If every slot is held, requests that are queued look again.
        An unknown container is ignored.
        """

    async def cut(self, pool: PoolKey, container: str, age_s: float) -> None:
        """End the requests in a container that began longer ago than that.

        The container has ended them too; yet while a visitor does not read, the ingress does not see it.
        """

    async def drain(self, pool: PoolKey, container: str) -> None:
        """Send it no new request; those inside go on."""

    async def lose(self, pool: PoolKey, container: str) -> None:
        """A container has ended: nobody is let in any more, and who is queued for it looks again."""

    async def detach(self, pool: PoolKey, container: str) -> bool:
        """Forget a container; False while a connection to it is open: ask again."""

    async def drop(self, pool: PoolKey) -> None:
        """Forget a pool that has no container and no endpoint."""

    async def load(self, pools: Collection[PoolKey]) -> dict[PoolKey, Load]:
        """What these pools are doing now; unknown ones are left out."""

    def quantiles_ms(self, endpoint_id: str) -> tuple[int, int] | None:
        """The median and the 99th percentile of its requests in the last minutes; None without any."""

    async def alias(self, key: str, pool: PoolKey) -> None:
        """Send requests whose pool reads `key` (parameters as the visitor wrote them) to `pool`."""

    async def tokens(self, hashes: Mapping[str, str]) -> None:
        """The proxy tokens that are valid from now on: id -> hex SHA-256 of the secret."""

    async def free_port(self) -> int:
        """A local port that no endpoint has; it is not offered again unless its endpoint goes."""
