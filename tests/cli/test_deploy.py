"""`homeport deploy` as a user types it: the script and the control plane are real, its machine is a fake."""

import json
import time
from unittest.mock import AsyncMock

import pytest

from homeport.cli import deploy
from homeport.contract.api import events
from homeport.contract.api.deploys import Deployed
from homeport.contract.container import LogLine
from homeport.contract.errors import ImageError, ServerUnreachable
from homeport.contract.scope import MAIN
from homeport.state.expiries import Expiries

SCRIPT = """import homeport

app = homeport.App("shop")


@app.function(timeout={timeout})
@homeport.fastapi_endpoint({options})
def web():
    return 1
"""


@pytest.fixture
def script(tmp_path):
    """Return how to write the script; its path."""
    path = tmp_path / "shop.py"

    def write(*, timeout: int = 10, options: str = ""):
        path.write_text(SCRIPT.format(timeout=timeout, options=options))
        return path

    return write


async def test_a_script_is_deployed_once_and_under_other_names(typed, script):
    async with typed() as user:
        first = await user.run("deploy", script(), "--tag", "one")
        second = await user.run("deploy", script(timeout=11))
        same = await user.run("deploy", script(timeout=11))
        told = json.loads((await user.run("deploy", script(timeout=12), "--json")).stdout)
        other = await user.run("deploy", script(), "--name", "other")
        module = await user.run("deploy", "-m", "shop", cwd=script().parent)
        history = json.loads((await user.run("app", "history", "shop", "--json")).stdout)

    assert first.stdout.startswith("shop v1\n  web  http://")
    assert "`web` is ready" in first.stderr
    assert "✓ App deployed in " in first.stderr
    assert second.stdout.startswith("shop v2\n")
    assert same.stdout.startswith("shop v2 (skipped)\n  web  http://")
    assert "✓ Deployment skipped: no changes detected!" in same.stderr
    assert (3, "shop") == (told["version"], told["app"])
    assert other.stdout.startswith("other v1\n")
    assert module.stdout.startswith("shop v4\n")
    assert "one" == history[-1]["tag"]


@pytest.mark.parametrize("text", ["1.5h", "10", "10s", "soon"])
async def test_a_time_that_an_app_may_live_has_a_unit(typed, script, text):
    async with typed() as user:
        wrong = await user.refused("deploy", script(), "--expires", text)

    assert f"`--expires {text}` is not a time" in wrong
    assert "write 30m, 12h, 7d or never" in wrong


async def test_options_of_a_deploy_reach_the_server(typed, script):
    async with typed() as user:
        await user.run("deploy", script(), "--expires", "7d")
        expiries = Expiries(user.plane.database)
        await expiries.load()
        expires_at = expiries.of((MAIN, "shop")).expires_at
        strategy = await user.refused("deploy", script(), "--strategy", "odd")
        drain = await user.run(
            "deploy", script(timeout=20), "--strategy", "recreate", "--drain", "3"
        )

    assert 7 * 86400 == pytest.approx(expires_at - time.time(), abs=600)
    assert "odd" in strategy
    assert drain.stdout.startswith("shop v2\n")


async def test_a_deploy_that_fails_says_what_happened_and_leaves_what_served(typed, script):
    async with typed() as user:
        await user.run("deploy", script())
        error = ImageError("the image cannot be built", where="shop.py:3", hint="try it again")
        user.node.prepare = AsyncMock(side_effect=error)
        failed = await user.refused("deploy", script(timeout=20))
        (app,) = json.loads((await user.run("app", "list", "--json")).stdout)

    assert failed.splitlines()[-5:] == [
        "error: the image cannot be built",
        '  shop.py:3  app = homeport.App("shop")',
        "",
        "hint: try it again",
    ]
    assert ("deployed", 1) == (app["state"], app["version"])


async def test_a_custom_domain_that_leads_elsewhere_is_named(typed, script):
    async with typed() as user:
        options = 'custom_domains=["shop.example.test"]'
        done = await user.run("deploy", script(options=options))

    assert "http://shop.example.test" in done.stdout
    assert "warning: " in done.stderr
    assert "shop.example.test" in done.stderr


DONE = events.Done(deployed=Deployed(app="shop", version=2, skipped=False, endpoints=()))
GOES = [
    events.progress("`web` is ready"),
    events.Log(line=LogLine(at=0.0, app="shop", function="web", container="ta-1", text="hello")),
]


async def stream(*lines):
    for line in lines:
        yield line


@pytest.mark.parametrize(
    ("shows", "printed"), [(True, "`web` is ready\nweb ta-1 hello\n"), (False, "")]
)
async def test_a_deploy_is_shown_as_it_goes_if_that_is_wanted(capfd, shows, printed):
    deployed = await deploy.follow(stream(*GOES, DONE), shows=shows)

    assert DONE.deployed == deployed
    assert ("", printed) == capfd.readouterr()


async def test_a_deploy_whose_server_ends_does_not_look_like_one_that_worked():
    with pytest.raises(ServerUnreachable, match="ended in the middle of the deploy") as ended:
        await deploy.follow(stream(*GOES))

    assert "`homeport app list`" in ended.value.hint
