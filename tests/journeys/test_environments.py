"""Two environments of one server: the same names, and nothing of each other; and a workspace beside them."""

import subprocess
import sys

from tests.journeys.conftest import PATIENCE_S, Terminal
from tests.ports import free_port

SHOP = """
    import os
    import modal

    app = modal.App("shop")
    stock = modal.Dict.from_name("stock", create_if_missing=True)
    auth = modal.Secret.from_name("auth")

    @app.function(secrets=[auth])
    def price(n):
        return n * 10, os.environ["WHOSE"]

    @app.function()
    @modal.fastapi_endpoint()
    def web():
        stock.put("seen", stock.get("seen", 0) + 1)
        try:
            other = modal.Function.from_name("shop", "price", environment_name=OTHER).remote(1)
        except modal.exception.NotFoundError as error:
            other = str(error)
        return [os.environ["MODAL_ENVIRONMENT"], price.remote(1), stock["seen"], other]
"""
CALLER = """
import homeport as modal
for name in (None, "staging"):
    price = modal.Function.from_name("shop", "price", environment_name=name)
    print(*price.remote(2), *price.spawn(3).get(), modal.Dict.from_name("stock", environment_name=name)["seen"])
try:
    modal.Function.from_name("shop", "price", environment_name="prod").remote(1)
except modal.exception.NotFoundError as error:
    print(error)
"""


def shown(terminal, *words):
    """Return the URL of the only app."""
    (app,) = terminal.json("app", "list", *words)
    return next(each["url"] for each in app["endpoints"] if each["url"])


def test_two_environments_have_the_same_names_and_reach_nothing_of_each_other(
    terminal, write, visitor, tmp_path
):
    terminal.run("environment", "create", "staging", "--web-suffix", "st")
    for name in ("main", "staging"):
        terminal.run("secret", "create", "auth", f"WHOSE={name}'s", "-e", name)
    script = write(
        SHOP.replace("OTHER", '"staging" if os.environ["MODAL_ENVIRONMENT"] == "main" else "main"')
    )
    main = terminal.deploy(script)
    staging = terminal.deploy(script, "-e", "staging")
    asked = [visitor.get(urls["web"]).json() for urls in (main, main, staging)]

    assert [["main", [10, "main's"], 1], ["main", [10, "main's"], 2]] == [a[:3] for a in asked[:2]]
    assert ["staging", [10, "staging's"], 1] == asked[2][:3]
    assert all("no environment" in each[3] for each in asked)
    urls = {name: shown(terminal, "-e", name) for name in ("main", "staging")}
    assert "//ada--shop-web." in urls["main"]
    assert "//ada-st--shop-web." in urls["staging"]
    assert ["main", "staging"] == [each["name"] for each in terminal.json("environment", "list")]

    # a script of this machine, which names one or none
    done = subprocess.run(
        [sys.executable, "-c", CALLER],
        env=terminal.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    first, second, third = done.stdout.splitlines()
    assert ("20 main's 30 main's 2", "20 staging's 30 staging's 1") == (first, second)
    assert "no environment `prod`" in third

    # after a restart, both serve as before
    terminal.run("down")
    terminal.run("up")
    assert ["staging", [10, "staging's"], 2] == visitor.get(staging["web"]).json()[:3]

    # the end of one is not the end of the other
    refused = terminal.run("environment", "delete", "main", "-y", check=False)
    deleted = terminal.run("environment", "delete", "staging", "-y")
    unknown = terminal.run("app", "list", "-e", "staging", check=False)
    assert (1, 0, 1) == (refused.returncode, deleted.returncode, unknown.returncode)
    assert "there is no environment `staging`" in unknown.stderr
    assert 3 == visitor.get(main["web"]).json()[2]
    terminal.run("environment", "create", "staging")
    for words in (("app",), ("dict",), ("secret",)):
        assert [] == terminal.json(*words, "list", "-e", "staging")


def test_a_workspace_sees_nothing_of_the_servers_own(terminal, write, visitor, tmp_path):
    port = free_port()
    terminal.environ |= {"HOMEPORT_API_PORT": str(port), "HOMEPORT_TOKEN": "the-first-token-of-all"}
    terminal.run("up")
    terminal.run("secret", "create", "auth", "WHOSE=ours")
    ours = terminal.deploy(write(SHOP.replace("OTHER", '"main"')))
    terminal.run("workspace", "create", "acme")
    words = ("token", "create", "--workspace", "acme", "--scope", "deploy,secrets", "--user", "ann")
    made = terminal.json(*words)
    ann = Terminal(tmp_path / "ann")
    ann.environ |= {
        "HOMEPORT_SERVER": f"http://127.0.0.1:{port}",
        "HOMEPORT_TOKEN": made["secret"],
    }

    assert [] == ann.json("app", "list")
    assert [] == ann.json("secret", "list")
    for words in (("down", "-y"), ("workspace", "list"), ("image", "list")):
        assert 1 == ann.run(*words, check=False).returncode, words
    ann.run("secret", "create", "auth", "WHOSE=ann's")
    theirs = ann.deploy(write(SHOP.replace("OTHER", '"main"')))
    assert ["main", [10, "ann's"], 1] == visitor.get(theirs["web"]).json()[:3]
    assert ["main", [10, "ours"], 1] == visitor.get(ours["web"]).json()[:3]
    assert "//acme--shop-web." in shown(ann)

    terminal.run("workspace", "delete", "acme", "-y")
    assert "the token is wrong" in ann.run("app", "list", check=False).stderr
    assert 2 == visitor.get(ours["web"]).json()[2]
