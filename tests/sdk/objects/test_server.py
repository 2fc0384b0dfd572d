"""Server classes: what a script may declare, what the manifest says of it, and how code finds the URL."""

import pytest

import homeport as modal
from homeport.contract import urls
from homeport.contract.manifest import WebKind
from homeport.sdk import context, experimental
from homeport.sdk.declare import manifest
from homeport.sdk.exception import ExecutionError, InvalidError, MisuseError, UnimplementedError
from homeport.sdk.objects import urls as urls_of_targets


class Plain:
    @modal.enter()
    def start(self):
        pass


class NoEnter:
    @modal.exit()
    def stop(self):
        pass


class WithMethod(Plain):
    @modal.method()
    def ask(self):
        pass


class WithWeb(Plain):
    @modal.asgi_app()
    def web(self):
        pass


class WithParameter(Plain):
    size: int = modal.parameter(default=1)


class WithInit(Plain):
    def __init__(self):
        pass


class Snap:
    @modal.enter(snap=True)
    def start(self):
        pass


def app() -> modal.App:
    return modal.App("servers")


def declared(app: modal.App):
    """Return what the manifest says of the one function of an app."""
    (spec,) = manifest.build(app, "servers", "script.py", ()).functions
    return spec


def test_a_server_has_one_url_and_takes_many_requests_without_a_time_limit():
    apps = app()
    apps.server(port=9000, target_concurrency=7.5, startup_timeout=60, gpu="L4")(Plain)
    spec = declared(apps)
    (web,) = spec.web

    assert ("Plain.*", "Plain", WebKind.SERVER, 9000) == (spec.name, web.tag, web.kind, web.port)
    assert (1000, 8) == (spec.max_inputs, spec.target_inputs)
    assert (86400.0, 30.0, 30.0) == (spec.timeout_s, spec.exit_grace_s, spec.drain_s)
    assert (120.0, 60.0) == (spec.startup_timeout_s, web.startup_timeout_s)
    assert web.requires_proxy_auth


def test_a_server_under_its_earlier_name_takes_the_earlier_keywords():
    servers = app()
    servers._experimental_server(
        port=8001, region="us", routing_regions=["us-east"], target_concurrency=4
    )(Plain)

    assert 8001 == declared(servers).web[0].port
    assert ("us",) == declared(servers).region


def test_the_settings_of_a_server_class_are_in_the_manifest():
    apps = app()
    decorate = apps.server(
        name="Other", unauthenticated=True, max_concurrency=4, exit_grace_period=5, min_containers=2
    )
    server = decorate(Plain)
    spec = declared(apps)

    assert not spec.web[0].requires_proxy_auth
    assert ("Other.*", "Other", "Plain") == (spec.name, spec.web[0].tag, spec.qualname)
    assert (4, 5.0, 2) == (spec.max_inputs, spec.exit_grace_s, spec.min_containers)
    assert "Server(Other)" == repr(server)


def test_a_class_under_http_server_is_a_server_too():
    apps = app()
    wrapped = experimental.http_server(port=8001, proxy_regions=["us-east"], exit_grace_period=9)
    apps.cls(timeout=100)(wrapped(modal.concurrent(target_inputs=5)(Plain)))
    spec = declared(apps)
    (web,) = spec.web

    assert (WebKind.SERVER, 8001, False) == (web.kind, web.port, web.requires_proxy_auth)
    assert (1000, 5, 9.0) == (spec.max_inputs, spec.target_inputs, spec.exit_grace_s)
    assert (130.0, 30.0) == (spec.startup_timeout_s, web.startup_timeout_s)
    # The decorators of a class may stand in any order.
    other = app()
    other.cls()(modal.concurrent(max_inputs=3)(experimental.http_server(8001)(Plain)))
    assert 3 == declared(other).max_inputs


def test_a_snapshot_hook_runs_in_each_container(capsys):
    apps = app()
    apps.server(enable_memory_snapshot=True)(Snap)

    assert not declared(apps).enable_memory_snapshot


def test_a_snapshot_hook_may_start_the_program_of_a_web_server():
    class Program(Snap):
        @modal.web_server(8000)
        def serve(self):
            pass

    class Page(Snap):
        @modal.asgi_app()
        def serve(self):
            pass

    for raw, snapshot in ((Program, False), (Page, True)):
        raw.__qualname__ = raw.__name__  # as at the top of a script
        apps = app()
        apps.cls(enable_memory_snapshot=True)(raw)

        assert snapshot == declared(apps).enable_memory_snapshot


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (NoEnter, r"must have an @modal.enter\(\)"),
        (WithMethod, r"cannot have @modal.method\(\)"),
        (WithWeb, "cannot have web methods"),
        (WithParameter, "cannot have parameters"),
        (WithInit, "cannot have a custom __init__"),
    ],
)
def test_a_class_that_cannot_be_a_server_says_why(cls, text):
    for decorate in (app().server(), experimental.http_server(8000)):
        with pytest.raises(InvalidError, match=text):
            decorate(cls)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": 0}, "between 1 and 65535"),
        ({"port": "8000"}, "between 1 and 65535"),
        ({"startup_timeout": 0}, "must be positive"),
        ({"exit_grace_period": 3601}, "between 0 and 3600"),
        ({"target_concurrency": -1}, "non-negative"),
        ({"max_concurrency": 1.5}, "non-negative int"),
        ({"target_concurrency": 5, "max_concurrency": 4}, r"\(5\) cannot be greater than"),
        ({"requires_proxy_auth": True}, "`unauthenticated=True`"),
        ({"timeout": 5}, "no time limit"),
        ({"prot": 80}, "Did you mean `port`"),
        ({"scaledown_window": 1}, "between 2 and 3600"),
    ],
)
def test_a_wrong_keyword_says_what_to_write(options, text):
    with pytest.raises(InvalidError, match=text):
        app().server(**options)


def test_a_server_class_that_cannot_be_is_refused():
    with pytest.raises(UnimplementedError, match=r"HTTP/1\.1"):
        app().server(h2_enabled=True)
    with pytest.raises(TypeError, match="must be used on a class"):
        app().server()(lambda: None)
    with pytest.raises(InvalidError, match="Did you forget parentheses"):
        app().server(Plain)
    with pytest.raises(InvalidError, match="target_concurrency"):
        app().server()(modal.concurrent(max_inputs=3)(Plain))
    with pytest.raises(InvalidError, match="makes it an HTTP server already"):
        app().server()(experimental.http_server(8000)(Plain))
    with pytest.raises(InvalidError, match="twice"):
        experimental.http_server(8000)(experimental.http_server(8000)(Plain))
    with pytest.raises(InvalidError, match=r"`@modal\.web_server`"):
        experimental.http_server(8000)(lambda: None)
    with pytest.raises(MisuseError):
        experimental.http_server("8000")
    with pytest.raises(InvalidError, match="has no objects"):
        app().server()(Plain)()


async def test_a_container_knows_the_url_of_its_apps_server(monkeypatch):
    apps = app()
    server = apps.server()(Plain)
    old = app().cls()(experimental.http_server(8000)(Plain))
    with pytest.raises(ExecutionError, match="is not running"):
        server.get_url()
    monkeypatch.setattr(context, "_urls", {"Plain": "http://here"})
    monkeypatch.setattr(context, "_reach", context.Reach(socket="/nowhere", app="servers"))

    assert ("http://here", ["http://here"]) == (server.get_url(), server.get_urls())
    assert "http://here" == await server.get_url.aio()
    assert ["http://here"] == old._experimental_get_flash_urls()


def test_a_server_of_another_app_is_asked_for():
    named = modal.Server.from_name("other", "Site")

    assert "Server(Site)" == repr(named)
    assert ("other", "Site.*") == (named.target().app, named.target().tag)
    assert named is named.hydrate()


def test_a_script_gets_a_url_that_its_machine_can_use(monkeypatch):
    server = app().server()(Plain)
    url = "http://unknown.localhost:4663"
    reach = context.Reach(
        socket="/s", app="servers", urls={"Plain": url}, local_urls={"Plain": "L"}
    )
    monkeypatch.setattr(context, "_reach", reach)
    monkeypatch.setattr(urls, "_is_known", lambda _host: False)

    assert "L" == server.get_url()


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        (
            b'{"url": "http://unknown.localhost", "local_url": "http://127.0.0.1:9"}',
            "http://127.0.0.1:9",
        ),
        (
            b'{"url": "http://unknown.localhost"}',
            "http://unknown.localhost",
        ),  # of an earlier server
        (b'{"url": "", "local_url": ""}', None),
    ],
)
def test_the_url_of_another_app_is_one_that_the_machine_can_use(monkeypatch, answer, url):
    monkeypatch.setattr(urls, "_is_known", lambda _host: False)
    steps = urls_of_targets.url_of(modal.Server.from_name("other", "Site").target())
    next(steps)

    with pytest.raises(StopIteration) as ended:
        steps.send(answer)
    assert url == ended.value.value
