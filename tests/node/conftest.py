"""An agent whose runners are scripts of the test's own, as processes."""

import textwrap

import pytest

from homeport.contract.container import ContainerSpec
from homeport.node.agent import Agent
from homeport.settings import Settings
from tests.node.test_agent import REPORT, Watched


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A home of the test's own."""
    settings = Settings(home=tmp_path / "home")
    settings.socket_dir.mkdir(parents=True)
    return settings


@pytest.fixture
def spec(tmp_path):
    """A container's spec."""

    def spec(**changes) -> ContainerSpec:
        told = {
            "id": "ta-1",
            "app": "app",
            "function": "f",
            "revision": "rv-1",
            "pool": "p",
            "module": "m",
            "qualname": "f",
            "source": str(tmp_path),
        }
        return ContainerSpec(**{**told, **changes})

    return spec


@pytest.fixture
async def start(settings, spec, tmp_path):
    """Start an agent whose runner is this script, and a container."""
    agents = []

    async def start(script: str, environ=None, *, tied=True, **changes) -> tuple[Agent, Watched]:
        path = tmp_path / "runner.py"
        path.write_text(REPORT + textwrap.dedent(script))
        agent, watched = Agent(settings, tied=tied, runner=(str(path),)), Watched()
        agent.watch(watched.changed, watched.said)
        await agent.open()
        agents.append(agent)
        agent.start(spec(**changes), environ or {})
        return agent, watched

    yield start
    for agent in agents:
        await agent.close()
