"""What an agent answers to a call that does not fit. `tests/link` and `test_agents.py` have the connection."""

import pytest

from homeport.contract.errors import NodeLost, NotFound
from homeport.node.agent import Agent
from homeport.node.joined.served import Served
from homeport.settings import Settings


async def nowhere(_addresses):
    """Lead to no container."""


async def test_a_program_that_has_ended_is_not_found(tmp_path):
    agent = Agent(Settings(home=tmp_path, isolation="off"))
    served = Served(agent, tmp_path, nowhere, None)

    for what in ("read", "write", "close"):
        with pytest.raises(NotFound, match="the program has ended"):
            await served.serve(f"program_{what}", {"program": 7}, print)
    with pytest.raises(NodeLost, match="not connected"):
        await served.ask("tree", {"tree": "rv-1"})
