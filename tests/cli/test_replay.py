"""How an answer differs from a captured one, and what is sent again."""

import pytest

import homeport.settings
from homeport.cli import replay
from homeport.cli.replay import Answer
from homeport.contract.api.apps import AppState, AppStatus, EndpointStatus, Version
from homeport.contract.api.captures import CapturedRequest
from homeport.contract.captured import Captured, Message
from homeport.contract.errors import BadRequest, NotFound


def captured(body: bytes = b"", fields=(), request=None, **changes) -> Captured:
    told = {
        "id": "x",
        "method": "GET",
        "target": "/",
        "status": 200,
        "request": request or Message(),
        "response": Message(fields=tuple(fields), body=body, body_bytes=len(body)),
    }
    return Captured(**{**told, **changes})


def answer(body: bytes = b"", fields=(), status: int = 200) -> Answer:
    return Answer(status=status, fields=tuple(fields), body=body, took_ms=1)


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        (captured(), answer(), []),
        (captured(), answer(status=500), ["status: 200 -> 500"]),
        (
            captured(fields=[("Date", "a"), ("Content-Length", "3"), ("X-A", "1"), ("X-B", "2")]),
            answer(fields=[("date", "b"), ("x-a", "1"), ("x-c", "3")]),
            ["x-b: 2 -> (none)", "x-c: (none) -> 3"],
        ),
        (captured(removed=("set-cookie", "x-token")), answer(fields=[("X-Token", "t")]), []),
        (captured(b'{"b": 1, "a": 2}'), answer(b'{"a":2,"b":1}'), []),
        (
            captured(b'{"a": 1}'),
            answer(b'{"a": 2}'),
            ["--- captured", "+++ now", "@@ -1,3 +1,3 @@", " {", '-  "a": 1', '+  "a": 2', " }"],
        ),
        (captured(b"\xff"), answer(b"ab"), ["body: 1 bytes -> 2 bytes, not text"]),
        (captured(b"a\n"), answer(b"a"), []),
    ],
)
def test_differences_are_told(before, now, lines):
    assert lines == list(replay.differences(before, now))


def test_of_a_body_that_was_cut_the_beginning_is_compared():
    before = captured(response=Message(body=b"abc", body_bytes=10, cut=True))
    (line,) = replay.differences(before, answer(b"abcdefghij"))

    assert "10 bytes, of which 3 were kept" in line


def test_a_long_difference_is_cut():
    lines = list(replay.differences(captured(b"a\n" * 1000), answer(b"b\n" * 1000)))

    assert (replay.MOST_LINES + 1, "…") == (len(lines), lines[-1])


def test_fields_that_were_added_on_the_way_are_not_sent_again():
    request = Message(
        fields=(
            ("host", "shop"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Request-Id", "x"),
            ("traceparent", "t"),
            ("Accept", "a"),
            ("X-Mine", "old"),
        )
    )
    told = replay.fields_of(captured(request=request), [("x-mine", "new")])

    assert [("Accept", "a"), ("accept-encoding", "identity"), ("x-mine", "new")] == told


@pytest.mark.parametrize(
    "request_",
    [
        Message(body=b"ab", body_bytes=3, cut=True),
        Message(fields=(("Content-Length", "5"),), body=b"ab", body_bytes=2),
    ],
)
def test_a_request_without_its_whole_body_is_not_sent(request_):
    with pytest.raises(BadRequest, match="not captured whole"):
        replay._check(captured(request=request_))


@pytest.mark.parametrize("text", ["", "x", ": y", "a: b\r\nc: d"])
def test_a_field_is_a_name_and_a_value(text):
    with pytest.raises(BadRequest, match="is not a field"):
        replay._field(text)


class Apps:
    """The part of a client that knows the apps: `shop` is deployed, and served in a session."""

    def __init__(self, *, serves: bool = True) -> None:
        self._serves = serves

    @property
    def apps(self) -> "Apps":
        return self

    async def every(self) -> tuple[AppStatus, ...]:
        session = (status("shop", 0, "session"),) if self._serves else ()
        return (status("shop", 2, "deployed"), *session, status("other", 0, "other"))

    async def history(self, app: str) -> tuple[Version, ...]:
        return tuple(
            Version(
                version=n, created_at=1.0, tag="", current=n == 2, urls={"f": f"http://{app}-v{n}"}
            )
            for n in (2, 1)
        )


def status(name: str, version: int, port: str) -> AppStatus:
    numbers = ("containers", "running", "queued", "served", "errors", "cold_starts", "failed_starts")  # fmt: skip
    endpoint = EndpointStatus(
        tag="f", url=f"http://{name}", local_url=f"http://{port}", protected=False, truncated=False,
        stolen=False, p50_ms=None, p99_ms=None, **dict.fromkeys(numbers, 0),
    )  # fmt: skip
    return AppStatus(
        name=name, app_id="ap-1", state=AppState.SERVING, reason="", version=version, created_at=1.0,
        stopped_at=None, endpoints=(endpoint,), containers=(),
    )  # fmt: skip


def found(url: str = "http://shop", tag: str = "f") -> CapturedRequest:
    return CapturedRequest(captured=captured(app="shop", tag=tag), url=url, local_url="")


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("", "http://shop"),
        ("session", "http://session"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://elsewhere.example", "https://elsewhere.example"),
        ("v1", "http://shop-v1"),
        ("1", "http://shop-v1"),
    ],
)
async def test_a_request_is_sent_again_to_the_url_that_was_chosen(to, url):
    assert url == await replay._url(Apps(), found(), to)


@pytest.mark.parametrize(
    ("request_", "to", "text"),
    [
        (found(url=""), "", "serves no more"),
        (found(tag="g"), "session", "no `homeport serve` of `shop` runs"),
        (found(), "v3", "no version `v3`"),
        (found(tag="g"), "v1", "no version `v1` with the URL `g`"),
    ],
)
async def test_a_request_is_sent_nowhere_else(request_, to, text):
    with pytest.raises(NotFound, match=text):
        await replay._url(Apps(), request_, to)
    with pytest.raises(NotFound, match="no `homeport serve`"):
        await replay._url(Apps(serves=False), request_, "session")


@pytest.mark.parametrize(
    "url", ["http://[", "http://shop:999999", "http://127.0.0.1:1", "http://é"]
)
async def test_a_url_that_cannot_be_asked_is_an_error_that_names_it(home, url):
    settings = homeport.settings.load({"HOMEPORT_HOME": str(home)})
    with pytest.raises(BadRequest) as caught:
        await replay.sent(settings, url, captured(), [])

    assert url in caught.value.message
