"""A server's start in this process: everything is real except the two roles, which record when they are opened and closed."""

import contextlib
import shutil
import sys
from contextlib import AsyncExitStack

from homeport.contract.container import Container, State
from homeport.contract.errors import Failure
from homeport.control.fleet.nodes import Nodes
from homeport.control.main import Left, Roles
from tests.fakes import FakeIngress, FakeNode
from tests.orders import order


class Entrance(FakeIngress):
    """A fake ingress with what `control/main.py` needs."""

    def __init__(self, story: list[str], fails: str = "") -> None:
        super().__init__()
        self.took_over = False
        self.http_port, self.https_port = 4663, 0
        self.pid = 1
        self._story = story
        self._fails = fails

    async def open(self) -> None:
        self._step("ingress opens")
        await super().open()

    async def start(self) -> None:
        self._step("ingress starts")
        await super().start()

    async def tokens(self, valid) -> None:
        self._step("ingress has the tokens")
        await super().tokens(valid)

    async def close(self) -> None:
        self._story.append("ingress closes")

    def _step(self, step: str) -> None:
        if step == self._fails:
            raise Failure(f"it fails when {step}")
        self._story.append(step)


class Start:
    """The two roles of one start, and a record of what happened to them."""

    def __init__(
        self, node: FakeNode | None = None, fails: str = "", story: list[str] | None = None
    ) -> None:
        self.story = story if story is not None else []
        self.left = Left()
        self.node = node or FakeNode(0.01)
        self.ingress = Entrance(self.story, fails)
        self._fails = fails

    @property
    def roles(self) -> Roles:
        return Roles(open_nodes=self._open_nodes, new_ingress=self._new_ingress)

    async def _open_nodes(self, _settings, _tied, said, opened: AsyncExitStack) -> Nodes:
        if self._fails == "nodes open":
            raise Failure("it fails when nodes open")
        nodes = Nodes([self.node], on_line=said)
        self.story.append("nodes open")
        opened.callback(self.story.append, "node closes")
        await nodes.open()
        opened.push_async_callback(nodes.close)
        return nodes

    def _new_ingress(self, _settings, _tied, _ports) -> Entrance:
        return self.ingress


class Printed(list[str]):
    """A record that is printed at once, for a process that may end at any moment."""

    def append(self, step: str) -> None:
        print(step, file=sys.stderr, flush=True)


def running() -> FakeNode:
    """A node on which an earlier server has left a container."""
    node = FakeNode(0.01)
    left = order("ta-left")
    node._containers["ta-left"] = Container(order=left, state=State.READY, node="here")
    return node


@contextlib.contextmanager
def blocked(path):
    """Put a directory where the server wants to make a socket or a file."""
    path.mkdir(parents=True)
    (path / "something").touch()
    yield
    shutil.rmtree(path, ignore_errors=True)  # a socket's directory goes with the server
