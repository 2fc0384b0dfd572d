"""W3C Trace Context through a real HAProxy: what the container gets, and what the record says."""

import asyncio

import httpx

from homeport.contract import recorded, tracing
from homeport.contract.traffic import Endpoint
from tests.ingress.conftest import POOL
from tests.ingress.test_ring import CALL, Book, id_of, serving
from tests.waiting import until

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


class Lines(dict):
    """The word of each request's line that says which trace it is in."""

    def __init__(self, ingress) -> None:
        super().__init__()
        ingress.keep(self._add, tuple)

    def _add(self, lines) -> None:
        self.update((words[recorded.ID], words[recorded.TRACE]) for words in lines)

    async def of(self, answer: httpx.Response) -> str:
        return await until(lambda: self.get(id_of(answer)), "the record")


def seen(answer: httpx.Response) -> tuple[str | None, str | None]:
    """Return what the container got: `traceparent` and `tracestate`."""
    headers = answer.json()["headers"]
    return headers.get("traceparent"), headers.get("tracestate")


async def test_without_an_exporter_a_trace_passes_through_and_none_is_made(
    ingress, upstream, visitor
):
    _, _, url = await serving(ingress, upstream, 1)
    lines = Lines(ingress)
    traced = await visitor.get(url, headers={"traceparent": VALID, "tracestate": "a=1"})
    other = await visitor.get(url, headers={"traceparent": "what"})
    plain = await visitor.get(url)

    assert (VALID, "a=1") == seen(traced)
    assert ("what", None) == seen(other)
    assert (None, None) == seen(plain)
    assert ["-", "-"] == [await lines.of(traced), await lines.of(plain)]


async def test_a_request_without_a_trace_begins_one(start, upstream, visitor):
    ingress = await start(tracing="otlp")
    book, _, url = await serving(ingress, upstream, 1)
    answer = await visitor.get(url)
    record = await book.of(id_of(answer))

    assert record.trace == tracing.Trace(id=id_of(answer).replace("-", ""))
    own = tracing.span_id(record.id, tracing.REQUEST)
    assert (tracing.header(record.trace.id, own, sampled=True), None) == seen(answer)
    assert tracing.is_valid(seen(answer)[0])


#: What visitors send -> the flags that the container gets.
TRACES = {
    VALID: "01",
    f"00-{TRACE}-{SPAN}-00": "00",
    f"00-{TRACE}-{SPAN}-03": "01",
    f"cc-{TRACE}-{SPAN}-01-of the future": "01",
}


async def test_a_visitors_trace_is_continued(start, upstream, visitor):
    ingress = await start(tracing="otlp", trace_share=0.0)
    book, _, url = await serving(ingress, upstream, 1)
    for parent, flags in TRACES.items():
        answer = await visitor.get(url, headers={"traceparent": parent, "tracestate": "a=1, b=2"})
        record = await book.of(id_of(answer))

        own = tracing.span_id(record.id, tracing.REQUEST)
        assert (f"00-{TRACE}-{own}-{flags}", "a=1, b=2") == seen(answer), parent
        assert record.trace == tracing.Trace(id=TRACE, parent=SPAN, sampled=flags == "01"), parent


NOT_VALID = (
    [f"00-{'0' * 32}-{SPAN}-01"],
    [f"00-{TRACE}-{'0' * 16}-01"],
    [f"ff-{TRACE}-{SPAN}-01"],
    [f"{VALID}-more"],
    [VALID.upper()],
    [VALID, f"00-{TRACE}-{SPAN}-00"],
    [f"{VALID},{VALID}"],
    ["x" * 52],
    ["0"],
    [""],
)


async def test_a_trace_that_is_not_valid_is_replaced_and_its_state_goes(start, upstream, visitor):
    ingress = await start(tracing="otlp")
    book, _, url = await serving(ingress, upstream, 1)
    for parents in NOT_VALID:
        fields = [*(("traceparent", parent) for parent in parents), ("tracestate", "a=1")]
        answer = await visitor.get(url, headers=fields)
        record = await book.of(id_of(answer))

        assert record.trace == tracing.Trace(id=id_of(answer).replace("-", "")), parents
        own = tracing.span_id(record.id, tracing.REQUEST)
        assert (tracing.header(record.trace.id, own, sampled=True), None) == seen(answer), parents


async def test_a_share_of_the_new_traces_is_sampled(start, upstream, visitor):
    ingress = await start(tracing="otlp", trace_share=0.5)
    _, _, url = await serving(ingress, upstream, 8)
    lines = Lines(ingress)
    answers = await asyncio.gather(*(visitor.get(url) for _ in range(60)))
    words = [await lines.of(answer) for answer in answers]

    assert {"0", "1"} == set(words)
    assert [word.zfill(2) for word in words] == [seen(answer)[0][-2:] for answer in answers]


async def test_a_call_continues_its_callers_trace(start, upstream, make_settings):
    ingress = await start(tracing="otlp")
    book, _, _ = await serving(ingress, upstream, 1)
    await ingress.route(Endpoint(id=CALL, hosts=(), pool=POOL))
    transport = httpx.AsyncHTTPTransport(uds=str(make_settings().calls_socket))
    async with httpx.AsyncClient(timeout=30, transport=transport) as caller:
        fields = {"X-Homeport-Call": CALL, "traceparent": VALID}
        answer = await caller.post("http://calls/", headers=fields)
        record = await book.of(id_of(answer))

    assert record.trace == tracing.Trace(id=TRACE, parent=SPAN)
    assert f"00-{TRACE}-{tracing.span_id(record.id, 1)}-01" == seen(answer)[0]


async def test_a_refused_request_has_a_trace_too(start, upstream, visitor):
    ingress = await start(tracing="otlp")
    book, _, _ = await serving(ingress, upstream, 1)
    port = await ingress.free_port()
    await ingress.route(
        Endpoint(id="shut", hosts=(), pool=POOL, local_port=port, protected=True, realm="ab" * 10)
    )
    answer = await visitor.get(f"http://127.0.0.1:{port}", headers={"traceparent": VALID})
    record = await book.of(id_of(answer))

    assert (401, TRACE) == (record.status, record.trace.id)


async def test_a_request_that_enters_again_stays_in_its_trace(start, activator, upstream, visitor):
    ingress = await start(tracing="otlp")
    book, one = Book(ingress), await upstream("one")
    two = await upstream("two")
    port = await ingress.free_port()
    await ingress.route(Endpoint(id="e", hosts=(), pool=POOL, local_port=port))
    await ingress.attach(POOL, "one", one.address, 1)
    await one.close()  # it is gone, and nobody knows

    async def start_two(_pool: str) -> str:
        await ingress.attach(POOL, "two", two.address, 1)
        return "go"

    activator.answer = start_two
    asking = asyncio.create_task(
        visitor.get(f"http://127.0.0.1:{port}", headers={"traceparent": VALID})
    )
    await until(lambda: ingress.detach(POOL, "one"), "the news")
    answer = await asking
    record = await book.of(id_of(answer))

    assert (TRACE, SPAN) == (record.trace.id, record.trace.parent)
    assert f"00-{TRACE}-{tracing.span_id(record.id, 1)}-01" == seen(answer)[0]
