"""One trace from a visitor through an app with OpenTelemetry's own instrumentation to every call that it makes."""

import httpx

from homeport.contract import tracing
from tests.otlp import attributes, receiver
from tests.waiting import wait_for

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
APP = """
    import modal

    app = modal.App("traced")
    image = modal.Image.debian_slim().uv_pip_install(
        "fastapi", "opentelemetry-instrumentation-fastapi", "opentelemetry-exporter-otlp-proto-http"
    )

    @app.function()
    def tax(n: int) -> int:
        return n

    @app.function()
    def note(n: int) -> int:
        return n

    @app.function()
    def price(n: int) -> int:
        return sum(tax.map([n, n])) + note.spawn(n).get()

    @app.function(image=image)
    @modal.asgi_app()
    def web():
        from fastapi import FastAPI
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        provider = TracerProvider(resource=Resource({"service.name": "shop"}))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter("URL/v1/traces")))
        trace.set_tracer_provider(provider)
        api = FastAPI()
        FastAPIInstrumentor.instrument_app(api)

        @api.get("/price/{n}")
        def get(n: int) -> int:
            return price.remote(n)

        return api
"""


def test_a_request_and_all_of_its_calls_are_one_trace(terminal, write):
    with receiver() as server:
        terminal.environ |= {
            "HOMEPORT_TRACING": "otlp",
            "HOMEPORT_TRACE_SHARE": "0",  # the visitor's trace is sampled all the same
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20secret",
        }
        url = terminal.deploy(write(APP.replace("URL", server.url)))["web"]
        price = [each["id"] for each in terminal.containers() if each["function"] == "price"]
        terminal.run("container", "stop", *price, "--yes")  # so that its next call is cold
        fields = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1"}
        answer = httpx.get(f"{url}/price/7", headers=fields, timeout=60, trust_env=False)
        assert 21 == answer.json()
        httpx.get(f"{url}/price/8", timeout=60, trust_env=False)  # not sampled

        def found() -> dict:
            spans = {each.span_id.hex(): each for each in server.spans}
            names = [each.name for each in spans.values() if each.kind == each.SPAN_KIND_SERVER]
            return spans if names.count("call traced.tax") == 2 and len(names) >= 6 else {}

        spans = wait_for(found, "the spans")
        whole = spans[tracing.span_id(answer.headers["x-request-id"], tracing.REQUEST)]
        assert {TRACE} == {each.trace_id.hex() for each in spans.values()}
        assert ("GET traced.web", SPAN) == (whole.name, whole.parent_span_id.hex())
        assert answer.headers["x-request-id"] == attributes(whole)["homeport.request"]

        def below(parent, name: str) -> list:
            return [
                each
                for each in spans.values()
                if each.parent_span_id == parent.span_id and each.name == name
            ]

        (own,) = below(whole, "GET /price/{n}")
        (price,) = below(own, "call traced.price")
        (parked,) = below(price, "parked")
        assert below(parked, "forked")
        assert 2 == len(below(price, "call traced.tax"))
        assert below(price, "call traced.note")
        services = {
            attributes(resource.resource)["service.name"]
            for message in server.messages
            for resource in message.resource_spans
        }
        assert {"homeport", "shop"} == services
        assert "a secret" in {each.get("api-key") for each in server.headers}

        listed = terminal.json("request", "list", "--trace", TRACE)
        assert ["note", "price", "tax", "tax", "web"] == sorted(each["tag"] for each in listed)
        shown = terminal.run("request", "show", answer.headers["x-request-id"]).stdout
        assert f"trace {TRACE}" in shown
        told = [terminal.run("status", "--json").stdout, (terminal.home / "server.log").read_text()]
        assert "a secret" not in "".join(told)
        assert "a%20secret" not in "".join(told)
