"""An alert tells a webhook what is wrong, and `homeport status` says it first."""

import hashlib
import hmac
import json

import httpx

from tests.control.reporting.alerts.test_webhook import receiving
from tests.waiting import wait_for

FAILING = """
    import modal

    app = modal.App("shop")

    @app.function()
    @modal.fastapi_endpoint()
    def price():
        raise RuntimeError("no fuel")
"""


def test_requests_that_fail_are_told_to_a_webhook_and_status_says_it_first(terminal, write):
    url = terminal.deploy(write(FAILING))["price"]
    for _ in range(10):
        assert 500 == httpx.get(url, timeout=60, trust_env=False).status_code
    wait_for(lambda: 10 == len(terminal.json("request", "list", "shop")), "the records")
    with receiving() as hook:
        where = f"http://127.0.0.1:{hook.port}/hook/key"
        words = ("errors", "--app", "shop", "--limit", "50%", "--webhook", where)
        added = terminal.json("alert", "add", "failing", *words)
        assert f"http://127.0.0.1:{hook.port}/…" == added["alert"]["target"]
        wait_for(lambda: hook.got, "the message")
        ((path, fields, body),) = hook.got
        message = json.loads(body)
        wanted = hmac.new(added["secret"].encode(), body, hashlib.sha256).hexdigest()
        assert ("/hook/key", f"sha256={wanted}") == (path, fields["Homeport-Signature"])
        assert ("failing", "firing", "errors", "shop") == tuple(
            message[name] for name in ("alert", "state", "kind", "app")
        )
        assert "100 % of the requests failed" in message["text"]
        status = terminal.run("status")
        assert "alert: `failing`: shop.price: 100 % of the requests failed" in status.stderr
        (listed,) = terminal.json("alert", "list")
        assert ("firing", 0) == (listed["state"], listed["waiting"])

        terminal.run("alert", "test", "failing")
        assert "test" == json.loads(hook.got[1][2])["state"]
        hook.status = 500
        refused = terminal.run("alert", "test", "failing", check=False)
        assert (1, True) == (refused.returncode, "the answer was 500" in refused.stderr)
    terminal.run("alert", "remove", "failing", "--yes")
    assert [] == terminal.json("alert", "list")
    assert "alert" not in terminal.run("status").stderr
