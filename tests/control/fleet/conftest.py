"""Machines that can join a control plane, whose own node and ingress are fakes."""

import pytest

from homeport.control.fleet.machines import Machines
from homeport.control.fleet.mirror import GONE_S
from homeport.control.fleet.nodes import Nodes
from homeport.state.nodes import Nodes as Rows
from tests.fakes import FakeIngress, FakeNode


@pytest.fixture
def gone_s() -> float:
    """After this silence a node is given up."""
    return GONE_S


@pytest.fixture
async def nodes(gone_s):
    made = Nodes([FakeNode(0.01)], on_line=lambda _line: None, gone_s=gone_s)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def machines(tmp_path, nodes, database):
    made = Machines(tmp_path, nodes, Rows(database), FakeIngress())
    await made.open()
    yield made
    await made.close()
