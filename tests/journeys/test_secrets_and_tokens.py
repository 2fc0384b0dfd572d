"""Secrets reach only the functions that name them; without a token, a protected endpoint refuses requests."""

import re

import pytest

from tests import trees

SECRET = """
    import os
    import modal

    app = modal.App("vault")

    @app.function(secrets=[modal.Secret.from_name("auth", required_keys=["TOKEN"])])
    @modal.fastapi_endpoint()
    def named():
        return {k: v for k, v in os.environ.items() if k in ("TOKEN", "OUTER")}

    @app.function(env={"PLAIN": "yes"})
    @modal.fastapi_endpoint()
    def unnamed():
        return {k: v for k, v in os.environ.items() if k in ("TOKEN", "OUTER", "PLAIN")}
"""


def test_a_secret_reaches_only_the_function_that_names_it(terminal, write, visitor):
    terminal.environ["OUTER"] = "from the shell"
    missing = terminal.run("deploy", write(SECRET), check=False)
    assert 1 == missing.returncode
    assert "homeport secret create auth TOKEN=" in missing.stderr
    assert [] == terminal.json("app", "list")
    created = terminal.run("secret", "create", "auth", "TOKEN=hunter2hunter2")
    urls = terminal.deploy(write(SECRET))

    assert {"TOKEN": "hunter2hunter2"} == visitor.get(urls["named"]).json()
    assert {"PLAIN": "yes"} == visitor.get(urls["unnamed"]).json()
    listed = terminal.run("secret", "list", "--json").stdout
    told = created.stdout + created.stderr + listed + (terminal.home / "server.log").read_text()
    assert "hunter2" not in told
    everything = trees.files(terminal.home)
    assert terminal.home / "server.log" in everything
    assert [] == [path for path, text in everything.items() if b"hunter2hunter2" in text]


def test_a_secret_comes_from_a_file_and_is_replaced_by_force_alone(terminal, tmp_path):
    (tmp_path / "x.env").write_text("A=1\nB='two words'\n")
    (tmp_path / "x.json").write_text('{"A": "3"}')
    terminal.run("secret", "create", "one", "--from-dotenv", tmp_path / "x.env")
    again = terminal.run("secret", "create", "one", "--from-json", tmp_path / "x.json", check=False)
    terminal.run("secret", "create", "one", "--from-json", tmp_path / "x.json", "--force")

    assert 1 == again.returncode
    assert ["one"] == [s["name"] for s in terminal.json("secret", "list")]
    terminal.run("secret", "delete", "one", "-y")
    assert [] == terminal.json("secret", "list")
    assert 1 == terminal.run("secret", "delete", "one", "-y", check=False).returncode


PROTECTED = """
    import modal
    from fastapi import Request

    app = modal.App("guarded")

    @app.function()
    @modal.fastapi_endpoint(requires_proxy_auth=True)
    def inner(request: Request):
        return sorted(request.headers)
"""


@pytest.mark.parametrize("command", [("proxy-token",), ("workspace", "proxy-tokens")])
def test_a_protected_endpoint_wants_a_token(terminal, write, visitor, command):
    url = terminal.deploy(write(PROTECTED))["inner"]
    bare = visitor.get(url)
    token = terminal.json(*command, "create")
    pair = {"Modal-Key": token["Modal-Key"], "Modal-Secret": token["Modal-Secret"]}
    by_pair = visitor.get(url, headers=pair)
    by_bearer = visitor.get(url, headers={"Authorization": token["Authorization"]})
    wrong = visitor.get(url, headers={**pair, "Modal-Secret": "ws-wrong"})

    assert 401 == bare.status_code == wrong.status_code
    assert "homeport: missing credentials for proxy authorization" == bare.text.strip()
    assert 200 == by_pair.status_code == by_bearer.status_code
    assert [] == [h for h in by_pair.json() if re.match("modal-(key|secret)", h)]
    listed = terminal.run(*command, "list", "--json").stdout
    assert token["Modal-Key"] in listed
    assert token["Modal-Secret"] not in listed
    terminal.run(*command, "delete", token["Modal-Key"], "-y")
    assert 401 == visitor.get(url, headers=pair).status_code


LIMITED = (
    PROTECTED
    + """
    @app.function()
    @modal.fastapi_endpoint(requires_proxy_auth=True)
    def other():
        return "other"

    @app.function()
    @modal.fastapi_endpoint()
    def open():
        return "open"
"""
)


def test_tokens_have_scopes_an_expiry_a_rate_and_rotate(terminal, write, visitor):
    urls = terminal.deploy(write(LIMITED))

    def headers(*words):
        made = terminal.json("proxy-token", *words)
        return {"Authorization": made["Authorization"]}

    def code(name, given):
        return visitor.get(urls[name], headers=given).status_code

    inner = headers("create", "--scope", "guarded.inner", "--expires", "1h", "--name", "inner")
    app = headers("create", "--scope", "guarded", "--name", "app")
    elsewhere = headers("create", "--scope", "nothing", "--name", "elsewhere")
    assert [200, 401] == [code(name, inner) for name in ("inner", "other")]
    assert [200, 200] == [code(name, app) for name in ("inner", "other")]
    assert [401, 401] == [code(name, elsewhere) for name in ("inner", "other")]

    # a rotation with an overlap, and one without
    listed = {each["name"]: each for each in terminal.json("proxy-token", "list")}
    token = listed["app"]["token_id"]
    second = headers("rotate", token, "--overlap", "24h")
    assert [200, 200] == [code("inner", each) for each in (app, second)]
    third = headers("rotate", token)
    assert [401, 401, 200] == [code("inner", each) for each in (app, second, third)]

    # when it was used, and what it is for
    assert (None, ["nothing"]) == (listed["elsewhere"]["used_at"], listed["elsewhere"]["scopes"])
    assert listed["inner"]["used_at"] is not None
    assert listed["inner"]["expires_at"] > listed["inner"]["created_at"]
    assert "guarded.inner" in terminal.run("proxy-token", "list").stdout

    # rates: of a token, and of an endpoint
    slow = headers("create", "--rate", "1/m")
    assert 429 in [code("other", slow) for _ in range(4)]
    assert 200 == code("other", third)
    terminal.run("rate-limit", "set", "guarded.open", "1/m")
    answers = [visitor.get(urls["open"]) for _ in range(4)]
    refused = [each for each in answers if each.status_code == 429]
    assert {"60"} == {each.headers["retry-after"] for each in refused}
    assert [{"app": "guarded", "tag": "open", "rate": "1/m"}] == terminal.json("rate-limit", "list")

    # everything is there again after a restart of the server and of HAProxy
    terminal.run("down", "-y")
    terminal.run("up")
    assert [200, 401] == [code(name, inner) for name in ("inner", "other")]
    assert [401, 200] == [code("inner", each) for each in (second, third)]
    assert 429 in [visitor.get(urls["open"]).status_code for _ in range(4)]
    terminal.run("rate-limit", "remove", "guarded.open", "-y")
    assert 200 == visitor.get(urls["open"]).status_code
    secret = third["Authorization"].partition(".")[2]
    assert [] == [p for p, text in trees.files(terminal.home).items() if secret.encode() in text]


def test_nobody_without_a_token_starts_a_container(terminal, write, visitor):
    url = terminal.deploy(
        write(PROTECTED.replace("app.function()", "app.function(scaledown_window=2)"))
    )["inner"]
    from tests.waiting import wait_for

    wait_for(lambda: not terminal.containers(), "no container")

    assert 401 == visitor.get(url).status_code
    assert [] == terminal.json("container", "list")
