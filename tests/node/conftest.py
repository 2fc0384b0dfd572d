"""An agent whose runners are real processes with scripts of the test."""

import contextlib
import textwrap

import pytest

from homeport.node.agent import Agent
from homeport.settings import Settings
from tests.node.test_agent import REPORT, Watched
from tests.orders import order


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Settings with the test's own home."""
    settings = Settings(home=tmp_path / "home", isolation="off")
    settings.socket_dir.mkdir(parents=True)
    return settings


@pytest.fixture
async def start(settings, tmp_path):
    """Start an agent whose runner is this script, and one container."""
    opened = contextlib.AsyncExitStack()

    async def start(script: str, environ=None, *, tied=True, **changes) -> tuple[Agent, Watched]:
        path = tmp_path / "runner.py"
        path.write_text(REPORT + textwrap.dedent(script))
        agent, watched = Agent(settings, tied=tied, runner=(str(path),)), Watched()
        agent.watch(watched.changed, watched.said)
        await agent.open()
        opened.push_async_callback(agent.close)
        await agent.start(order(**{"source": str(tmp_path), **changes}), environ or {})
        return agent, watched

    async with opened:
        yield start
