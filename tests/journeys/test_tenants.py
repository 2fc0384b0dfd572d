"""Two workspaces of one server with isolation: what A's token and A's code reach of B's."""

import contextlib
import hashlib
import secrets
import shutil

import httpx
import pytest

from homeport.settings import Settings
from tests import isolation, trees
from tests.journeys import intruder
from tests.journeys.conftest import PATIENCE_S, ROOT, Terminal, homes
from tests.ports import free_port

ADMIN = "the-first-token-of-all"
SHOP = """
    import json, os, time
    import modal
    import intruder

    app = modal.App("shop")
    own = {
        "secrets": [modal.Secret.from_name("auth")],
        "volumes": {"/data": modal.Volume.from_name("treasure", create_if_missing=True)},
        "scaledown_window": 1200,
        "timeout": 1200,
    }

    @app.function(**own)
    @modal.concurrent(max_inputs=10)
    def secret(patience_s=0):
        time.sleep(patience_s)
        return os.environ["WHOSE"]

    def wsgi(environ, start):
        start("200 OK", [("Content-Type", "application/json")])
        if environ["REQUEST_METHOD"] == "GET":
            return [os.environ["WHOSE"].encode()]
        v = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        found = intruder.plant(v["plant"]) if "plant" in v else intruder.attempts(v)
        return [json.dumps(found).encode()]

    @app.function(**own)
    @modal.wsgi_app()
    def probe():
        return wsgi

    @app.function(block_network=True, **own)
    @modal.wsgi_app(requires_proxy_auth=True)
    def guarded():
        return wsgi
"""
#: What the docs say that the machine's network shows (docs/concepts/isolation.md); `block_network=True` takes it away.
BY_NETWORK = {"port_on_loopback"}
#: What nobody may do from inside, so that only this process, outside of all cells, can show that the probe works.
FROM_OUTSIDE = (
    "planted_files",
    "places_of_the_server",
    "sockets_of_the_server",
    "signal_a_process",
)
#: What no container may do, its own workspace's neither.
NOBODYS = {"list_of_urls", "api_port", "process_behind_the_socket", *FROM_OUTSIDE[1:]}


class Tenant:
    """A workspace, with a token and an app of its own."""

    def __init__(self, terminal: Terminal, name: str, port: int, tmp_path, script) -> None:
        self.name, self.token = name, f"canary-{secrets.token_hex(8)}"
        terminal.run("workspace", "create", name)
        words = ("--workspace", name, "--scope", "deploy,secrets", "--user", name)
        bearer = terminal.json("token", "create", *words)["secret"]
        self.commands = Terminal(tmp_path / name)
        server = f"http://127.0.0.1:{port}"
        self.commands.environ |= {"HOMEPORT_SERVER": server, "HOMEPORT_TOKEN": bearer}
        self.api = httpx.Client(
            base_url=f"{server}/v1",
            headers={"Authorization": f"Bearer {bearer}"},
            timeout=PATIENCE_S,
            trust_env=False,
        )
        self.ask("POST", "secrets", json={"name": "auth", "values": {"WHOSE": self.token}})
        pair = self.ask("POST", "proxy-tokens", json={"name": "own"})
        self.pair = {"wk": pair["token_id"], "ws": pair["secret"]}
        self.urls = self.commands.deploy(script)

    def ask(self, method: str, path: str, **rest):
        """Return the answer of a route that this token may use."""
        answer = self.api.request(method, f"/{path}", **rest)
        assert answer.status_code < 300, (path, answer.text)
        return answer.json() if answer.content else None


@pytest.fixture
def tenants(terminal, write, tmp_path):
    """Return the server's terminal, acme and globex."""
    isolation.needed()
    port = free_port()
    terminal.environ |= {
        "HOMEPORT_API_PORT": str(port),
        "HOMEPORT_TOKEN": ADMIN,
        "HOMEPORT_ISOLATION": "on",
    }
    terminal.run("up")
    script = write(SHOP)
    shutil.copy(ROOT / "tests/journeys/intruder.py", script.parent)
    both = [Tenant(terminal, name, port, tmp_path, script) for name in ("acme", "globex")]
    yield terminal, port, *both
    for tenant in both:
        tenant.api.close()


def facts(terminal, visitor, api_port: int, globex: Tenant) -> dict[str, object]:
    """Return where everything of globex is, as someone who knows it all would tell an intruder."""
    planted = visitor.post(globex.urls["probe"], json={"plant": globex.token}).json()
    (container,) = [
        each
        for each in globex.ask("GET", "containers")["containers"]
        if each["function"] == "probe"
    ]
    settings = Settings(home=terminal.home)
    volume = next(iter((terminal.home / "volumes/globex/main").iterdir()))
    places = [*homes(terminal.home), str(volume / "files")]
    return {
        **planted,
        "token": globex.token,
        "admin": ADMIN,
        "container": container["id"],
        "pid": container["pid"],
        "sha256": hashlib.sha256((ROOT / "tests/journeys/intruder.py").read_bytes()).hexdigest(),
        "http_port": terminal.ask("/v1/status")["http_port"],
        "api_port": api_port,
        "places": places,
        "sockets": [str(each) for each in trees.sockets(settings.socket_dir, settings.run_dir)],
    }


def reached(found: dict[str, list]) -> dict[str, str]:
    """Return the evidence of the probes that got through."""
    return {name: evidence for name, (evidence, _) in found.items() if evidence}


@pytest.mark.timeout(300)
def test_neither_code_nor_token_of_a_workspace_reaches_anything_of_another(tenants, visitor):
    terminal, api_port, acme, globex = tenants
    v = facts(terminal, visitor, api_port, globex)
    visitor.post(acme.urls["probe"], json={"plant": acme.token})
    told = {**v, **acme.pair, "is_other": True}

    by_network = reached(visitor.post(acme.urls["probe"], json=told).json())
    fields = {"Modal-Key": acme.pair["wk"], "Modal-Secret": acme.pair["ws"]}
    alone = reached(visitor.post(acme.urls["guarded"], json=told, headers=fields).json())
    assert ({}, {}) == ({k: by_network[k] for k in by_network if k not in BY_NETWORK}, alone)

    # by the token of acme: what the routes' own test (tests/control/api/test_workspaces.py) does not ask
    for words in (
        ("container", "exec", v["container"], "cat", "/tmp/canary"),
        ("container", "logs", v["container"]),
        ("volume", "get", v["dict"], "/canary"),
    ):
        done = acme.commands.run(*words, check=False)
        assert (done.returncode, globex.token in done.stdout) == (1, False), (words, done.stdout)

    # nothing of globex has changed
    main = f"http://127.0.0.1:{v['http_port']}/"
    again = visitor.get(main, headers={"Host": v["tunnel_host"]})
    assert 404 != again.status_code, again.text
    assert "running" == globex.ask("GET", f"spawned/{v['waiting']}")["state"]

    # the probes work: outside of all cells, and in a container of globex itself
    with contextlib.closing(intruder.Unix(str(Settings(home=terminal.home).control_socket))) as own:
        own.request("GET", "/v1/apps")
        assert 200 == own.getresponse().status
    for name in FROM_OUTSIDE:
        assert intruder.PROBES[name](v), name
    proved = reached(visitor.post(globex.urls["probe"], json=v | globex.pair).json())
    assert {*intruder.PROBES, *intruder.LAST} - {*proved} == NOBODYS
