"""`homeport deploy --canary`, `homeport app canary` and `app promote` as a user types them."""

import json
import time

import pytest

from homeport.cli import canary
from homeport.contract.api.apps import CanaryEndpoint, CanaryState, CanaryStatus
from homeport.contract.errors import BadRequest
from tests.cli.statuses import app_status

SCRIPT = """import homeport

app = homeport.App("shop")


@app.function(timeout={timeout})
@homeport.fastapi_endpoint()
def web():
    return "{timeout}"
"""


@pytest.fixture
def deploys(tmp_path):
    """Return how to deploy a version of an app, with options."""
    script = tmp_path / "shop.py"

    async def deploy(user, timeout: int, *words: str, **options):
        script.write_text(SCRIPT.format(timeout=timeout))
        return await user.run("deploy", script, *words, **options)

    return deploy


async def test_a_canary_is_deployed_shown_and_promoted(typed, deploys):
    async with typed() as user:
        await deploys(user, 10)
        none = await user.refused("app", "canary", "shop")
        begun = await deploys(user, 11, "--canary", "25%", "--for", "4h")
        listed = (await user.run("app", "list")).stdout
        status = (await user.run("status")).stdout
        shown = await user.run("app", "canary", "shop")
        told = json.loads((await user.run("app", "canary", "shop", "--json")).stdout)
        promoted = await user.run("app", "promote", "shop")
        ended = (await user.run("app", "canary", "shop")).stdout
        again = await user.refused("app", "promote", "shop")

    assert "the app `shop` had no canary" in none
    assert "✓ v2 gets 25% of the requests, beside v1" in begun.stderr
    assert "It serves all of them in 4 hours, and none if it does worse" in begun.stderr
    assert "`homeport app promote shop`" in begun.stderr
    assert "v2 25%" in listed
    assert "`shop`: v2 gets 25% of the requests beside v1" in status
    assert "v2 gets 25% of the requests beside v1; it serves all of them in 4 hours" in shown.stdout
    assert 4 * 3600 == pytest.approx(told["ends_at"] - told["began_at"], abs=1)
    assert "✓ v2 of `shop` serves all requests" in promoted.stderr
    assert promoted.stdout.startswith("shop v2\n  web  http://")
    assert ended.startswith("v2 was promoted 2")
    assert "shop" in again


async def test_a_canary_is_rolled_back_and_deploying_it_again_promotes_it(typed, deploys):
    async with typed() as user:
        await deploys(user, 10)
        await deploys(user, 11, "--canary", "10")
        back = await user.run("app", "rollback", "shop")
        await deploys(user, 12, "--canary", "10")
        promoted = await deploys(user, 12)
        await deploys(user, 13, "--canary", "10")
        as_json = json.loads((await user.run("app", "promote", "shop", "--json")).stdout)

    assert "✓ v2 of `shop` gets no requests any more: " in back.stderr
    assert "rollback successful" not in back.stderr
    assert "✓ v3 of `shop` serves all requests" in promoted.stderr
    assert 4 == as_json["version"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--for", "10m"], "there is no `--canary`"),
        (["--canary", "much"], "`--canary much` is not a share"),
        (["--canary", "100%"], "100"),
        (["--canary", "10%", "--for", "soon"], "--for is 'soon'"),
    ],
)
async def test_a_share_and_a_time_are_checked_before_the_script_is_loaded(typed, words, says):
    async with typed() as user:
        assert says in await user.refused("deploy", "none.py", *words)


def test_a_share_is_read_with_and_without_its_sign():
    assert 600.0 == canary.wanted("10", "").seconds
    assert [0.5, 12.5] == [canary.wanted(text, "").percent for text in ("0.5%", " 12.5 % ")]
    with pytest.raises(BadRequest):
        canary.wanted("0", "")


async def test_counts_of_a_canary_are_a_row_for_each_function(answered):
    counted = CanaryEndpoint(
        tag="web", old_requests=90, old_failed=1, old_p95_ms=20, new_requests=10, new_failed=5,
        new_p95_ms=None,
    )  # fmt: skip
    ended = CanaryStatus(
        version=2, before=1, percent=10.0, state=CanaryState.ROLLED_BACK, began_at=1.0,
        ends_at=time.time(), ended_at=2.0, reason="5 of 10 requests failed", endpoints=(counted,),
    )  # fmt: skip
    async with answered({"GET /v1/apps/shop": app_status(canary=ended)}) as user:
        shown = (await user.run("app", "canary", "shop")).stdout.splitlines()

    assert "v2 was rolled back" in shown[0]
    assert shown[0].endswith(": 5 of 10 requests failed")
    assert ["v1", "requests"] == shown[1].split()[1:3]
    assert ["web", "90", "1", "20", "10", "5"] == shown[2].split()
